"""Is it a ReLU that decides otherwise? What rounding alone does where a ReLU's input is nearly zero, and is no fault.

One such ReLU moves gradients under batch norm by hundreds of noise units and what it passes on by none. So where
gradients, or what is trained by them, stand out and all that comes before agrees, the reference looks for the ReLUs
that rounding may turn over: those whose input lies within the limit of its own noise. Few of them are turned over one
by one, those with equal inputs together, as the pixels of a plain picture are: equal numbers round alike. Those that
together explain the contender's values best are turned over in one more exact run, and the contender is judged against
that one, by the same limit. What is trained goes another way from there on and meets other ReLUs near
zero, so this is done again along the way that was found. Where there are too many to try, some occur in every run: then
it is judged by the spread of runs that decide for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from faceoff.agreement.comparison import NOISE_LIMIT, compare_quantity
from faceoff.agreement.noise import NOISE_RUNS, Noise, Values, noise_of
from faceoff.agreement.quantities import TRAINING_STEP, Detail, reference_quantities, stage_of
from faceoff.reference.arithmetic import UNIT_ROUNDOFF, Arithmetic, noise_generator
from faceoff.reference.branches import Branches, NearZero
from faceoff.reference.following import Observed
from faceoff.reference.rounding import stochastic
from faceoff.results.agreements import Quantity
from faceoff.workloads.task import Task

MOST_TRIED = 48
MOST_TIMES = 5
# Elements of each quantity by which turned ReLUs are told apart: those with the largest errors.
MOST_ELEMENTS = 2000
# Inputs within this many unit roundoffs, as a share of their rms, are looked at; noise moves them by less.
NEAR = 2.0**14
# Inputs that differ by less, as a share of their call's noise, are equal: float64 is that exact.
EQUAL = 2.0**-30
# Of so many inputs near zero two runs tell the noise well enough.
MANY_NEAR, FEW_RUNS = 256, 2

Place = tuple[int, int]
"""A ReLU: the number of its call, and the flat position in it."""
Group = frozenset[Place]
"""ReLUs of one call whose inputs are equal."""
Recall = Callable[[Callable[[], dict[str, Noise]], str], dict[str, Noise]]


@dataclass(frozen=True)
class Settled:
    """Quantities that agree once ReLUs are turned over.

    Attributes:
        quantities: all of the contender's, judged again.
        turned: how many ReLUs decide otherwise, over all that is computed; 0 where they could not be told one by one.
    """

    quantities: list[Quantity]
    turned: int

    @property
    def note(self) -> str:
        """What happened, in words."""
        if not self.turned:
            return "agrees up to ReLUs whose input is zero but for rounding, too many to be told one by one"
        one = self.turned == 1
        return (
            f"agrees up to {self.turned} ReLU{'' if one else 's'} whose input is zero but for rounding, "
            f"which {'goes' if one else 'go'} the other way"
        )


class Flips:
    """Looks for ReLUs that decide otherwise, in one task and dtype.

    Args:
        task: what is computed, rounded to `dtype`.
        dtype: working dtype.
        detail: which quantities there are.
        seed: of the stochastic arithmetic.
        exact: the reference's quantities.
        whole_range: as of `Rounded`.
        recall: computes noise of a kind, or remembers it from an earlier run.
    """

    def __init__(
        self, task: Task, dtype: str, detail: Detail, seed: int, exact: Values, whole_range: bool, recall: Recall
    ) -> None:
        self._task, self._dtype, self._seed = task, dtype, seed
        # No output of a layer before training follows from a gradient.
        self._detail: Detail = "steps" if detail == "steps" else "whole"
        self._exact, self._whole_range, self._recall = exact, whole_range, recall
        self._near = min(1.0, NEAR * UNIT_ROUNDOFF[dtype])
        self._noise_by_call: dict[int, float] | None = None
        self._ways: dict[frozenset[Place], tuple[Values, NearZero]] = {}
        self._effects: dict[frozenset[Place], Values] = {}
        self._spread: dict[str, Noise] | None = None

    def settle(self, quantities: Sequence[Quantity], got: Values, noise: Mapping[str, Noise]) -> Settled | None:
        """The contender's quantities, judged against a reference with some ReLUs turned over; None if none explain it.

        Args:
            quantities: as judged against the exact run, in its order.
            got: the contender's values.
            noise: of each quantity, without ReLUs that decide otherwise.
        """
        failing = [quantity for quantity in quantities if not quantity.agrees]
        stages = {stage_of(quantity.name) for quantity in failing}
        if None in stages or any(quantity.noise_units is None for quantity in failing):
            return None
        found = {quantity.name: quantity for quantity in quantities}
        turned: set[Place] = set()
        for stage in sorted(stage for stage in stages if stage is not None):
            # What one call returned, or one training: other calls may have decided otherwise again.
            together = [name for name in found if stage_of(name) == stage]
            judged, places = self._settle_stage(stage, together, got, noise)
            if not all(quantity.agrees for quantity in judged):
                return None
            found.update({quantity.name: quantity for quantity in judged})
            turned |= places
        return Settled(list(found.values()), len(turned))

    def _settle_stage(
        self, stage: str, names: Sequence[str], got: Values, noise: Mapping[str, Noise]
    ) -> tuple[list[Quantity], frozenset[Place]]:
        """The quantities of one stage, judged anew, and the ReLUs that were turned over for that."""
        turned: frozenset[Place] = frozenset()
        last = "" if stage == "training" else f"{TRAINING_STEP} 1"
        for _ in range(MOST_TIMES):
            values, groups = self._along(turned, last)
            judged = [compare_quantity(name, got[name], values[name], self._dtype, noise[name]) for name in names]
            failing = [quantity.name for quantity in judged if not quantity.agrees]
            if not failing:
                return judged, turned
            if not 0 < len(groups) <= MOST_TRIED:
                break
            chosen = self._choose(turned, groups, values, failing, got, noise)
            if not chosen:
                break
            turned = turned ^ chosen
        spread = self._own_sides()
        return [compare_quantity(n, got[n], self._exact[n], self._dtype, spread[n]) for n in names], frozenset()

    def _along(self, turned: frozenset[Place], last: str) -> tuple[Values, list[Group]]:
        """The exact values with these ReLUs turned over, and the ReLUs that rounding may turn over on this way.

        Args:
            turned: against their own sides.
            last: the one training step that counts; empty for all.
        """
        if turned not in self._ways:
            near = NearZero(self._near, _by_call(turned))
            self._ways[turned] = self._run(Observed(near)), near
        values, near = self._ways[turned]
        if self._noise_by_call is None:
            by_call = self._recall(lambda: self._find_noise(near), "inputs of ReLUs near zero")
            self._noise_by_call = {int(call): noise.rms for call, noise in by_call.items()}
        groups: list[Group] = []
        for call, positions in near.near.items():
            part, noise = near.part_of(call), self._noise_by_call[call]
            if part.startswith(TRAINING_STEP) and last in ("", part):
                close = np.abs(near.seen[call]) <= NOISE_LIMIT * noise
                for alike in _equal(near.seen[call][close], noise * EQUAL):
                    groups.append(frozenset((call, int(position)) for position in positions[close][alike]))
        return values, groups

    def _find_noise(self, near: NearZero) -> dict[str, Noise]:
        """The noise of each call's inputs near zero, by its number."""
        squares = {call: np.zeros(len(places)) for call, places in near.near.items()}
        runs = FEW_RUNS if sum(map(len, near.near.values())) >= MANY_NEAR else NOISE_RUNS
        for run in range(runs):
            branches = Branches(near.taken, watched=near.near)
            self._run(self._stochastic(run, branches))
            for call in squares:
                squares[call] += np.square(branches.seen[call] - near.seen[call]) / runs
        return {
            str(call): Noise(float(np.sqrt(square.mean())) if len(square) else 0.0) for call, square in squares.items()
        }

    def _choose(
        self,
        turned: frozenset[Place],
        groups: Sequence[Group],
        values: Values,
        failing: Sequence[str],
        got: Values,
        noise: Mapping[str, Noise],
    ) -> frozenset[Place]:
        """Those of `groups` that, turned over as well, together come nearest to the contender's values."""
        errors, effects = [], []
        for name in failing:
            scale = noise[name].rms or 1.0
            error = (np.asarray(got[name], dtype=np.float64) - values[name]).reshape(-1) / scale
            error[list(noise[name].left_out)] = 0.0
            most = np.argsort(-np.abs(error))[:MOST_ELEMENTS]
            errors.append(error[most])
            changed = [self._turned(turned ^ group)[name] for group in groups]
            effects.append(np.array([(one - values[name]).reshape(-1)[most] / scale for one in changed]).T)
        matrix = np.nan_to_num(np.concatenate(effects), posinf=0.0, neginf=0.0)
        shares = lsq_linear(matrix, np.nan_to_num(np.concatenate(errors)), bounds=(0.0, 1.0)).x
        chosen = [group for group, share in zip(groups, shares, strict=True) if share > 0.5]
        return frozenset().union(*chosen)

    def _turned(self, turned: frozenset[Place]) -> Values:
        """The exact values with these ReLUs turned over."""
        if turned not in self._effects:
            self._effects[turned] = self._run(Observed(Branches(turned=_by_call(turned))))
        return self._effects[turned]

    def _own_sides(self) -> dict[str, Noise]:
        """The noise of runs whose ReLUs decide for themselves."""
        if self._spread is None:
            self._spread = self._recall(self._find_spread, "ReLUs on their own sides")
        return self._spread

    def _find_spread(self) -> dict[str, Noise]:
        runs = [self._run(self._stochastic(run, Branches())) for run in range(NOISE_RUNS)]
        return noise_of({name: self._exact[name] for name in runs[0]}, runs, self._dtype)

    def _stochastic(self, run: int, branches: Branches) -> Arithmetic:
        generator = noise_generator(self._seed, run)
        return stochastic(self._dtype, generator, branches=branches, whole_range=self._whole_range)

    def _run(self, arithmetic: Arithmetic) -> Values:
        return reference_quantities(self._task, arithmetic, self._detail)


def _equal(values: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """The positions of values that are equal, together; each once."""
    order = np.argsort(values, kind="stable")
    gaps = np.flatnonzero(np.diff(values[order]) > tolerance) + 1
    return [positions for positions in np.split(order, gaps) if len(positions)]


def _by_call(turned: frozenset[Place]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for call, position in turned:
        found.setdefault(call, []).append(position)
    return found
