"""Bad input gets one sentence with the place, the value and what to do; nothing is left behind."""

import polars as pl
import pytest

from hardneg.datasets import table
from hardneg.datasets.dataset import Dataset
from hardneg.datasets.errors import DataError, ResourceError, UsageError
from hardneg.datasets.lines import LONGEST_LINE
from hardneg.datasets.load import load_dataset
from hardneg.datasets.table import read_table

GOOD = "user,item,timestamp\na,x,1\nb,y,2\n"

# file text, options, what the sentence says
TABLES = {
    "empty": ("", {}, r"log.csv is empty"),
    "blank": ("\n\n \n", {}, r"log.csv is empty"),
    "header only": ("user,item\n", {}, r"log.csv: no rows"),
    "no user column": ("who,item\na,x\n", {}, r"log.csv:1: has no column that names the user; the "
                       r"columns are 'who', 'item': say which, e.g. columns=\{'user': 'who'\}"),
    "mapped column missing": (GOOD, {"columns": {"user": "usr"}}, "no column 'usr'; did you mean "
                              "'user'"),
    "mapped number missing": (GOOD, {"columns": {"user": 9, "item": 1}}, "none is number 9"),
    "name without header": ("1,2,3\n", {"columns": {"user": "u", "item": "i"}}, "no header line"),
    "timestamp text": (GOOD + "c,z,yesterday\n", {}, r"log.csv:4: 'timestamp' is 'yesterday', but "
                       "the timestamp must be whole seconds"),
    "timestamp fraction": (GOOD + "c,z,1.5\n", {}, r"log.csv:4: 'timestamp' is '1.5'"),
    "truncated line": (GOOD + "c", {}, r"log.csv:4: 'item' is empty"),
    "truncated time": (GOOD + "c,z", {}, r"log.csv:4: 'timestamp' is empty"),
    "empty user": (GOOD + "\n,z,3\n", {}, r"log.csv:5: 'user' is empty"),
    "too many fields": (GOOD + "c,z,3,4\nd,z,1\n", {}, r"log.csv:4: 4 fields where 3 are expected"),
    "not utf8": (GOOD.encode() + b"caf\xe9,z,3\n", {}, r"log.csv:4: byte 0xe9 is not UTF-8"),
    "binary": (b"PAR1\x00\x01\n", {}, "is binary, not text"),
    "no separator": ("alpha\nbeta\n", {}, "no separator found in 'alpha'"),
    "five bare columns": ("1,2,3,4,5\n6,7,8,9,1\n", {}, "no header line and 5 columns"),
    "rating text": ("user,item,rating\na,x,good\n", {"min_rating": 3}, "the rating must be a num"),
    "no rating": (GOOD, {"min_rating": 3}, "needs a rating column"),
    "all filtered": (GOOD, {"min_user": 5}, "no row is left after .*'min_user': 5"),
    "all low": ("user,item,rating\na,x,1\n", {"min_rating": 3}, "no row is left"),
    "repeated": (GOOD + "a,x,3\n", {"duplicates": "error"}, "row 3 repeats an earlier one"),
    "no time for temporal": ("user,item\na,x\n", {"split": "Temporal()"}, "needs timestamps"),
    "no order": ("user,item\na,x\n", {"split": "LeaveOneOut()"}, "needs an order"),
    "one moment": ("user,item,time\na,x,1\nb,y,1\n", {"split": "Temporal()"}, "equal timestamps"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_tables(write, own_cache, case):
    text, options, message = TABLES[case]
    path = write(log_DOT_csv=text)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(path, **options)
    assert "\n" not in str(error.value)
    assert not list(own_cache.glob("encoded/*"))
    assert not list(own_cache.glob("tmp/*"))


FOLDERS = {
    "nothing known": ({"notes_DOT_md": "x"}, "holds no dataset this program knows .found notes.md"),
    "two data files": ({"a_DOT_csv": GOOD, "b_DOT_csv": GOOD}, "holds no dataset .* a.csv, b.csv"),
    "two train files": ({"train_DOT_txt": "a\tr\tb\n", "train_DOT_csv": "h"}, "has both train"),
    "no test": ({"train_DOT_txt": "a\tr\tb\n", "valid_DOT_txt": "a\tr\tb\n"}, "but no test file"),
    "two logs": ({"a_DOT_inter": "user_id\titem_id\n", "b_DOT_inter": "user_id\titem_id\n"},
                 "holds several datasets"),
    "short triple": ({"train_DOT_txt": "a\tr\tb\na\tr\n", "test_DOT_txt": "a\tr\tc\n"},
                     r"train.txt:2: 2 fields where 3 are expected"),
    "empty part": ({"train_DOT_txt": "a\tr\tb\n", "test_DOT_txt": ""}, "test.txt is empty"),
    "train is test": ({"train_DOT_txt": "a\tr\tb\nb\tr\tc\n", "valid_DOT_txt": "a\tr\tc\n",
                       "test_DOT_txt": "c\tr\tb\na\tr\tb\n"},
                      r"1 of 2 test triples are in train too, first \(a, r, b\)"),
    "user twice": ({"train_DOT_txt": "1 2 3\n2 4\n1 9\n", "test_DOT_txt": "1 5\n"},
                   r"train.txt:3: user '1' has a second line"),
    "padding": ({"train_DOT_txt": "1 2 -1\n2 4\n", "test_DOT_txt": "1 5\n"},
                r"train.txt:1: a negative id in '1 2 -1'"),
    "kg header": ({"x_DOT_kg": "a:token\tb:token\n1\t2\n"}, "expected head_id:token"),
    "openke no names": ({"train2id_DOT_txt": "1\n0 0 0\n"}, "entity2id.txt is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(write, case):
    files, message = FOLDERS[case]
    path = write(**{f"data__{name}": text for name, text in files.items()})
    with pytest.raises(DataError, match=message) as error:
        load_dataset(path.parent)
    assert "\n" not in str(error.value)


OPENKE = {
    "cut off": ("2\n0 1 0\n", "2\na\t0\nb\t1\n", "says 2 triples, but 1 follow"),
    "no count": ("0 1 0\n", "2\na\t0\nb\t1\n", "is not a count"),
    "out of range": (
        "1\n0 7 0\n",
        "2\na\t0\nb\t1\n",
        r"train2id.txt:2: tail id '7' is outside",
    ),
    "negative": ("1\n-1 0 0\n", "2\na\t0\nb\t1\n", "head id '-1' is outside"),
    "two fields": ("1\n0 1\n", "2\na\t0\nb\t1\n", r"train2id.txt:2: 2 fields where 3"),
    "names cut off": ("1\n0 1 0\n", "3\na\t0\nb\t1\n", "says 3 names, but the file has 2"),
    "name without id": ("1\n0 1 0\n", "2\na\t0\nb\n", r"entity2id.txt:3: 'b' is not 'NAME TAB ID'"),
}


@pytest.mark.parametrize("case", OPENKE)
def test_openke(write, case):
    train, entities, message = OPENKE[case]
    path = write(kg__train2id_DOT_txt=train, kg__entity2id_DOT_txt=entities,
                 kg__relation2id_DOT_txt="1\nr\t0\n")  # fmt: skip
    with pytest.raises(DataError, match=message):
        load_dataset(path.parent)


def test_other_formats(write, tmp_path):
    cases = {
        "log.parquet": ("no parquet", "is not readable Parquet"),
        "log.jsonl": ('{"user": "a", "item": "b"}\n{"user": \n', r"log.jsonl:2: not JSON"),
        "list.jsonl": ("[1, 2]\n", r"list.jsonl:1: '\[1, 2\]' is not a JSON object"),
        "facts.nt": ("<a> <r> <b> .\n<a> <r>\n", r"facts.nt:2: '<a> <r>' is not N-Triples"),
    }
    for name, (text, message) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            load_dataset(tmp_path / name)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"x" * (LONGEST_LINE + 100_000))
    with pytest.raises(DataError, match=r"log.csv:1: the line is longer than 16 MiB"):
        load_dataset(path)


def test_names_paths_and_options():
    with pytest.raises(DataError, match="'ml-10k' is neither a path nor a built-in; did you mean"):
        load_dataset("ml-10k")
    with pytest.raises(DataError, match=r"/no/such.csv does not exist"):
        load_dataset("/no/such.csv")
    with pytest.raises(UsageError, match="cannot load a int"):
        load_dataset(3)
    frame = pl.DataFrame({"user": ["a", None], "item": ["x", "y"]})
    with pytest.raises(DataError, match="the frame: row 2: 'user' is empty"):
        load_dataset(frame)
    with pytest.raises(DataError, match="no rows"):
        load_dataset(frame.head(0))
    with pytest.raises(UsageError, match="unknown role 'usr'; did you mean 'user'"):
        load_dataset(frame, columns={"usr": "user"})
    with pytest.raises(UsageError, match="limit=0 must be at least 1"):
        load_dataset(frame, limit=0)
    with pytest.raises(UsageError, match=r"parts are \['train'\]; give train and test"):
        load_dataset({"train": frame})
    with pytest.raises(UsageError, match="no test part of its own"):
        load_dataset(frame.head(1), split="Presplit()")


def test_a_folder_that_hides_a_builtin_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "umls").mkdir()
    with pytest.raises(DataError, match=r"no files.*hides the built-in 'umls': rename it"):
        load_dataset("umls")


def test_wrong_options_for_a_path(write):
    path = write(g__train_DOT_txt="0 1 2\n", g__test_DOT_txt="0 3\n")
    with pytest.raises(UsageError, match="unknown format 'lightgnc'; did you mean 'lightgcn'"):
        load_dataset(path.parent, format="lightgnc")
    with pytest.raises(UsageError, match="brings its own test part"):
        load_dataset(path.parent, split="LeaveOneOut()")
    with pytest.raises(UsageError, match="columns does not apply to format 'lightgcn'"):
        load_dataset(path.parent, columns={"user": 0})
    with pytest.raises(UsageError, match="filter interactions, not triples"):
        load_dataset(pl.DataFrame({"head": ["a"], "relation": ["r"], "tail": ["b"]}), min_user=2)


@pytest.mark.filterwarnings("ignore:log. no row is left for test")
def test_damaged_saved_datasets(tmp_path, write):
    def fresh():
        return load_dataset(write(log_DOT_csv=GOOD), split="Ratio()").save(tmp_path / "run")

    (fresh() / "data.safetensors").write_bytes(b"\x10")
    with pytest.raises(DataError, match=r"data.safetensors is damaged or truncated"):
        Dataset.open(tmp_path / "run")
    (fresh() / "vocab.parquet").unlink()
    with pytest.raises(DataError, match=r"vocab.parquet is missing"):
        Dataset.open(tmp_path / "run")
    (fresh() / "protocol.json").write_text("{}")
    with pytest.raises(DataError, match=r"protocol.json is not a protocol card"):
        Dataset.open(tmp_path / "run")
    fresh()
    with pytest.raises(UsageError, match="already split and filtered"):
        load_dataset(tmp_path / "run", min_user=3)
    with pytest.raises(DataError, match="is not a folder"):
        Dataset.open(tmp_path / "nowhere")


def test_a_cache_that_cannot_be_written_names_the_remedy(write, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARDNEG_CACHE", str(tmp_path / "file"))
    with pytest.raises(ResourceError, match="set HARDNEG_CACHE to a folder with space"):
        load_dataset(write(log_DOT_csv=GOOD))


def test_failed_writes_leave_the_old_file(tmp_path, monkeypatch):
    from hardneg.datasets.atomic import atomic_path, write_text

    path = tmp_path / "a" / "card.json"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match=r"card.json: No space left on device; free space"):
        fail()
    assert [p.name for p in path.parent.iterdir()] == ["card.json"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize(("odd", "message"), [
    ("10000000000000000000000", r"log.csv:5: 'time' is '10000000000000000000000', but"),
    ("7", r"log.csv:8: 4 fields where 3"),
])  # fmt: skip
def test_the_first_of_two_faults_is_named(write, monkeypatch, batch, odd, message):
    def gives_up_at_once(self, **options):
        raise pl.exceptions.ComputeError("found more fields than defined in 'Schema'")

    monkeypatch.setattr(pl.LazyFrame, "collect_batches", gives_up_at_once)
    monkeypatch.setattr(table, "BATCH_ROWS", batch)
    rows = ["a,b,1", "a,b,2", "", f"a,b,{odd}", "a,b,5", "a,b,6", "a,b,7,8", "a,b,9", ""]
    path = write(log_DOT_csv="\n".join(["user,item,time", *rows]))
    with pytest.raises(DataError, match=message):
        list(read_table(path))
