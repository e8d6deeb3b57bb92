import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from ionraman.ranking import rank
from ionraman.report import curves, words, write_report
from ionraman.report.figures import overview
from synthetic_campaign import CAMPAIGN_INFO, campaign, marker, summary, transport, write_curves

VOID = {"meta", "input", "br", "img", "link"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes, own text), with a check that all are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        for number in self._open:
            self.elements[number][2] += data

    def all(self, tag, **attributes):
        return [
            e for e in self.elements if e[0] == tag and all(e[1].get(k) == v for k, v in attributes.items())
        ]


def build(folder, rows, *, key="pareto", info=CAMPAIGN_INFO, missing=()):
    table = rank(rows, reference_temperature_K=300.0, key=key, missing=missing)
    write_report(table, rows, folder / "runs", folder / "report.html", info)
    return table, (folder / "report.html").read_text()


@pytest.fixture
def finished(tmp_path):
    rows = campaign()
    write_curves(tmp_path / "runs", rows)
    return tmp_path, rows


def test_page_needs_no_other_file(finished):
    _, text = build(*finished)
    page = Page(text)
    assert not [e for e in page.elements if {"src", "srcset", "action"} & set(e[1])]
    assert all(e[1]["href"].startswith("#") for e in page.elements if "href" in e[1])
    assert "@import" not in text and "url(#" in text and not re.search(r"url\((?!#)", text)
    assert {address for address in re.findall(r"https?://[^\s\"']+", text)} == {"http://www.w3.org/2000/svg"}
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0][1]["content"]
    assert policy.startswith("default-src 'none'")
    assert len(text) < 400_000
    assert build(*finished)[1] == text, "the page depends on its input alone"


def test_table_holds_every_row_in_the_order_of_the_ranking(finished):
    missing = [{"candidate": "NaI", "temperature_K": 300.0, "status": "pending", "reason": "waits"}]
    table, text = build(*finished, missing=missing)
    page = Page(text)
    names = [e[1]["data-v"] for e in page.all("th", scope="row") if "data-v" in e[1]]
    assert names == table["candidate"].tolist()
    heads = [e for e in page.all("th", scope="col") if "aria-sort" in e[1]]
    assert len(heads) == 12 and heads[0][1]["aria-sort"] == "ascending"
    assert len(page.all("caption")) == 1 + table["candidate"].nunique()
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    for expected in (
        *("1.2 (0.90–1.6) × 10⁻⁵", "0.30–2.4 × 10⁻⁶", "&lt; 4.1 × 10⁻⁷", "5.1 (4.6–5.6)", "2–3"),
        *("The job was killed after 3 tries.", "gap 2.1 eV: near resonance", "waits", "unsupported"),
    ):
        assert expected in body, expected
    links = [e[1]["href"][1:] for e in page.all("a") if e[1]["href"].startswith("#candidate-")]
    assert set(links) == {e[1]["id"] for e in page.all("details")}


def test_first_paragraphs_say_what_was_done(finished):
    folder, rows = finished
    rows[1]["marker"]["nu1_cm"] = 7.5
    _, text = build(folder, rows)
    said = " ".join(e[2] for e in Page(text).all("p"))
    for expected in (
        "6 candidates at 300 and 600 K: 12 runs, 8 of them complete (1 failed, 1 melted, 1 running",
        "3 are ranked, at 300 K, by Pareto layers",
        f"Models: force field small, SHA-256 {'a1' * 6}, licence BSD-3-Clause",
        "4 replicas of 100 ps for each run, in steps of 2 fs",
        "from 5 to 50 cm⁻¹ with a laser of 785 nm",
        "1 run too short for that starts at 7.5 cm⁻¹ instead",
        "the run bounds D to below 1 × 10⁻⁶ cm²/s (median of 2 runs; from 4.1 × 10⁻⁷ to 1.6 × 10⁻⁶)",
        "Not comparable:",
    ):
        assert expected in said, expected
    assert "transverse-optical" in text and "non-resonant" in text and "Fröhlich" in text


def test_details_hold_structure_and_every_temperature(finished):
    _, text = build(*finished)
    detail = next(e for e in Page(text).all("details") if "Na3SbS4_W" in e[2])[2]
    for expected in (
        *(
            "Na₂₃Sb₇WS₃₂",
            "vacancies=1",
            "vacancies: 1",
            "0 e",
            "14.400 14.400 7.300; 90.0 90.0 90.0",
            "cuda; 1",
        ),
        *("small, b2b2b2b2b2b2", "200,000", "412; 20", "0.26 (0.23–0.28)", "300 K", "600 K", "rank 1"),
    ):
        assert expected in detail, expected


