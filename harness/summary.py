"""The summary that a run prints when it ends."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.core.spec import Workload
from harness.results import Agreement, CaseResult, Comparison, GradientNorms, Result

OUTCOME_WORDS = {"ok": "agrees", "disagrees": "DISAGREES"}


def format_duration(seconds: float) -> str:
    """Seconds in the unit that reads best, three digits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def print_summary(result: Result, result_path: Path, page_path: Path) -> None:
    """Prints agreement, speed, training, gradient norms, what went wrong, and where result and page are."""
    console = Console(width=None if sys.stdout.isatty() else 140, soft_wrap=False)
    if result.agreements:
        console.print(_agreement_table(result))
    if result.cases:
        for table in _speed_tables(result):
            console.print(table)
    if result.training_runs:
        console.print(_training_table(result))
    if result.gradient_norms:
        console.print(_norm_table(result))
    for agreement in result.agreements:
        if agreement.outcome == "disagrees":
            console.print(f"AgreementError: {agreement.message}", markup=False, highlight=False, soft_wrap=True)
    for line in dict.fromkeys(_failures(result)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    state = "interrupted; what was finished is kept" if result.interrupted else f"{result.duration_s:.0f} s"
    console.print(f"{_verdict(result)} ({state})", markup=False, highlight=False)
    if result.harness_s and result.agreements and not result.cases:
        own = f"{result.harness_s:.0f} s of processor time for reference, rounding noise, comparison and transfer"
        console.print(f"the harness's own part: {own}", markup=False, highlight=False)
    console.print(f"result: {result_path}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"page:   {page_path}", markup=False, highlight=False, soft_wrap=True)


def _verdict(result: Result) -> str:
    if not result.outcomes:
        return "Nothing was run"
    counts = {name: result.outcomes.count(name) for name in dict.fromkeys(result.outcomes)}
    if set(counts) == {"ok"}:
        return f"All {len(result.outcomes)} records ok: everything ran and agrees"
    return "Not all is well: " + ", ".join(f"{count} {name}" for name, count in counts.items())


def _failures(result: Result) -> list[str]:
    lines = []
    for info in result.contenders:
        if info.outcome != "ok":
            step = f"; {info.next_step}" if info.next_step else ""
            lines.append(f"{info.contender} {info.outcome}: {info.reason}{step}")
    dead = {info.contender for info in result.contenders if info.outcome != "ok"}
    for record in result.records:
        if record.outcome not in ("ok", "disagrees") and record.contender not in dead:
            lines.append(f"{record.outcome}: {record.reason}")
        if record.outcome == "disagrees" and not isinstance(record, Agreement):
            lines.append(f"{record.contender} disagrees: {record.reason}")
    return lines


def _agreement_table(result: Result) -> Table:
    models = list(dict.fromkeys(_model_name(a.workload) for a in result.agreements))
    table = Table("contender", *models, title="Agreement with the float64 reference", title_justify="left")
    for name in dict.fromkeys(a.contender for a in result.agreements):
        cells = []
        for model in models:
            checks = [a for a in result.agreements if a.contender == name and _model_name(a.workload) == model]
            cells.append("\n".join(_agreement_cell(check) for check in checks))
        table.add_row(name, *cells)
    table.caption = "rms error of the worst quantity in units of this computation's own rounding noise in that dtype"
    return table


def _agreement_cell(agreement: Agreement) -> str:
    worst = agreement.worst
    word = OUTCOME_WORDS.get(agreement.outcome, agreement.outcome)
    if worst is None:
        return word
    figure = worst.problem or f"{worst.noise_units:.3g} units"
    return f"{agreement.workload.get('dtype')} {word} ({figure})"


def _model_name(workload: dict[str, object]) -> str:
    parsed = Workload.from_json(workload)
    return f"{parsed.model.kind} b{parsed.batch_size}"


def _speed_tables(result: Result) -> list[Table]:
    tables = []
    ratios = {(c.workload, c.contender): c for c in result.comparisons}
    for step in dict.fromkeys(case.workload["step"] for case in result.cases):
        cases = [case for case in result.cases if case.workload["step"] == step]
        models = list(dict.fromkeys(_model_name(case.workload) for case in cases))
        title = f"Time of one {step} step, median (times the fastest, 95 % interval)"
        table = Table("contender", *models, title=title, title_justify="left")
        for name in dict.fromkeys(case.contender for case in cases):
            row = {_model_name(case.workload): _speed_cell(case, ratios) for case in cases if case.contender == name}
            table.add_row(name, *(row.get(model, "") for model in models))
        tables.append(table)
    tables[
        -1
    ].caption = "intervals cover the rounds within one process of each contender, not the spread between processes"
    return tables


def _speed_cell(case: CaseResult, ratios: dict[tuple[str, str], Comparison]) -> str:
    if case.speed is None:
        return case.outcome
    comparison = ratios.get((case.parsed_workload().name, case.contender))
    if comparison is None:
        return f"{format_duration(case.speed.median_s)} (fastest)"
    low, high = comparison.interval
    return (
        f"{format_duration(case.speed.median_s)} ({comparison.ratio:.2f} [{low:.2f}, {high:.2f}] {comparison.verdict})"
    )


def _training_table(result: Result) -> Table:
    tasks = list(dict.fromkeys(run.task for run in result.training_runs))
    table = Table(
        "contender",
        *tasks,
        title="Training on real data: test accuracy (distance of loss and test logits)",
        title_justify="left",
    )
    for name in dict.fromkeys(run.contender for run in result.training_runs):
        cells = []
        for task in tasks:
            run = next(r for r in result.training_runs if r.contender == name and r.task == task)
            units = "not finite" if run.noise_units is None else f"{run.noise_units:.2f} units"
            cells.append(run.outcome if run.accuracy is None else f"{run.accuracy:.1%} ({units})")
        table.add_row(name, *cells)
    table.add_row(
        "reference",
        *(
            next(
                (
                    f"{r.reference_accuracy:.1%}"
                    for r in result.training_runs
                    if r.task == task and r.reference_accuracy is not None
                ),
                "",
            )
            for task in tasks
        ),
    )
    return table


def _norm_table(result: Result) -> Table:
    curves = list(dict.fromkeys(_curve_name(record) for record in result.gradient_norms))
    title = "Norm of dLoss/dh_t over the time steps, by spectral radius of W_hh: largest distance from the reference"
    table = Table("contender", *curves, title=title, title_justify="left")
    for name in dict.fromkeys(record.contender for record in result.gradient_norms):
        own = [record for record in result.gradient_norms if record.contender == name]
        cells = [[_norm_cell(record) for record in own if _curve_name(record) == curve] for curve in curves]
        table.add_row(name, *("\n".join(cell) for cell in cells))
    changes = []
    for curve in curves:
        found = (_change(record) for record in result.gradient_norms if _curve_name(record) == curve)
        changes.append(next((change for change in found if change), ""))
    table.add_row("reference, back in time", *changes)
    return table


def _curve_name(record: GradientNorms) -> str:
    return f"{Workload.from_json(record.workload).model.kind} {record.spectral_radius:g}"


def _norm_cell(record: GradientNorms) -> str:
    word = OUTCOME_WORDS.get(record.outcome, record.outcome)
    if not record.norms:
        return word
    points = zip(record.time_steps, record.distances, strict=True)
    judged = [distance for t, distance in points if t not in record.underflow]
    known = [distance for distance in judged if distance is not None]
    if len(known) < len(judged):
        return f"{word} (not finite)"
    if not known:
        return f"{word} (underflow)"
    return f"{word} ({max(known):.3g} units)"


def _change(record: GradientNorms) -> str:
    if len(record.reference_norms) < 2:
        return ""
    first, last = record.reference_norms[0], record.reference_norms[-1]
    return f"factor {first / last:.1e}" if first and last else ""
