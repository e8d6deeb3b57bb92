"""The report in a real browser, at the widths of a desk and of a telephone."""

import shutil

import pytest
from chromium import Chromium
from ionraman.ranking import rank
from ionraman.report import write_report
from ionraman.report.curves import MOST_ROWS
from synthetic_campaign import CAMPAIGN_INFO, campaign, marker, summary, transport, write_curves

WIDTHS = (1280, 400)


def build(folder, rows, key="pareto"):
    table = rank(rows, reference_temperature_K=300.0, key=key)
    write_report(table, rows, folder / "runs", folder / "report.html", CAMPAIGN_INFO | {"key": key})
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("campaign"), campaign()
    write_curves(folder / "runs", rows)
    return build(folder, rows)


@pytest.fixture(scope="module")
def browser():
    with Chromium() as chromium:
        yield chromium


@pytest.fixture
def page(browser, address):
    browser.events.clear()
    browser.open(address, 1280)
    yield browser
    assert browser.errors() == []
    asked = {url for url in browser.requests() if not url.startswith("blob:")}  # made on the page itself
    assert asked == {address}, "the page asked for something"


def column(page, number):
    return page.run(
        f"[...document.querySelectorAll('#table tbody tr')].map(r => r.cells[{number}].textContent.trim())"
    )


def names(page):
    return page.run("[...document.querySelectorAll('#table tbody th')].map(r => r.dataset.v)")


def count(page, selector):
    return page.run(f"document.querySelectorAll({selector!r}).length")


@pytest.mark.parametrize("width", WIDTHS)
def test_page_draws_without_error_or_request(page, width):
    page.open(page.run("location.href"), width)
    assert page.run("document.documentElement.scrollWidth") <= width, (
        "the page itself must not scroll sideways"
    )
    assert count(page, "[data-figure=map] .mark[transform]") == 4 + 3, (
        "four rows and three verdicts in the legend"
    )
    assert count(page, "[data-figure=map] .name") == 4
    for figure, lines in (("spectra", 4), ("msd", 4 + 1)):
        paths = f"[...document.querySelectorAll('[data-figure={figure}] path.line')]"
        drawn = f"{paths}.filter(p => p.getTotalLength() > 50)"
        assert page.run(f"new Set({drawn}.map(p => p.getAttribute('stroke'))).size") >= lines
        assert page.run(f"{drawn}.every(p => !/NaN|Infinity/.test(p.getAttribute('d')))")
        assert count(page, f"[data-figure={figure}] path.band") >= 4
    assert count(page, "[data-figure=spectra] rect.window") == 1
    boxes = page.run(
        "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect())"
        ".map(b => [b.width, b.height])"
    )
    assert len(boxes) == 3 and all(0.6 * min(width, 900) < w <= width and 200 < h < 700 for w, h in boxes)
    page.open(page.run("location.href"), 1280)


def test_clicking_a_heading_sorts_and_empty_cells_stay_last(page):
    given = names(page)
    page.click("#table th[data-key=I_low] button")
    assert column(page, 6)[:4] == ["20 (18–22)", "9.4 (8.5–10.3)", "9.2 (8.3–10.1)", "5.1 (4.6–5.6)"]
    assert column(page, 6)[8:] == ["–"] * 4
    assert page.run("document.querySelector('th[data-key=I_low]').getAttribute('aria-sort')") == "descending"
    assert page.run("document.querySelector('th[data-key=rank]').getAttribute('aria-sort')") == "none"
    page.click("#table th[data-key=I_low] button")
    assert column(page, 6)[0] == "0.40 (0.36–0.44)" and column(page, 6)[8:] == ["–"] * 4
    page.click("#table th[data-key=candidate] button")
    assert names(page) == sorted(given, key=str.lower)
    page.click("#table th[data-key=rank] button")
    assert column(page, 0)[:4] == ["1", "2", "3", "4"]


def test_everything_works_by_keyboard(page):
    page.click("#filter")
    seen = []
    while "robust" not in seen and len(seen) < 40:
        page.press("Tab")
        seen.append(
            page.run("document.activeElement.closest('th')?.dataset.key || document.activeElement.tagName")
        )
    assert "robust" in seen, "headings are reached with the tabulator"
    page.press("Enter")
    assert page.run("document.querySelector('th[data-key=robust]').getAttribute('aria-sort')") == "ascending"
    page.press(" ")
    assert page.run("document.querySelector('th[data-key=robust]').getAttribute('aria-sort')") == "descending"

    tip = "document.querySelector('[data-figure={}] .tip').textContent"
    page.run("document.querySelector('[data-figure=map] svg').focus()")
    page.press("ArrowRight")
    assert page.run(tip.format("map")).startswith("1 Na3SbS4_W, 300 K\ndiffusing\nI_low 0.0051")
    page.press("End")
    assert "D below 4.1 × 10⁻⁷" in page.run(tip.format("map"))
    page.run("document.querySelector('[data-figure=spectra] svg').focus()")
    page.press("End")
    assert "1 Na3SbS4_W, 300 K: " in page.run(tip.format("spectra"))
    assert (
        page.run("getComputedStyle(document.querySelector('[data-figure=spectra] svg')).outlineStyle")
        == "solid"
    )

    page.run("document.querySelector('details.candidate summary').focus()")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('details.candidate[open] svg').length === 2")