def test_warnings_about_a_run_stand_in_the_table_and_with_the_candidate(finished):
    folder, rows = finished
    rows[0]["dynamics"] |= {"npt_settled": False, "npt_ps": 26.7, "drift_meV_atom": 2.5}
    del rows[1]["dynamics"]["temperature_replicas_K"]  # a summary of an earlier version
    _, text = build(folder, rows)
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    assert "not settled after 26.7 ps" in body and "2.5 meV/atom exceeds" in body
    details = {e[1]["id"]: e[2] for e in Page(text).all("details") if "id" in e[1]}
    first = next(text for text in details.values() if "Na3SbS4_W" in text)
    for expected in ("26.7; cell not settled", "10; cell settled", "288 to 309", "2.5 meV/atom exceeds"):
        assert expected in first, expected


def test_haven_ratio_has_its_error_and_texts_fit_the_table(finished):
    folder, rows = finished
    rows[0]["transport"] |= {"haven_ratio": 0.5234, "D_sigma_relative_error": 0.31}
    rows[1]["transport"] |= {"verdict": "undetermined", "D_low": 0.0, "D_high": 3e-6}
    _, text = build(folder, rows)
    page = Page(text)
    assert any("0.52 ± 0.2" in e[2] for e in page.all("td"))
    caption = page.all("caption", id="ranking-caption")[0][2]
    assert "no ion jumped and where the motion is undetermined" in caption
    assert "a crystal in which nothing diffuses can have the highest rank" in caption
    assert "over blocks of a run with fewer than three" in text
    by_D = build(folder, rows, key="D", info=CAMPAIGN_INFO | {"key": "D"})[1]
    assert "Inside a Pareto layer" not in by_D


def test_hostile_names_stay_text(tmp_path):
    evil = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">'
    rows = [
        summary(f"a{evil}", reason=evil, status="failed", formula=evil, source_file=evil, tags=[evil]),
        summary(
            "b", marker=marker(1e-3), transport=transport("diffusing", reason=evil), carriers_requested=evil
        ),
    ]
    info = CAMPAIGN_INFO | {
        "campaign": evil,
        "models": [{"role": "alpha", "name": evil, "sha256": evil, "licence": evil}],
    }
    _, text = build(tmp_path, rows, info=info)
    page = Page(text)
    assert len(page.all("script")) == 5 and not page.all("img")
    assert not [e for e in page.elements if any(name.startswith("on") for name in e[1])]
    data = json.loads(page.all("script", type="application/json")[0][2])
    assert [row["name"] for row in data["rows"]] == ["b", f"a{evil}"]
    assert evil in page.all("h1")[0][2]


def test_unreadable_tables_are_named_and_stop_nothing(finished):
    folder, rows = finished
    (folder / "runs/NaCl/300K/msd.csv").unlink()
    (folder / "runs/Na3PS4_cub/300K/spectrum.csv").write_text("wavenumber_cm,I_unpolarised\n1,2\n")
    (folder / "runs/Na3SbS4_W/300K/spectrum.csv").write_text("")
    _, text = build(folder, rows)
    said = [e[2] for e in Page(text).all("li")]
    assert "NaCl at 300 K: msd.csv is missing." in said
    assert any(s.startswith("Na3PS4_cub at 300 K") and "no column I_unpolarised_se" in s for s in said)
    assert any(s.startswith("Na3SbS4_W at 300 K: spectrum.csv cannot be read") for s in said)
    assert "3 tables of the runs could not be read" in text


def test_curves_on_the_page_are_those_of_the_files(finished):
    folder, rows = finished
    path = folder / "runs/Na3SbS4_W/300K/spectrum.csv"
    file = pd.read_csv(path)
    values = [name for name in file if name != "wavenumber_cm"]
    file.loc[file["wavenumber_cm"].between(300.0, 301.3), values] *= 300  # a sharp line must keep its area
    file.to_csv(path, index=False)
    _, text = build(folder, rows)
    data = json.loads(Page(text).all("script", type="application/json")[0][2])
    first = data["rows"][0]
    assert (first["name"], first["rank"], first["verdict"]) == ("Na3SbS4_W", 1, "diffusing")
    spectrum = first["curves"]["spectrum"]
    file = file[file["wavenumber_cm"] <= 480.0]
    nu, intensity = np.array(spectrum["nu"]), 10 ** (np.array(spectrum["logI"]) / 1000)
    assert len(nu) <= 300 < len(file)
    low = nu < 90
    exact = np.interp(nu[low], file["wavenumber_cm"], file["I_unpolarised"])
    assert intensity[low] == pytest.approx(exact, rel=0.02)
    assert np.trapezoid(intensity, nu) == pytest.approx(
        np.trapezoid(file["I_unpolarised"], file["wavenumber_cm"]), rel=0.05
    )
    assert np.array(spectrum["se"]) / 1000 == pytest.approx(0.06, abs=1e-3)
    assert [np.mean(m) / 1000 for m in spectrum["members"]] == pytest.approx(
        [0.93, 0.977, 1.023, 1.07], abs=1e-3
    )
    displacement = first["curves"]["msd"]
    exact = pd.read_csv(folder / "runs/Na3SbS4_W/300K/msd.csv").set_index("lag_ps")["msd_A2"]
    assert len(displacement["lag"]) <= 60
    assert displacement["msd"][-1] == pytest.approx(exact.iloc[-1], rel=1e-3)


