"""The page of a study: complete, self-contained, safe with any name, there whatever happened."""

import base64
import hashlib
import html
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from typer.testing import CliRunner

import hardneg.__main__  # noqa: F401  # puts the commands together
from hardneg.datasets.errors import UsageError
from hardneg.engine.cli import app
from hardneg.engine.pages.chart import Point
from hardneg.engine.pages_cli import WRITERS
from hardneg.engine.run import Run
from hardneg.tuning.pages.lessons import _span
from hardneg.tuning.pages.study_page import write_study_report

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

HOSTILE = "<script>alert(1)</script>"
QUOTED = "\"' onload=alert(2) & <b>bold</b>"
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Collects tags, attributes, scripts and text; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.scripts, self.open = [], [], "", [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.get_starttag_text().endswith("/>") or self.open[-1:] == [tag]:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        else:
            self.text += data


FINALIST = {
    "trial": 2, "family": "Uniform(256) | TopK(share=0.1)", "baseline": False, "runs": [],
    "params": {"negatives.Uniform.num": 64}, "validation": 0.3, "validation_again": 0.29,
    "test": 0.28, "sd": 0.01, "optimism": 0.02, "difference": 0.03, "low": 0.01, "high": 0.05,
    "p": 0.002,
}  # fmt: skip


@pytest.fixture(scope="module")
def studies(written_study, tmp_path_factory):
    """Return studies of several kinds, with their pages."""
    folder = tmp_path_factory.mktemp("studies")
    plain = {k: v for k, v in FINALIST.items() if k not in ("difference", "low", "high", "p")}
    plain |= {"trial": 1, "family": "Uniform(256)", "baseline": True, "test": 0.25}
    plain["validation_again"] = 0.26
    extra = {
        f"model.{HOSTILE}": CategoricalDistribution([HOSTILE, QUOTED, "c"]),
        "model.plain": FloatDistribution(0.1, 1.0),
    }
    written_study(folder / "usual", objectives=("quality", "seconds"))
    written_study(folder / "finalists", trials=12, finalists=[FINALIST, plain])
    written_study(folder / "failed", trials=3, only_failed=True, why=f"failed: {HOSTILE}")
    written_study(folder / "few", trials=3)
    written_study(folder / "hostile", trials=16, extra=extra, why=f"failed: {QUOTED}")
    for name in ("usual", "finalists", "failed", "few", "hostile"):
        write_study_report(folder / name)
    return folder


def test_the_page_has_every_part(studies):
    text = (studies / "usual" / "report.html").read_text()
    read = Reader(text)
    for part in (
        "Findings", "Test", "Families", "Which knobs matter", "What each knob does",
        "Ratio and hardness", "What a budget buys", "What more epochs would bring",
        "Quality and cost", "Trials", "Trials that came to nothing", "What was searched", "Data",
        "Protocol", "Recipe", "How it was made",
    ):  # fmt: skip
        assert f">{part}</h2>" in text
    for words in (
        "The best trial on validation is number", "ratio: Uniform.num, log scale",
        "hardness: TopK.share, log scale", "training seconds, all trials", "epoch, log scale",
        "error held out", "Best recipe per budget", "Pruning: 8 given up early",
        "failed: the loss is not a number", "0.01 to 0.5, log", "hardneg tune r.toml",
        "on the edge of the worst values stand those beyond it too",
        "No other beats these in every objective", Run(studies / "usual").dataset.card.hash,
    ):  # fmt: skip
        assert words in read.text, words
    trials = text[text.index('id="trials"') : text.index('id="failures"')]
    assert trials.count("<tr") == 49  # the head and every trial


def test_finalists_are_compared_with_tuned_uniform(studies):
    read = Reader((studies / "finalists" / "report.html").read_text())
    for words in ("± 0.0100", "+0.0300", "+0.0100 to +0.0500", "0.002", "p (Holm)", "optimism"):
        assert words in read.text
    assert "against tuned uniform" in read.text
    assert "best on validation when trained anew: best.toml is its recipe" in read.text


@pytest.mark.parametrize("name", ["usual", "finalists", "failed", "few", "hostile"])
def test_pages_are_one_small_file_whose_only_script_sorts(name, studies):
    text = (studies / name / "report.html").read_text()
    read = Reader(text)
    assert len(text) < 5_000_000
    assert read.tags.count("script") == 1
    assert not {"img", "iframe", "object", "embed", "form"} & set(read.tags)
    digest = base64.b64encode(hashlib.sha256("".join(read.scripts).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text, "the policy lets no other script run"
    assert not re.search(r"fetch|XMLHttp|import\s|innerHTML|eval", "".join(read.scripts))
    for key, value in read.attributes:
        assert not key.startswith("on")
        if key in ("src", "href"):
            assert value.startswith(("#", "data:,"))
    assert not re.search(r"url\(|@import|https?://", text)
    assert not re.search(r"\bnan\b|\binf\b", read.text)


def test_hostile_names_are_text(studies):
    text = (studies / "hostile" / "report.html").read_text()
    assert HOSTILE not in text
    assert QUOTED not in text
    assert html.escape(HOSTILE) in text
    read = Reader(text)
    assert HOSTILE in read.text
    assert QUOTED in read.text
    assert "b" not in set(Reader(text[text.index("<main>") : text.index("<script>")]).tags) - {"b"}
    failed = (studies / "failed" / "report.html").read_text()
    assert HOSTILE not in failed
    assert html.escape(f"failed: {HOSTILE}") in failed


def test_a_study_that_only_failed_gets_a_page(studies):
    read = Reader((studies / "failed" / "report.html").read_text())
    assert "No trial finished within the limits, so there is no winner." in read.text
    assert "The test part has not been read." in read.text
    assert "0 finished trials are too few" in read.text
    assert "6 failed" in read.text


def test_few_trials_get_a_page_that_says_so(studies):
    read = Reader((studies / "few" / "report.html").read_text())
    assert "are too few to say which knobs matter" in read.text
    assert "Ratio and hardness" not in read.text
    assert "What more epochs would bring" in read.text


def test_a_page_is_the_same_when_it_is_made_again(studies, tmp_path):
    folder = studies / "few"
    before = (folder / "report.html").read_text()
    assert write_study_report(folder, tmp_path / "again.html").read_text() == before


def test_a_study_begun_and_no_more_gets_a_page(studies, tmp_path):
    copy = tmp_path / "begun"
    shutil.copytree(studies / "few", copy)
    (copy / "study.db").unlink()
    (copy / "test.json").unlink()
    assert "No trial has begun." in write_study_report(copy).read_text()


def test_the_command_knows_studies_and_runs(studies):
    marks = list(WRITERS)
    assert marks.index("study.json") < marks.index("recipe.toml")
    assert marks.index("study.db") < marks.index("recipe.toml")
    page = studies / "few" / "named.html"
    answer = CliRunner().invoke(app, ["report", str(studies / "few"), "--out", str(page)])
    assert answer.exit_code == 0
    assert answer.output.strip() == str(page)
    assert "a study of LightGCN" in page.read_text()


def test_the_surface_may_be_chosen(studies, tmp_path):
    out = tmp_path / "page.html"
    words = [
        "report",
        str(studies / "usual"),
        "--surface",
        "Uniform.num,Adam.lr",
        "--out",
        str(out),
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert "hardness: Adam.lr, log scale" in out.read_text()
    wrong = CliRunner().invoke(app, [*words[:3], "Uniform.num,Adam.rate"])
    assert isinstance(wrong.exception, UsageError)
    assert "no knob 'Adam.rate'" in str(wrong.exception)
    trial = tmp_path / "run"
    trial.mkdir()
    (trial / "recipe.toml").touch()
    run = CliRunner().invoke(app, ["report", str(trial), "--surface", "a,b"])
    assert "is a run and has no --surface" in str(run.exception)


def test_the_axis_of_an_effect_ends_at_zero_where_the_metric_does():
    """The band of a Gaussian process knows no bounds."""
    effect = SimpleNamespace(low=np.array([-0.4, 0.2]), high=np.array([0.5, 0.9]))
    trials = [Point(0.0, 0.1, ""), Point(1.0, 0.8, "")]
    assert _span(SimpleNamespace(up=True), effect, trials) == (0.0, 0.9)
    below = [*trials, Point(2.0, -0.1, "")]
    assert _span(SimpleNamespace(up=True), effect, below)[0] == -0.4
