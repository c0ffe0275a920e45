"""The summary that a run prints when it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from faceoff.commands.path_table import print_paths
from faceoff.commands.port_table import print_ports
from faceoff.core.errors import ResultFileError
from faceoff.core.spec import OwnSpec, Workload
from faceoff.report.answer import answer_for, answer_sentence
from faceoff.report.norms import setting_of_curve
from faceoff.report.sections import worst_figure
from faceoff.report.speed import speed_groups
from faceoff.report.text import percent, significant, with_interval
from faceoff.report.words import SETTING_WORDS
from faceoff.results.agreements import Agreement, meaning_checked_in
from faceoff.results.records import CaseResult, Comparison, Result
from faceoff.results.trainings import GradientNorms, TrainingRun
from faceoff.run.journal import NAME, read, resume_command
from faceoff.speed.statistics import unsteadiness

# A terminal is about this many columns of figures wide.
MOST_COLUMNS = 6
MOST_ANSWERS = 12
OUTCOME_WORDS = {"ok": "agrees", "disagrees": "DISAGREES", "not_offered": "– not offered"}


def print_summary(result: Result, result_path: Path, page_path: Path) -> None:
    """Prints agreement, speed, training, gradient norms, what went wrong, and where result and page are."""
    console = Console(width=None if sys.stdout.isatty() else 140, soft_wrap=False)
    print_ports(console, result.ports, whole=any(agreement.path for agreement in result.agreements))
    if result.agreements:
        console.print(_agreement_table(result))
    for agreement in result.agreements:
        if agreement.note and agreement.outcome == "ok":
            where = f"{Workload.from_json(agreement.workload).name}, {agreement.contender}"
            console.print(f"{where}: {agreement.note}", markup=False, highlight=False, soft_wrap=True)
    for contender, dtype in meaning_checked_in(result.agreements).items():
        text = f"{contender}: meaning checked in {dtype} only, as it offers no float64"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    print_paths(console, result.agreements)
    if result.cases:
        for table in _speed_tables(result):
            console.print(table)
        if result.tuned or result.tuned_settings:
            console.print(_tuning_table(result))
        groups = [group for group in speed_groups(result) if group.rows]
        # More than a screen of them says less than the tables; the page has all.
        for group in groups if len(groups) <= MOST_ANSWERS else ():
            sentence = answer_sentence(answer_for(group, result.comparisons))
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if result.training_runs:
        console.print(_training_table(result))
    if result.gradient_norms:
        console.print(_norm_table(result))
    for agreement in result.agreements:
        if agreement.outcome == "disagrees":
            console.print(f"AgreementError: {agreement.message}", markup=False, highlight=False, soft_wrap=True)
    _print_failures(console, result)
    state = "interrupted; what was finished is kept" if result.interrupted else f"{result.duration_s:.0f} s"
    if result.left_out:
        state += f", and then the time was over: {result.left_out} parts left out"
    if result.resumed:
        state += f", resumed {result.resumed} times" if result.resumed > 1 else ", resumed once"
    console.print(f"{_verdict(result)} ({state})", markup=False, highlight=False)
    if result.harness_s and result.agreements and not result.cases:
        own = f"{result.harness_s:.0f} s of processor time for reference, rounding noise, comparison and transfer"
        console.print(f"the harness's own part: {own}", markup=False, highlight=False)
    console.print(f"result: {result_path}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"page:   {page_path}", markup=False, highlight=False, soft_wrap=True)
    if result.interrupted or result.left_out:
        again = resume_command(result.command.split()[1], result_path.parent)
        console.print(f"resume: {again}", markup=False, highlight=False, soft_wrap=True)


def way_on(command: str, folder: Path) -> str:
    """How a run goes on that was interrupted, in a line; where it had not begun, that nothing is lost."""
    try:
        ended = read(folder / NAME).ended
    except ResultFileError:
        return "nothing was begun"
    if ended:
        return f"all was finished: {folder / 'result.json'}"
    return f"resume: {resume_command(command, folder)}"


def print_compiled(result: Result, kept_in: Path) -> None:
    """Prints what was compiled and what went wrong; `kept_in` is the folder for what later runs need not compute."""
    console = Console(width=None if sys.stdout.isatty() else 140, soft_wrap=False)
    _print_failures(console, result)
    state = "interrupted" if result.interrupted else f"{result.duration_s:.0f} s"
    text = f"{_verdict(result)} ({state}); what was compiled is kept in {kept_in}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_failures(console: Console, result: Result) -> None:
    for line in dict.fromkeys(_failures(result)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _verdict(result: Result) -> str:
    if not result.outcomes:
        return "Nothing was run"
    counts = {name: result.outcomes.count(name) for name in dict.fromkeys(result.outcomes)}
    lacking = counts.pop("not_offered", 0)
    if set(counts) - {"ok"}:
        return "Not all is well: " + ", ".join(f"{count} {name}" for name, count in counts.items())
    if result.interrupted:
        ran = f"the {len(result.records)} records so far are ok" if result.records else "nothing was compared yet"
        return f"Not all was run: {ran}"
    text = f"All {counts.get('ok', 0)} records ok: everything ran and agrees"
    return f"{text}; {lacking} more are not offered by a framework" if lacking else text


def _failures(result: Result) -> list[str]:
    lines = []
    for info in result.contenders:
        if info.outcome != "ok":
            step = f"; {info.next_step}" if info.next_step else ""
            lines.append(f"{info.contender} {info.outcome}: {info.reason}{step}")
    dead = {info.contender for info in result.contenders if info.outcome != "ok"}
    for record in result.records:
        if record.outcome not in ("ok", "disagrees", "not_offered") and record.contender not in dead:
            lines.append(f"{record.outcome}: {record.reason}")
        if record.outcome == "disagrees" and not isinstance(record, Agreement):
            lines.append(f"{record.contender} disagrees: {record.reason}")
    return lines


def _agreement_table(result: Result) -> Table:
    names = _model_names([agreement.workload for agreement in result.agreements])
    found: dict[tuple[str, str], list[Agreement]] = {}
    for agreement in result.agreements:
        found.setdefault((_model_key(agreement.workload), agreement.contender), []).append(agreement)
    cells = {at: "\n".join(_agreement_lines(agreements)) for at, agreements in found.items()}
    table = _grid(names, cells, "Agreement with the float64 reference")
    table.caption = "rms error of the worst quantity in units of this computation's own rounding noise in that dtype"
    return table


def _grid(names: dict[str, str], cells: dict[tuple[str, str], str], title: str) -> Table:
    """A table of models (by key, with their names) and contenders; a row each of what there is more of."""
    contenders = list(dict.fromkeys(contender for _, contender in cells))
    if len(names) <= max(MOST_COLUMNS, len(contenders)):
        table = Table("contender", *names.values(), title=title, title_justify="left")
        for contender in contenders:
            table.add_row(contender, *(cells.get((key, contender), "") for key in names))
    else:
        table = Table("model", *contenders, title=title, title_justify="left")
        for key, name in names.items():
            table.add_row(name, *(cells.get((key, contender), "") for contender in contenders))
    return table


def _agreement_lines(agreements: Sequence[Agreement]) -> list[str]:
    """A line each for everyday checks and for what did not agree; one for all other situations that do."""
    told = [check for check in agreements if check.is_everyday or check.outcome != "ok"]
    lines = [_agreement_cell(check) for check in told]
    others = [check for check in agreements if check not in told]
    units = [check.worst.noise_units or 0.0 for check in others if check.worst]
    if units:
        count = len({check.situation for check in others})
        words = f"{count} other situations agree" if count > 1 else f"{others[0].situation} agrees"
        lines.append(f"{words} ({significant(max(units), 2)} units)")
    return lines


def _agreement_cell(agreement: Agreement) -> str:
    worst = agreement.worst
    word = OUTCOME_WORDS.get(agreement.outcome, agreement.outcome)
    if not agreement.is_everyday:
        return f"{agreement.workload.get('dtype')} {word} ({agreement.situation})"
    if worst is None:
        return word
    figure = worst.in_short if worst.problem else f"{worst_figure(agreement)} units"
    return f"{agreement.workload.get('dtype')} {word} ({figure})"


def _model_key(workload: dict[str, object]) -> str:
    parsed = Workload.from_json(workload)
    return f"{parsed.model.label} b{parsed.batch_size}"


def _model_names(workloads: Sequence[dict[str, object]]) -> dict[str, str]:
    """Key to name of each model and batch size: its family alone, and its sizes where a family is there in several."""
    labels: dict[str, set[str]] = {}
    for workload in workloads:
        model = Workload.from_json(workload).model
        labels.setdefault(model.kind, set()).add(model.label)
    names = {}
    for workload in workloads:
        parsed = Workload.from_json(workload)
        only = len(labels[parsed.model.kind]) == 1 and not isinstance(parsed.model, OwnSpec)
        names[_model_key(workload)] = f"{parsed.model.kind if only else parsed.model.label} b{parsed.batch_size}"
    return names


def _speed_tables(result: Result) -> list[Table]:
    tables = []
    ratios = {(c.workload, c.contender): c for c in result.comparisons}
    # In the digits and the unit that the page has.
    times = {
        (group.workload.key, row.contender): f"{row.time} {group.unit}"
        for group in speed_groups(result)
        for row in group.rows
    }
    for step in dict.fromkeys(case.workload["step"] for case in result.cases):
        cases = [case for case in result.cases if case.workload["step"] == step]
        cells = {(_model_key(case.workload), case.contender): _speed_cell(case, ratios, times) for case in cases}
        title = f"Time of one {step} step (times the baseline's, 95 % interval)"
        tables.append(_grid(_model_names([case.workload for case in cases]), cells, title))
    tables[-1].caption = _precision_text(result)
    return tables


def _precision_text(result: Result) -> str:
    """How surely this run can tell contenders apart."""
    text = "intervals cover rounds and processes; verdicts are held over all of the run together"
    floors = result.noise_floors
    if floors:
        finest, coarsest = (percent(pick(f.resolvable for f in floors) - 1) for pick in (min, max))
        span = finest if finest == coarsest else f"{finest} to {coarsest}, by workload,"
        text += f"; differences below {span} are typically not resolved"
    sizes = {info.contender.split(":")[0]: info.disk_bytes for info in result.contenders if info.disk_bytes}
    if sizes:
        listed = ", ".join(f"{framework} {size / 2**20:.0f} MiB" for framework, size in sizes.items())
        text += f"\non disk, with all that it requires: {listed}"
    if any(floor.noisy for floor in floors):
        text += "\nthis machine was busy while rounds were timed: end other work, or give it --budget thorough"
    unsteady = [
        f"{case.contender} ({case.workload['step']}, {_model_key(case.workload)})"
        for case in result.cases
        if case.speed and unsteadiness(case.speed.processes)
    ]
    if unsteady:
        text += f"\nno steady state was reached by {', '.join(unsteady)}"
    return text


def _speed_cell(case: CaseResult, ratios: dict[tuple[str, str], Comparison], times: dict[tuple[str, str], str]) -> str:
    if case.speed is None:
        return OUTCOME_WORDS["not_offered"] if case.outcome == "not_offered" else case.outcome
    name = case.parsed_workload().name
    comparison = ratios.get((name, case.contender))
    time = times.get((name, case.contender), "no time")
    if comparison is None:
        fastest = all(other.ratio >= 1 for (workload, _), other in ratios.items() if workload == name)
        return f"{time} ({'fastest' if fastest else 'baseline'})"
    return f"{time} ({_ratio_text(comparison)} {comparison.verdict})"


def _tuning_table(result: Result) -> Table:
    """What the modes `tuned` bring, as a whole and setting by setting."""
    title = "Times of the modes tuned over those of the fastest other mode, and without each setting over tuned"
    table = Table("workload", "contender", "over", "tuned", "without a setting", title=title, title_justify="left")
    whole = {(comparison.workload, comparison.contender): comparison for comparison in result.tuned}
    settings: dict[tuple[str, str], list[str]] = {}
    for record in result.tuned_settings:
        comparison = record.comparison
        word = f"{_ratio_text(comparison)} {SETTING_WORDS[comparison.verdict]}" if comparison else record.outcome
        key = Workload.from_json(record.workload).name, record.contender
        settings.setdefault(key, []).append(f"{record.setting} {word}")
    names = _model_names([case.workload for case in result.cases])
    for case in result.cases:
        key = case.parsed_workload().name, case.contender
        if key not in whole and key not in settings:
            continue
        found = whole.get(key)
        brings = (found.baseline.split(":")[1], f"{_ratio_text(found)} {found.verdict}") if found else ("", "")
        title = f"{names[_model_key(case.workload)]} {case.workload['step']}"
        table.add_row(title, case.contender, *brings, "\n".join(settings.get(key, [])))
    return table


def _ratio_text(comparison: Comparison) -> str:
    return " ".join(with_interval(comparison.ratio, *comparison.interval))


def _training_table(result: Result) -> Table:
    names = list(dict.fromkeys(run.contender for run in result.training_runs))
    title = "Training on real data: largest distance of loss and test logits, in noise units"
    table = Table("task", "optimiser, dtype", "accuracy", *names, title=title, title_justify="left")
    rows: dict[tuple[str, str], dict[str, TrainingRun]] = {}
    for run in result.training_runs:
        rows.setdefault((run.task, _training_setting(run)), {})[run.contender] = run
    for (task, setting), runs in rows.items():
        known = [run.reference_accuracy for run in runs.values() if run.reference_accuracy is not None]
        accuracy = percent(known[0]) if known else ""
        cells = [_training_cell(runs[name], accuracy) if name in runs else "" for name in names]
        table.add_row(task, setting, accuracy, *cells)
    table.caption = (
        "accuracy on test data: the reference's, and a contender's where it differs; "
        "in float64 also the largest relative difference in loss"
    )
    return table


def _training_setting(run: TrainingRun) -> str:
    workload = Workload.from_json(run.workload)
    return f"{workload.optimiser.kind}, {workload.dtype}"


def _training_cell(run: TrainingRun, reference_accuracy: str) -> str:
    if run.accuracy is None:
        return OUTCOME_WORDS.get(run.outcome, run.outcome)
    parts = [] if run.outcome == "ok" else [OUTCOME_WORDS.get(run.outcome, run.outcome)]
    parts.append(significant(run.noise_units, 2))
    if run.loss_error is not None and run.workload["dtype"] == "float64":
        parts.append(f"({significant(run.loss_error, 2)})")
    if percent(run.accuracy) != reference_accuracy:
        parts.append(percent(run.accuracy))
    return " ".join(parts)


def _norm_table(result: Result) -> Table:
    curves = list(dict.fromkeys(_curve_name(record) for record in result.gradient_norms))
    title = "Norm of dLoss/dh_t over the time steps: largest distance from the reference"
    table = Table("contender", *curves, title=title, title_justify="left")
    for name in dict.fromkeys(record.contender for record in result.gradient_norms):
        own = [record for record in result.gradient_norms if record.contender == name]
        cells = [[_norm_cell(record) for record in own if _curve_name(record) == curve] for curve in curves]
        table.add_row(name, *("\n".join(cell) for cell in cells))
    changes = []
    for curve in curves:
        found = (_change(record) for record in result.gradient_norms if _curve_name(record) == curve)
        changes.append(next((change for change in found if change), ""))
    table.add_row("reference, at t = 0 over last", *changes)
    return table


def _curve_name(record: GradientNorms) -> str:
    return f"{Workload.from_json(record.workload).model.kind}, {setting_of_curve(record).words}"


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
    return f"{word} ({significant(max(known), 2)} units)"


def _change(record: GradientNorms) -> str:
    if len(record.reference_norms) < 2:
        return ""
    first, last = record.reference_norms[0], record.reference_norms[-1]
    return f"{significant(first / last, 2)} times" if first and last else ""
