"""What a check that says "agrees" can see: the smallest fault of each kind that it finds.

`python -m tests.calibration.power` measures it and writes the file that is read here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from faceoff.report.text import significant

MEASURED = Path(__file__).with_name("smallest_faults.json")


@dataclass(frozen=True)
class Smallest:
    """The smallest fault of one kind that is found, in words.

    Attributes:
        kind: what is wrong, and what its size is.
        float64, float32: the median over models and the range; what no size lets show is said.
    """

    kind: str
    float64: str
    float32: str


@cache
def smallest_faults() -> list[Smallest]:
    """A row for each kind; none where nothing was measured."""
    if not MEASURED.exists():
        return []
    found: dict[str, dict[str, str]] = {}
    for row in json.loads(MEASURED.read_text()):
        found.setdefault(row["kind"], {})[row["dtype"]] = _in_words(row)
    return [
        Smallest(kind, by_dtype.get("float64", "–"), by_dtype.get("float32", "–")) for kind, by_dtype in found.items()
    ]


def _in_words(row: dict[str, float]) -> str:
    if row["median"] is None:
        return "never found"
    words = f"{significant(row['median'], 2)} ({significant(row['least'], 2)} to {significant(row['most'], 2)})"
    return f"{words}, in {row['never_found']:g} of {row['models']:g} models never" if row["never_found"] else words
