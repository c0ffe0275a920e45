"""The parts of the page: what each says of a result, and that it is true."""

from __future__ import annotations

import math
import re

import pytest

from faceoff.core.spec import OPTIMISERS
from faceoff.results.costs import Ceiling
from faceoff.results.records import NoiseFloor
from tests.unit.report import pages as report_pages
from tests.unit.report.html_tree import Element
from tests.unit.report.pages import card, chart_rows, charts_of, page_of
from tests.unit.results import samples


@pytest.fixture(name="main_page")
def _main_page() -> Element:
    return report_pages.main_page()


@pytest.fixture(name="troubled_page")
def _troubled_page() -> Element:
    return report_pages.troubled_page()


class TestAnswer:
    def test_the_fastest_is_named_with_ratio_and_interval_of_the_others(self, main_page: Element) -> None:
        answer = card(main_page, "LSTM training")
        assert answer.all("p", "claim")[0].text == "pytorch:eager is fastest: 34.8 ms per call."
        items = [item.text for item in answer.all("ul", "relations")[0].all("li")]
        assert items[0] == "jax:jit 1.90 [1.84, 1.96]"
        assert len(items) == len(samples.CONTENDERS) - 1

    def test_the_lowest_time_is_not_called_fastest_while_another_is_unresolved(self, main_page: Element) -> None:
        answer = card(main_page, "Dense training")
        assert answer.all("p", "claim")[0].text == "pytorch:compile has the lowest time: 8.40 ms per call."
        labels = [label.text for label in answer.all("p", "label")]
        assert labels == ["Not resolved against it", "Slower, times as long"]
        unresolved = [item.all("bdi")[0].text for item in answer.all("ul", "relations")[0].all("li")]
        assert unresolved == ["tensorflow:xla", "jax:jit"]

    @pytest.mark.parametrize(
        ("third_low", "claim"), [(0.9, "is fastest"), (0.75, "has the lowest time")], ids=["apart", "overlapping"]
    )
    def test_a_lead_that_is_not_the_baseline_is_fastest_only_if_its_interval_lies_below(
        self, third_low: float, claim: str
    ) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit", "tensorflow:xla"), samples.MODELS[:1])
        at = samples.workload(samples.MODELS[0])
        times_s = {"pytorch:eager": 10e-3, "jax:jit": 7.4e-3, "tensorflow:xla": 9.5e-3}
        result.cases = [case for case in result.cases if case.workload["step"] == "inference"]
        for record in result.cases:
            assert record.speed is not None
            record.speed.time_s = times_s[record.contender]
        result.comparisons = [
            samples.comparison("jax:jit", "pytorch:eager", at, 0.74),
            samples.comparison("tensorflow:xla", "pytorch:eager", at, 0.95).model_copy(
                update={"interval": (third_low, 1.0)}
            ),
        ]
        answer = card(page_of(result), "Dense inference")
        assert answer.all("p", "claim")[0].text == f"jax:jit {claim}: 7.40 ms per call."
        assert "It takes 0.740 [0.718, 0.762] times as long as pytorch:eager" in answer.text
        assert "tensorflow:xla 0.950" in answer.all("ul", "relations")[0].text

    def test_a_single_contender_is_not_called_fastest(self) -> None:
        page = page_of(samples.main_job(("jax:jit",)))
        for claim in page.all("p", "claim"):
            assert claim.text.startswith("jax:jit is the only contender here: ")
        assert page.all("p", "headline")[0].text.startswith(
            "✓ The only contender agrees with the reference on all 4 models"
        )
        assert not page.all("ul", "relations")

    def test_without_an_agreeing_contender_nothing_is_compared(self) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[3:])
        result.agreements = [samples.disagreeing(name, samples.MODELS[3]) for name in ("pytorch:eager", "jax:jit")]
        for record in result.cases:
            record.outcome = "disagrees"
        page = page_of(result)
        assert [claim.text for claim in page.all("p", "claim")] == ["No contender can be compared here."] * 2
        assert (
            page.all("p", "headline")[0].text == "✗ pytorch:eager, jax:jit disagree with the reference on 1 of 1 model."
        )
        assert not [name for name in charts_of(page) if name.startswith("r1-s")]
        assert "is fastest" not in page.text

    def test_agreement_of_all_is_said_with_its_checks(self, main_page: Element) -> None:
        assert main_page.all("p", "headline")[0].text == (
            "✓ All 7 contenders agree with the reference on all 4 models, in meaning (float64) and precision (float32)."
        )
        assert not main_page.all("ul", "problems")

    def test_a_contender_that_was_not_checked_is_not_counted_as_agreeing(self) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:1])
        result.contenders.append(samples.missing("tensorflow:graph"))
        headline = page_of(result).all("p", "headline")[0]
        assert headline.text.startswith("! The 2 contenders checked agree")
        assert "level-warn" in headline.attributes["class"]

    def test_checks_that_did_not_run_are_not_counted_as_agreeing(self) -> None:
        result = samples.main_job(("pytorch:eager",), samples.MODELS[:1])
        result.agreements[0].outcome, result.agreements[0].quantities = "timeout", []
        headline = page_of(result).all("p", "headline")[0].text
        assert headline == "! Nothing disagrees, but 1 of 2 agreement checks did not run to the end."
        result.agreements[1].outcome = "crashed"
        assert "nothing is known to agree" in page_of(result).all("p", "headline")[0].text

    def test_what_went_wrong_is_listed_once_with_reason_and_next_step(self, troubled_page: Element) -> None:
        items = [item.text for item in troubled_page.all("ul", "problems")[0].all("li")]
        gone = [item for item in items if "missing" in item]
        assert len(gone) == 1
        assert "tensorflow:eager tensorflow:graph tensorflow:xla tensorflow:graph-onednn" in gone[0]
        assert "No module named 'tensorflow' Next: pip install '.[tensorflow]'" in gone[0]
        assert any(
            item.startswith("pytorch:compile ! timeout RNN training, speed no answer within 120 s") for item in items
        )
        assert any(item.startswith("pytorch:compile ! crashed LSTM inference, speed") for item in items)
        assert any("Next: faceoff agree --models lstm --contenders jax:jit --seed 7" in item for item in items)

    def test_an_interrupted_run_says_so(self, main_page: Element, troubled_page: Element) -> None:
        assert "stopped before its end" in troubled_page.all("p", "banner")[0].text
        assert not main_page.all("p", "banner")

    def test_what_was_asked_stands_at_the_top(self, main_page: Element) -> None:
        assert main_page.all("div", "result-head")[0].text == (
            "main job 2025-03-04 10:20:30+00:00 AMD EPYC 7B13 2 threads seed 7 2 cores took 4 min 12 s "
            "faceoff compare --seed 7"
        )
        facts = dict(
            zip([t.text for t in main_page.all("dt")], [d.text for d in main_page.all("dd")], strict=True)
        )  # fmt: skip
        assert facts["memory"] == "8.0 GiB"
        assert facts["Command"] == "faceoff compare --seed 7"


