"""What is written down of a user's own model: which weight of one side is which of another, and how that was found."""

from __future__ import annotations

from collections import Counter

from faceoff.results.costs import Record
from faceoff.results.types import Count


class PairedWeight(Record):
    """One weight on every side.

    Attributes:
        name: the canonical one.
        shape: of the canonical array.
        sides: by framework: its path there, and what makes the side's array of the canonical one, in words.
        how: by framework, but for the reference's: by which it was found, `rule`, `name`, `shape` or `order`.
    """

    name: str
    shape: list[Count]
    sides: dict[str, str]
    how: dict[str, str]


class PairedModel(Record):
    """The weights of a user's own model.

    Attributes:
        model: its name.
        reference: the framework of the side that counts as right.
        weights: in the reference's order. Each side keeps every one of them.
        zeros: by framework: paths of arrays that no other side has, which stay zero.
    """

    model: str
    reference: str
    weights: list[PairedWeight]
    zeros: dict[str, list[str]] = {}

    def counted(self, framework: str) -> dict[str, int]:
        """How many weights of a side were found by what, the most first."""
        return dict(Counter(weight.how[framework] for weight in self.weights).most_common())

    @property
    def others(self) -> list[str]:
        """The sides that were paired with the reference's."""
        return list(self.weights[0].how) if self.weights else []
