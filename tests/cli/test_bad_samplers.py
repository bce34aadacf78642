"""What bad samplers get: one sentence with value, bound and remedy before anything is written."""

import re
import shlex

import pytest

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("default::hardneg.datasets.errors.DataWarning"),
]

USAGE, DATA, RESOURCE = 2, 3, 4
# What stands for the negatives, other words of the command line, the exit code, the message.
NEGATIVES = [
    # a pool smaller than k
    ("Uniform(16)|GumbelTopK(32)", "", USAGE, r"k=32 exceeds the pool of 16; raise num in Uniform"),
    ("Uniform(8)|TopK(4)|TopK(6)", "", USAGE, r"k=6 exceeds the pool of 4; raise num in TopK"),
    ("Centroid(4)|TopK(9)", "", USAGE, r"k=9 exceeds the pool of 4; raise clusters in Centroid"),
    ("CrossBatch(64)|TopK(65)", "", USAGE, r"k=65 exceeds the pool of 64; raise capacity in Cros"),
    ("Uniform(8)|TopK(Linear(4,16,epochs=1))", "", USAGE, r"k=16 exceeds the pool of 8"),
    ("Uniform(4)|Mix(8)", "", USAGE, r"num=8 in Mix exceeds the pool of 4.*raise num in Uniform"),
    ("Cache(4,cache=99)", "", USAGE, r"cache=99 in Cache exceeds the 30 candidates; lower it"),
    ("NeighbourBand(8,low=29,high=40)", "", USAGE, r"low=29 .* leaves none of 29 .*; lower it"),
    ("Hardest(8,skip=30)", "", USAGE, r"skip=30 in Hardest passes over all 30 candidates; lower"),
    # clusters
    ("SameCluster(8,clusters=0)", "", USAGE, r"clusters=0 .* in SameCluster must .* at least 1"),
    ("SameCluster(8,by='tabel')", "", USAGE, r"by='tabel' in SameCluster .* use 'table', 'graph'"),
    ("NearCluster(8,by='@bad/none.csv')", "", DATA, r"none\.csv for NearCluster does not exist"),
    (
        "SameCluster(8,by='@bad/some.csv')",
        "",
        DATA,
        r"some\.csv .* lacks 29 of 30 .*add their",
    ),
    ("ClusterWeight(())", "", USAGE, r"ClusterWeight"),
    # a file of negatives
    ("Given('@bad/unknown.csv')", "", DATA, r"unknown\.csv:3: unknown item 'i99'.*correct or rem"),
    ("Given('@bad/stranger.csv')", "", DATA, r"stranger\.csv:2: unknown user 'u99'.*remove the l"),
    ("Given('@bad/positive.csv')", "", DATA, r"positive\.csv:2: .*training positive; remove"),
    ("Given('@bad/heading.csv')", "", DATA, r"columns 'who', 'what'; name them user and item"),
    ("Given('@bad/none.csv')", "", DATA, r"none\.csv"),
    ("Given('')", "", USAGE, r"path='' in Given names no file; give a table"),
    # out of range
    ("Popularity(8,beta=1.5)", "", USAGE, r"beta=1\.5 in Popularity must be in \[-0\.5, 1\]"),
    ("Uniform(8)|Tilt(-1)", "", USAGE, r"beta=-1 in Tilt must be at least 0; change it"),
    ("Uniform(8)|Tilt(Linear(1,-1,1))", "", USAGE, r"beta=-1 in Tilt must be at least 0"),
    ("Uniform(8)|Debias(1.0)", "", USAGE, r"tau_plus=1 in Debias must be in \[0, 0\.99\]"),
    ("Uniform(8)|Debias(-0.1)", "", USAGE, r"tau_plus=-0\.1 in Debias must be in \[0, 0\.99\]"),
    ("Uniform(8)|SelfAdversarial(-2)", "", USAGE, r"alpha=-2 in SelfAdversarial must be at least"),
    ("Uniform(8)|Sinkhorn(0)", "", USAGE, r"epsilon=0 in Sinkhorn must be at least 1e-06"),
    ("Uniform(8)|FalseNegatives(3)", "", USAGE, r"ratio=3 in FalseNegatives must be in \[0, 2\]"),
    ("SameCluster(8,within=2)", "", USAGE, r"within=2 in SameCluster must be in \[0, 1\]"),
    ("CrossBatch(8,keep=0)", "", USAGE, r"keep=0 in CrossBatch leaves no negatives; use more"),
    ("Generator(8,temperature=0)", "", USAGE, r"temperature=0 in Generator must be at least"),
    ("Uniform(8)|SkipTop(-1)", "", USAGE, r"num=-1 in SkipTop must be at least 0; change it"),
    ("Uniform(8)|Mix(1,'pairs',among=0)", "", USAGE, r"among=0 in Mix must be at least 1"),
    ("Uniform(8)|Adaptive(p=0)", "", USAGE, r"p=0 in Adaptive must be in \[-10, -1\]; change it"),
    ("Uniform(8)|AmbiguousWindow(num=4,bins=0)", "", USAGE, r"bins=0 in AmbiguousWindow must be"),
    ("SameCluster(8,whiten=True)", "", USAGE, r"whiten=True in SameCluster .* no feature file; n"),
    ("Uniform(8)|Propensity(clip=0)", "", USAGE, r"clip=0 in Propensity must be in \(0, 1\]"),
    # schedules
    (
        "Uniform(8)|Tilt(Linear(0,2,epochs=10))",
        "epochs=3",
        USAGE,
        r"Tilt\.beta still moves at epoch 10 but the run has 3; shorten the schedule or raise",
    ),
    (
        "Uniform(8)|TopK(Doubling(1,8,every=2))",
        "epochs=3",
        USAGE,
        r"TopK\.num still moves at epoch 6 but the run has 3; shorten",
    ),
    (
        "Mixture(InBatch(),SameCluster(8,within=Cosine(0,1,epochs=9)))|TopK(4)",
        "epochs=3",
        USAGE,
        r"SameCluster\.within still moves at epoch 9 but the run has 3; shorten",
    ),
    (
        "NeighbourBand(8,low=Steps((9,4,1),(2,7)),high=20)",
        "epochs=3",
        USAGE,
        r"NeighbourBand\.low still moves at epoch 7 but the run has 3; shorten",
    ),
    (
        "InBatch()",
        "batches=ClusterBatch(clusters=8,size=Doubling(1,64,every=5)) epochs=3",
        USAGE,
        r"batches: ClusterBatch\.size still moves at epoch 30 but the run has 3; shorten",
    ),
    (
        "NeighbourBand(8,low=Linear(0,50,epochs=2),high=40)",
        "",
        USAGE,
        r"low=40, high=40 in NeighbourBand at epoch 1\.\d+ must be 0 <= low < high",
    ),
    ("Uniform(8)|Tilt(Linear(0,2,epochs=0))", "", USAGE, r"epochs=0.* in Linear must be above 0"),
    ("Uniform(8)|Tilt(Doubling(0,2))", "", USAGE, r"Doubling.* needs 0 < start <= limit"),
    # a loss that needs log_q
    ("Uniform(8)|TopK(4)", "loss=MECO()", USAGE, r"MECO needs log_q.*e\.g\. Uniform\(256\)"),
    ("Hardest(8)", "loss=SampledSoftmax(form='corrected')", USAGE, r"needs log_q.*form='infonce'"),
    ("Cache(8)", "loss=SampledSoftmax(correct=True)", USAGE, r"needs log_q"),
    ("Uniform(8)|TopK(4)", "loss=WARP()", USAGE, r"WARP needs log_q.*leave them out"),
    # stages that do not fit
    ("Uniform(8,pools='own')|Sinkhorn()", "", USAGE, r"Sinkhorn needs one pool .*; use pools=1"),
    ("Centroid(4)|Mix(1)", "", USAGE, r"vectors without a row; use of='pairs'"),
    ("Mixture(Uniform(8),TopK(4))", "", USAGE, r"TopK in Mixture is no proposal; mix proposals"),
    ("ObservedType(8)", "", USAGE, r"ObservedType needs relations .*; use it with triples"),
    ("Uniform(8)", "batches=SameRelation()", USAGE, r"SameRelation needs triples; for logs use"),
    ("Uniform(8)", "batches=Subgraph()", USAGE, r"Subgraph walks over triples; for logs use"),
    (
        "Uniform(8)",
        "batches=ClusterBatch('across',clusters=4) batch_size=64",
        USAGE,
        r"clusters=4 in ClusterBatch cannot fill a batch of 64 .*raise clusters to 64 or lower",
    ),
    ("Uniform(8)|OwnerSimilarity(of='known',budget_mb=0.0001)", "", RESOURCE, r"above budget_mb"),
    ("Cache(4,budget_mb=0)", "", RESOURCE, r"above budget_mb=0; lower cache to 0 or raise"),
    ("NeighbourBand(8,2,9,budget_mb=0.0001)", "", RESOURCE, r"above budget_mb=0\.0001; .*raise"),
]
FACTS = [
    ("NearbyTime(8)", "", USAGE, r"NearbyTime needs when things happened .* or use Popularity"),
    ("Uniform(8)", "sides=bernoulli batches=SameRelation()", USAGE, r"use sides='alternate' or Sh"),
    ("Given('@bad/unknown.csv')", "", DATA, r"name them head, relation and tail in the first"),
]
LOG = "LightGCN(dim=8,layers=1) @log split=LeaveOneOut()"
SEQUENCES = [
    ("Uniform(8)", "loss=MECO()", USAGE, r"MECO remembers .* prefixes .* use SampledSoftmax\(corr"),
]
ROWS = [(LOG, *row) for row in NEGATIVES] + [("RotatE(dim=8) @kg", *row) for row in FACTS]
ROWS += [("SASRec(dim=8) @log split=LeaveOneOut()", *row) for row in SEQUENCES]


