"""Puts a page together from templates, style, script and chart specifications, and writes it whole or not at all."""

from __future__ import annotations

import base64
import functools
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from faceoff.core.contract import STAGES
from faceoff.defaults import Atlas
from faceoff.defaults.table import effect_words
from faceoff.differences import text as diff_text
from faceoff.machine.description import card_name
from faceoff.report import (
    answer,
    baselines,
    charts,
    choose,
    cost_charts,
    defaults,
    devices,
    history,
    norms,
    overview,
    sections,
    source_code,
    speed,
    sweeps,
    text,
    words,
)
from faceoff.report.sight import smallest_faults
from faceoff.results.file import to_plain_json, write_text
from faceoff.results.records import Result

TEMPLATES = Path(__file__).parent / "templates"
# More training tasks than the main job has are folded, below a table of all.
MOST_OPEN_TASKS = 7
# On the first screen; the cases list all.
MOST_PROBLEMS = 20
MOST_PACKED_FIGURES = 100_000
COST_CHARTS = (
    ("m", "Memory", cost_charts.memory_chart),
    ("p", "Operations per second as a share of the machine's best", cost_charts.ceiling_chart),
)


Shown = Sequence[tuple[str, Result | Atlas]]


@dataclass
class Charts:
    """The charts of a page, by the id of the element that shows them."""

    specs: dict[str, charts.Spec] = field(default_factory=dict)

    def add(self, chart_id: str, spec: charts.Spec | None) -> str:
        """Keeps a chart and returns its id; an empty string when there is nothing to draw."""
        if spec is None:
            return ""
        self.specs[chart_id] = spec
        return chart_id


@dataclass(frozen=True)
class GoingOn:
    """A run that is not at its end: parts that are done, of how many, and after how long its page loads itself anew."""

    done: int
    parts: int
    reload_s: int


def render(shown: Shown, going_on: GoingOn | None = None) -> str:
    """The page of one or more results and atlases.

    Args:
        shown: the name to show, and the result or atlas. Whatever stands in one is shown as text and never run.
        going_on: where it is one result, of a run that is not at its end.

    Returns:
        The whole HTML document, which requests nothing from anywhere.
    """
    results = [(name, result) for name, result in shown if isinstance(result, Result)]
    atlases = [(name, atlas) for name, atlas in shown if isinstance(atlas, Atlas)]
    identities = words.identify(result for _, result in results)
    drawn = Charts()
    views = [_view(f"r{number}", name, result, identities, drawn) for number, (name, result) in enumerate(results, 1)]
    crossings = devices.crossings([result for _, result in results])
    frameworks = devices.identities_of_frameworks(identities)
    environment = _environment()
    return environment.get_template("page.html.j2").render(
        results=views,
        going_on=going_on,
        written=text.moment(datetime.now(UTC).isoformat()) if going_on else "",
        histories=[
            _history_view(f"h{number}", found, identities, drawn)
            for number, found in enumerate(history.histories(results), 1)
        ],
        crossings=[
            _crossing_view(f"x{number}", crossing, identities, frameworks, drawn)
            for number, crossing in enumerate(crossings[: overview.MOST_WORKLOADS], 1)
        ],
        more_crossings=crossings[overview.MOST_WORKLOADS :],
        frameworks=frameworks,
        atlases=[_atlas_view(f"d{number}", *found, drawn) for number, found in enumerate(atlases, 1)],
        identities=identities,
        shapes=words.SHAPES,
        embedded={"config": charts.CONFIG, "charts": drawn.specs},
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=_script("page.js", "baselines.js"),
        choose_script=_script("choose.js", "figures.js", "choose_panel.js"),
        vega=Markup(_vega()) if drawn.specs else "",
    )


def write_page(shown: Shown, path: Path, going_on: GoingOn | None = None) -> None:
    """Writes the page of what is `shown` to `path`, whole or not at all; makes the folder if need be.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full; what stood at `path` is still there.
    """
    write_text(path, render(shown, going_on))


