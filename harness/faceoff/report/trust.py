"""What lowers trust in a measurement, in words: said beside every claim that is made of it."""

from __future__ import annotations

from faceoff.report.speed import SpeedGroup
from faceoff.report.text import listed
from faceoff.speed.rounds import WAIT_SHARE

# From this share of disturbed rounds on it is said.
MANY_DISTURBED = 0.05


def distrust(group: SpeedGroup) -> str:
    """What lowers trust in the times of one workload: sentences, empty where nothing does."""
    parts = []
    if group.floor is not None and group.floor.noisy:
        parts.append(f"This machine was busy: {group.floor.disturbed} of the rounds were disturbed by other work.")
    elif group.floor is not None and group.floor.share_disturbed >= MANY_DISTURBED:
        parts.append(f"{group.floor.disturbed} of the rounds were disturbed by other work.")
    unsteady = [row.contender for row in group.rows if row.unsteady]
    if unsteady:
        parts.append(f"No steady state was reached by {listed(unsteady)}.")
    return " ".join(parts)


def few_calls(group: SpeedGroup) -> list[str]:
    """The contenders of whose rounds of calls in a row waiting for the last one took more than next to nothing."""
    return [row.contender for row in group.rows if (row.speed.last_wait or 0.0) > WAIT_SHARE]