class TestAgreement:
    def test_every_cell_says_its_outcome_in_words(self, main_page: Element) -> None:
        rows = main_page.all("table", "matrix")[0].rows()
        assert rows[1] == ["meaning, float64", "precision, float32"] * 4
        assert [row[0] for row in rows[2:]] == list(samples.CONTENDERS)
        for row in rows[2:]:
            assert all(re.fullmatch(r"✓ agrees ?[\d.e-]+", cell) for cell in row[1:]), row

    def test_a_disagreement_and_an_absent_check_are_shown_as_such(self, troubled_page: Element) -> None:
        rows = {row[0]: row[1:] for row in troubled_page.all("table", "matrix")[0].rows()[2:]}
        assert rows["jax:jit"][6].startswith("✗ disagrees")
        assert rows["jax:jit"][7].startswith("✓ agrees")
        assert rows["tensorflow:xla"] == ["not checked"] * 8

    def test_a_cell_leads_to_its_quantities(self, troubled_page: Element) -> None:
        (link,) = [a for a in troubled_page.all("table", "matrix")[0].all("a") if "disagrees" in a.text]
        details = troubled_page.by_id(link.attributes["href"].removeprefix("#"))
        rows = details.all("table", "quantities")[0].rows()
        assert rows[1] == [
            "gradient of 'layer.0.weight_hh'", "✗ disagrees", "0.31", "4.1e+07", "8", "[3, 17]", "0.1234568",
            "0.1834691",
        ]  # fmt: skip
        assert rows[2][1:4] == ["✗ not finite", "not finite", "not finite"]
        assert rows[2][6] == "not finite"
        assert rows[3][1:4] == ["✗ missing", "missing", "missing"]
        assert rows[4][1] == "✓"
        assert len(rows) == 1 + 15 + 3
        assert "First difference: layer.0, gate f (training)" in details.text
        assert "Again: faceoff agree --models lstm --contenders jax:jit --seed 7" in details.text
        assert "worst at [3, 17]: got 0.1234568" in details.all("pre", "message")[0].text

    def test_a_disagreement_is_unfolded_and_agreement_folded(self, troubled_page: Element) -> None:
        checks = troubled_page.all("details", "check")
        assert ["open" in check.attributes for check in checks] == [
            "disagrees" in c.all("summary")[0].text for c in checks
        ]

    def test_noise_units_that_are_not_finite_are_said(self) -> None:
        result = samples.main_job(("jax:jit",), samples.MODELS[:1])
        precision = result.agreements[1]
        precision.outcome = "disagrees"
        precision.quantities[0].noise_units, precision.quantities[0].agrees = None, False
        page = page_of(result)
        assert page.all("table", "matrix")[0].rows()[2][2] == "✗ disagrees not finite"
        assert page.by_id("r1-d1").all("table", "quantities")[0].rows()[1][3] == "not finite"