def _view(
    prefix: str, name: str, result: Result, identities: dict[str, words.Identity], drawn: Charts
) -> dict[str, Any]:
    """What the templates need of one result."""
    groups = speed.speed_groups(result)
    many = len(groups) > overview.MOST_WORKLOADS
    shown = groups[: overview.MOST_WORKLOADS]
    cold = sections.cold_groups(result)[: overview.MOST_WORKLOADS]
    starts = cost_charts.starts_by_model(cold)
    # Of situations that agree the matrix shows one in a cell.
    many_checks = sum(check.is_everyday or check.outcome != "ok" for check in result.agreements) > overview.MOST_RECORDS
    details = sections.agreement_details(result, prefix)
    tasks = sections.training_tasks(result)
    norm_groups = norms.norm_groups(result)
    failed, passed, lacking = sections.by_outcome(sections.case_rows(result))
    return {
        "prefix": prefix,
        "name": name,
        "result": result,
        "machine": text.flatten(result.machine),
        "card": card_name(result.machine),
        "headline": answer.headline(result),
        "training_sentence": answer.training_sentence(result),
        "choose": choose.choose(result, groups, identities),
        "answers": [answer.answer_for(group, result.comparisons) for group in shown],
        "more_answers": len(groups) - len(shown),
        "problems": answer.problems(result),
        "concerned": answer.concerned(result),
        "not_offered": answer.not_offered(result),
        "below_float32": answer.below_float32(result),
        "meaning_narrower": answer.meaning_narrower(result),
        "outcome_counts": answer.outcome_counts(result),
        "matrix": None if many_checks else sections.agreement_matrix(result, prefix),
        "limits": sections.limits(result),
        "smallest_faults": smallest_faults(),
        "agreement_overview": overview.agreement_overview(result) if many_checks else [],
        "details": sections.only_failing(details, overview.MOST_RECORDS) if many_checks else details,
        "speed_overview": overview.speed_overview(result, groups) if many else [],
        "busy": sum(group.floor is not None and group.floor.noisy for group in groups),
        "sweeps": [
            (sweep, drawn.add(f"{prefix}-b{i}", cost_charts.batch_chart(sweep, identities)))
            for i, sweep in enumerate(sweeps.sweeps(groups)[: overview.MOST_WORKLOADS])
            if sweep.per_example_s
        ],
        "speed": [
            (
                group,
                drawn.add(f"{prefix}-s{i}", charts.speed_chart(group, identities) if group.rows else None),
                charts.speed_label(group, identities),
                drawn.add(f"{prefix}-r{i}", cost_charts.rounds_chart(group, identities)),
                [
                    (chart_id, title)
                    for kind, title, draw in COST_CHARTS
                    if (chart_id := drawn.add(f"{prefix}-{kind}{i}", draw(group, identities)))
                ],
            )
            for i, group in enumerate([] if many else groups)
        ],
        "baselines": [] if many else baselines.ratios_by_baseline(groups),
        "ceiling": speed.ceiling_text(result),
        "break_evens": result.break_evens[: overview.MOST_RECORDS],
        "totals": [
            (group, drawn.add(f"{prefix}-t{i}", cost_charts.total_chart(totals, identities)), table)
            for i, group in enumerate(shown)
            if (totals := cost_charts.totals(group, starts)) and (table := cost_charts.totals_table(totals))
        ],
        "cold": [
            (
                group,
                drawn.add(f"{prefix}-c{i}", charts.cold_chart(group, identities) if group.rows else None),
                charts.cold_label(group, identities),
            )
            for i, group in enumerate(cold)
        ],
        "tasks": [
            (
                task,
                drawn.add(f"{prefix}-l{i}", charts.loss_chart(task, identities)),
                drawn.add(f"{prefix}-n{i}", charts.distance_chart(task, identities)),
                sections.table_steps(task),
                charts.distance_from_reference(task),
            )
            for i, task in enumerate(tasks)
        ],
        "norms": [
            (
                group,
                drawn.add(f"{prefix}-g{i}", charts.norm_chart(group, identities)),
                charts.norm_label(group),
            )
            for i, group in enumerate(norm_groups)
        ],
        "lesson": norms.lesson(norm_groups),
        "contenders": words.contender_names(result),
        "source": source_code.source_code(result),
        "ledger": sections.ledger(result),
        "packed": _packed(result),
        "failed": failed,
        "lacking": lacking,
        "passed": passed,
    }


