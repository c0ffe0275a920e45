"""The panel to choose by, in a real browser: it ranks as Python does, and its address restores the situation."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from faceoff.core.spec import Workload
from faceoff.report import write_page
from faceoff.report.text import duration, significant, with_interval
from faceoff.results.records import NoiseFloor, Result
from faceoff.speed import ranking
from faceoff.speed.criteria import measured
from tests.browser.conftest import RESULTS, Opened
from tests.unit.results import samples

CONTENDERS = (*samples.CONTENDERS, "numpy:plain", "<b>bold</b>:mode")
RANK = """([facts, situations]) => situations.map(situation => {
    const found = faceoffRanking.rank(faceoffRanking.unpack(facts), situation);
    const leaders = faceoffRanking.leadersByWeight(faceoffRanking.unpack(facts), situation, 4);
    return {...found, workloads: found.workloads.map(w => w.name), byWeight: leaders};
})"""


def varied() -> Result:
    """Every model, step, dtype and many batch sizes; some cases failed, some costs are missing, some are equal."""
    rng = random.Random(11)
    result = samples.empty(contenders=[])
    for model in samples.MODELS:
        for batch in (1, 8, 32, 64, 512):
            for dtype in ("float32", "bfloat16"):
                for step in ("inference", "gradients", "training"):
                    at = Workload(model, batch, dtype=dtype, step=step)
                    base_s = 10 ** rng.uniform(-5, 0)
                    for name in CONTENDERS:
                        record = samples.case(
                            name, at, base_s * math.exp(rng.gauss(0, rng.choice((0.01, 0.1, 1)))), rng
                        )
                        half = rng.choice((0.0, 0.002, 0.02, 0.2))
                        time_s = record.speed.time_s
                        record.speed.interval_s = (time_s * math.exp(-half), time_s * math.exp(half))
                        record.speed.rounds_s = []
                        if rng.random() < 0.05:
                            record.speed.pipelined_s = None
                        if rng.random() < 0.03:
                            record.outcome, record.speed = "out_of_memory", None
                        result.cases.append(record)
            for name in CONTENDERS:
                start = samples.cold_start(name if "numpy" not in name and "<" not in name else "jax:jit", model, rng)
                start.contender, start.workload["batch_size"] = name, batch
                if rng.random() < 0.97:
                    result.cold_starts.append(start)
                check = samples.agreement(name, model, "precision", rng, layers=1)
                check.workload["batch_size"] = batch
                result.agreements.append(check)
    return result


def random_situation(rng: random.Random) -> ranking.Situation:
    kinds = ["dense", "residual", "rnn", "lstm"]
    low, high = sorted(rng.choices((1, 8, 32, 64, 512), k=2))
    return ranking.Situation(
        models=frozenset(rng.sample(kinds, rng.randint(0, 4) or 1)),
        step=rng.choice(("inference", "gradients", "training")),
        dtype=rng.choice(("float32", "float32", "bfloat16")),
        device="cpu",
        batch=(low, high),
        weights={name: rng.choice((0, 0, 1, 2, 3, 4)) for name in ranking.CRITERIA},
    )


def as_script(situation: ranking.Situation) -> dict[str, Any]:
    """The situation as the page's script takes it."""
    return {
        "models": sorted(situation.models),
        "step": situation.step,
        "dtype": situation.dtype,
        "device": situation.device,
        "batch": list(situation.batch),
        "weights": dict(situation.weights),
    }


