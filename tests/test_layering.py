"""Imports go one way: datasets <- {samplers, models} <- engine <- tuning."""

import ast
from pathlib import Path

import pytest

import hardneg

ROOT = Path(hardneg.__file__).parent
MAY_IMPORT = {
    "datasets": {"datasets"},
    "samplers": {"datasets", "samplers"},
    "models": {"datasets", "models"},
    "engine": {"datasets", "samplers", "models", "engine"},
    "tuning": {"datasets", "samplers", "models", "engine", "tuning"},
}
FILES = sorted(p for folder in MAY_IMPORT for p in (ROOT / folder).rglob("*.py"))


def imported(path):
    """Yield the first part below the package of every import, also those inside functions."""
    inside = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0:
                parts = module.split(".")
                if parts[0] != "hardneg":
                    continue
                target = parts[1:]
            else:
                target = [*inside[: len(inside) - node.level + 1], *filter(None, module.split("."))]
            yield from [target[0]] if target else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "hardneg":
                    yield ".".join(alias.name.split(".")[1:2])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    wrong = {name for name in imported(path) if name in MAY_IMPORT} - MAY_IMPORT[folder]
    assert not wrong, f"{folder} must not import {', '.join(sorted(wrong))}"


def test_the_reader_of_imports_sees_all_forms(tmp_path):
    text = "from ..models import base\nfrom .. import engine\nimport hardneg.tuning.study\n"
    text += "from hardneg.samplers.base import Ask\nfrom .uniform import Uniform\nimport torch\n"
    folder = ROOT / "samplers"
    path = tmp_path / "x.py"
    path.write_text(text)

    class Here(type(path)):
        def relative_to(self, root):
            return folder.relative_to(ROOT) / "x.py"

    assert list(imported(Here(path))) == ["models", "engine", "tuning", "samplers", "samplers"]


def test_every_folder_was_seen():
    assert {p.relative_to(ROOT).parts[0] for p in FILES} == set(MAY_IMPORT)
