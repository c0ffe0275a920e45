"""The typed result of comparing two result files.

Ratios are the later file's time over the earlier one's: above 1 is slower. A number that was not finite is null.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from faceoff.core.errors import Outcome
from faceoff.differences.between_runs import Basis
from faceoff.results.records import VerdictWord


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class Setting(_Part):
    """Something about a run that is not the same in both files, and does not keep them from being compared.

    Attributes:
        what: such as a version, `operating_system`, `seed`.
        where: the contenders it concerns; empty when all.
        before, after: as text; empty when the file does not have it.
    """

    what: str
    where: list[str] = []
    before: str
    after: str


class CaseChange(_Part):
    """A contender's time on a workload in the later file over that in the earlier one: above 1 is slower.

    Attributes:
        before_s, after_s: time in each file.
        ratio, interval: of the times, with what was taken for the machine's change taken out, and its 95 % interval,
            which covers what differs between two runs of the same thing.
        p_value, adjusted_p: of no change, by itself and after all cases of the files are accounted for.
        regression: slower by more than the threshold; the rate of errors is held over all cases for this side alone.
        basis: what told the machine's change: both were timed in `one run`, the `controls`, the `canary`, or `nothing`.
            Of nothing no verdict is made.
        machine: the machine's change as a ratio of times; None where nothing told it, and in one run.
        unsure: a change of the threshold could not have been told from none.
    """

    workload: str
    contender: str
    before_s: float
    after_s: float
    ratio: float
    interval: tuple[float, float]
    p_value: float
    adjusted_p: float
    verdict: VerdictWord
    regression: bool
    basis: Basis
    machine: float | None = None
    unsure: bool = False


class MachineChange(_Part):
    """What was taken for the machine's change between two runs: above 1 it became slower.

    Attributes:
        ratio: of times, the median of the workloads'; None where nothing told it.
        workloads: each one's, by name.
        controls: the contenders that are the same in both files.
        cases: how many cases of theirs told it.
        canary: what the fixed computations of both runs say, by kind, medians of the workloads; empty where a file has
            none.
    """

    ratio: float | None = None
    workloads: dict[str, float] = {}
    controls: list[str] = []
    cases: int = 0
    canary: dict[str, float] = {}


class OutcomeChange(_Part):
    """A record that ended otherwise in the later file.

    Attributes:
        kind: `contender`, `agreement`, `case`, `cold start`, `training` or `gradient norms`.
        name: of what was run, such as the workload; empty for a contender.
        reason: the later file's, one line.
    """

    kind: str
    name: str
    contender: str
    before: Outcome
    after: Outcome
    reason: str = ""


class NoiseChange(_Part):
    """The worst quantity of a check of agreement, in noise units; null when not finite. Listed, not judged."""

    workload: str
    contender: str
    check: Literal["meaning", "precision"]
    before: float | None
    after: float | None


class Diff(_Part):
    """What changed from one result file to another.

    Attributes:
        before, after: names of the files.
        threshold: in percent; a case that is slower by more is a regression.
        unlike: in what the files are unlike that were compared all the same (`force`).
        settings: versions, switches and what else differs and may.
        median_ratio: of the times as they are, median over all cases; None without cases.
        machine: what was taken for the machine's change; None of two parts of one run.
        not_compared: what ran in neither file, and records that only one file has and that do not keep the files from
            being compared.
        one_run: both were timed in turn in one run, so that what the machine did meanwhile hit both.
        notes: what lessens trust in a file: it was interrupted, or the machine was busy.
        exit_status: 0 no regression, 1 a regression or a new disagreement, 3 what was ok ended otherwise, or what ought
            to have run did in neither file.
    """

    before: str
    after: str
    threshold: float
    unlike: list[str] = []
    settings: list[Setting] = []
    cases: list[CaseChange] = []
    median_ratio: float | None = None
    machine: MachineChange | None = None
    outcomes: list[OutcomeChange] = []
    noise: list[NoiseChange] = []
    not_compared: list[str] = []
    one_run: bool = False
    notes: list[str] = []
    exit_status: int = 0

    @property
    def regressions(self) -> list[CaseChange]:
        """The cases that are slower by more than the threshold, worst first."""
        return sorted((case for case in self.cases if case.regression), key=lambda case: -case.ratio)
