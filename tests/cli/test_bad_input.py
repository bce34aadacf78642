"""What bad input gets: one sentence with place, value and remedy, an exit code, nothing left."""

import errno
import os
import re
import shlex
import urllib.request
from pathlib import Path

import pytest

from hardneg.engine import checkpoint
from hardneg.engine.history import read_metrics

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("default::hardneg.datasets.errors.DataWarning"),
]

USAGE, DATA, RESOURCE = 2, 3, 4
NET = "LightGCN(dim=8,layers=1)"

# What stands in the command line: @log and @kg are data, @bad holds spoilt files, @graph,
# @sequence and @triples are finished runs. Each row: the words, the exit code, the message.
TRAINING = [
    # the data
    ("@bad/separator.csv", DATA, r"separator\.csv:1: .*'user~item~timestamp'.*rewrite .*CSV"),
    ("@bad/columns.csv", DATA, r"columns\.csv:1: .*'who', 'what'.* columns=\{'user': 'who'\}"),
    ("@bad/time.csv", DATA, r"time\.csv:5: 'timestamp' is 'yesterday'.*convert the column"),
    ("@bad/empty.csv", DATA, r"empty\.csv is empty; give a file"),
    ("@bad/header.csv", DATA, r"header\.csv: no rows.*give a file"),
    ("@bad/ragged.csv", DATA, r"ragged\.csv:4: 5 fields where 3 .*'u1,i1,3,4,5'; mend"),
    ("@bad/latin.csv", DATA, r"latin\.csv:3: byte 0xe9 is not UTF-8; convert .*iconv"),
    ("@bad/binary.csv", DATA, r"binary\.csv is binary.*name it \*\.parquet"),
    ("@bad/nothing.csv", DATA, r"nothing\.csv does not exist; check the path"),
    ("@bad/folder", DATA, r"folder holds no dataset .*give the file itself"),
    ("gowala", DATA, r"'gowala' is neither .*did you mean 'gowalla'\?"),
    ("@log min_user=1000", DATA, r"no row is left after .*'min_user': 1000.*lower"),
    ("@log min_rating=3", DATA, r"min_rating=3\.0 needs a rating column.*map it"),
    ("@log columns.user=who", DATA, r"log\.csv:1: has no column 'who'; choose from item"),
    ("@log \"columns={'user': 'who'}\"", DATA, r"log\.csv:1: has no column 'who'"),
    ("@log columns.usr=user", USAGE, r"unknown role 'usr'; did you mean 'user'"),
    ("@log format=exel", USAGE, r"unknown format 'exel'; choose from csv"),
    ("@log duplicates=no", USAGE, r"duplicates = 'no': .*'keep-first'"),
    ("@log split=LeaveTwoOut()", USAGE, r"no split 'LeaveTwoOut'; did you mean 'LeaveOneOut'"),
    ("@log split=Ratio(test=2)", USAGE, r"Ratio: test=2 must be a share in \[0, 1\)"),
    ("@log split=Ratio(", USAGE, r"split = 'Ratio\(' cannot be read .*'LeaveOneOut\(\)'"),
    ("@log \"split=Ratio(seed='a')\"", USAGE, r"Ratio\(seed='a'\): .*integer"),
    ("@log split=Ratio(seed=-1)", USAGE, r"Ratio: seed=-1 must be 0 or more"),
    ("@log split=Presplit()", USAGE, r"log has no test part of its own; use another split"),
    # settings
    ("@log epoch=3", USAGE, r"unknown setting 'epoch'; did you mean 'epochs'\?"),
    ("@log epochs=many", USAGE, r"epochs = 'many': .*integer"),
    ("@log --epochs many", USAGE, r"epochs = 'many': .*integer"),
    ("@log --seed=-1", USAGE, r"seed = -1: .*greater than or equal to 0"),
    ("@log epochs=-1", USAGE, r"epochs = -1: .*greater than or equal to 0"),
    ("@log batch_size=0", USAGE, r"batch_size = 0: .*greater than or equal to 1"),
    ("@log max_minutes=0", USAGE, r"max_minutes = 0: .*greater than 0"),
    ("@log average=1", USAGE, r"average = 1: .*less than 1"),
    ("@log metric=NDGC@10", USAGE, r"'NDGC@10' is unknown; did you mean 'NDCG@10'"),
    ("@log metric=NDCG@0", USAGE, r"'NDCG@0' looks at no rank; write NDCG@1"),
    ("@log metrics=Recall@10,Nope", USAGE, r"'Nope' is unknown; choose from"),
    ("@log device=gpu", USAGE, r"device = 'gpu' .*use auto, cpu, cuda"),
    ("@log precision=fp8", USAGE, r"precision = 'fp8': .*'fp32'"),
    ("@log =3", USAGE, r"'=3' is not key=value, e\.g\. epochs=20"),
    ("@log out=runs/mine", USAGE, r"out is an option of the command; write --out"),
    ("@log another", USAGE, r"'another' is one word too many; settings are written key=value"),
    ("@log model.dims=3", USAGE, r"model\.dims is not an argument here; .*'dim'"),
    ("@log modle.dim=3", USAGE, r"'modle' has no arguments; did you mean 'model'"),
    ("@log --negativs Uniform", USAGE, r"No such option: --negativs .*--negatives"),
    ("@log --out @graph", USAGE, r"graph exists already; choose another --out, or .*resume"),
    ("@log --out @log", USAGE, r"log\.csv exists already; choose another"),
    ("@log --out @log/run", RESOURCE, r"cannot write .*log\.csv/run.*choose another folder"),
    # components
    ("@log negatives=Unifrom(8)", USAGE, r"negatives: .*'Unifrom'; did you mean 'Uniform'"),
    ("@log negatives=Uniform(8,pool=2)", USAGE, r"Uniform .*'pool'; did you mean 'pools'"),
    ("@log \"negatives=Uniform('x')\"", USAGE, r"Uniform\(num='x'\): .*integer"),
    ("@log negatives=Uniform(-4)", USAGE, r"num=-4 in Uniform .*at least 1"),
    ("@log negatives=Uniform(8,8,8,8)", USAGE, r"Uniform takes 2 arguments, got 4"),
    ("@log negatives=Uniform(8,num=9)", USAGE, r"Uniform got 'num' twice"),
    ("@log negatives=Uniform(16)|TopK(64)", USAGE, r"k=64 exceeds the pool of 16; raise num"),
    ("@log negatives=Uniform(16)|TopK(0)", USAGE, r"num=0 in TopK .*at least 1"),
    ("@log negatives=Uniform(16)|Uniform(8)", USAGE, r"Uniform is a proposal .*only one"),
    ("@log negatives=TopK(8)", USAGE, r"TopK only refines; put a proposal first"),
    ("@log negatives=LightGCN()", USAGE, r"no negatives 'LightGCN'; choose from"),
    ("@log --loss SampledSoftMaxx", USAGE, r"'SampledSoftMaxx'; did you mean 'SampledSoftmax'"),
    ("@log loss=Margin(-1)", USAGE, r"margin=-1\.0 in Margin .*0 or more"),
    (
        "@log negatives=Uniform(8)|TopK(4) loss=SampledSoftmax(correct=True)",
        USAGE,
        r"SampledSoftmax\(correct=True\) needs log_q.*use correct='auto'",
    ),
    ("@log optimizer=Adm()", USAGE, r"no optimizer 'Adm'; did you mean 'Adam'"),
    ("@log --optimizer Adam(lr=-1)", USAGE, r"lr=-1\.0 is outside \[0, inf\); choose"),
    ("@log schedule=Linear(warmup=3)", USAGE, r"warmup=3\.0 is outside \[0, 1\]"),
    # nothing is evaluated
    ("@log \"negatives=__import__('os').system('touch pwned')\"", USAGE, r"cannot import"),
    ("@log \"negatives=os.system('touch pwned')\"", USAGE, r"'os.system' is not a Negative"),
    ("@log \"negatives=Uniform(__import__('os').getpid())\"", USAGE, r"plain value is expected"),
    ("@log \"negatives=Uniform(open('pwned','w'))\"", USAGE, r"plain value is expected"),
    ("@log negatives=Uniform(10**10**10)", USAGE, r"'10 \*\* 10 \*\* 10' is not a component"),
    ('@log "negatives=[Uniform(8)][0]"', USAGE, r"is not a component; write it like"),
    ("@log negatives=Uniform(8,**{})", USAGE, r"is not a component; write it like"),
]
COMMANDS = [
    # models and recipes
    ("train LightGNC @log", USAGE, r"no model 'LightGNC'; did you mean 'LightGCN'"),
    ("train LightGCN(dims=8) @log", USAGE, r"LightGCN has no argument 'dims'; did you mean 'dim'"),
    ("train LightGCN(dim=-8) @log", USAGE, r"dim=-8 is too small; give 1 or more"),
    ("train LightGCN(dim=8.5) @log", USAGE, r"LightGCN\(dim=8\.5\): .*integer"),
    ("train LightGCN(dim=Dot()) @log", USAGE, r"Dot\(\) stands where a plain value"),
    ("train LightGCN(similarity=Dott()) @log", USAGE, r"'Dott'; did you mean 'Dot'"),
    ("train LightGCN(similarity=BPR()) @log", USAGE, r"no similarity 'BPR'; choose from .*Dot"),
    ("train \"LightGCN(start='x.npy')\" @log", DATA, r"x\.npy: no such file .*check the path"),
    ("train \"LightGCN(start='best')\" @log", USAGE, r"start='best' is .*choose from random, spec"),
    ("train SASRec(dim=10,heads=4) @log", USAGE, r"dim=10 in SASRec .*heads=4; change"),
    ("train LightGCN(dim=8 @log", USAGE, r"'LightGCN\(dim=8' cannot be read .*closed"),
    ("train LightGCN()|SASRec() @log", USAGE, r"has 2 stages; give one model"),
    ("train nowhere.Mine @log", USAGE, r"cannot import 'nowhere.Mine' \(ModuleNotFoundError"),
    ("train RotatE @log", USAGE, r"'RotatE\(\)' trains on triples, but .*choose another"),
    ("train LightGCN @kg", USAGE, r"trains on interactions, but .*kg' holds triples"),
    ("train RotatE @kg split=Ratio()", USAGE, r"brings its own test part.*leave split out"),
    ("train RotatE @bad/twice", DATA, r"twice: 1 of \d+ test triples are in train too.*remove"),
    ("train RotatE @bad/halves", DATA, r"train\.txt:\d+: 2 fields where 3.*'e1\\tr1'; mend"),
    ("train RotatE @bad/untested", DATA, r"untested has train\.txt.*no test file; add one"),
    ("train LightGCN", USAGE, r"say what LightGCN shall train on, e\.g\. LightGCN ml-100k"),
    ("train", USAGE, r"Missing argument"),
    ("train @bad/absent.toml", USAGE, r"absent\.toml: no such recipe"),
    ("train @bad/broken.toml", USAGE, r"broken\.toml: not a TOML file \(.*line 1"),
    ("train @bad/binary.toml", USAGE, r"binary\.toml: not a TOML file"),
    ("train @bad/unknown.toml", USAGE, r"unknown setting 'epoch'; did you mean 'epochs'"),
    ("train @bad/nomodel.toml", USAGE, r"model is missing; give one, e\.g\. model=LightGCN"),
    ("train @bad/typed.toml", USAGE, r"epochs = 'many': .*integer"),
    ("train @bad/folder.toml", USAGE, r"folder\.toml: cannot be read \(Is a directory\)"),
    ("trian LightGCN @log", USAGE, r"No such command 'trian'.*'train'"),
    # questions
    ("recommend @graph --user nobody", DATA, r"unknown user 'nobody': there are 40, for example"),
    ("recommend @graph --history i1,i999", DATA, r"unknown item 'i999': did you mean 'i9'"),
    ("recommend @graph --user u1 --exclude i999", DATA, r"unknown item 'i999'"),
    ('recommend @graph --history ""', USAGE, r"the history is empty; give at least one item"),
    ('recommend @sequence --history " , "', USAGE, r"the history is empty; give at least one"),
    ("recommend @graph --user u1 --history i1", USAGE, r"give either a user or a history"),
    ("recommend @graph", USAGE, r"give either a user or a history"),
    ("recommend @graph --user u1 -k 0", USAGE, r"k = 0; ask for at least one"),
    ("recommend @graph --user u1 -k ten", USAGE, r"'-k'.*integer"),
    ("recommend @triples --user u1", USAGE, r"trained on triples; use predict instead"),
    ("recommend @bad/absent --user u1", DATA, r"absent: no such run folder; `hardneg ls`"),
    ("recommend @bad/folder --user u1", DATA, r"folder: not a run folder \(recipe\.toml is"),
    ("recommend @log --user u1", DATA, r"log\.csv: no such run folder"),
    ("predict @triples --head zz --relation r1", DATA, r"unknown entity 'zz': there are 30"),
    ("predict @triples --tail zz --relation r1", DATA, r"unknown entity 'zz'"),
    ("predict @triples --head e1 --relation likes", DATA, r"unknown relation 'likes': .*'r"),
    ("predict @triples --relation r1", USAGE, r"give either a head or a tail"),
    ("predict @triples --head e1 --tail e2 --relation r1", USAGE, r"give either a head or a tail"),
    ("predict @triples --head e1", USAGE, r"Missing option '--relation'"),
    ("predict @graph --head e1 --relation r1", USAGE, r"interactions; use recommend instead"),
    ("evaluate @graph --split train", USAGE, r"split = 'train'; choose valid or test"),
    ("evaluate @graph --metrics Recal@5", USAGE, r"'Recal@5' is unknown; did you mean 'Recall@5'"),
    ("evaluate @bad/absent", DATA, r"no such run folder"),
    ("evaluate @graph --splt test", USAGE, r"No such option: --splt .*--split"),
    # going on
    ("resume @graph model.dim=4", USAGE, r"'model.dim' cannot change .*only epochs, patience"),
    ("resume @graph epoch=4", USAGE, r"'epoch' cannot change .*only epochs"),
    ("resume @graph epochs=-4", USAGE, r"epochs = -4: .*greater than or equal to 0"),
    ("resume @bad/absent", DATA, r"no such run folder"),
    ("resume @graph quiet=true", USAGE, r"quiet is an option of the command; write --quiet"),
    # studies
    ("tune @bad/absent.toml", USAGE, r"absent\.toml: no such recipe"),
    ("tune @bad/good.toml --trials 0", USAGE, r"trials = 0; a study needs at least one"),
    ("tune @bad/good.toml --search negatives.nope", USAGE, r"'negatives.nope' has no declared"),
    ("tune @bad/good.toml epoch=2", USAGE, r"unknown setting 'epoch'; did you mean 'epochs'"),
    ("tune @bad/good.toml model=Popularity", USAGE, r"nothing to search in Popularity\(\)"),
    ("tune @bad/good.toml --out @graph", USAGE, r"graph holds something else than a study"),
    # data and the rest
    ("data fetch gowala", DATA, r"no built-in dataset 'gowala'; did you mean 'gowalla'"),
    ("data fetch", USAGE, r"Missing argument 'name'"),
    ("data describe @bad/empty.csv", DATA, r"empty\.csv is empty"),
    ("data describe @log splt=x", USAGE, r"unknown setting 'splt'; did you mean 'split'"),
    ("data describe @log min_user=x", USAGE, r"min_user = 'x'.*integer"),
    ("data delete", USAGE, r"No such command 'delete'"),
    ("ls @bad/absent", DATA, r"absent: no such folder; runs are made by `hardneg train`"),
    ("doctor --loud", USAGE, r"No such option: --loud"),
]
ROWS = [(f"train {NET} {words}", code, text) for words, code, text in TRAINING] + COMMANDS


