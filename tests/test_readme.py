"""What the documentation shows: Python runs, commands parse, signatures are the real ones."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import typer

from hardneg.engine import components
from hardneg.engine.cli import _targets
from hardneg.engine.recipe import DEFAULTS, METRICS, Recipe, parse_overrides, resolve
from hardneg.samplers import Negatives
from hardneg.tuning import cli
from hardneg.tuning.space import choose

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
RECIPE = {
    "model": "LightGCN(dim=64, layers=2)",
    "dataset": "ml-100k",
    "negatives": "Uniform(1024) | TopK(128)",
}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def commands(page):
    """Every `hardneg …` line of a shell block, or between backquotes in the text."""
    text = page.read_text("utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += re.findall(
        r"`(hardneg [a-z]+ [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    )
    words = [shlex.split(line, comments=True) for line in lines]
    words = [w[1:] if w and w[0].startswith("PYTHONPATH=") else w for w in words]
    return [w[1:] for w in words if w and w[0] == "hardneg"]


COMMANDS = [(page.name, tuple(words)) for page in PAGES for words in commands(page)]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with tiny stand-ins for ml-100k and umls, and with the README's own modules."""
    logs, facts = tmp_path / "data" / "ml-100k", tmp_path / "data" / "umls"
    logs.mkdir(parents=True)
    facts.mkdir()
    rows = [
        f"{u}\t{1 + (u * 7 + n * n) % 180}\t4\t{1_000_000 + 60 * n + u}"
        for u in range(1, 61)
        for n in range(12)
    ]
    rows += [f"{u}\t{i}\t5\t{900_000 + u}" for u in range(1, 6) for i in (50, 172, 1)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (logs / "ml-100k.inter").write_text("\n".join([header, *rows]) + "\n")
    titles = [f"{i}\tFilm {i}\t1990\tDrama" for i in range(1, 181)]
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    (logs / "ml-100k.item").write_text("\n".join([header, *titles]) + "\n")
    names = ["acquired_abnormality", *(f"concept {n}" for n in range(19))]
    relations = ["location_of", "affects", "isa"]
    triples = [
        f"{names[h]}\t{relations[r]}\t{names[(h * (r + 2) + s) % 20]}"
        for h in range(20)
        for r in range(3)
        for s in (1, 2)
    ]
    for part, rest in (("train", (0, 1, 2)), ("valid", (3,)), ("test", (4,))):
        some = [t for n, t in enumerate(triples) if n % 5 in rest]
        (facts / f"{part}.txt").write_text("\n".join(some) + "\n")
    for block in blocks(README, "python"):
        if named := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / named[1]).write_text(block)
    monkeypatch.setenv("HARDNEG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HARDNEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_of_the_readme_runs(workplace, capsys):
    names = {"__name__": "readme"}
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "Hit(id=" in shown
    assert "Film " in shown
    assert (workplace / "runs" / "facts" / "report.html").is_file()


def test_the_sampler_of_the_readme_skips_the_hardest(workplace):
    names = {}
    exec((workplace / "band.py").read_text(), names)
    ids = torch.tensor([[5, 6, 7, 8]])
    scores = torch.tensor([[1.0, 9.0, 3.0, 2.0], [4.0, 1.0, 2.0, 3.0]])
    valid = torch.tensor([[True] * 4, [True, True, True, False]])
    kept, best = names["Band"](skip=1, num=2).refine(Negatives(ids, valid=valid), scores, None)
    assert kept.ids.tolist() == [[7, 8], [7, 6]]
    assert best.tolist() == [[3.0, 2.0], [2.0, 1.0]]
    assert kept.valid.all()


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda x: x if isinstance(x, str) else " ".join(x)[:50]
)
def test_commands_parse(page, words, workplace):
    command, rest = typer.main.get_command(cli.app), list(words)
    while hasattr(command, "commands"):
        assert rest, f"{words} names no command"
        assert rest[0] in command.commands, f"{rest[0]!r} is no command"
        command = command.commands[rest.pop(0)]
    if rest == ["--help"] or not (rest or any(p.required for p in command.params)):
        return
    given = command.make_context(words[0], rest).params
    if words[0] == "train":
        check_train(given)
    if words[0] == "tune":
        search = [name.strip() for name in given["search"].split(",") if name.strip()]
        warm = given["warm_start"] or []  # further words without "=" are studies then
        words = [word for word in given["words"] or [] if "=" in word or not warm]
        choose(resolve(RECIPE, parse_overrides(words)), search)


def check_train(given):
    model, dataset, settings = _targets(given["words"])
    fields = dict(RECIPE) if model.endswith(".toml") else {"model": model, "dataset": dataset}
    for name in ("negatives", "loss", "optimizer"):
        if given[name]:
            settings[name] = given[name]
    recipe = resolve(fields, settings)
    for field in ("negatives", "loss", "optimizer", "schedule"):
        for stage in recipe.expression(field):
            components.build(stage, field, field)


def test_commands_are_found():
    shown = {words[0] for _, words in COMMANDS}
    assert {"train", "recommend", "predict", "ls", "resume", "tune", "data", "evaluate"} <= shown


SIGNATURE = r"^(?:#+ |- |\| )?`({name}\([^`…]*\))`"  # where a component is introduced, not used
HOMES = {
    "negatives": "samplers.md",
    "batches": "samplers.md",
    "loss": "losses.md",
    "model": "models.md",
    "similarity": "models.md",
    "schedule": "recipes.md",
    "optimizer": "recipes.md",
    "split": "data.md",
}


@pytest.mark.parametrize("role", HOMES)
def test_every_component_is_described_with_its_defaults(role):
    text = (ROOT / "docs" / HOMES[role]).read_text("utf-8")
    for name, cls in components.catalogue(role).items():
        assert f"`{name}" in text, f"{HOMES[role]} does not mention {name}"
        for shown in re.findall(SIGNATURE.format(name=name), text, re.M):
            [spec] = components.parse(shown, role)
            given = components.normalise(spec, role, HOMES[role]).kwargs
            accepted = components.parameters(cls)
            for argument, value in given.items():
                if not isinstance(value, components.Spec):  # an inner component stands for None
                    assert value == accepted[argument].default, shown
            left_out = [n for n, p in accepted.items() if n not in given and p.default is not None]
            assert not left_out, shown


def test_every_field_of_a_recipe_is_described():
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    rows = dict(reversed(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.M)))
    assert set(Recipe.model_fields) <= set(rows)
    for name, field in Recipe.model_fields.items():
        shown = rows[name].strip("`").strip('"')
        known = not field.is_required() and name not in ("model", "dataset")
        if known and field.default not in (None, "") and field.default_factory is None:
            by_task = all(name in given for given in DEFAULTS.values())
            plain = str(field.default)
            plain = plain.lower() if isinstance(field.default, bool) else plain  # as in TOML
            assert shown == ("by the task" if by_task else plain), name
    for task, given in DEFAULTS.items():
        for value in (
            str(given["negatives"]),
            given["loss"],
            given["optimizer"],
            given["schedule"],
        ):
            assert value.replace("|", "\\|") in text, task
        assert ", ".join(METRICS[task]) in text, task


def test_links_lead_somewhere():
    later = {"results.md"}  # written by a measurement, not by hand
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text("utf-8")):
            if not target.startswith("http") and Path(target).name not in later:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
