"""Agreement, cold start, training, ledger and cases as the page shows them. Selection and order only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from faceoff.report.norms import norms_text
from faceoff.report.text import NOT_FINITE, clip, exact, finite, flatten, percent, significant
from faceoff.report.words import NOT_OFFERED, WorkloadText, contender_names, describe_workload, setting_text
from faceoff.results.agreements import Agreement, Quantity
from faceoff.results.costs import ColdStart
from faceoff.results.records import Result
from faceoff.results.trainings import TrainingRun

# What is compiled for a model differs little between its sizes.
MOST_KERNEL_PARTS = 24


@dataclass(frozen=True)
class Cell:
    """One check of one contender on one model; `agreement` is None where the result holds none."""

    agreement: Agreement | None
    detail_id: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Column:
    """One model of the agreement matrix, with the checks that any contender had on it."""

    workload: WorkloadText
    checks: list[str]


@dataclass(frozen=True)
class Matrix:
    """Contenders by models.

    Attributes:
        rows: contender and its cells, in the order of `columns` and their checks.
    """

    columns: list[Column]
    rows: list[tuple[str, list[Cell]]]


def agreement_matrix(result: Result, prefix: str) -> Matrix:
    """The matrix of a result; `prefix` starts the ids of its details.

    A check that the file holds twice is shown as its last, while the details show both. Of all other situations the one
    that is farthest off is shown.
    """
    found: dict[tuple[str, str, str], tuple[int, Agreement]] = {}
    workloads: dict[str, WorkloadText] = {}
    for index, agreement in enumerate(result.agreements):
        workload = describe_workload(agreement.workload)
        workloads.setdefault(workload.model_key, workload)
        at = agreement.contender, workload.model_key, check_label(agreement)
        if agreement.is_everyday or at not in found or agreement.badness > found[at][1].badness:
            found[at] = index, agreement
    columns = [
        # Meaning comes first by the alphabet.
        Column(workload, sorted({check for _, model, check in found if model == key}))
        for key, workload in workloads.items()
    ]
    rows = []
    for name in contender_names(result):
        cells = []
        for key, column in zip(workloads, columns, strict=True):
            for check in column.checks:
                index, record = found.get((name, key, check), (0, None))
                cells.append(Cell(record, f"{prefix}-d{index}", worst_figure(record)) if record else Cell(None))
        rows.append((name, cells))
    return Matrix(columns, rows)


def limits(result: Result) -> dict[str, list[str]]:
    """The limits in force by check, as text."""
    found: dict[str, set[float]] = {}
    for agreement in result.agreements:
        found.setdefault(agreement.check, set()).update(quantity.limit for quantity in agreement.quantities)
    return {check: [f"{limit:g}" for limit in sorted(some)] for check, some in found.items()}


def check_label(agreement: Agreement) -> str:
    """The check and its dtype: `meaning, float64`, `precision, bfloat16`; all other situations under one label."""
    label = f"{agreement.check}, {agreement.workload.get('dtype', 'unknown dtype')}"
    return label if agreement.is_everyday else f"{label}, other situations"


def agreement_details(result: Result, prefix: str) -> list[tuple[str, list[tuple[str, Agreement]]]]:
    """Every check by contender, each with the id that the matrix refers to."""
    by_contender: dict[str, list[tuple[str, Agreement]]] = {}
    for index, agreement in enumerate(result.agreements):
        by_contender.setdefault(agreement.contender, []).append((f"{prefix}-d{index}", agreement))
    return [(name, by_contender[name]) for name in contender_names(result) if name in by_contender]


def only_failing(
    details: list[tuple[str, list[tuple[str, Agreement]]]], most: int
) -> list[tuple[str, list[tuple[str, Agreement]]]]:
    """The checks that did not end ok, `most` of each contender; contenders without any are left out."""
    found = [(name, [pair for pair in checks if pair[1].outcome != "ok"][:most]) for name, checks in details]
    return [(name, checks) for name, checks in found if checks]


def worst_figure(agreement: Agreement) -> str:
    """The figure of the quantity nearest to, or farthest over, its limit; what is not finite is farthest."""
    failed = (quantity for quantity in agreement.quantities if not quantity.agrees)
    not_finite = next((quantity for quantity in failed if quantity.noise_units is None), None)
    worst = not_finite or agreement.worst
    if worst is None:
        return ""
    figure = worst.in_short if worst.problem else significant(worst.noise_units, 2)
    return figure if agreement.is_everyday else f"{figure} ({agreement.situation})"


@dataclass(frozen=True)
class QuantityRow:
    """One quantity of a check in words; `level` is empty for one that agrees."""

    name: str
    level: str
    error: str
    noise_units: str
    limit: str
    worst_index: str
    got: str
    reference: str
    problem: str


def quantity_rows(agreement: Agreement) -> list[QuantityRow]:
    """Every quantity of a check, those that disagree first."""
    ordered = sorted(agreement.quantities, key=lambda quantity: quantity.agrees)
    return [_quantity_row(quantity) for quantity in ordered]


def _quantity_row(quantity: Quantity) -> QuantityRow:
    # A null is 'not finite' unless there was nothing to compare, which the recorded problem then says.
    absent = quantity.problem or NOT_FINITE
    return QuantityRow(
        name=quantity.name,
        level="" if quantity.agrees else "bad",
        error=significant(quantity.error, 2, absent),
        noise_units=significant(quantity.noise_units, 2, absent),
        limit=f"{quantity.limit:g}",
        worst_index=", ".join(filter(None, [str(quantity.worst_index or "–"), quantity.where])),
        got=exact(quantity.got, absent),
        reference=exact(quantity.reference, "none" if quantity.problem else NOT_FINITE),
        problem=quantity.problem,
    )


@dataclass(frozen=True)
class ColdGroup:
    """Cold starts of one workload: those that reached their first result, quickest first, and the others."""

    workload: WorkloadText
    rows: list[ColdStart]
    left_out: list[ColdStart]


def cold_groups(result: Result) -> list[ColdGroup]:
    """The cold starts of a result by workload, in the order of the file."""
    workloads: dict[str, WorkloadText] = {}
    starts: dict[str, list[ColdStart]] = {}
    for start in result.cold_starts:
        workload = describe_workload(start.workload)
        workloads[workload.key] = workload
        starts.setdefault(workload.key, []).append(start)
    return [
        ColdGroup(
            workloads[key],
            sorted((s for s in found if _started(s)), key=lambda start: start.total_s),
            [s for s in found if not _started(s)],
        )
        for key, found in starts.items()
    ]


def _started(start: ColdStart) -> bool:
    return start.outcome == "ok" and finite(start.total_s) is not None


@dataclass(frozen=True)
class Task:
    """One training task on real data, with one optimiser in one dtype.

    Attributes:
        runs: every contender's, whatever its outcome.
        reference_losses, noise: from the first run that holds them; all runs of a task share one reference.
    """

    name: str
    workload: WorkloadText
    runs: list[TrainingRun]
    reference_losses: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The name with what tells it from the same task with another optimiser or in another dtype."""
        return f"{self.name}, {self.workload.conditions}"

    @property
    def setting(self) -> str:
        """Optimiser and dtype."""
        return setting_of(self.runs[0])

    @property
    def limit(self) -> float:
        """What the distance may reach, in units of the noise; 0 where nothing was compared."""
        return next((run.limit for run in self.runs if run.losses), 0.0)

    @property
    def rare(self) -> str:
        """From which step on the limit allows for rare events, and what would show beyond it; empty without such."""
        first = next((run.rare_from for run in self.runs if run.rare_from is not None), None)
        if first is None or not self.noise or not self.reference_losses[-1]:
            return ""
        visible = self.limit * self.noise[-1] / abs(self.reference_losses[-1])
        return (
            f"From step {first} on, a rounding too rare for these runs, one that flips a ReLU, may send a training "
            "another way. So the spread is that of runs whose roundings were many times as large, and at the last step "
            f"only what moves the loss by more than {percent(visible)} would show. "
            "What rounding may do to accuracy is of these too."
        )

    @property
    def worst(self) -> TrainingRun | None:
        """The run farthest from the reference, one that is not finite before all; None when nothing was compared."""
        compared = [run for run in self.runs if run.losses]
        return max(compared, key=lambda run: _or_infinite(run.noise_units), default=None)

    @property
    def loss_error(self) -> float | None:
        """The largest relative difference in loss of any run that was compared; None when one is not finite."""
        errors = [_or_infinite(run.loss_error) for run in self.runs if run.losses]
        return finite(max(errors, default=None))

    @property
    def outcomes(self) -> list[tuple[str, int]]:
        """How often each outcome occurred."""
        found = [str(run.outcome) for run in self.runs]
        return [(outcome, found.count(outcome)) for outcome in dict.fromkeys(found)]


