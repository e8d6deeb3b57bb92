"""Campaigns side by side: ratios, their intervals, and what cannot be compared."""

import numpy as np
import pandas as pd
import pytest
import synthetic_campaign as synthetic
from ionraman.comparison import compare
from ionraman.ranking import rank


def ranking(*cases):
    rows = [
        synthetic.summary(
            name, marker=synthetic.marker(I_low, **more), transport=synthetic.transport(verdict, scale=scale)
        )
        for name, I_low, verdict, scale, more in cases
    ]
    return rank(rows, reference_temperature_K=300.0)


def test_a_campaign_agrees_with_itself():
    one = ranking(("a", 5e-3, "diffusing", 1.0, {}), ("b", 1e-3, "not diffusing", 1.0, {}))
    table = compare(one, one).set_index("candidate")
    assert table.I_ratio.tolist() == pytest.approx([1, 1]) and table.D_ratio["a"] == pytest.approx(1)
    assert table[["D_agree", "I_agree", "R_agree"]].all(axis=None)
    assert not table.note.any() and table.index.tolist() == ["a", "b"]


def test_a_ratio_has_the_interval_of_both():
    first = ranking(("a", 5e-3, "diffusing", 1.0, {}))
    row = compare(first, ranking(("a", 1e-2, "diffusing", 3.0, {}))).iloc[0]
    # each interval reaches from 0.9 to 1.1 of its value
    assert row.I_ratio == pytest.approx(2)
    assert row.I_ratio_low == pytest.approx(2 * np.exp(-np.hypot(np.log(1 / 0.9), np.log(1.1))))
    assert row.I_ratio_high == pytest.approx(2 * np.exp(np.hypot(np.log(1.1), np.log(1 / 0.9))))
    assert not row.I_agree and not row.D_agree
    assert compare(first, ranking(("a", 5.2e-3, "diffusing", 1.0, {}))).iloc[0].I_agree


def test_bounds_agree_where_they_overlap():
    bound = ranking(("a", 5e-3, "not diffusing", 1.0, {}))
    row = compare(bound, ranking(("a", 5e-3, "few jumps", 1.0, {}))).iloc[0]
    assert pd.isna(row.D_ratio) and row.D_agree and row.note == "another verdict"
    assert not compare(bound, ranking(("a", 5e-3, "diffusing", 1.0, {}))).iloc[0].D_agree


def test_other_windows_and_missing_rows_are_said():
    first = ranking(("a", 5e-3, "diffusing", 1.0, {}), ("gone", 1e-3, "diffusing", 1.0, {}))
    second = ranking(("a", 5e-3, "diffusing", 1.0, {"nu1_cm": 10.0}), ("new", 1e-3, "diffusing", 1.0, {}))
    table = compare(first, second).set_index("candidate")
    assert "windows from 5 and 10" in table.note["a"] and pd.isna(table.I_ratio["a"])
    assert table.D_agree["a"] and pd.isna(table.I_agree["a"])
    assert table.note["gone"] == "only in A" and table.note["new"] == "only in B"