class TestSpeed:
    def test_the_table_holds_time_interval_ratio_and_verdict(self, main_page: Element) -> None:
        rows = main_page.by_id("r1-speed-7").rows()
        assert rows[0] == ["Contender", "Time, ms", "95 % interval", "Ratio", "Verdict", "Rounds × calls"]
        assert rows[1] == ["pytorch:eager", "34.8", "[34.3, 35.4]", "1", "baseline", "40 × 4"]
        assert rows[2] == ["jax:jit", "66.1", "[65.1, 67.2]", "1.90 [1.84, 1.96]", "slower", "40 × 4"]

    def test_the_chart_holds_the_same_figures_as_the_table(self, main_page: Element) -> None:
        rows = chart_rows(charts_of(main_page)["r1-s7"])
        assert [row["contender"] for row in rows] == [
            row[0] for row in main_page.by_id("r1-speed-7").all("table")[0].rows()[1:]
        ]
        assert rows[1]["time"] == pytest.approx(66.12)
        assert (rows[1]["low"], rows[1]["high"]) == pytest.approx((65.13, 67.18), abs=0.01)
        label = main_page.by_id("r1-s7").attributes["aria-label"]
        assert "pytorch:eager 34.8 [34.3, 35.4] ms; jax:jit 66.1 [65.1, 67.2] ms" in label

    def test_a_wide_range_gets_a_logarithmic_axis_that_says_so(self, main_page: Element) -> None:
        x = charts_of(main_page)["r1-s7"]["layer"][0]["encoding"]["x"]
        assert (x["scale"]["type"], x["title"]) == ("log", "ms per call, logarithmic")

    def test_a_narrow_range_gets_an_axis_from_zero(self, troubled_page: Element) -> None:
        x = charts_of(troubled_page)["r1-s0"]["layer"][0]["encoding"]["x"]
        assert (x["scale"].get("type"), x["scale"]["zero"], x["title"]) == (None, True, "ms per call")

    def test_who_did_not_end_ok_is_listed_with_the_reason_and_without_a_figure(self, troubled_page: Element) -> None:
        rows = troubled_page.by_id("r1-speed-6").all("table")[0].rows()
        assert [row[0] for row in rows[1:]] == ["pytorch:eager", "pytorch:compile", "jax:jit"]
        assert rows[2][1:] == ["not compared: ! crashed the worker was ended by signal 9 (SIGKILL)"]
        assert rows[3][1:] == ["not compared: ✗ disagrees it disagrees with the reference on this model"]
        drawn = {row["contender"] for row in chart_rows(charts_of(troubled_page)["r1-s6"])}
        assert drawn == {"pytorch:eager"}

    def test_a_case_called_ok_is_not_compared_when_its_agreement_says_otherwise(self) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[3:])
        result.agreements[2] = samples.disagreeing("jax:jit", samples.MODELS[3])
        page = page_of(result)
        assert page.by_id("r1-speed-0").rows()[2][1].startswith("not compared: ✗ disagrees")
        assert card(page, "LSTM inference").all("p", "claim")[0].text.startswith("pytorch:eager is the only one")

    def test_the_page_says_what_the_interval_covers(self, main_page: Element) -> None:
        assert "the spread between processes" in main_page.by_id("r1-speed").text


