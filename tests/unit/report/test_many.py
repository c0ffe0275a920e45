"""Results of very many workloads, sweeps over batch sizes, rounds, and total times: what the page shows of them."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from faceoff.core.spec import DenseSpec, LstmSpec, Workload
from faceoff.report import render
from faceoff.report.overview import MOST_RECORDS, MOST_WORKLOADS
from faceoff.results.records import NoiseFloor, Result
from tests.unit.report import pages as report_pages
from tests.unit.report.html_tree import Element
from tests.unit.report.pages import chart_rows, charts_of, page_of
from tests.unit.results import samples

NAMES = ("pytorch:eager", "jax:jit")


def many(count: int, names: tuple[str, ...] = NAMES) -> Result:
    """That many workloads of dense models, each with its own width; the last contender crashed on the first."""
    rng = random.Random(2)
    result = samples.empty(contenders=[samples.contender(name) for name in names])
    for number in range(count):
        model = DenseSpec((64 + number, 10))
        at = samples.workload(model)
        result.cases += [samples.case(name, at, 1e-3 * (1 + place), rng) for place, name in enumerate(names)]
        result.comparisons += [
            samples.comparison(name, names[0], at, 1.0 + place) for place, name in enumerate(names) if place
        ]
        for name in names:
            checks = [samples.agreement(name, model, check, rng, 1) for check in ("meaning", "precision")]
            result.agreements += checks
    last = result.cases[len(names) - 1]
    last.outcome, last.reason, last.speed = "crashed", "killed by SIGKILL", None
    return result


def swept() -> Result:
    """An LSTM at five batch sizes; one contender is out of memory at the fourth, and not run at the last."""
    rng = random.Random(4)
    result = samples.empty(contenders=[samples.contender(name) for name in NAMES])
    for batch in (16, 1, 4, 64, 256):
        at = Workload(LstmSpec(64, 256, 10, 50), batch)
        for place, name in enumerate(NAMES):
            record = samples.case(name, at, 1e-3 * batch * (1 + place), rng)
            if (batch, name) == (64, "jax:jit"):
                record.outcome, record.reason, record.speed = (
                    "out_of_memory",
                    "memory of the card: no room for 3 GiB",
                    None,
                )
            if (batch, name) == (256, "jax:jit"):
                record.outcome, record.reason, record.speed = "out_of_memory", "not run", None
            result.cases.append(record)
    return result


@pytest.fixture(scope="module", name="many_page")
def _many_page() -> Element:
    return page_of(many(MOST_RECORDS // 2))


@pytest.fixture(scope="module", name="swept_page")
def _swept_page() -> Element:
    return page_of(swept())


class TestManyWorkloads:
    def test_speed_is_one_table_with_a_row_for_each_workload(self, many_page: Element) -> None:
        rows = many_page.by_id("r1-speed").all("table", "overview")[0].rows()
        assert rows[0] == ["Workload", *NAMES]
        assert len(rows) == 1 + MOST_RECORDS // 2
        assert rows[1][1:] == ["1.00 ms", "! crashed"]
        assert rows[2][1:] == ["1.00 ms", "2.00 ms (2.00×)"]
        assert rows[2][0].startswith("Dense inference 65 → 10")

    def test_no_chart_is_drawn_for_each_and_every_link_has_a_target(self, many_page: Element) -> None:
        assert not many_page.all("div", "chart")
        ids = {element.attributes.get("id") for element in many_page.walk()}
        links = [a.attributes["href"] for a in many_page.all("a") if a.attributes["href"].startswith("#")]
        assert all(link[1:] in ids for link in links)

    def test_the_first_screen_shows_some_answers_and_how_many_more_there_are(self, many_page: Element) -> None:
        assert len(many_page.all("ul", "answers")[0].all("li")) >= MOST_WORKLOADS
        assert f"And {MOST_RECORDS // 2 - MOST_WORKLOADS} workloads more" in many_page.by_id("r1-answer").text

    def test_how_many_were_timed_on_a_busy_machine_stands_above_the_table(self) -> None:
        result = many(MOST_WORKLOADS + 6)
        for number, name in enumerate(dict.fromkeys(case.parsed_workload().name for case in result.cases)):
            floor = NoiseFloor(workload=name, resolvable=1.1, twins={}, disturbed=0.6, noisy=number < 4)
            result.noise_floors.append(floor)
        assert "This machine was busy while 4 of 30 workloads were timed." in page_of(result).by_id("r1-speed").text

    def test_agreement_is_one_table_and_only_what_failed_has_details(self) -> None:
        result = many(MOST_RECORDS // 4 + 1)
        bad = samples.disagreeing("jax:jit", DenseSpec((70, 10)))
        result.agreements.append(bad)
        page = page_of(result)
        rows = page.by_id("r1-agreement").all("table", "overview")[0].rows()
        assert len(rows) == 1 + MOST_RECORDS // 4 + 1
        cell = next(row[2] for row in rows if " 70 → 10" in row[0])
        assert cell.startswith("✗ disagrees: not finite / ")
        assert len(page.by_id("r1-agreement").all("details", "check")) == 1

    def test_ten_thousand_cases_make_a_page_of_less_than_ten_megabytes(self) -> None:
        text = render([("many", many(10_000 // len(samples.CONTENDERS) + 1, samples.CONTENDERS))])
        assert len(text.encode()) < 10e6


class TestSweep:
    def test_time_per_example_stands_over_batch_size_in_order(self, swept_page: Element) -> None:
        rows: list[dict[str, Any]] = chart_rows(charts_of(swept_page)["r1-b0"])
        ours = [(row["batch"], row["time"]) for row in rows if row["contender"] == "pytorch:eager"]
        assert [batch for batch, _ in ours] == [1, 4, 16, 64, 256]
        assert [time for _, time in ours] == pytest.approx([1e-3] * 5, rel=1e-4)

    def test_a_contender_that_could_not_run_leaves_a_gap_that_is_named(self, swept_page: Element) -> None:
        rows = chart_rows(charts_of(swept_page)["r1-b0"])
        assert [row["time"] for row in rows if (row["contender"], row["batch"]) == ("jax:jit", 64)] == [None]
        (article,) = [a for a in swept_page.all("article") if "over batch size" in a.all("h4")[0].text]
        table = article.all("table")[0].rows()
        assert table[0] == ["Contender", "1", "4", "16", "64", "256"]
        assert table[2][4:] == ["! out of memory of the card", "! out of memory"]

    def test_two_sizes_are_no_sweep(self) -> None:
        result = swept()
        result.cases = [case for case in result.cases if case.workload["batch_size"] < 16]
        assert "r1-b0" not in charts_of(page_of(result))


def test_every_round_is_drawn_with_its_process_and_whether_it_was_disturbed() -> None:
    result = samples.main_job()
    rows = chart_rows(charts_of(report_pages.main_page())["r1-r0"])
    assert len(rows) == sum(len(c.speed.rounds_s) for c in result.cases if c.workload == result.cases[0].workload)
    own = [row for row in rows if row["contender"] == "pytorch:eager"]
    assert [row["process"] for row in own] == [1] * 20 + [2] * 20
    assert [place for place, row in enumerate(own) if row["disturbed"] == "disturbed"] == [3]


def test_total_time_is_start_up_and_calls() -> None:
    result = samples.main_job()
    rows = chart_rows(charts_of(report_pages.main_page())["r1-t0"])
    assert {row["contender"] for row in rows} == set(samples.CONTENDERS)
    start = next(s for s in result.cold_starts if s.contender == "jax:jit")
    time_s = next(c.speed.time_s for c in result.cases if c.contender == "jax:jit")
    own = {row["calls"]: row["total"] for row in rows if row["contender"] == "jax:jit"}
    assert own[1] == pytest.approx(start.total_s, rel=1e-4)
    assert own[1000] == pytest.approx(start.total_s + 999 * time_s, rel=1e-4)
    assert max(own) == 1_000_000
    assert not any(math.isnan(row["total"]) for row in rows)
