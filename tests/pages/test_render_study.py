"""The page of a study in a browser: quiet, readable, sorts; skipped where there is none."""

import pytest

from hardneg.tuning.pages.study_page import write_study_report

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

VIEWS = [(1100, "light"), (1100, "dark"), (375, "light"), (375, "dark")]
WORDS = {
    "usual": ("Which knobs matter", "hardness: TopK.share", "error held out", "Best recipe per"),
    "failed": ("no winner", "failed: the loss is not a number", "too few to say"),
}
PAPER = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.body).color"
COLUMN = "[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[{}].innerText)"
CLICK = "document.querySelectorAll('table.sortable th button')[{}].click(), 0"


@pytest.fixture(scope="module")
def made(browser, written_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    written_study(folder / "usual", objectives=("quality", "seconds"))
    written_study(folder / "failed", trials=3, only_failed=True)
    return {name: write_study_report(folder / name) for name in WORDS}


def luminance(colour):
    r, g, b = (int(x) for x in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
@pytest.mark.parametrize("name", WORDS)
def test_pages_render(name, width, scheme, made, browser):
    browser.open(made[name], width, scheme)
    shown = browser.value("document.body.innerText")
    for word in WORDS[name]:
        assert word in shown
    assert browser.value("document.documentElement.scrollWidth") <= width
    light = luminance(browser.value(PAPER)) > luminance(browser.value(INK))
    assert light == (scheme == "light")
    letters = browser.value(
        "Math.min(20, ...[...document.querySelectorAll('svg text')].filter(t => t.textContent && "
        "t.getClientRects().length).map(t => t.getBoundingClientRect().height))"
    )
    assert letters >= 10  # pixels from the highest to the lowest part of a letter
    assert browser.log == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_stand_out_from_the_paper(scheme, made, browser):
    """Lines and dots have a contrast of 3 to 1 at least, as WCAG asks of graphics."""
    browser.open(made["usual"], 1100, scheme)
    paper = relative(browser.value(PAPER))
    for kind, style in (("f1", "fill"), ("f2", "fill"), ("s3", "stroke"), ("spot", "stroke")):
        find = f"getComputedStyle(document.querySelector('svg .{kind}')).{style}"
        ink = relative(browser.value(find))
        high, low = max(ink, paper), min(ink, paper)
        assert (high + 0.05) / (low + 0.05) >= 3, kind


def relative(colour):
    parts = [int(x) / 255 for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_a_click_sorts_by_the_number_and_empty_cells_stay_last(made, browser):
    browser.open(made["usual"])
    names = browser.value(
        "[...document.querySelectorAll('table.sortable th')].map(h => h.innerText)"
    )
    place = names.index("TopK.share")
    for way in ("descending", "ascending"):
        browser.value(CLICK.format(place))
        found = browser.value(COLUMN.format(place))
        there = [float(text) for text in found if text]
        assert there == sorted(there, reverse=way == "descending")
        assert found[len(there) :] == [""] * (len(found) - len(there))
        assert len(there) == 24
    browser.value(CLICK.format(0))
    assert [int(n) for n in browser.value(COLUMN.format(0))] == list(range(47, -1, -1))
    family = names.index("family")
    browser.value(CLICK.format(family))
    found = browser.value(COLUMN.format(family))
    assert found in (sorted(found), sorted(found, reverse=True))
    assert browser.log == []
