"""Whoever reads "agrees" finds beside it what this check can see, and what not."""

import json

from faceoff.report import sight
from faceoff.report.sight import MEASURED, Smallest, smallest_faults


def test_every_kind_has_what_was_measured_in_both_dtypes():
    rows = smallest_faults()
    kinds = {row["kind"] for row in json.loads(MEASURED.read_text())}
    assert {row.kind for row in rows} == kinds
    assert len(kinds) >= 10
    assert all("–" not in (row.float64, row.float32) for row in rows)


def test_what_no_size_lets_show_is_said(tmp_path, monkeypatch):
    measured = tmp_path / "smallest.json"
    row = {"kind": "an epsilon", "models": 3, "least": None, "most": None}
    rows = [
        {**row, "dtype": "float64", "never_found": 1, "median": 2e-9, "least": 1e-9, "most": 3e-9},
        {**row, "dtype": "float32", "never_found": 3, "median": None},
    ]
    measured.write_text(json.dumps(rows))
    monkeypatch.setattr(sight, "MEASURED", measured)
    assert smallest_faults.__wrapped__() == [
        Smallest("an epsilon", "2.0e-09 (1.0e-09 to 3.0e-09), in 1 of 3 models never", "never found")
    ]


def test_without_a_measurement_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(sight, "MEASURED", tmp_path / "none.json")
    assert smallest_faults.__wrapped__() == []