def test_the_page_ranks_as_python_does_in_a_thousand_situations(browser: Any, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("varied") / "page.html"
    result = varied()
    write_page([("varied", result)], path)
    page = browser.new_page()
    page.goto(path.as_uri())
    facts = json.loads(page.locator("#r1-choose .facts").text_content())
    rng = random.Random(12)
    situations = [random_situation(rng) for _ in range(1000)]
    found = page.evaluate(RANK, [facts, [as_script(situation) for situation in situations]])
    page.close()
    workloads = measured(result)
    answers = set()
    for situation, theirs in zip(situations, found, strict=True):
        ours = ranking.rank(workloads, situation)
        answers.add(ours.answer)
        assert theirs["workloads"] == ours.workloads
        assert theirs["leftOut"] == ours.left_out
        assert [place["contender"] for place in theirs["places"]] == [place.contender for place in ours.places]
        for mine, other in zip(ours.places, theirs["places"], strict=True):
            assert other["score"] == pytest.approx(mine.score, abs=1e-7)
            assert other["best"] == pytest.approx(mine.best, abs=1e-5)
            assert other["near"] == pytest.approx(mine.near, abs=1e-5)
        assert (theirs["answer"], theirs["leaders"]) == (ours.answer, ours.leaders)
        assert theirs["byWeight"] == ranking.leaders_by_weight(workloads, situation)
    assert answers >= {"best", "alike", "open", "least", "nothing"}


def test_figures_have_the_digits_of_the_rest_of_the_page(browser: Any, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("figures") / "page.html"
    write_page([("run", samples.main_job(samples.CONTENDERS[:2], samples.MODELS[:1]))], path)
    page = browser.new_page()
    page.goto(path.as_uri())
    rng = random.Random(3)
    triples, values = [], []
    for _ in range(2000):
        middle, half = math.exp(rng.uniform(-7, 9)), 10 ** rng.uniform(-5, 0)
        triples.append((middle, middle * math.exp(-half), middle * math.exp(half)))
        values.append(math.exp(rng.uniform(-20, 20)))
    triples += [(1.06, 1.0047, 1.1153), (1.01, 0.99996, 1.02), (7.93, 6.47, 9.72), (1.0512, 1.0402, 1.0603)]
    values += [0.0, 2.9, 0.0412, 3.5, 59.4, 59.7, 252.4, 3661, 123456.7, 3.14159e-16]
    found = page.evaluate(
        """([triples, values]) => [
            triples.map(triple => faceoffFigures.withInterval(...triple)),
            values.map(value => [faceoffFigures.significant(value), faceoffFigures.significant(value, 2)]),
            values.filter(value => value > 1e-9).map(value => faceoffFigures.duration(value)),
        ]""",
        [triples, values],
    )
    page.close()
    assert found[0] == [" ".join(with_interval(*triple)) for triple in triples]
    assert found[1] == [[significant(value), significant(value, 2)] for value in values]
    assert found[2] == [duration(value) for value in values if value > 1e-9]


def panel_of(browser: Any, folder: Any, result: Result) -> Any:
    """The panel of a result's page."""
    write_page([("run", result)], folder / "page.html")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((folder / "page.html").as_uri())
    return page


def test_a_ratio_and_the_times_of_one_workload_are_those_of_its_card_and_table(browser: Any, tmp_path: Any) -> None:
    result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[1:2])
    for comparison in result.comparisons:
        comparison.ratio, comparison.interval = 7.9312, (6.4712, 9.7204)
    page = panel_of(browser, tmp_path, result)
    panel = page.locator("#r1-choose")
    cells = panel.locator(".choice > .scroll tbody tr").nth(1).locator("td").all_text_contents()
    card = page.locator(".answers li", has_text="Residual training")
    assert card.locator(".figure").all_text_contents() == ["7.93 [6.47, 9.72]"]
    assert cells[0] == "7.93 [6.47, 9.72]"
    assert "7.93 [6.47, 9.72]" in panel.get_by_role("status").text_content()
    times = page.locator("#r1-speed-1 table").first.locator("tbody tr")
    for row in panel.locator(".choice > .scroll tbody tr").all():
        name = row.locator("th").text_content().strip()
        (own,) = [one for one in times.all() if one.locator("th").text_content().strip() == name]
        assert row.locator("td").nth(3).text_content() == own.locator("td").first.text_content() + " ms"
    page.close()


def test_a_busy_machine_is_told_on_the_first_screen_and_no_certainty_above_95_percent_is_stated(
    browser: Any, tmp_path: Any
) -> None:
    result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[1:2])
    names = dict.fromkeys(case.parsed_workload().name for case in result.cases)
    for disturbed, noisy in ((0.41, True), (0.27, False), (0.01, False)):
        result.noise_floors = [
            NoiseFloor(workload=name, resolvable=1.05, twins={}, disturbed=disturbed, noisy=noisy) for name in names
        ]
        page = panel_of(browser, tmp_path, result)
        words = page.locator("#r1-choose").get_by_role("status")
        box = words.bounding_box()
        assert box["y"] + box["height"] < 900
        told = words.text_content()
        assert ("This machine was busy while this was timed" in told) == noisy
        assert (f"{100 * disturbed:.1f} % of the rounds" in told) == (disturbed > 0.05)
        assert ("> 99.9 %" in told) == (not noisy)
        assert ("with probability 95.0 %" in told) == noisy
        page.close()


