"""The page of a run and of a comparison: complete, self-contained, and safe with any name."""

import html
import re
import shutil
from html.parser import HTMLParser

import polars as pl
import pytest
import torch

from hardneg.engine import api
from hardneg.engine.compare import compare
from hardneg.engine.environment import command_of, read_starts
from hardneg.engine.pages.comparison import comparison_page
from hardneg.engine.pages.embedding_map import principal
from hardneg.engine.report import write_report
from hardneg.engine.run import Run

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

HOSTILE = "<script>alert(1)</script>"
QUOTED = "\"' onload=alert(2) & <b>bold</b>"
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Collects tags, attributes and text; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
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
        self.text += data


@pytest.fixture(scope="module")
def pages(small, tmp_path_factory, private_cache):
    """Runs of each kind, one with hostile names of items, users, relations and entities."""
    folder = tmp_path_factory.mktemp("pages")
    log = small / "log.csv"
    made = {
        "graph-0": ("LightGCN(dim=8, layers=1)", log, {"split": "LeaveOneOut()", "seed": 0}),
        "graph-1": ("LightGCN(dim=8, layers=1)", log, {"split": "LeaveOneOut()", "seed": 1}),
        "sequence": ("SASRec(dim=8, max_length=6)", log, {"split": "LeaveOneOut()"}),
        "baseline": ("Popularity()", log, {"split": "LeaveOneOut()"}),
        "several": ("LightGCN(dim=8, layers=1)", log, {"split": "Ratio(0.6, 0.2)"}),
        "triples": ("RotatE(dim=8)", small / "kg", {"negatives": "Uniform(8)"}),
    }
    for name, (model, data, settings) in made.items():
        api.train(model, data, out=folder / name, quiet=True, epochs=3, **settings)
    rows = [
        (f"{HOSTILE}u{u}", [HOSTILE, QUOTED, *"cdefgh"][(u + k) % 8], 60 * u + k)
        for u in range(12)
        for k in range(5)
    ]
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    api.train(
        "LightGCN(dim=4, layers=1)", frame, out=folder / "hostile", quiet=True, epochs=2,
        split="LeaveOneOut()",
    )  # fmt: skip
    return folder


def test_the_page_of_a_run_has_every_part(pages):
    text = (pages / "graph-0" / "report.html").read_text()
    read = Reader(text)
    run = Run(pages / "graph-0")
    for part in (
        "Test", "Curves", "Radar", "For whom it works", "Examples", "Map of the table", "Data",
        "Protocol", "Recipe", "How it was made",
    ):  # fmt: skip
        assert f">{part}</h2>" in text
    assert f"{run.metrics['NDCG@10']:.4f}" in read.text
    assert run.dataset.card.hash in read.text
    assert "by popularity of the true item".capitalize() in read.text
    assert "length of the history" in read.text
    assert "user u" in read.text
    assert re.search(r"rank \d", read.text)
    assert text.count("<circle") > 30  # the map has a dot for each item
    assert f"hardneg train {pages / 'graph-0' / 'recipe.toml'} --out AGAIN" in html.unescape(text)


@pytest.mark.parametrize(
    "name", ["graph-0", "sequence", "baseline", "several", "triples", "hostile"]
)
def test_pages_are_one_small_file_that_asks_for_nothing(name, pages):
    text = (pages / name / "report.html").read_text()
    read = Reader(text)
    assert len(text) < 5_000_000
    assert not {"script", "img", "iframe", "object", "embed", "form"} & set(read.tags)
    for key, value in read.attributes:
        assert not key.startswith("on")
        if key in ("src", "href"):
            assert value.startswith(("#", "data:,"))
    assert not re.search(r"url\(|@import|https?://", text)


def test_triples_are_cut_by_relation_and_asked_from_both_sides(pages):
    text = Reader((pages / "triples" / "report.html").read_text()).text
    assert "By category of the relation and side asked" in text
    assert "By relation, those asked most" in text
    assert re.search(r"\? — r\d — e\d", text) or re.search(r"e\d+ — r\d — \?", text)