def test_mouse_reads_values(page):
    tip = "document.querySelector('[data-figure=msd] .tip').textContent"
    page.move_mouse(*page.middle("[data-figure=msd] svg"))
    page.wait_for(f"/ps\\n1 Na3SbS4_W, 300 K: diffusing: .* ± /.test({tip})")
    page.move_mouse(1, 1)
    page.wait_for(f"{tip} === ''")


def test_link_of_a_row_opens_its_details_with_the_members(page):
    page.click("#table tbody tr:nth-child(4) a")
    page.wait_for("document.querySelectorAll('details.candidate[open] svg').length === 2")
    assert page.run("document.querySelector('details.candidate[open] .name').textContent") == "4 NaCl"
    labels = page.run(
        "[...document.querySelectorAll('details.candidate[open] svg text')].map(t => t.textContent)"
    )
    assert {
        "member 1",
        "member 4",
        "mean",
        "4 NaCl, 300 K: not diffusing",
        "NaCl, 600 K: not diffusing",
    } <= set(labels)


def test_filter_and_ranked_only(page):
    page.click("#filter")
    page.type("melted")
    visible = "[...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden).length"
    assert (
        page.run(visible) == 1 and page.run("document.querySelector('#shown').textContent") == "1 of 12 rows"
    )
    page.run(
        "(f => { f.value = ''; f.dispatchEvent(new Event('input')); })(document.querySelector('#filter'))"
    )
    page.click("#only-ranked")
    assert page.run(visible) == 4


def test_runs_and_axes_can_be_chosen(page):
    lines = "[...document.querySelectorAll('[data-figure=spectra] path.line')]"
    strokes = f"new Set({lines}.map(p => p.getAttribute('stroke'))).size"
    before = page.run(strokes)
    page.click("#chosen button")
    assert page.run(strokes) == before - 1
    options = page.run("[...document.querySelector('#add').options].map(o => o.textContent)")
    assert "1 Na3SbS4_W, 300 K" in options and "Na3SbS4_W, 600 K" in options

    def select(identifier, value):
        change = f"s => {{ s.value = {value!r}; s.dispatchEvent(new Event('change')); }}"
        page.run(f"({change})(document.querySelector('#{identifier}'))")

    select(
        "add",
        page.run("[...document.querySelector('#add').options].find(o => /600/.test(o.textContent)).value"),
    )
    assert page.run(strokes) == before
    shape = "document.querySelector('[data-figure=spectra] path.line[stroke=\"#0072b2\"]').getAttribute('d')"
    logarithmic = page.run(shape)
    select("spectra-scale", "linear")
    linear = page.run(shape)
    select("spectra-range", "0")
    assert len({logarithmic, linear, page.run(shape)}) == 3


@pytest.mark.parametrize("kind", ["SVG", "PNG"])
def test_figures_can_be_saved(page, kind):
    page.run("window.saved = null")
    page.run("HTMLAnchorElement.prototype.click = function () { window.saved = [this.download, this.href]; }")
    page.click(f"[data-figure=map] .save button[aria-label$={kind}]")
    page.wait_for("window.saved !== null")
    assert page.run("window.saved[0]") == f"map.{kind.lower()}"
    assert page.run("window.saved[1]").startswith("blob:")


def test_hostile_names_run_nothing(browser, tmp_path):
    evil = '</script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    rows = [
        summary("b", marker=marker(1e-3), transport=transport("diffusing"), carriers_requested=evil),
        summary(f"a{evil}", status="failed", reason=evil, formula=evil),
    ]
    write_curves(tmp_path / "runs", rows)
    browser.events.clear()
    browser.open(build(tmp_path, rows), 1280)
    browser.click("#open-all")
    browser.wait_for("document.querySelectorAll('details[open] svg').length === 2")
    assert browser.run("window.hacked") is None and browser.errors() == [] and len(browser.requests()) == 1
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_campaign_without_results_says_so(browser, tmp_path):
    browser.events.clear()
    browser.open(build(tmp_path, [summary("a", status="running", reason="3 % of 100 ps")]), 1280)
    assert browser.run("document.querySelectorAll('figure .empty').length") == 3
    assert browser.errors() == []


def test_a_thousand_candidates_open_and_sort(browser, tmp_path):
    rows = [
        summary(f"c{i:04d}", marker=marker(1e-2 / (1 + i), seed=i), transport=transport("not diffusing"))
        for i in range(1000)
    ]
    write_curves(tmp_path / "runs", rows[:MOST_ROWS], points=20)
    browser.events.clear()
    browser.open(build(tmp_path, rows, key="I_low"), 1280)
    browser.wait_for("document.querySelectorAll('[data-figure=map] .mark').length >= 1000")
    browser.click("#table th[data-key=candidate] button")
    browser.click("#table th[data-key=candidate] button")
    assert names(browser)[0] == "c0999" and browser.errors() == []
    assert (tmp_path / "report.html").stat().st_size < 6_500_000


def test_missing_browser_is_said(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(AssertionError, match="apt-get install chromium"):
        Chromium()
