"""Who is still worth measuring: whoever's ratio to its baseline is neither narrow nor clear, and would get narrower."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from faceoff.core.spec import Contender
from faceoff.pool.workers import Seat
from faceoff.speed.budget import Budget
from faceoff.speed.statistics import Precision

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Question(Generic[Key]):
    """What the rounds are to tell apart.

    Args:
        group: whose process a seat is; processes of a group are taken together.
        baseline: what a group is compared with, and over how many that was picked as the fastest.
    """

    group: Callable[[Seat], Key]
    baseline: Callable[[Precision[Key], Key], tuple[Key, int]]


def between_contenders(baseline: Contender | None, contenders: Sequence[Contender]) -> Question[Contender]:
    """Every contender against the one named, or against the fastest."""

    def choose(precision: Precision[Contender], contender: Contender) -> tuple[Contender, int]:
        if baseline in precision.keys and baseline is not None:
            return baseline, 1
        return precision.fastest(), len(contenders)

    return Question(lambda seat: seat.contender, choose)


def undecided(
    precision: Precision[Key],
    active: Iterable[Key],
    question: Question[Key],
    budget: Budget,
    done: Mapping[Key, float],
) -> set[Key]:
    """Who of the `active` groups is to be measured further, their baselines included.

    Where the fastest is the baseline, whoever may turn out to be it goes on as long as anybody. One that is compared
    with nobody goes on until its own time is known.

    Args:
        precision: of the rounds so far.
        active: the groups that were measured in every pass.
        question: what is compared with what.
        budget: how narrow is enough, what is clear, and what is in vain.
        done: of each active group, the share of the passes that were run, of all that there is time for, 0 to 1.
    """
    going_on: set[Key] = set()
    may_lead: set[Key] = set()
    groups = list(active)
    for key in groups:
        against, picked_from = question.baseline(precision, key)
        if against == key:
            if len(precision.keys) == 1 and precision.half_width(key) > budget.precision:
                return {key}
            continue
        # Of a baseline that has ended there are no further passes to set this one's beside.
        if against not in groups:
            continue
        ratio = precision.ratio(key, against, picked_from)
        half = math.log(ratio.high / ratio.low) / 2
        clear = abs(math.log(ratio.ratio)) > (1 + budget.clear) * half
        enough = precision.half_width(key) <= budget.rough if clear else half <= budget.precision
        if not enough and precision.passes(key) >= budget.foresight:
            at_the_end = precision.half_width_after(1 / max(done[key], done[against]), key, against, picked_from)
            enough = at_the_end > max(budget.wide, (1 - budget.hardly) * half)
        if not enough:
            going_on |= {key, against}
        elif picked_from > 1 and ratio.low <= 1:
            may_lead.add(key)
    return going_on | may_lead if going_on else set()