def test_long_campaign_carries_the_curves_of_its_first_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MOST_ROWS", 20)
    monkeypatch.setattr(curves, "MOST_ROWS_WITH_MEMBERS", 5)
    still = transport("not diffusing")
    rows = [summary(f"c{i:02d}", marker=marker(1e-2 / (1 + i), seed=i), transport=still) for i in range(40)]
    write_curves(tmp_path / "runs", rows[:25], points=50)
    _, text = build(tmp_path, rows, key="I_low", info=CAMPAIGN_INFO | {"key": "I_low"})
    data = json.loads(Page(text).all("script", type="application/json")[0][2])
    assert [row["curves"] is not None for row in data["rows"]] == [True] * 20 + [False] * 20
    assert sum(bool(row["curves"]["spectrum"]["members"]) for row in data["rows"][:20]) == 5
    assert "could not be read" not in text and "The first 20 rows" in text


def test_report_of_nothing_is_still_a_page(tmp_path):
    failed = {"candidate": "a", "temperature_K": 300.0, "status": "failed", "reason": "killed"}
    _, text = build(tmp_path, [], missing=[failed], info=CAMPAIGN_INFO | {"models": []})
    assert "No Raman intensity has been computed yet." in text and "killed" in text


def test_models_that_differ_are_said(finished):
    folder, rows = finished
    rows[0]["alpha_model_sha256"] = "c3" * 32
    assert "computed with different polarizability models" in build(folder, rows)[1]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.234e-5, 2, "1.2 × 10⁻⁵"),
        (0.05, 3, "0.05"),
        (1234.5, 4, "1234.5"),
        (2.5e7, 2, "2.5 × 10⁷"),
        (0, 2, "0"),
        (-3.0, 2, "-3"),
        (None, 2, "–"),
        (math.nan, 2, "–"),
    ],
)
def test_numbers_read_well(value, digits, text):
    assert words.number(value, digits) == text


def test_intervals_share_one_power_and_show_enough_digits():
    assert words.with_interval(4.0e-4, 3.6e-4, 4.44e-4) == "4.0 (3.6–4.4) × 10⁻⁴"
    assert words.with_interval(4.0e-4, 3.6e-4, 4.44e-4, -3) == "0.40 (0.36–0.44)"
    assert words.with_interval(0.26, None, None) == "0.26"
    assert words.with_interval(1.0e-5, 2.1e-7, 4.7e-4) == "1.0 (0.021–47.0) × 10⁻⁵"
    assert words.with_interval(math.nan, 1, 2) == "–"
    low = {"verdict": "few jumps", "D_low": 0.0, "D_high": 3.1e-7}
    assert words.diffusivity(low) == "0.0–3.1 × 10⁻⁷"


def test_symbols_escape_before_they_mark_up():
    assert words.symbols("I_low < R_low") == "<i>I</i><sub>low</sub> &lt; <i>R</i><sub>low</sub>"
    assert words.symbols("Ti_low") == "Ti_low"
    assert (
        words.cell_lengths([[3, 0, 0], [-1.5, 1.5 * math.sqrt(3), 0], [0, 0, 5]])
        == "3.000 3.000 5.000; 90.0 90.0 120.0"
    )


def test_overview_draws_the_ranked_rows(finished):
    folder, rows = finished
    table = rank(rows, reference_temperature_K=300.0)
    for name in ("one.png", "one.svg", "two.svg"):
        overview(table, folder / "runs", folder / name)
    assert (folder / "one.svg").read_bytes() == (folder / "two.svg").read_bytes()
    assert (folder / "one.png").read_bytes()[:4] == b"\x89PNG"
    drawing = (folder / "one.svg").read_text()
    assert all(f"<!-- {name} -->" in drawing for name in ("NaCl", "diffusing", "few jumps", "not diffusing"))
    with pytest.raises(ValueError, match="nothing to draw yet"):
        overview(table[table["rank"].isna()], folder / "runs", folder / "none.png")
