"""A result file as one side of a comparison: its records by what identifies them, its rounds by process."""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff.core.errors import InputError, ResultFileError
from faceoff.core.spec import Workload
from faceoff.results.agreements import Agreement
from faceoff.results.costs import ColdStart
from faceoff.results.records import CaseResult, ContenderInfo, Result, Speed, TunedSetting
from faceoff.results.trainings import GradientNorms, TrainingRun
from faceoff.speed.statistics import Precision, Sample

Key = tuple[str, ...]
Record = Agreement | CaseResult | TunedSetting | ColdStart | TrainingRun | GradientNorms


def printable(text: str, longest: int = 200) -> str:
    """One line of printable characters, cut where it is far too long: files that are not trusted name things."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def switches(info: ContenderInfo) -> dict[str, str]:
    """Versions and switches in force, flat; folders of caches are left out."""
    settings = {key: value for key, value in info.settings.items() if key != "versions"}
    versions = info.settings.get("versions")
    found = {**(versions if isinstance(versions, dict) else {}), **info.versions}
    for key, value in settings.items():
        found.update(value if isinstance(value, dict) else {key: value})
    # Older files say which cores.
    cores = found.get("cores")
    found.update({"cores": len(cores)} if isinstance(cores, list) else {})
    return {key: value for key, value in found.items() if "cache" not in key.lower()}


class Side:
    """A result with its records by what identifies them.

    Raises:
        ResultFileError: a record's workload is not valid, or is there twice.
    """

    def __init__(self, name: str, result: Result) -> None:
        self.name, self.result = name, result
        self.contenders: dict[str, ContenderInfo] = {}
        for info in result.contenders:
            self._add(self.contenders, info.contender, info)
        self.cases: dict[tuple[str, str], CaseResult] = {}
        self.records: dict[Key, Record] = {}
        for record in result.records:
            key = self._key(record)
            self._add(self.records, key, record)
            if isinstance(record, CaseResult):
                self.cases[key[1], record.contender] = record

    def _add(self, records: dict[Any, Any], key: Any, record: Record | ContenderInfo) -> None:
        if key in records:
            raise ResultFileError("the same record twice", where=self.name, got=printable(str(key)))
        records[key] = record

    def _key(self, record: Record) -> Key:
        workload = self._workload(record.workload)
        if isinstance(record, TrainingRun):
            # Of one task there may be a training with each optimiser in each dtype.
            return "training", f"{record.task}, {workload.optimiser.kind}, {workload.dtype}", record.contender
        name = workload.name
        if isinstance(record, CaseResult):
            return "case", name, record.contender
        if isinstance(record, Agreement):
            return "agreement", f"{name} ({record.check_name})", record.contender
        if isinstance(record, TunedSetting):
            return "tuned setting", f"{name} ({record.setting})", record.contender
        if isinstance(record, GradientNorms):
            return "gradient norms", f"{name} ({record.setting})", record.contender
        return "cold start", name, record.contender

    def _workload(self, data: dict[str, Any]) -> Workload:
        try:
            return Workload.from_json(data)
        except (InputError, TypeError, ValueError, AttributeError) as error:
            raise ResultFileError("not a workload", where=self.name, got=printable(str(error))) from None

    def started(self, contender: str) -> bool:
        """Whether the contender is here and could start."""
        return contender in self.contenders and self.contenders[contender].outcome == "ok"

    def precision(self, workload: str) -> Precision[str]:
        """Of all contenders that were timed on this workload; raises ResultFileError."""
        samples = {
            contender: self._sample(case)
            for (name, contender), case in self.cases.items()
            if name == workload and case.outcome == "ok"
        }
        busy = any(floor.noisy for floor in self.result.noise_floors if floor.workload == workload)
        try:
            return Precision(samples, busy)
        except ValueError as error:
            raise ResultFileError(
                str(error), where=f"{self.name}: {workload}", next_step="make it anew with `faceoff compare`"
            ) from None

    def _sample(self, case: CaseResult) -> Sample:
        where = f"{self.name}: {printable(case.name)}"
        if case.speed is None:
            raise ResultFileError("a case that is ok and was not timed", where=where)
        return sample_of(case.speed, where)


def sample_of(speed: Speed, where: str) -> Sample:
    """The rounds of a case by process.

    Args:
        speed: the record.
        where: what to name in an error.

    Raises:
        ResultFileError: the record does not say which process ran which round, or says what cannot be.
    """
    if not speed.processes:
        raise ResultFileError(
            "does not say which process ran which round: an earlier version of Face-off made it",
            where=where,
            expected="rounds by process, from which intervals come",
            next_step="make it anew with `faceoff compare`",
        )
    passes = speed.processes[0].passes
    if not _is_sound(speed, passes):
        raise ResultFileError(
            "rounds that do not fit its processes",
            where=where,
            got=f"{len(speed.rounds_s)} rounds, {', '.join(str(p.passes) for p in speed.processes)[:80]} passes",
            expected="a round above 0 s of each process in each pass",
        )
    disturbed = np.zeros((len(speed.processes), passes), dtype=bool)
    for row, process in zip(disturbed, speed.processes, strict=True):
        row[process.disturbed] = True
    return Sample(np.array(speed.rounds_s).reshape(disturbed.shape), disturbed)


def _is_sound(speed: Speed, passes: int) -> bool:
    return (
        passes > 0
        and len(speed.rounds_s) == passes * len(speed.processes)
        and all(process.passes == passes for process in speed.processes)
        and all(0 <= number < passes for process in speed.processes for number in process.disturbed)
        # What no clock can measure would overflow in an interval.
        and all(1e-12 < duration_s < 1e9 for duration_s in speed.rounds_s)
    )
