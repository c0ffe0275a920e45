"""How long to measure: named budgets, seconds of timed rounds, or minutes of wall time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from faceoff.core.errors import InputError

# Of a whole run, in which every framework has to be imported; and of the rounds of a case, however much time there is.
LEAST_WALL_S, MOST_OF_A_CASE_S = 30.0, 10.0


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Args:
        max_time_s: seconds of timed rounds for one case, over all its processes; then it is measured no further.
        min_passes: passes that are run whatever they cost.
        max_passes: passes after which measuring ends.
        min_round_s: a round repeats its call until it lasts about this long.
        processes: replicates of each contender, its first process included; more where few contenders run.
        degrees: processes beyond the first of each contender that tell the spread between processes, all contenders of
            a workload together, at least.
        precision: a contender is measured no further when its interval is no wider, to either side, than this share.
        clear: or when its whole interval lies this many times half its own width from the baseline, beyond all doubt,
        rough: and its own time is known to this share, to either side,
        foresight: or when after this many passes, enough to tell sampling from differences between processes,
        wide, hardly: all passes that are left would leave it wider, to either side, than the share `wide`, and no
            narrower by the share `hardly` than it is: processes of a contender differ, which no further round changes.
        min_warmup_s, max_warmup_s: of a process before its first round; in between, until calls get no faster.
        wall_s: of the whole run, which then leaves out what does not fit.
    """

    max_time_s: float = 2.0
    min_passes: int = 6
    max_passes: int = 60
    min_round_s: float = 0.01
    processes: int = 2
    degrees: int = 6
    precision: float = 0.025
    clear: float = 0.75
    rough: float = 0.2
    foresight: int = 24
    wide: float = 0.07
    hardly: float = 0.1
    min_warmup_s: float = 0.05
    max_warmup_s: float = 2.0
    wall_s: float = math.inf

    def __post_init__(self) -> None:
        if self.processes < 2 or self.min_passes < 1 or self.max_passes < self.min_passes or not self.max_time_s > 0:
            raise InputError(
                "does not measure anything",
                where="budget",
                got=f"{self.processes} processes, {self.min_passes} to {self.max_passes} passes, {self.max_time_s} s",
                expected="at least 2 processes, whose spread is the noise floor, 1 pass, and more than 0 s",
            )

    def processes_for(self, contenders: int) -> int:
        """How many processes of each contender tell the spread between processes, with so many contenders."""
        return max(self.processes, 1 + math.ceil(self.degrees / contenders)) if contenders > 1 else self.processes


BUDGETS = {
    "quick": Budget(max_time_s=0.2, max_passes=12, degrees=2),
    "standard": Budget(),
    "thorough": Budget(max_time_s=10.0, min_passes=15, max_passes=200, processes=4, precision=0.005, clear=math.inf),
}


def parse_budget(text: str, workloads: int, contenders: int) -> Budget:
    """A budget by name, seconds of timed rounds for all cases together, or minutes for the whole run.

    Args:
        text: `quick`, `standard`, `thorough`, a number of seconds, or of minutes with an m.
        workloads, contenders: how many share the seconds, a case for each of both.

    Raises:
        InputError: neither a name nor a number, or too little for the passes that an interval needs.
    """
    if text in BUDGETS:
        return BUDGETS[text]
    names = ", ".join(BUDGETS)
    others = f"{names}, seconds of timed rounds, or minutes of the whole run such as 5m"
    try:
        number = float(text.removesuffix("m"))
    except ValueError:
        raise InputError("unknown budget", where="budget", got=text, expected=others) from None
    if not math.isfinite(number):
        raise InputError("no number of seconds", where="budget", got=text, expected=others)
    budget = BUDGETS["standard"]
    if text.endswith("m"):
        if 60 * number < LEAST_WALL_S:
            least = f"at least {LEAST_WALL_S / 60:g}m"
            raise InputError("too little time to start in", where="budget", got=text, expected=least)
        return replace(budget, max_time_s=MOST_OF_A_CASE_S, max_passes=200, wall_s=60 * number)
    cases = workloads * contenders
    # If calls take no longer than a round; passes that have to be made are made whatever they take.
    least_s = cases * budget.processes_for(contenders) * budget.min_passes * budget.min_round_s
    if number < least_s:
        raise InputError(
            "too little time to measure anything",
            where="budget",
            got=f"{text} s for {cases} cases",
            expected=f"at least {least_s:.3g} s, or one of {names}",
        )
    return replace(budget, max_time_s=number / cases, max_passes=200)
