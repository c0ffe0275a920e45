"""A result in other forms than the page: Markdown for a pull request, a table of cases, and each chart as a picture."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import vl_convert

from faceoff.core.contract import STAGES
from faceoff.core.errors import InputError
from faceoff.defaults import Atlas
from faceoff.differences.text import escape_markdown
from faceoff.report import answer, charts, cost_charts, defaults, history, norms, sections, speed, sweeps, text, words
from faceoff.report.page import TEMPLATES, Shown
from faceoff.results.file import write_bytes
from faceoff.results.records import CaseResult, Comparison, Result
from faceoff.speed.criteria import host_peak_bytes, memory_bytes, starts_by_case, step_error

Picture = Literal["svg", "png"]
PICTURE_WIDTH = 720
# Of a file name, and so of the longest that file systems take.
LONGEST_NAME = 180
# Of an inference from host memory to host memory.
STAGE_COLUMNS = {name: f"stage_{name.replace(' ', '_')}_s" for name in STAGES}
COLUMNS = (
    "result", "created", "workload", "model", "step", "batch_size", "dtype", "device", "optimiser", "contender",
    "outcome", "reason", "time_s", "low_s", "high_s", "rounds", "calls_per_round", "processes", "latency_50_s",
    "latency_90_s", "latency_99_s", "pipelined_s", "pipelined_low_s", "pipelined_high_s", "pipelined_calls",
    "last_wait", "cpu_s", "memory_bytes", "host_peak_bytes", "flops", "bytes", "cold_start_s", "noise_units",
    "baseline", "ratio", "ratio_low", "ratio_high", "verdict", "disturbed", "busy",
    *STAGE_COLUMNS.values(),
)  # fmt: skip


def _results(shown: Shown, what: str) -> list[tuple[str, Result]]:
    """The results among what is shown; raises InputError when something else is."""
    for name, item in shown:
        if not isinstance(item, Result):
            raise InputError(
                f"an atlas of defaults has no place in {what}",
                where=name,
                expected="result files",
                next_step="leave it out, or make a page: --format html",
            )
    return [(name, item) for name, item in shown if isinstance(item, Result)]


def to_markdown(shown: Shown) -> str:
    """The first screen of each result as Markdown; raises InputError for anything but results."""
    results = _results(shown, "Markdown")
    return "\n\n".join(part for name, result in results for part in _markdown_parts(name, result)) + "\n"


def _markdown_parts(name: str, result: Result) -> Iterator[str]:
    escape = escape_markdown
    head = answer.headline(result)
    who = ", ".join(head.contenders)
    yield f"### Face-off: {escape(name)}"
    if result.interrupted:
        yield "**This run was stopped before its end. What follows is what had finished.**"
    elif result.left_out:
        yield f"**The time of this run was over before its end: {result.left_out} of its parts were left out.**"
    yield f"**{head.symbol} {escape(f'{who} {head.text}'.strip())}**"
    sentence = answer.training_sentence(result)
    if sentence:
        yield escape(sentence)
    groups = [group for group in speed.speed_groups(result) if group.rows]
    if groups:
        answers = [answer.answer_for(group, result.comparisons) for group in groups]
        yield "\n".join(f"- {escape(answer.answer_sentence(found))}" for found in answers)
        yield "Ratios of times with their 95 % interval over rounds and processes; verdicts hold over the whole run."
    problems = answer.problems(result)
    if problems:
        lines = []
        for problem in problems:
            where = f" ({'; '.join(problem.places[:4])})" if problem.places else ""
            step = f"; next: {problem.next_step}" if problem.next_step else ""
            what = words.OUTCOMES[problem.outcome].word
            lines.append(f"- {escape(', '.join(problem.contenders))} **{what}**{escape(where)}: "
                         f"{escape(problem.reason or 'no reason was recorded')}{escape(step)}")  # fmt: skip
        yield "**What did not end ok**\n\n" + "\n".join(lines)
    for dtype, names in answer.meaning_narrower(result).items():
        yield escape(f"Meaning checked in {dtype} only, as they offer no float64: {', '.join(names)}")
    for reason, names in answer.not_offered(result).items():
        yield escape(f"Not offered: {', '.join(names)}: {reason}")
    if groups:
        tables = "\n\n".join(_markdown_table(group) for group in groups)
        yield f"<details><summary>{text.counted(len(groups), 'workload')}</summary>\n\n{tables}\n\n</details>"
    told = text.flatten(result.machine).items()
    machine = ", ".join(f"{key.replace('_', ' ').replace('.', ' ')} {value}" for key, value in told)
    yield f"{escape(result.command)}; {escape(machine)}; {result.threads} threads; seed {result.seed}"


def _markdown_table(group: speed.SpeedGroup) -> str:
    escape = escape_markdown
    title = f"{group.workload.title}: {group.workload.sizes}; {group.workload.conditions}"
    rows = [("contender", f"time, {group.unit}", "95 % interval", "ratio", "95 % interval", "verdict"), ("---",) * 6]
    for row in group.rows:
        verdict = "baseline" if row.is_baseline else row.verdict
        cells = (row.contender, row.time, row.interval, row.ratio, row.ratio_interval, verdict)
        rows.append(tuple(escape(cell, 200) for cell in cells))  # type: ignore[arg-type]
    for left in group.left_out:
        rows.append((escape(left.contender, 200), f"not compared: {escape(left.reason, 200)}", "", "", "", ""))
    return f"{escape(title)}\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


def to_csv(shown: Shown) -> str:
    """One row a case, with what is known of it; times in seconds, sizes in bytes, an empty cell where nothing is.

    Raises:
        InputError: something else than results.
    """
    results = _results(shown, "a table of cases")
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name, result in results:
        comparisons = {(c.workload, c.contender): c for c in result.comparisons}
        starts = starts_by_case(result)
        floors = {floor.workload: floor for floor in result.noise_floors}
        checks = {
            (check.contender, _model_key(check.workload), str(check.workload.get("dtype"))): check
            for check in result.agreements
            if check.is_everyday
        }
        for case in result.cases:
            key = (case.contender, _model_key(case.workload))
            row: dict[str, Any] = {"result": name, "created": result.created, **_case_cells(case)}
            row.update(_ratio_cells(comparisons.get((row["workload"], case.contender))))
            start, floor = starts.get((case.contender, row["workload"])), floors.get(row["workload"])
            if start is not None:
                row["cold_start_s"] = start.total_s
            check = checks.get((*key, str(case.workload.get("dtype"))))
            row["noise_units"] = step_error(check, str(case.workload.get("step")))
            if floor is not None:
                row |= {"disturbed": floor.disturbed, "busy": "yes" if floor.noisy else "no"}
            writer.writerow({column: _cell(value) for column, value in row.items()})
    return out.getvalue()


def _model_key(workload: dict[str, Any]) -> str:
    return words.describe_workload(workload).model_key


def _case_cells(case: CaseResult) -> dict[str, Any]:
    workload, speed_record = words.describe_workload(case.workload), case.speed
    model, optimiser = case.workload.get("model"), case.workload.get("optimiser")
    training = isinstance(optimiser, dict) and case.workload.get("step") == "training"
    cells: dict[str, Any] = {
        "workload": workload.key,
        "model": model.get("kind") if isinstance(model, dict) else None,
        **{name: case.workload.get(name) for name in ("step", "batch_size", "dtype", "device")},
        "optimiser": optimiser.get("kind") if training and isinstance(optimiser, dict) else None,
        "contender": case.contender,
        "outcome": case.outcome,
        "reason": case.reason,
        "flops": case.flops,
        "bytes": case.bytes,
    }
    if speed_record is not None:
        cells |= {
            "time_s": speed_record.time_s,
            "low_s": speed_record.interval_s[0],
            "high_s": speed_record.interval_s[1],
            "rounds": len(speed_record.rounds_s),
            "calls_per_round": speed_record.iterations,
            "processes": len(speed_record.processes),
            **dict(zip(("latency_50_s", "latency_90_s", "latency_99_s"), speed_record.latency_s or (), strict=False)),
            "pipelined_s": speed_record.pipelined_s,
            **dict(zip(("pipelined_low_s", "pipelined_high_s"), speed_record.pipelined_interval_s or (), strict=False)),
            "pipelined_calls": speed_record.pipelined_calls,
            "last_wait": speed_record.last_wait,
            "cpu_s": speed_record.cpu_s,
            "memory_bytes": memory_bytes(case),
            "host_peak_bytes": host_peak_bytes(case),
            **{STAGE_COLUMNS[name]: seconds for name, seconds in speed_record.stages_s.items()},
        }
    return cells


def _ratio_cells(comparison: Comparison | None) -> dict[str, Any]:
    if comparison is None:
        return {}
    low, high = comparison.interval
    return {
        "baseline": comparison.baseline,
        "ratio": comparison.ratio,
        "ratio_low": low,
        "ratio_high": high,
        "verdict": comparison.verdict,
    }


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and text.finite(value) is None):
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    return text.printable(str(value)).replace("\n", " ")


def write_charts(shown: Shown, folder: Path, picture: Picture) -> list[Path]:
    """Draws every chart of the page, in the light colours, into files of their own; returns their paths.

    Raises:
        InputError: the folder cannot be made or written.
    """
    paths: list[Path] = []
    for name, spec in _every_chart(shown):
        stem = re.sub(r"[^\w.=-]+", "-", name).strip("-")
        paths.append(folder / f"{stem[:LONGEST_NAME]}.{picture}")
        write_bytes(paths[-1], _draw(spec, picture))
    return paths


def _every_chart(shown: Shown) -> Iterator[tuple[str, charts.Spec]]:
    results = [(name, item) for name, item in shown if isinstance(item, Result)]
    for number, (_, item) in enumerate(shown, 1):
        prefix = f"{number}-" if len(shown) > 1 else ""
        named = _named_charts(item) if isinstance(item, Result) else _defaults_chart(item)
        yield from ((f"{prefix}{name}", spec) for name, spec in named)
    identities = words.identify(result for _, result in results)
    for number, found in enumerate(history.histories(results), 1):
        for timeline in found.timelines:
            yield f"history-{number}-{timeline.workload.key}", history.history_chart(timeline, found, identities)


def _defaults_chart(atlas: Atlas) -> Iterator[tuple[str, charts.Spec]]:
    drawn = defaults.effects_chart(atlas)
    if drawn is not None:
        yield "defaults", drawn


def _named_charts(result: Result) -> Iterator[tuple[str, charts.Spec]]:
    identities = words.identify([result])
    groups, cold_groups = speed.speed_groups(result), sections.cold_groups(result)
    starts = cost_charts.starts_by_model(cold_groups)
    for group in groups:
        if group.rows:
            yield f"speed-{group.workload.key}", charts.speed_chart(group, identities)
        for kind, draw in (
            ("rounds", cost_charts.rounds_chart),
            ("memory", cost_charts.memory_chart),
            ("ceiling", cost_charts.ceiling_chart),
        ):
            drawn = draw(group, identities)
            if drawn is not None:
                yield f"{kind}-{group.workload.key}", drawn
        totals = cost_charts.totals(group, starts)
        if totals:
            yield f"total-{group.workload.key}", cost_charts.total_chart(totals, identities)
    for sweep in sweeps.sweeps(groups):
        over_batch = cost_charts.batch_chart(sweep, identities)
        if over_batch is not None:
            yield f"batch-{sweep.workload.key}", over_batch
    for cold in cold_groups:
        if cold.rows:
            yield f"cold-start-{cold.workload.key}", charts.cold_chart(cold, identities)
    for task in sections.training_tasks(result):
        for kind, drawn in (
            ("loss", charts.loss_chart(task, identities)),
            ("distance", charts.distance_chart(task, identities)),
        ):
            if drawn is not None:
                yield f"training-{kind}-{task.name}-{task.workload.key}", drawn
    for number, curves in enumerate(norms.norm_groups(result), 1):
        drawn = charts.norm_chart(curves, identities)
        if drawn is not None:
            yield f"gradient-norms-{number}-{curves.workload.key}", drawn


def _draw(spec: charts.Spec, picture: Picture) -> bytes:
    sized = {**spec, "width": PICTURE_WIDTH}
    plain = json.loads(_with_colours(json.dumps({"chart": sized, "config": charts.CONFIG})))
    if picture == "svg":
        drawing: str = vl_convert.vegalite_to_svg(plain["chart"], config=plain["config"])
        return drawing.encode()
    image: bytes = vl_convert.vegalite_to_png(plain["chart"], config=plain["config"], scale=2)
    return image


def _with_colours(text_with_variables: str) -> str:
    """The light colours of the page's style written out."""
    light = (TEMPLATES / "page.css").read_text(encoding="utf-8").split("@media")[0]
    colours = dict(re.findall(r"(--[\w-]+): (#\w+)", light))
    return re.sub(r"var\((--[\w-]+)\)", lambda found: colours[found[1]], text_with_variables)
