"""What lowers trust stands beside what asks for it: on the first screen, in the cards, the summary and the exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faceoff.commands.summary import print_summary
from faceoff.report.exports import to_markdown
from faceoff.results.records import NoiseFloor, Result
from tests.unit.report.pages import card, page_of
from tests.unit.results import samples


def measured_with(disturbed: float, noisy: bool) -> Result:
    """The main job of two contenders, with so much of its rounds disturbed on every workload."""
    result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:2])
    names = dict.fromkeys(case.parsed_workload().name for case in result.cases)
    result.noise_floors = [
        NoiseFloor(workload=name, resolvable=1.05, twins={}, disturbed=disturbed, noisy=noisy) for name in names
    ]
    return result


def test_a_busy_machine_stands_in_every_card_and_is_no_place_to_be_fastest() -> None:
    found = card(page_of(measured_with(0.41, True)), "Dense inference").text
    assert "This machine was busy: 41.0 % of the rounds were disturbed by other work." in found
    assert "came out fastest, on a busy machine" in found
    assert "is fastest" not in found


@pytest.mark.parametrize(("disturbed", "said"), [(0.27, True), (0.08, True), (0.049, False), (0.0, False)])
def test_many_disturbed_rounds_stand_in_the_card_too(disturbed: float, said: bool) -> None:
    found = card(page_of(measured_with(disturbed, False)), "Dense inference").text
    assert (f"{100 * disturbed:.1f} % of the rounds were disturbed by other work." in found) == said
    assert "is fastest" in found
    assert "busy" not in found


def test_who_was_not_steady_stands_in_the_card() -> None:
    result = measured_with(0.0, False)
    case = next(case for case in result.cases if case.contender == "jax:jit" and case.speed)
    case.speed.processes[0].drift = 0.2
    assert "No steady state was reached by jax:jit." in card(page_of(result), "Dense inference").text


def test_the_panel_is_given_what_lowers_trust() -> None:
    result = measured_with(0.27, True)
    case = next(case for case in result.cases if case.contender == "jax:jit" and case.speed)
    case.speed.last_wait, case.speed.few_calls = 0.03, "each call is long"
    case.speed.processes[0].warm = False
    facts = json.loads(page_of(result).by_id("r1-choose").all("script")[0].raw_text)
    first = facts["workloads"][0]
    assert (first["busy"], first["disturbed"]) == (True, 0.27)
    jax = facts["contenders"].index("jax:jit")
    assert (first["unsteady"], first["fewCalls"]) == ([jax], [jax])
    assert facts["workloads"][1]["fewCalls"] == []


def test_the_costs_say_of_how_many_calls_throughput_is_and_what_the_last_wait_added() -> None:
    result = measured_with(0.0, False)
    case = next(case for case in result.cases if case.contender == "jax:jit" and case.speed)
    case.speed.last_wait, case.speed.few_calls, case.speed.pipelined_calls = 0.034, "each call is long", 2
    (table, *_) = page_of(result).by_id("r1-speed-0").all("table", "wordy")
    rows = {row[0]: row for row in table.rows()}
    assert rows["jax:jit"][3:5] == ["12 × 2", "3.4 % (each call is long)"]
    assert rows["pytorch:eager"][3:5] == ["12 × 8", "< 1 %"]
    assert "[" in rows["pytorch:eager"][2]


@pytest.mark.parametrize("noisy", [True, False])
def test_the_summary_and_the_markdown_say_it_with_each_answer(noisy: bool, capsys: pytest.CaptureFixture[str]) -> None:
    result = measured_with(0.41, noisy)
    print_summary(result, Path("result.json"), Path("page.html"))
    for told in (capsys.readouterr().out, to_markdown([("run", result)])):
        lines = [line for line in told.splitlines() if "per call" in line]
        assert len(lines) == 4
        assert all("41.0 % of the rounds were disturbed by other work" in line for line in lines)
        assert all(("This machine was busy" in line) == noisy for line in lines)


def test_the_summary_has_the_figures_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    result = measured_with(0.0, False)
    print_summary(result, Path("result.json"), Path("page.html"))
    printed = " ".join(capsys.readouterr().out.split())
    page = page_of(result)
    found = [cell for row in page.by_id("r1-speed-0").all("table")[0].rows()[1:] for cell in row]
    (time, ratio) = found[1], found[9]
    assert f"{time} ms (fastest)" in printed
    assert f"({ratio} " in printed
    assert ratio in card(page, "Dense inference").text


def test_errors_have_the_same_digits_in_the_summary_and_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    result = samples.main_job(("jax:jit",), samples.MODELS[2:3])
    for check in result.agreements:
        for quantity in check.quantities:
            quantity.noise_units = 0.66712
    for run in result.training_runs:
        run.noise_units = 1.96712
    for curve in result.gradient_norms:
        curve.distances = [0.78712] * len(curve.distances)
    print_summary(result, Path("result.json"), Path("page.html"))
    printed, page = capsys.readouterr().out, page_of(result)
    for figure, longer, section in (
        ("0.67", "0.667", "agreement"),
        ("2.0", "1.97", "training"),
        ("0.79", "0.787", "norms"),
    ):
        shown = page.by_id(f"r1-{section}").text
        assert figure in printed
        assert figure in shown
        assert longer not in printed
        assert longer not in shown