def _crossing_view(
    prefix: str,
    crossing: devices.Crossing,
    identities: dict[str, words.Identity],
    frameworks: dict[str, words.Identity],
    drawn: Charts,
) -> dict[str, Any]:
    """What the template needs of a model on two devices."""
    charts_of = {"points": (crossing.points, identities), "fastest": (crossing.fastest, frameworks)}
    return {
        "crossing": crossing,
        **{
            kind: drawn.add(f"{prefix}-{kind}", devices.crossing_chart(curves, crossing.measure, known))
            for kind, (curves, known) in charts_of.items()
        },
    }


def _history_view(
    prefix: str, found: history.History, identities: dict[str, words.Identity], drawn: Charts
) -> dict[str, Any]:
    """What the template needs of one machine's runs."""
    timelines = [
        (timeline, drawn.add(f"{prefix}-{i}", history.history_chart(timeline, found, identities)))
        for i, timeline in enumerate(found.timelines)
    ]
    return {"prefix": prefix, "history": found, "charts": timelines}


def _atlas_view(prefix: str, name: str, atlas: Atlas, drawn: Charts) -> dict[str, Any]:
    """What the template needs of an atlas of defaults."""
    chart = drawn.add(f"{prefix}-effects", defaults.effects_chart(atlas))
    differing = sum(not row.agree for row in atlas.rows)
    return {"prefix": prefix, "name": name, "atlas": atlas, "chart": chart, "differing": differing}


def _script(*names: str) -> Markup:
    return Markup("\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))


def _packed(result: Result) -> str:
    """The result as gzip in base64, for the page to give back; empty where it would outgrow the page."""
    figures = sum(len(case.speed.rounds_s) for case in result.cases if case.speed)
    figures += sum(len(check.quantities) + len(check.path) for check in result.agreements)
    if figures > MOST_PACKED_FIGURES:
        return ""
    # Without a time, so that one result always makes the same page.
    return base64.b64encode(gzip.compress(to_plain_json(result).encode(), mtime=0)).decode()


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that is safe to stand inside a script element."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False, "separators": (",", ":")}
    environment.filters.update(
        clip=text.clip,
        duration=text.duration,
        significant=text.significant,
        percent=text.percent,
        moment=text.moment,
        counted=text.counted,
        fact_label=text.fact_label,
    )
    environment.globals.update(
        outcomes=words.OUTCOMES,
        outcome_word=words.outcome_word,
        phases=charts.PHASES,
        quantity_rows=sections.quantity_rows,
        describe=words.describe_workload,
        covers=diff_text.COVERS,
        effect_words=effect_words,
        diff_headline=diff_text.headline,
        diff_lists=diff_text.lists_of,
        diff_told=diff_text.told_of,
        diff_machine=diff_text.machine_line,
        interval_text=lambda comparison: " ".join(text.with_interval(comparison.ratio, *comparison.interval)),
        ratio_text=lambda ratio: " ".join(text.with_interval(*ratio)),
        not_finite_steps=sections.not_finite_steps,
        setting_text=words.setting_text,
        norms=norms,
        stage_names=STAGES,
        most_open_tasks=MOST_OPEN_TASKS,
        total_calls=cost_charts.TABLE_CALLS,
        most_records=overview.MOST_RECORDS,
        most_problems=MOST_PROBLEMS,
        curve_colour=charts.curve_colour,
    )
    return environment


def _shown(value: object) -> object:
    """Applied by Jinja to every value before it is escaped, so that no template can forget it."""
    return text.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
