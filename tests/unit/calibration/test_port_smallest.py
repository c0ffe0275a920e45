"""The study of the smallest faults in ports: the search, what it keeps, and that the READMEs say what was published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.calibration.port_fault import EXAMPLES
from tests.calibration.port_smallest import FAULTS, SIZES, keep, line_of, smallest

PUBLISHED = Path(__file__).resolve().parents[3] / "reports/published/port-smallest.json"


@pytest.mark.parametrize("size", SIZES)
def test_the_smallest_that_is_found_is_found_in_few_steps(size):
    asked = []

    def ask(tried):
        asked.append(tried)
        return tried >= size

    assert smallest(ask, bool) == size
    assert len(asked) <= 8


def test_where_the_largest_is_overlooked_there_is_none():
    assert smallest(lambda size: False, bool) is None


def test_what_was_found_of_other_faults_stays_in_the_file(tmp_path):
    path = tmp_path / "found.json"
    entries = [{"example": f.example, "fault": f.name, "told": None, "disagrees": 1.0} for f in FAULTS[:3]]
    for entry in reversed(entries):
        keep(path, entry)
    keep(path, {**entries[1], "disagrees": 0.5})
    assert json.loads(path.read_text()) == [entries[0], {**entries[1], "disagrees": 0.5}, entries[2]]


def test_the_examples_say_what_was_published():
    published = json.loads(PUBLISHED.read_text())
    assert [(entry["example"], entry["fault"]) for entry in published] == [(f.example, f.name) for f in FAULTS]
    for entry in published:
        assert line_of(entry) in (EXAMPLES / entry["example"] / "README.md").read_text().splitlines()