@pytest.fixture(scope="module")
def bad(tmp_path_factory, log_rows, facts, small):
    """Write every spoilt file."""
    folder = tmp_path_factory.mktemp("bad")
    header, rows = "user,item,timestamp", [",".join(map(str, row)) for row in log_rows]
    texts = {
        "separator.csv": [header.replace(",", "~"), *(row.replace(",", "~") for row in rows)],
        "columns.csv": ["who,what,timestamp", *rows],
        "time.csv": [header, *rows[:3], "u1,i1,yesterday", *rows[3:]],
        "empty.csv": [],
        "header.csv": [header],
        "ragged.csv": [header, *rows[:2], "u1,i1,3,4,5", *rows[2:]],
        "lonely.csv": [header, *rows, "lonely,i3,1600000000"],
        "good.toml": [f'model = "{NET}"', f"dataset = '{small / 'log.csv'}'", "epochs = 1"],
        "broken.toml": ["model = LightGCN"],
        "unknown.toml": ['model = "LightGCN"', 'dataset = "ml-100k"', "epoch = 2"],
        "nomodel.toml": ['dataset = "ml-100k"'],
        "typed.toml": ['model = "LightGCN"', 'dataset = "ml-100k"', 'epochs = "many"'],
    }
    for name, lines in texts.items():
        (folder / name).write_text("".join(line + "\n" for line in lines))
    (folder / "latin.csv").write_bytes("user,item\nu2,i2\nJos\xe9,i1\n".encode("latin1"))
    (folder / "binary.csv").write_bytes(b"\x00\x01\x02" * 100)
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (folder / "folder").mkdir()
    (folder / "folder.toml").mkdir()
    train, valid, test = facts["train"], facts["valid"], facts["test"]
    graphs = {
        "twice": (train, valid, [*test, train[0]]),
        "halves": ([*train, ("e1", "r1")], valid, test),
        "unseen": (train, valid, [*test, ("martian", "r1", "e1")]),
        "untested": (train, valid, None),
    }
    for name, parts in graphs.items():
        (folder / name).mkdir()
        for part, triples in zip(("train", "valid", "test"), parts, strict=True):
            if triples is not None:
                text = "".join("\t".join(row) + "\n" for row in triples)
                (folder / name / f"{part}.txt").write_text(text)
    return folder