def test_what_a_baseline_does_not_have_is_left_out(pages):
    text = (pages / "baseline" / "report.html").read_text()
    assert "Map of the table" not in text
    assert "Radar" not in text
    assert "For whom it works" in text


def test_hostile_names_are_text(pages):
    text = (pages / "hostile" / "report.html").read_text()
    assert HOSTILE not in text
    assert QUOTED not in text
    assert html.escape(HOSTILE) in text
    read = Reader(text)
    assert "script" not in read.tags
    assert HOSTILE in read.text
    assert QUOTED in read.text


def test_hostile_folder_names_are_text(pages, tmp_path):
    folders = [tmp_path / "<b>a&", tmp_path / "<i>b"]
    for name, folder in zip(("graph-0", "sequence"), folders, strict=True):
        shutil.copytree(pages / name, folder)
    text = comparison_page(compare(folders))
    assert {"b", "i"} & set(Reader(text).tags) == {"b"}  # of the large figures, see below
    assert "<b>a&" not in text
    assert "<i>b" not in text
    assert "<b>a&" in html.unescape(text)
    assert "<b>a&" not in write_report(folders[0]).read_text()


def test_a_report_is_the_same_when_it_is_made_again(pages, tmp_path):
    folder = pages / "sequence"
    before = (folder / "report.html").read_text()
    assert write_report(folder, tmp_path / "again.html").read_text() == before


def test_a_folder_of_an_earlier_version_still_gets_a_page(pages, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(pages / "graph-0", folder)
    (folder / "environment.json").unlink()
    (folder / "queries.safetensors").unlink()
    text = write_report(folder).read_text()
    assert "does not say how it was started" in text
    assert "For whom it works" not in text
    assert "Map of the table" in text


def test_an_unfinished_run_gets_a_page(pages, tmp_path):
    folder = tmp_path / "unfinished"
    shutil.copytree(pages / "graph-0", folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:2]))
    (folder / "queries.safetensors").unlink()
    assert "has not been tested" in write_report(folder).read_text()


def test_the_page_of_a_comparison_shows_figures_and_what_differs(pages):
    folders = [pages / name for name in ("graph-0", "graph-1", "sequence", "baseline")]
    text = comparison_page(compare(folders))
    read = Reader(text)
    assert "graph-0 (2 seeds)" in read.text
    assert "SASRec(dim=8, max_length=6)" in read.text
    assert "95% interval" in read.text
    assert not re.search(r"<script|https?://", text)


def test_each_start_is_recorded_and_passwords_are_not(pages, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pages / "graph-0", folder)
    api.resume(folder, quiet=True, epochs=4)
    starts = read_starts(folder)
    assert len(starts) == 2
    assert starts[0]["versions"]["torch"] == torch.__version__
    words = ["/x/bin/hardneg", "tune", "a b.toml", "--storage", "mysql://me:secret@host/db"]
    assert command_of(words) == "hardneg tune 'a b.toml' --storage mysql://me:***@host/db"
    (folder / "environment.json").write_text("{")
    assert read_starts(folder) == []


def test_the_map_is_the_principal_components():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=g) * torch.tensor([9.0, 4, 1, 1, 1, 1]) + 5
    places, shares = principal(x)
    values, vectors = torch.linalg.eigh(torch.cov(x.double().T))
    assert torch.allclose(places.var(0), values.flip(0)[:2])
    assert shares[0] == pytest.approx(float(values[-1] / values.sum()))
    want = (x.double() - x.double().mean(0)) @ vectors.flip(1)[:, :2]
    assert torch.allclose(places.abs(), want.abs())
    again, _ = principal(x.clone())
    assert torch.equal(places, again)
    same, shares = principal(torch.ones(5, 3))
    assert shares == [0.0, 0.0]
    assert not same.any()