@pytest.fixture(scope="module")
def bad(tmp_path_factory, log_rows):
    """Write files of negatives and labels that do not fit the log."""
    folder = tmp_path_factory.mktemp("negatives")
    mine = {user: [item for who, item, _ in log_rows if who == user] for user, _, _ in log_rows}
    other = next(f"i{n}" for n in range(30) if f"i{n}" not in mine["u0"])
    texts = {
        "unknown.csv": f"user,item\nu0,{other}\nu0,i99\n",
        "stranger.csv": "user,item\nu99,i1\n",
        "positive.csv": f"user,item\nu0,{mine['u0'][0]}\n",
        "heading.csv": "who,what\nu0,i1\n",
        "some.csv": "item,kind\ni0,a\n",
        "one.csv": "item,kind\n" + "".join(f"i{n},a\n" for n in range(30)),
        "all.csv": "user,item\n" + "".join(f"u{u},i{i}\n" for u in range(4) for i in range(9)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def ask(hardneg, bad, small, tmp_path, monkeypatch):
    """Run `hardneg train` on the words with real paths in them, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    places = {"bad": bad, "log": small / "log.csv", "kg": small / "kg"}

    def run(words, negatives, rest=""):
        line = [*shlex.split(words), f"negatives={negatives}", *rest.split()]
        return hardneg(
            "train",
            *(re.sub("@(bad|log|kg)", lambda found: str(places[found[1]]), w) for w in line),
        )

    return run


@pytest.mark.parametrize(
    ("words", "negatives", "rest", "code", "message"), ROWS, ids=[f"{r[1]} {r[2]}" for r in ROWS]
)
def test_one_sentence_and_nothing_left(words, negatives, rest, code, message, ask, tmp_path):
    answer = ask(words, negatives, rest)
    assert "Traceback" not in answer.err
    assert answer.code == code, answer.err
    assert len(answer.err.splitlines()) == 1, answer.err
    assert re.search(message, answer.err), answer.err
    assert len(answer.err) < 600, "a sentence, not a page"
    assert list(tmp_path.rglob("*")) == [], "nothing half-written"


def test_all_candidates_known(ask, bad):
    answer = ask(f"LightGCN(dim=8,layers=1) {bad / 'all.csv'} split=Ratio(0,0)", "Uniform(8)")
    assert answer.code == USAGE, answer.err
    assert re.search(r"each of the 4 queries .* all 9 candidates .* data with a choice", answer.err)


def test_one_cluster_trains_uniformly_and_says_so(ask):
    answer = ask(LOG, "SameCluster(8,by='@bad/one.csv')", "epochs=1 --out run")
    assert answer.code == 0, answer.err
    assert re.search(r"found one cluster only.*draws uniformly; raise clusters", answer.err)


def test_clusters_of_one_train_uniformly_and_say_so(ask):
    answer = ask(LOG, "SameCluster(8,clusters=200)", "epochs=2 --out run")
    assert answer.code == 0, answer.err
    found = re.findall(
        r"found 30 clusters of one candidate each.*draws uniformly; lower clusters below 30",
        answer.err,
    )
    assert len(found) == 1
    answer = ask(LOG, "NearCluster(8,clusters=200)", "epochs=1 --out near")  # the nearest candidate
    assert (answer.code, "clusters of one" in answer.err) == (0, False)
