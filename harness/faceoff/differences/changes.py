"""What changed between two result files of the same machine: speed with intervals, outcomes, precision, versions.

Or between two environments of the same frameworks in one result, which were timed in turn (`between_environments`).

Each contender's speed on a workload is judged against its own in the earlier file. The two runs have no pass in common,
so each keeps its own spread (`Precision.change_since`). What the machine changed by between them, and what the same
thing differs by from run to run, is told by the contenders that are the same in both files, or by the canary
(`faceoff.differences.between_runs`).
"""

from __future__ import annotations

import math
import statistics as central
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from faceoff.core.errors import HarnessError, InputError, ResultFileError
from faceoff.core.spec import Workload
from faceoff.differences.between_runs import Change, Judgement, is_regression, judge, slower_by_chance
from faceoff.differences.controls import canaries, machine_change, unchanged
from faceoff.differences.environments import parse_pair, sides_of, with_environment
from faceoff.differences.records import CaseChange, Diff, NoiseChange, OutcomeChange, Setting
from faceoff.differences.sides import Key, Record, Side, printable, switches
from faceoff.machine.description import card_name
from faceoff.results.agreements import Agreement
from faceoff.results.file import load
from faceoff.results.records import ContenderInfo, Result
from faceoff.speed.statistics import TIE_MARGIN, Precision, Ratio, adjusted, verdict
from faceoff.system.texts import clean

THRESHOLD = 10.0
# What two machines must have in common for speeds to be compared.
LIKE = ("processor", "cores", "processor_quota")
FAILED = ("missing", "crashed", "timeout")
# Noise units that change by more than this factor are listed.
NOISE_FACTOR = 2.0


def diff(
    before: Result | str | Path, after: Result | str | Path, threshold: float = THRESHOLD, force: bool = False
) -> Diff:
    """Compares two results of the same machine.

    Args:
        before, after: results, or paths of result files.
        threshold: percent by which a case may get slower.
        force: compare also unlike machines, threads, devices and sets of cases, of which what both have.

    Raises:
        ResultFileError: a file cannot be read, or the two are unlike; it says in what.
        InputError: the threshold is not a number of at least 0.
    """
    require_threshold(threshold)
    pair = zip("AB", (before, after), strict=True)
    names = [f"result {letter}" if isinstance(r, Result) else clean(str(r)) for letter, r in pair]
    files = [
        Side(name, r if isinstance(r, Result) else load(r)) for name, r in zip(names, (before, after), strict=True)
    ]
    return _Comparing(files[0], files[1], threshold, force).run()


def between_environments(result: Result | str | Path, environments: str, threshold: float = THRESHOLD) -> Diff:
    """Compares two environments of the same frameworks in one result.

    Args:
        result: or the path of its file.
        environments: `BEFORE`, or `BEFORE,AFTER`; the usual one comes after unless another is named.
        threshold: percent by which a case may get slower.

    Raises:
        ResultFileError: the file cannot be read, or holds no contender in both.
        InputError: the threshold is not a number of at least 0, or the environments are not one or two.
    """
    require_threshold(threshold)
    before, after = parse_pair(environments)
    name, whole = ("result", result) if isinstance(result, Result) else (clean(str(result)), load(result))
    titles = [f"{name}, environment {part}" if part else f"{name}, usual environment" for part in (before, after)]
    sides = [Side(t, r) for t, r in zip(titles, sides_of(whole, before, after, name), strict=True)]
    both = Side(name, whole)
    precisions: dict[str, Precision[str]] = {}

    def ratio_of(workload: str, contender: str) -> Ratio:
        if workload not in precisions:
            precisions[workload] = both.precision(workload)
        return precisions[workload].ratio(with_environment(contender, after), with_environment(contender, before))

    return _Comparing(sides[0], sides[1], threshold, True, ratio_of).run()