def setting_of(run: TrainingRun) -> str:
    """Optimiser and dtype of a training run, as text whatever the file holds."""
    optimiser = run.workload.get("optimiser")
    kind = optimiser.get("kind") if isinstance(optimiser, dict) else None
    return clip(f"{kind or 'unknown optimiser'}, {run.workload.get('dtype', 'unknown dtype')}")


def _or_infinite(value: float | None) -> float:
    value = finite(value)
    return float("inf") if value is None else value


def training_tasks(result: Result) -> list[Task]:
    """The training runs of a result by task, in the order of the file."""
    tasks: dict[tuple[str, str], list[TrainingRun]] = {}
    for run in result.training_runs:
        tasks.setdefault((run.task, describe_workload(run.workload).key), []).append(run)
    return [
        Task(
            name,
            describe_workload(runs[0].workload),
            runs,
            next((run.reference_losses for run in runs if run.reference_losses), []),
            next((run.noise for run in runs if run.noise), []),
        )
        for (name, _), runs in tasks.items()
    ]


def not_finite_steps(run: TrainingRun) -> list[int]:
    """The steps at which the loss was not finite."""
    return [step for step, loss in enumerate(run.losses) if finite(loss) is None]


def table_steps(task: Task, most: int = 24) -> list[int]:
    """Evenly spaced steps for the table of losses, the first and the last among them."""
    count = max([len(task.reference_losses), *(len(run.losses) for run in task.runs)])
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