class TestColdStart:
    def test_parts_stand_in_the_table_and_in_the_chart(self, main_page: Element) -> None:
        rows = main_page.by_id("r1-cold").all("table")[0].rows()
        assert rows[0] == ["Contender", "Interpreter", "Import", "Configure", "Build", "First call", "Total"]
        assert rows[1][:4] == ["pytorch:eager", "50.0 ms", "2.40 s", "300 ms"]
        drawn = chart_rows(charts_of(main_page)["r1-c0"])
        assert len(drawn) == 5 * len(samples.CONTENDERS)
        assert {row["seconds"] for row in drawn if row["contender"] == "jax:jit" and row["phase"] == "import"} == {1.1}

    def test_a_start_that_failed_is_listed_and_not_drawn(self) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:1])
        result.cold_starts[0].outcome, result.cold_starts[0].reason = "timeout", "no first result within 60 s"
        page = page_of(result)
        rows = page.by_id("r1-cold").rows()
        assert rows[-1] == ["pytorch:eager", "! timeout no first result within 60 s"]
        assert {row["contender"] for row in chart_rows(charts_of(page)["r1-c0"])} == {"jax:jit"}


class TestTraining:
    def test_losses_and_distances_of_all_contenders_are_drawn_with_the_reference(self, main_page: Element) -> None:
        charts = charts_of(main_page)
        series = {row["name"]: row for row in chart_rows(charts["r1-l0"]) if isinstance(row["value"], list)}
        assert set(series) == {"reference", *samples.CONTENDERS}
        assert len(series["jax:jit"]["value"]) == 120
        distances = {row["name"]: row for row in chart_rows(charts["r1-n0"]) if isinstance(row["value"], list)}
        assert set(distances) == {"rounding", "limit", *samples.CONTENDERS}
        assert max(distances["jax:jit"]["value"]) < 1e-4

    def test_a_loss_that_is_not_finite_is_said(self, troubled_page: Element) -> None:
        row = troubled_page.by_id("r1-training").all("article")[-1].all("table")[0].rows()[-1]
        assert row[0] == "jax:jit"
        assert row[1] == "✗ disagrees loss not finite at 30 steps, first at step 90"
        assert (row[3], row[5], row[8]) == ("not finite", "not finite", "not finite")
        series = [r for r in chart_rows(charts_of(troubled_page)["r1-l3"]) if r["name"] == "jax:jit"]
        assert series[0]["value"][90:] == [None] * 30

    def test_the_table_of_losses_holds_the_first_and_the_last_step(self, main_page: Element) -> None:
        rows = main_page.by_id("r1-training").all("table", "losses")[0].rows()
        steps = [int(row[0]) for row in rows[1:]]
        assert (steps[0], steps[-1], len(steps)) == (0, 119, 24)
        assert rows[1][1] == "2.4200"

    def test_runs_without_losses_or_distances_are_still_told(self) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:1])
        gone, same = result.training_runs
        gone.outcome, gone.reason, gone.losses, gone.reference_losses, gone.noise = "crashed", "signal 11", [], [], []
        same.losses, same.noise = list(same.reference_losses), []
        page = page_of(result)
        assert set(charts_of(page)) >= {"r1-l0"}
        assert "r1-n0" not in charts_of(page)
        section = page.by_id("r1-training")
        assert "so there is no chart of distances" in section.text
        assert section.rows()[1] == ["pytorch:eager", "! crashed signal 11"]

    def test_where_rare_events_widen_the_limit_it_says_what_would_still_show(self) -> None:
        result = samples.main_job()
        run = result.training_runs[0]
        result.training_runs = [run]
        assert "ReLU" not in page_of(result).by_id("r1-training").text
        run.rare_from = 7
        shown = " ".join(page_of(result).by_id("r1-training").text.split())
        visible = 100 * run.limit * run.noise[-1] / run.reference_losses[-1]
        assert "From step 7 on, a rounding too rare" in shown
        assert f"moves the loss by more than {visible:.1f} % would show" in shown

    def test_many_trainings_are_folded_below_a_table_that_tells_them_apart(self) -> None:
        page = page_of(samples.long_training())
        section = page.by_id("r1-training")
        overview, *_ = section.all("table")
        assert [row[1] for row in overview.rows()[1:]] == [
            f"{optimiser}, {dtype}" for optimiser in OPTIMISERS for dtype in ("float64", "float32")
        ] * 2  # fmt: skip
        assert overview.rows()[1][2:7] == ["✓ ok 1 ✗ disagrees 1", "41", "jax:jit", "10.0", "3.0e-09"]
        assert overview.rows()[1][7:9] == ["1.0e-08", "1.2e-06"]
        links = [link.attributes["href"] for link in overview.all("a")]
        folded = [details.attributes.get("id") for details in section.all("details")]
        assert [f"#{name}" for name in folded if name] == links
        labels = [chart.attributes["aria-label"] for chart in section.all("div", "chart")]
        assert len(set(labels)) == len(labels) == 32
        assert "again: faceoff agree --training" in section.text
        assert "training on dense on digits, sgd, float64" in page.text