@pytest.fixture
def words(bad, small, runs):
    """Put real paths into a command line."""
    places = {"bad": bad, "log": small / "log.csv", "kg": small / "kg"}
    places |= {name: runs / name for name in ("graph", "sequence", "triples")}

    pattern = f"@({'|'.join(places)})\\b"

    def split(text):
        return [
            re.sub(pattern, lambda found: str(places[found[1]]), word) for word in shlex.split(text)
        ]

    return split


def snapshot(*folders):
    """Return every file below, with size and time."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def check(answer, code, message):
    assert "Traceback" not in answer.err
    assert answer.code == code, answer.err
    assert len(answer.err.splitlines()) == 1, answer.err
    assert answer.err.startswith("hardneg: ")
    assert re.search(message, answer.err), answer.err
    assert len(answer.err) < 600, "a sentence, not a page"


@pytest.mark.parametrize(("text", "code", "message"), ROWS, ids=[row[0] for row in ROWS])
def test_one_sentence_one_code_and_nothing_left(
    text, code, message, hardneg, words, bad, runs, small, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = snapshot(bad, runs, small)
    check(hardneg(*words(text)), code, message)
    assert list(tmp_path.rglob("*")) == [], "nothing half-written"
    assert snapshot(bad, runs, small) == before
    scratch = Path(os.environ["HARDNEG_CACHE"]) / "tmp"
    assert not scratch.exists() or list(scratch.iterdir()) == []


def test_the_table_is_long_enough():
    assert len(ROWS) >= 45
    assert {code for _, code, _ in ROWS} == {USAGE, DATA, RESOURCE}


DAMAGE = [
    ("weights.safetensors", "cut", r"truncated or damaged .*restore it or retrain"),
    ("weights.safetensors", "gone", r"missing; the run folder is incomplete"),
    ("weights.safetensors", "triples", r"weight 'ego' is absent in the file"),
    ("data.safetensors", "cut", r"damaged or truncated .*make it again"),
    ("data.safetensors", "gone", r"is missing"),
    ("data.safetensors", "triples", r"has no column 'user'"),
    ("vocab.parquet", "cut", r"is not a readable vocabulary"),
    ("vocab.parquet", "junk", r"is not a readable vocabulary"),
    ("protocol.json", "cut", r"protocol\.json:\d+: not JSON .*restore it"),
    ("protocol.json", "gone", r"is missing"),
    ("recipe.toml", "cut", r"recipe\.toml: .*damaged, or of another version"),
    ("recipe.toml", "junk", r"recipe\.toml: not a TOML file"),
    ("recipe.toml", "gone", r"not a run folder"),
]


@pytest.mark.parametrize(("file", "how", "message"), DAMAGE)
def test_a_damaged_run_is_named_with_its_file(file, how, message, hardneg, damaged):
    folder = damaged("run", file, how)
    answer = hardneg("recommend", folder, "--user", "u1")
    check(answer, DATA, message)
    assert "/run" in answer.err
    listed = hardneg("ls", folder.parent)
    assert listed.code == 0, "one damaged run does not hide the others"


@pytest.mark.parametrize("how", ["cut", "junk", "gone", "triples"])
def test_a_damaged_state_cannot_be_resumed_but_still_answers(how, hardneg, damaged):
    folder = damaged("run", "state/state.safetensors", how)
    message = "absent in the file" if how == "triples" else "truncated or damaged|missing"
    check(hardneg("resume", folder, "epochs=2", "-q"), DATA, message)
    assert hardneg("recommend", folder, "--user", "u1").code == 0
    assert "epochs = 1\n" in (folder / "recipe.toml").read_text(), "a failed resume changes nothing"


@pytest.mark.parametrize("how", ["cut", "junk", "gone"])
def test_lost_metrics_do_not_stop_a_run(how, hardneg, damaged):
    folder = damaged("run", "metrics.jsonl", how)
    assert hardneg("evaluate", folder).code == 0
    assert hardneg("resume", folder, "epochs=2", "-q").code == 0
    assert read_metrics(folder / "metrics.jsonl")[-1]["split"] == "test"


def test_a_user_with_one_event_works_and_is_counted(hardneg, bad, tmp_path):
    train = ["train", NET, bad / "lonely.csv", "split=LeaveOneOut()", "epochs=1"]
    answer = hardneg(*train, "--out", tmp_path / "run", "-q")
    assert answer.code == 0, answer.err
    card = (tmp_path / "run" / "protocol.json").read_text()
    assert '"users": 41' in card
    assert '"users with one event": 1' in card
    assert hardneg("recommend", tmp_path / "run", "--user", "lonely", "-k", "3").code == 0


def test_an_unseen_test_entity_is_counted_and_ranked(hardneg, bad, tmp_path):
    out = tmp_path / "run"
    answer = hardneg("train", "RotatE(dim=8)", bad / "unseen", "epochs=1", "--out", out, "-q")
    assert answer.code == 0, answer.err
    card = (out / "protocol.json").read_text()
    assert '"entities": 31' in card
    assert re.search(r'"unseen[^"]*": [1-9]', card), card
    assert hardneg("predict", out, "--head", "martian", "--relation", "r1").code == 0
    assert hardneg("evaluate", out, "--json").code == 0


def test_divergence_names_the_step_and_keeps_the_last_good_checkpoint(hardneg, small, tmp_path):
    out = tmp_path / "run"
    words = ["train", NET, small / "log.csv", "optimizer=Adam(lr=1e25)", "epochs=9"]
    answer = hardneg(*words, "--out", out, "-q")
    check(answer, RESOURCE, r"not finite at step \d+ .*checkpoint is kept in .*lower learning rate")
    weights = checkpoint.load(out / "weights.safetensors")
    assert all(bool(w.isfinite().all()) for w in weights.values())


@pytest.mark.parametrize(
    ("file", "left"),
    [("data.safetensors", False), ("weights.safetensors", False), ("metrics.jsonl", False)],
)
def test_a_full_disk_says_so_and_leaves_no_new_folder(
    file, left, hardneg, small, tmp_path, monkeypatch
):
    usual, opened = Path.replace, Path.open

    def full(path, target):
        if Path(target).name == file and "run" in Path(target).parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return usual(path, target)

    def closed(path, mode="r", *args, **kwargs):
        if path.name == file and "a" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(Path, "open", closed)
    answer = hardneg("train", NET, small / "log.csv", "--out", tmp_path / "run", "-q")
    check(answer, RESOURCE, rf"cannot write .*{file}: No space left on device; free .*space")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_later_keeps_what_can_be_resumed(hardneg, runs, tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(runs / "graph", folder)
    before = (folder / "state" / "state.safetensors").read_bytes()

    def full(path, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        check(hardneg("resume", folder, "epochs=3", "-q"), RESOURCE, "No space left on device")
    assert (folder / "state" / "state.safetensors").read_bytes() == before
    assert list(folder.rglob(".*")) == [], "no temporary files"
    assert hardneg("resume", folder, "epochs=3", "-q").code == 0


def test_no_memory_is_a_sentence(hardneg, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    for error in (MemoryError(), RuntimeError(text)):

        def fail(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr("hardneg.engine.job.build_model", fail)
        check(hardneg("train", NET, small / "log.csv"), RESOURCE, "out of memory; lower batch_size")
    assert list(tmp_path.iterdir()) == []


def test_without_network_the_places_and_the_address_are_named(hardneg, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("HARDNEG_DATA", str(tmp_path / "data"))
    answer = hardneg("data", "fetch", "gowalla")
    check(answer, DATA, r"gowalla is not in .*https://.*not known.*HARDNEG_DATA")
    monkeypatch.chdir(tmp_path)
    check(hardneg("train", NET, "gowalla"), DATA, "connect to the network")
    assert list(tmp_path.iterdir()) == []


def test_cuda_and_bf16_are_refused_where_there_is_none(hardneg, small, tmp_path, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    monkeypatch.chdir(tmp_path)
    log = small / "log.csv"
    check(hardneg("train", NET, log, "device=cuda"), USAGE, r"'cuda' cannot be used .*device=cpu")
    check(hardneg("train", NET, log, "precision=bf16"), USAGE, r"'bf16' .*precision=fp32")
    assert list(tmp_path.iterdir()) == []


def test_a_study_of_another_recipe_is_refused(hardneg, bad, tmp_path):
    out = tmp_path / "study"
    tune = ["tune", bad / "good.toml", "--out", out, "-q", "--trials"]
    assert hardneg(*tune, 1).code == 0
    check(hardneg(*tune, 2, "epochs=2"), USAGE, r"another recipe \(epochs differ\); choose another")
    assert hardneg(*tune, 1).code == 0


def test_odd_data_are_a_line_on_stderr_not_a_python_warning(hardneg, tmp_path):
    rows = [f"u{n // 3},i{n % 7},{n}" for n in range(60)]  # users come one after the other
    (tmp_path / "log.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    answer = hardneg("data", "describe", tmp_path / "log.csv", "--json")
    assert answer.code == 0
    assert re.fullmatch(r"warning: log: .*consider split=LeaveOneOut\(\)\n", answer.err)