def test_who_offers_no_float64_is_told_from_the_others_in_the_ranking_and_above_it(browser: Any, tmp_path: Any) -> None:
    result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[1:2])
    for check in result.agreements:
        if check.contender == "jax:jit" and check.workload["dtype"] == "float64":
            check.outcome, check.reason = "not_offered", "JAX offers no float64 here"
    page = panel_of(browser, tmp_path, result)
    said = "meaning checked in float32 only"
    rows = page.locator("#r1-choose .choice > .scroll tbody tr th").all_text_contents()
    assert {row.strip().startswith("jax:jit"): said in row for row in rows} == {True: True, False: False}
    (lead,) = [p for p in page.locator("#r1-answer p.lead").all_text_contents() if said.capitalize() in p]
    assert "jax:jit" in lead
    assert "pytorch:eager" not in lead
    page.close()


def test_the_controls_change_the_ranking_and_the_address_restores_them(open_page: Callable[..., Opened]) -> None:
    opened = open_page("main")
    page = opened.page
    panel = page.locator("#r1-choose")
    for title in ("Dense", "RNN", "LSTM"):
        panel.get_by_label(title, exact=True).uncheck()
    workloads = measured(samples.main_job())
    asked = ranking.Situation(frozenset({"residual"}), "training", "float32", "cpu", (32, 32), {"latency": 2})
    expected = ranking.rank(workloads, asked)
    rows = panel.locator(".choice > .scroll tbody th").all_text_contents()
    assert [row.strip() for row in rows] == [place.contender for place in expected.places]
    words = panel.get_by_role("status").text_content()
    assert expected.answer == "best"
    assert expected.leaders[0] in words
    assert "times as long" in words
    # All of the answer stands on the first screen.
    box = panel.get_by_role("status").bounding_box()
    assert box["y"] + box["height"] < 900

    # Of training no start was measured: it cannot be chosen by, until a step is picked of which it was.
    assert panel.get_by_label("Start-up to the first result").is_disabled()
    assert "not measured of training" in panel.locator("form").text_content()
    panel.get_by_label("Step").select_option("inference")
    panel.get_by_label("Start-up to the first result").fill("4")
    changed = ranking.rank(
        workloads,
        ranking.Situation(**{**vars(asked), "step": "inference", "weights": {"latency": 2, "start": 4}}),
    )
    words = panel.get_by_role("status").text_content()
    assert "nothing says how surely" in words
    assert "%" not in words
    rows = panel.locator(".choice > .scroll tbody th").all_text_contents()
    assert [row.strip() for row in rows] == [place.contender for place in changed.places]
    assert changed.places[0].contender != expected.places[0].contender
    address = page.url
    assert "models=residual" in address

    again = page.context.new_page()
    again.goto(address)
    assert (
        again.locator("#r1-choose").get_by_role("status").text_content() == panel.get_by_role("status").text_content()
    )
    assert not again.locator("#r1-choose").get_by_label("Dense", exact=True).is_checked()
    panel.get_by_role("button", name="Start over").click()
    assert panel.get_by_label("Dense", exact=True).is_checked()
    assert opened.complaints == []


def test_an_address_with_nonsense_leaves_the_controls_as_they_are(open_page: Callable[..., Opened]) -> None:
    opened = open_page("main")
    page = opened.page
    usual = page.locator("#r1-choose").get_by_role("status").text_content()
    page.goto(page.url + "#r1-choose?step=evaluation&least=x&device=%3Cb%3E&latency=2&dtype")
    page.wait_for_function("location.hash.includes('evaluation')")
    assert page.locator("#r1-choose").get_by_role("status").text_content() == usual
    assert opened.complaints == []


def test_no_model_and_no_weight_say_what_to_do(open_page: Callable[..., Opened]) -> None:
    panel = open_page("main").page.locator("#r1-choose")
    panel.get_by_label("Latency (each call waited for)").fill("0")
    assert "Say what matters" in panel.get_by_role("status").text_content()
    for title in ("Dense", "Residual", "RNN", "LSTM"):
        panel.get_by_label(title, exact=True).uncheck()
    assert "Tick a model" in panel.get_by_role("status").text_content()


def test_where_nothing_can_be_compared_there_is_no_panel(open_page: Callable[..., Opened]) -> None:
    assert "training" in RESULTS
    assert open_page("training").page.locator(".choose").count() == 0
