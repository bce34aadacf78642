"""The pages in a browser: quiet, readable, nothing sticks out; skipped where there is none."""

import pytest

from hardneg.engine import api
from hardneg.engine.compare import compare
from hardneg.engine.pages.comparison import write_comparison

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

VIEWS = [(1100, "light"), (1100, "dark"), (375, "light"), (375, "dark")]
TEXT = "document.body.innerText"
PAPER = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.body).color"

# Short words in a table that stand on several lines, such as "Adam(lr=0" over ".01)".
BROKEN = """[...document.querySelectorAll('td.short')].filter(cell => {
  const words = document.createRange(); words.selectNodeContents(cell)
  const lines = new Set([...words.getClientRects()].map(r => Math.round(r.top)))
  return lines.size > cell.querySelectorAll('br').length + 1 }).map(cell => cell.innerText)"""


@pytest.fixture(scope="module")
def made(browser, small, tmp_path_factory, private_cache):
    """Return the pages by kind."""
    folder = tmp_path_factory.mktemp("made")
    log = {"split": "LeaveOneOut()"}
    for name, model, data, settings in (
        ("graph", "LightGCN(dim=8, layers=1)", small / "log.csv", log),
        ("sequence", "SASRec(dim=8, max_length=6)", small / "log.csv", log),
        ("triples", "RotatE(dim=8)", small / "kg", {"negatives": "Uniform(8)"}),
    ):
        api.train(model, data, out=folder / name, quiet=True, epochs=2, **settings)
    page = folder / "comparison.html"
    write_comparison(compare([folder / "graph", folder / "sequence"]), page)
    found = {name: folder / name / "report.html" for name in ("graph", "triples")}
    return found | {"comparison": page}


WORDS = {
    "graph": ("NDCG@10 on test", "By the length of the history", "rows in training", "LeaveOneOut"),
    "triples": (
        "MRR on test",
        "By category of the relation",
        "facts are known about the given entity",
    ),
    "comparison": ("Differences", "95% interval", "SASRec(dim=8, max_length=6)"),
}


def luminance(colour):
    r, g, b = (int(x) for x in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
@pytest.mark.parametrize("name", WORDS)
def test_pages_render(name, width, scheme, made, browser):
    browser.open(made[name], width, scheme)
    shown = browser.value(TEXT)
    for word in WORDS[name]:
        assert word in shown
    assert browser.value("document.documentElement.scrollWidth") <= width
    light = luminance(browser.value(PAPER)) > luminance(browser.value(INK))
    assert light == (scheme == "light")
    letters = browser.value(
        "Math.min(...[...document.querySelectorAll('svg text')].filter(t => t.textContent && "
        "t.getClientRects().length).map(t => t.getBoundingClientRect().height))"
    )
    assert letters >= 10  # pixels from the highest to the lowest part of a letter
    assert browser.value(BROKEN) == []
    assert browser.log == []


def test_the_browser_would_have_told(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://127.0.0.1:9/x.png"><script>console.error("oh")</script>')
    browser.open(page)
    assert any("oh" in line for line in browser.log)
    assert any("127.0.0.1" in line for line in browser.log)
