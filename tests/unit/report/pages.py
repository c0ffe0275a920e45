"""Parsed pages of the sample results, and what tests of the page look up in them."""

from __future__ import annotations

import functools
import json
from typing import Any

import altair as alt

from faceoff.report import render
from faceoff.results.records import Result
from tests.unit.report.html_tree import Element, parse
from tests.unit.results import hostile_samples, samples


def page_of(result: Result, name: str = "a result") -> Element:
    """The parsed page of one result."""
    return parse(render([(name, result)]))


@functools.cache
def main_page() -> Element:
    """The page of the main job; tests only read it."""
    return page_of(samples.main_job(), "main job")


@functools.cache
def troubled_page() -> Element:
    """The page of a run in which much went wrong; tests only read it."""
    return page_of(samples.troubled(), "troubled")


@functools.cache
def hostile_page() -> Element:
    """The page of a result that tries to run something; tests only read it."""
    return page_of(hostile_samples.hostile(), hostile_samples.HOSTILE[0])


def charts_of(page: Element) -> dict[str, Any]:
    """The chart specifications embedded in a page, each of them valid."""
    charts = dict(json.loads(page.by_id("charts").raw_text)["charts"])
    for spec in charts.values():
        alt.Chart.from_dict(spec)
    return charts


def chart_rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All data rows of a chart."""
    return [row for rows in spec["datasets"].values() for row in rows]


def card(page: Element, title: str) -> Element:
    """The answer for the workload with this title."""
    (found,) = [
        item for item in page.all("ul", "answers")[0].all("li") if [h.text for h in item.all("a")][:1] == [title]
    ]
    return found