@dataclass(frozen=True)
class LedgerRow:
    """One version or setting; a value is None where a contender does not report it."""

    name: str
    values: list[str | None]

    @property
    def differs(self) -> bool:
        """Whether the contenders that report it do not all report the same."""
        # Each framework has its own name for one device.
        return self.name != "device" and len({value for value in self.values if value is not None}) > 1


@dataclass(frozen=True)
class LedgerPart:
    """A group of rows under one title."""

    title: str
    subtitle: str
    rows: list[LedgerRow]

    @property
    def num_differing(self) -> int:
        return sum(row.differs for row in self.rows)


def ledger(result: Result) -> list[LedgerPart]:
    """Versions and settings, then what each case says of its kernels, by workload, for all of `contender_names`."""
    names = contender_names(result)
    versions = {
        info.contender: flatten(info.versions | ({"installed_bytes": info.disk_bytes} if info.disk_bytes else {}))
        for info in result.contenders
    }
    settings = {info.contender: flatten(info.settings) for info in result.contenders}
    parts = [
        LedgerPart("Versions", "and size on disk with all that is required", _ledger_rows(names, versions)),
        LedgerPart("Settings in force", "as the framework reports them", _ledger_rows(names, settings)),
    ]
    workloads: dict[str, WorkloadText] = {}
    ledgers: dict[str, dict[str, dict[str, str]]] = {}
    for case in result.cases:
        workload = describe_workload(case.workload)
        workloads[workload.key] = workload
        ledgers.setdefault(workload.key, {})[case.contender] = flatten(case.ledger)
    for setting in result.tuned_settings:
        reported = ledgers.get(describe_workload(setting.workload).key, {}).get(setting.contender)
        if reported is not None:
            reported[f"tuned.{setting.setting}"] = f"{setting.what}; {setting_text(setting)}"
    for key, by_contender in list(ledgers.items())[:MOST_KERNEL_PARTS]:
        workload = workloads[key]
        subtitle = f"{workload.sizes}; {workload.conditions}"
        parts.append(LedgerPart(f"Kernels: {workload.title}", subtitle, _ledger_rows(names, by_contender)))
    return [part for part in parts if part.rows]


def _ledger_rows(names: list[str], reported: dict[str, dict[str, str]]) -> list[LedgerRow]:
    keys = dict.fromkeys(key for values in reported.values() for key in values)
    return [LedgerRow(key, [reported.get(name, {}).get(key) for name in names]) for key in keys]


@dataclass(frozen=True)
class CaseRow:
    """One record of the result and how it ended."""

    part: str
    what: str
    contender: str
    outcome: str
    reason: str
    log_tail: str = ""


def case_rows(result: Result) -> list[CaseRow]:
    """Every record of the result, in the order of its parts."""
    rows = [CaseRow("Start", "", i.contender, i.outcome, i.reason) for i in result.contenders]
    for check in result.agreements:
        workload = describe_workload(check.workload)
        reason = check.reason or check.message
        what = f"{workload.kind}, {workload.batch}, {check.check_name}"
        rows.append(CaseRow("Agreement", what, check.contender, check.outcome, reason, check.log_tail))
    for case in result.cases:
        rows.append(CaseRow("Speed", case.name, case.contender, case.outcome, case.reason, case.log_tail))
    for setting in result.tuned_settings:
        what = f"{describe_workload(setting.workload).title}, {setting.setting}"
        rows.append(CaseRow("Tuned setting", what, setting.contender, setting.outcome, setting.reason))
    for start in result.cold_starts:
        title = describe_workload(start.workload).title
        rows.append(CaseRow("Cold start", title, start.contender, start.outcome, start.reason))
    for run in result.training_runs:
        rows.append(CaseRow("Training", f"{run.task}, {setting_of(run)}", run.contender, run.outcome, run.reason))
    for norms in result.gradient_norms:
        rows.append(CaseRow("Gradient norms", norms_text(norms), norms.contender, norms.outcome, norms.reason))
    return rows


def by_outcome(rows: Iterable[CaseRow]) -> tuple[list[CaseRow], list[CaseRow], list[CaseRow]]:
    """The rows that did not end ok, those that did, and those of what is not offered."""
    failed: list[CaseRow] = []
    passed: list[CaseRow] = []
    lacking: list[CaseRow] = []
    parts = {"ok": passed, NOT_OFFERED: lacking}
    for row in rows:
        parts.get(row.outcome, failed).append(row)
    return failed, passed, lacking