class TestLedger:
    def test_rows_that_differ_are_marked_and_others_not(self, main_page: Element) -> None:
        rows = {row[0]: row[1:] for row in main_page.by_id("r1-ledger").rows()}
        assert rows["numpy"] == ["2.4.1"] * 7
        assert rows["torch"] == ["2.13.0", "2.13.0", *["–"] * 5]
        assert rows["≠ differs float32_matmul"][:3] == ["highest", "highest", "true float32"]
        assert rows["≠ differs environment.TF_ENABLE_ONEDNN_OPTS"] == ["0", "0", "0", "0", "0", "1", "0"]
        assert rows["threads"] == ["2"] * 7
        assert rows["≠ differs kernel"] == ["fused", "fused", *["loop"] * 5]


class TestCases:
    def test_every_outcome_is_counted(self, troubled_page: Element) -> None:
        counts = [item.text for item in troubled_page.all("ul", "counts")[0].all("li")]
        assert counts == [
            "✓ ok 96", "✗ disagrees 5", "! out of memory 0", "! timeout 1", "! crashed 1", "– unsupported 0",
            "– missing 4", "– not offered 0",
        ]  # fmt: skip

    def test_every_record_of_the_result_has_its_row(self, troubled_page: Element) -> None:
        result = samples.troubled()
        rows = [row for table in troubled_page.all("table", "cases") for row in table.rows()[1:]]
        assert len(rows) == len(result.outcomes)
        shown = sorted(row[1] for row in rows)
        assert shown == sorted(record.contender for record in (*result.contenders, *result.records))

    def test_the_end_of_a_log_is_kept_and_shown_as_text(self, troubled_page: Element) -> None:
        logs = [log.all("pre")[0].raw_text for log in troubled_page.all("details", "log")]
        assert logs == ["compiling graph 1\ncompiling graph 2\n", "<b>Killed</b>\n"]


class TestNoiseFloor:
    def test_each_workload_says_what_could_not_be_told_apart_and_who_was_not_steady(self) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:1])
        (first, *_) = result.cases
        assert first.speed is not None
        first.speed.processes[1].drift = -0.081
        twins = {"pytorch:eager": 1.0213, "jax:jit": math.nan}
        at = first.parsed_workload().name
        result.noise_floors = [NoiseFloor(workload=at, resolvable=1.034, twins=twins, disturbed=0.125, noisy=True)]
        shown = page_of(result).by_id("r1-speed-0").text
        assert "This machine was busy while this was timed." in shown
        assert "Differences below 3.4 % can typically not be told from none here" in shown
        assert "differed most with pytorch:eager: slowest over fastest 1.021" in shown
        assert "Disturbed by other work, as the kernel accounts for it: 12.5 % of the rounds" in shown
        assert f"No steady state was reached by {first.contender} (-8.1 % from" in shown
        first.speed.processes[1].drift, first.speed.processes[0].warm = 0.0, False
        result.cases[1].speed.processes[0].passes = 6
        shown = page_of(result).by_id("r1-speed-0").text
        assert f"{first.contender} (calls still got faster when the time for warming up was over)" in shown
        assert "Too few rounds to tell whether the speed lasts" in shown
        assert f"enough to tell it from the baseline’s: {result.cases[1].contender}." in shown
        (comparison,) = (c for c in result.comparisons if c.workload == at)
        comparison.verdict = "unresolved"
        shown = page_of(result).by_id("r1-speed-0").text
        assert f"Too few rounds to tell whether the speed lasts: {result.cases[1].contender}." in shown
        assert "enough to tell it" not in shown
        other = page_of(result).by_id("r1-speed-1").text
        assert "Too few rounds" not in other
        assert "not be told from none" not in other
        assert "steady state was" not in other


def test_the_share_of_what_the_machine_does_at_best_is_told() -> None:
    result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:1])
    (first, *_) = result.cases
    assert first.speed is not None
    first.flops, first.speed.time_s = 10**9, 0.01
    rates = {"jax:jit": math.nan, "pytorch:eager": 4e11}
    result.ceilings = [
        Ceiling(dtype="float32", device="cpu", product_size=1024, product_flops=rates, copy_bytes=1.5e10)
    ]
    page = page_of(result)
    assert "400 billion operations a second, in a product of two 1024×1024 matrices by pytorch:eager" in page.text
    assert "15.0 GB read and written a second" in page.text
    costs = page.by_id("r1-speed-0").all("details")[0].rows()
    row = next(row for row in costs if row[0] == first.contender)
    assert "100 (25.0 %)" in row
