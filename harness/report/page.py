"""Puts a page together from templates, style, script and chart specifications, and writes it whole or not at all."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from harness.report import answer, charts, choose, norms, sections, speed, text, words
from harness.result_file import write_text
from harness.results import Result

TEMPLATES = Path(__file__).parent / "templates"
# More training tasks than the main job has are folded, below a table of all.
MOST_OPEN_TASKS = 7


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


def render(results: list[tuple[str, Result]]) -> str:
    """The page of one or more results.

    Args:
        results: the name to show, and the result. Whatever stands in a result is shown as text and never run.

    Returns:
        The whole HTML document, which requests nothing from anywhere.
    """
    identities = words.identify(result for _, result in results)
    drawn = Charts()
    views = [_view(f"r{number}", name, result, identities, drawn) for number, (name, result) in enumerate(results, 1)]
    environment = _environment()
    return environment.get_template("page.html.j2").render(
        results=views,
        identities=identities,
        shapes=words.SHAPES,
        embedded={"config": charts.CONFIG, "charts": drawn.specs},
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=_script("page.js"),
        choose_script=_script("choose.js", "choose_panel.js"),
        vega=Markup(_vega()) if drawn.specs else "",
    )


def write_page(results: list[tuple[str, Result]], path: Path) -> None:
    """Writes the page of `results` to `path`, whole or not at all; makes the folder if need be.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full; what stood at `path` is still there.
    """
    write_text(path, render(results))


def _view(
    prefix: str, name: str, result: Result, identities: dict[str, words.Identity], drawn: Charts
) -> dict[str, Any]:
    """What the templates need of one result."""
    groups = speed.speed_groups(result)
    cold = sections.cold_groups(result)
    tasks = sections.training_tasks(result)
    failed, passed = sections.by_outcome(sections.case_rows(result))
    return {
        "prefix": prefix,
        "name": name,
        "result": result,
        "machine": text.flatten(result.machine),
        "headline": answer.headline(result),
        "training_sentence": answer.training_sentence(result),
        "choose": choose.choose(result, identities),
        "answers": [answer.answer_for(group, result.comparisons) for group in groups],
        "problems": answer.problems(result),
        "concerned": answer.concerned(result),
        "outcome_counts": answer.outcome_counts(result),
        "matrix": sections.agreement_matrix(result, prefix),
        "details": sections.agreement_details(result, prefix),
        "speed": [
            (
                group,
                drawn.add(f"{prefix}-s{i}", charts.speed_chart(group, identities) if group.rows else None),
                charts.speed_label(group, identities),
            )
            for i, group in enumerate(groups)
        ],
        "ceiling": speed.ceiling_text(result),
        "break_evens": result.break_evens,
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
            for i, group in enumerate(norms.norm_groups(result))
        ],
        "contenders": words.contender_names(result),
        "ledger": sections.ledger(result),
        "failed": failed,
        "passed": passed,
    }


def _script(*names: str) -> Markup:
    return Markup("\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that is safe to stand inside a script element."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


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
    )
    environment.globals.update(
        outcomes=words.OUTCOMES,
        phases=charts.PHASES,
        quantity_rows=sections.quantity_rows,
        describe=words.describe_workload,
        not_finite_steps=sections.not_finite_steps,
        norms=norms,
        most_open_tasks=MOST_OPEN_TASKS,
        radius_colour=charts.radius_colour,
    )
    return environment


def _shown(value: object) -> object:
    """Applied by Jinja to every value before it is escaped, so that no template can forget it."""
    return text.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