def require_threshold(threshold: object) -> None:
    """Raises InputError unless it is a number of percent."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold < math.inf:
        raise InputError(
            "out of range", where="threshold", got=repr(threshold), expected="a number of percent, at least 0"
        )


class _Comparing:
    """Compares two files, or two parts of one; `run` returns what changed.

    Args:
        before, after: what is compared.
        threshold: percent by which a case may get slower.
        force: compare also what is unlike.
        ratio_of: of a workload and a contender, where both sides were timed in one run; None where they were not.
    """

    def __init__(
        self,
        before: Side,
        after: Side,
        threshold: float,
        force: bool,
        ratio_of: Callable[[str, str], Ratio] | None = None,
    ) -> None:
        self._before, self._after, self._threshold, self._force = before, after, threshold, force
        self._ratio_of = ratio_of

    def run(self) -> Diff:
        before, after = self._before, self._after
        unlike = list(self._unlike())
        if unlike and not self._force:
            raise ResultFileError(
                "not alike",
                where=f"{before.name} and {after.name}",
                got="; ".join(unlike),
                expected="the same machine, threads, device and cases",
                next_step="compare what both have all the same with --force",
            )
        common = [key for key in before.records if key in after.records]
        if not common:
            raise ResultFileError("nothing to compare", where=f"{before.name} and {after.name}")
        cases, raw = self._cases()
        outcomes = list(self._outcomes(common))
        failed = list(self._failed_in_both(common))
        return Diff(
            before=before.name,
            after=after.name,
            threshold=self._threshold,
            unlike=unlike,
            settings=self._settings(),
            cases=cases,
            median_ratio=math.exp(central.median(raw)) if raw else None,
            machine=None if self._ratio_of else machine_change(before, after, cases),
            outcomes=outcomes,
            noise=list(self._noise(common)),
            not_compared=[*failed, *self._alone()],
            notes=[note for file in (before, after) for note in _notes(file)],
            one_run=self._ratio_of is not None,
            exit_status=_exit_status(cases, outcomes) or (HarnessError.exit_status if failed else 0),
        )

    def _unlike(self) -> Iterator[str]:
        """In what the files are unlike, one line each."""
        before, after = self._before, self._after
        machines = before.result.machine, after.result.machine
        for key in LIKE:
            first, second = (machine.get(key) for machine in machines)
            if first != second:
                yield f"{key} {printable(_text(first))} and {printable(_text(second))}"
        cards = [card_name(machine) for machine in machines]
        if all(cards) and cards[0] != cards[1]:
            yield f"GPU {printable(cards[0])} and {printable(cards[1])}"
        if before.result.threads != after.result.threads:
            yield f"threads {before.result.threads} and {after.result.threads}"
        both = [name for name in before.contenders if name in after.contenders]
        devices = [tuple(_device(file, name) for file in (before, after)) for name in both]
        for first, second in dict.fromkeys(pair for pair in devices if pair[0] != pair[1]):
            yield f"device {first} and {second}"
        for one, other in ((before, after), (after, before)):
            gone = [name for name in one.contenders if name not in other.contenders]
            if gone:
                yield f"{_listed(gone)} only in {one.name}"
            # What a contender lacks that did not start is said once, of the contender.
            alone = [
                key
                for key in one.records
                if key[0] in ("case", "agreement") and key not in other.records and other.started(key[-1])
            ]
            known = {key[:2] for key in other.records}
            if alone:
                unfinished = " (which was interrupted)" if other.result.interrupted else ""
                # A workload that is not there at all is named without its contenders.
                names = dict.fromkeys(key[1] + (f"[{key[2]}]" if key[:2] in known else "") for key in alone)
                yield f"{_listed(names)} not in {other.name}{unfinished}"
        changed = [
            key[1]
            for key, record in before.records.items()
            if key in after.records and _constants(record) != _constants(after.records[key])
        ]
        if changed:
            yield f"constants of {_listed(dict.fromkeys(changed))}"

    def _cases(self) -> tuple[list[CaseChange], list[float]]:
        """The change of every case that was timed in both files, and of each the logarithm with nothing taken out."""
        before, after = self._before, self._after
        pairs = [
            (key, case, after.cases[key])
            for key, case in before.cases.items()
            if key in after.cases and case.outcome == after.cases[key].outcome == "ok"
        ]
        keys = [key for key, *_ in pairs]
        if self._ratio_of:
            judged = [Judgement(self._ratio_of(*key), "one run", None) for key in keys]
            raw = [math.log(judgement.ratio.ratio) for judgement in judged]
        else:
            found = self._changes(keys)
            judged = judge(found, unchanged(before, after), canaries(before, after))
            raw = [change.difference for change in found]
        margin = min(TIE_MARGIN, self._threshold / 100)
        changes = []
        p_values = adjusted([judgement.ratio.p_value for judgement in judged])
        slower = adjusted([slower_by_chance(judgement.ratio) for judgement in judged])
        for ((workload, contender), was, now), judgement, p_value, by_chance in zip(
            pairs, judged, p_values, slower, strict=True
        ):
            assert was.speed is not None
            assert now.speed is not None
            ratio = judgement.ratio
            interval = (ratio.low, ratio.high)
            told = judgement.basis != "nothing"
            regression = told and is_regression(ratio, by_chance, self._threshold)
            word = verdict(interval, ratio.ratio, p_value, margin) if told else "unresolved"
            changes.append(
                CaseChange(
                    workload=workload,
                    contender=contender,
                    before_s=was.speed.time_s,
                    after_s=now.speed.time_s,
                    ratio=ratio.ratio,
                    interval=interval,
                    p_value=ratio.p_value,
                    adjusted_p=p_value,
                    verdict="slower" if regression else word,
                    regression=regression,
                    basis=judgement.basis,
                    machine=judgement.machine,
                    unsure=word == "unresolved" and not regression and not self._would_find(judgement),
                )
            )
        return changes, raw

    def _would_find(self, judgement: Judgement) -> bool:
        """Whether a change of the threshold would have stood out from the interval."""
        ratio = judgement.ratio
        return judgement.basis != "nothing" and math.log(ratio.high / ratio.low) / 2 < math.log1p(self._threshold / 100)

    def _changes(self, keys: Iterable[tuple[str, str]]) -> list[Change]:
        """What each case changed by from one run to the other, nothing taken out."""
        precisions: dict[str, tuple[Precision[str], Precision[str]]] = {}
        found = []
        for workload, contender in keys:
            if workload not in precisions:
                precisions[workload] = self._before.precision(workload), self._after.precision(workload)
            earlier, later = precisions[workload]
            found.append(Change(workload, contender, *later.change_since(earlier, contender)))
        return found

    def _outcomes(self, common: Iterable[Key]) -> Iterator[OutcomeChange]:
        before, after = self._before, self._after
        told = set()
        for name, info in before.contenders.items():
            now = after.contenders.get(name)
            if now is not None and now.outcome != info.outcome:
                told.add(name)
                yield _outcome_change("contender", "", info, now)
        for key in common:
            was, now_record = before.records[key], after.records[key]
            # A contender that did not start is said once, not with each of its records.
            same_as_told = key[-1] in told and now_record.outcome == after.contenders[key[-1]].outcome
            if was.outcome != now_record.outcome and not same_as_told:
                yield _outcome_change(key[0], key[1], was, now_record)

    def _noise(self, common: Iterable[Key]) -> Iterator[NoiseChange]:
        for key in common:
            was, now = self._before.records[key], self._after.records[key]
            if not (isinstance(was, Agreement) and isinstance(now, Agreement)) or not (was.worst and now.worst):
                continue
            before, after = was.worst.noise_units, now.worst.noise_units
            low, high = sorted(math.inf if units is None else units for units in (before, after))
            if high > NOISE_FACTOR * low:
                name = Workload.from_json(now.workload).name
                yield NoiseChange(workload=name, contender=now.contender, check=now.check, before=before, after=after)

    def _failed_in_both(self, common: Iterable[Key]) -> Iterator[str]:
        """What ought to have run and did in neither file, so that nothing is known of a change.

        What does not fit into memory, or is not supported, is an answer that both files give.
        """
        before, after = self._before, self._after
        dead = [
            name
            for name, info in before.contenders.items()
            if name in after.contenders and info.outcome in FAILED and after.contenders[name].outcome in FAILED
        ]
        yield from (f"{name}: {after.contenders[name].outcome} in both files" for name in dead)
        for kind, name, contender in common:
            key = (kind, name, contender)
            outcomes = before.records[key].outcome, after.records[key].outcome
            if contender not in dead and all(outcome in FAILED for outcome in outcomes):
                yield f"{kind} {name}, {contender}: {outcomes[1]} in both files"

    def _alone(self) -> list[str]:
        """Records in one file only."""
        return [
            f"{kind} {name}, {contender}: only in {one.name}"
            for one, other in ((self._before, self._after), (self._after, self._before))
            for kind, name, contender in one.records
            if (kind, name, contender) not in other.records and other.started(contender)
        ]

    def _settings(self) -> list[Setting]:
        """Versions, switches, and what else of the runs differs."""
        results = self._before.result, self._after.result
        machines = [{k: v for k, v in _flat(r.machine).items() if k not in LIKE} for r in results]
        found = [
            Setting(what=what, before=before, after=after)
            for what, before, after in _different(machines[0], machines[1])
        ]
        if results[0].seed != results[1].seed:
            found.append(Setting(what="seed", before=str(results[0].seed), after=str(results[1].seed)))
        where: dict[tuple[str, str, str], list[str]] = {}
        for name, info in self._before.contenders.items():
            if name in self._after.contenders:
                for change in _different(switches(info), switches(self._after.contenders[name])):
                    where.setdefault(change, []).append(name)
        found += [
            Setting(what=what, where=names, before=before, after=after)
            for (what, before, after), names in where.items()
        ]
        return found


def _outcome_change(kind: str, name: str, was: Record | ContenderInfo, now: Record | ContenderInfo) -> OutcomeChange:
    reason = now.message if isinstance(now, Agreement) and now.message else now.reason
    return OutcomeChange(
        kind=kind,
        name=name,
        contender=now.contender,
        before=was.outcome,
        after=now.outcome,
        reason=(reason.splitlines() or [""])[0],
    )


def _exit_status(cases: Iterable[CaseChange], outcomes: Iterable[OutcomeChange]) -> int:
    outcomes = list(outcomes)
    if any(case.regression for case in cases) or any(change.after == "disagrees" for change in outcomes):
        return 1
    return 3 if any(change.before == "ok" for change in outcomes) else 0


def _notes(file: Side) -> Iterator[str]:
    if file.result.interrupted:
        yield f"{file.name}: the run was interrupted"
    noisy = sum(floor.noisy for floor in file.result.noise_floors)
    if noisy:
        yield f"{file.name}: the machine was busy while {noisy} of {len(file.result.noise_floors)} workloads were timed"


def _constants(record: Record) -> Workload:
    """What a record's name does not tell of its workload, such as the learning rate."""
    return Workload.from_json(record.workload)


def _device(file: Side, contender: str) -> str:
    """The accelerator's name as the framework reports it; what it says of a processor depends on its version too."""
    result = file.result
    workloads = [*(record.workload for record in result.agreements), *(case.workload for case in result.cases)]
    on_gpu = any(workload.get("device") == "gpu" for workload in workloads)
    return printable(_text(file.contenders[contender].settings.get("device"))) if on_gpu else "cpu"


def _flat(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What a machine is, with the parts of its GPU beside the rest."""
    found = dict(machine)
    gpu = found.pop("gpu", None)
    return found | ({f"GPU {key}": value for key, value in gpu.items()} if isinstance(gpu, Mapping) else {})


def _different(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys((*before, *after)):
        first, second = before.get(key), after.get(key)
        if first != second:
            yield key, _text(first), _text(second)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _listed(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name, 120) for name in names[:most]) + more
