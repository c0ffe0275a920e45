"""Gradient norms on the page, in the summary and in the result file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faceoff.commands.summary import print_summary
from faceoff.differences.sides import Side
from faceoff.report import norms, render
from faceoff.results.file import load, save
from faceoff.results.records import Result
from faceoff.results.trainings import GradientNorms
from tests.unit.report import pages as report_pages
from tests.unit.report.html_tree import Element
from tests.unit.report.pages import chart_rows, charts_of, page_of
from tests.unit.results import hostile_samples, samples


@pytest.fixture(name="main_page")
def _main_page() -> Element:
    return report_pages.main_page()


def one_model(**changes: object) -> tuple[Result, list[GradientNorms]]:
    """The RNN's curves of one contender, and the result that holds nothing else; `changes` are made in the last one."""
    result = samples.empty(gradient_norms=samples.main_job(("jax:jit",), samples.MODELS[2:3]).gradient_norms)
    for name, value in changes.items():
        setattr(result.gradient_norms[-1], name, value)
    return result, result.gradient_norms


def test_there_is_a_chart_and_a_sentence_for_each_recurrent_model(main_page: Element) -> None:
    rnn, lstm = main_page.by_id("r1-norms").all("article")
    assert rnn.all("p")[0].text == (
        "From t = 49 back to t = 0 the RNN's gradient falls to 1.8e-15 of its norm at spectral radius 0.5, "
        "falls to 0.37 of it at spectral radius 1 and grows to 8.1e+07 times it at spectral radius 1.5. "
        "18 of 18 curves agree with the reference."
    )
    assert lstm.all("p")[0].text == (
        "From t = 49 back to t = 0 the LSTM's gradient falls to 1.3e-11 of its norm at forget-gate bias 0, "
        "falls to 3.5e-04 of it at forget-gate bias 1, falls to 0.61 of it at forget-gate bias 2 "
        "and grows to 107 times it at forget-gate bias 5. 24 of 24 curves agree with the reference."
    )
    assert {"r1-g0", "r1-g1"} <= set(charts_of(main_page))


def test_the_chart_has_the_reference_as_lines_and_every_contender_as_marks(main_page: Element) -> None:
    spec = charts_of(main_page)["r1-g0"]
    y = spec["layer"][0]["encoding"]["y"]
    assert (y["scale"]["type"], spec["layer"][0]["encoding"]["x"]["title"]) == ("log", "time step t")
    lines, marks = spec["layer"][::2], spec["layer"][1::2]
    colours = [line["mark"]["color"] for line in lines]
    assert len(set(colours)) == 3
    assert colours == [mark["mark"]["color"] for mark in marks]
    assert {line["mark"]["type"] for line in lines} == {"line"}
    for mark in marks:
        assert mark["encoding"]["shape"]["scale"]["domain"] == list(samples.NORM_CONTENDERS)
        assert len(set(mark["encoding"]["shape"]["scale"]["range"])) == 3
    rows = [row for row in chart_rows(spec) if row.get("contender")]
    assert len(rows) == 3 * 3 * 5
    assert {row["judged"] for row in rows} == {"judged"}


def test_the_tables_hold_the_outcome_and_every_figure_of_the_chart(main_page: Element) -> None:
    article = main_page.by_id("r1-norms").all("article")[0]
    results, figures = article.all("table")
    assert len(results.rows()) == 1 + 3 * 3 * 2
    assert results.rows()[1] == ["pytorch:eager", "float64", "0.500", "✓ ok", "0.70 noise units", "8.00", "5", "0"]
    assert results.rows()[4][4:6] == ["0.70 noise units", "8.00"]
    assert len(figures.rows()) == 1 + 3 * 5
    assert figures.rows()[1][:3] == ["0.500", "0", "8.8818e-16"]
    assert figures.rows()[1][3:] == ["8.8818e-16"] * 6
    assert figures.rows()[0][3:5] == ["pytorch:eagerfloat64", "pytorch:eagerfloat32"]


def test_a_disagreement_a_gap_and_an_underflow_are_shown() -> None:
    reason = "dLoss/dh_20 is not finite"
    result, records = one_model(outcome="disagrees", reason=reason, underflow=[0])
    records[-1].norms[1] = records[-1].distances[1] = None
    page = page_of(result)
    article = page.by_id("r1-norms").all("article")[0]
    assert "5 of 6 curves agree with the reference; 1 point underflowed and could not be judged." in article.text
    row = article.all("table")[0].rows()[-1]
    assert row[3:5] == ["✗ disagrees " + reason, "not finite noise units"]
    assert row[-1] == "1"
    figures = [row for row in article.all("table")[1].rows() if row[0] == "1.50"]
    assert figures[0][-1].endswith("underflow")
    assert figures[1][-1] == "not finite"
    marks = [row for row in chart_rows(charts_of(page)["r1-g0"]) if row.get("set") == "spectral radius 1.5"]
    assert [(row["t"], row["judged"]) for row in marks] == [
        (0, "underflow"), (40, "judged"), (48, "judged"), (49, "judged"),
    ]  # fmt: skip
    assert reason in page.all("ul", "problems")[0].text
    assert "--gradient-norms" in page.all("ul", "problems")[0].text
    assert "disagrees" in next(row[2] for row in page.by_id("r1-cases").rows() if row[0] == "Gradient norms")


def test_a_curve_that_was_not_computed_is_told_and_not_drawn() -> None:
    result, _ = one_model()
    for record in result.gradient_norms:
        record.outcome, record.reason = "crashed", "worker was ended by signal 9"
        for name in ("time_steps", "norms", "reference_norms", "noise", "distances"):
            setattr(record, name, [])
    page = page_of(result)
    section = page.by_id("r1-norms")
    assert not section.all("div", "chart")
    assert section.rows()[1] == ["jax:jit", "float64", "0.500", "! crashed worker was ended by signal 9"]
    assert "0 of 6 curves agree with the reference." in section.text


def test_numbers_that_are_not_finite_or_zero_leave_the_chart_readable() -> None:
    result, records = one_model()
    records[-1].norms[0], records[-1].norms[1], records[-1].norms[2] = float("nan"), 0.0, float("inf")
    records[0].reference_norms = [float("inf"), 0.0, None, 1.0, 2.0]
    raw = page_of(result).by_id("charts").raw_text
    json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_lists_of_unequal_length_make_a_page() -> None:
    result, _ = one_model(norms=[1.0], distances=[], underflow=[77], reference_norms=[1.0, 2.0, 3.0])
    assert page_of(result).by_id("r1-norms").all("article")


def test_hostile_text_is_shown_as_text() -> None:
    section = report_pages.hostile_page().by_id("r1-norms")
    assert hostile_samples.HOSTILE[0] in section.text
    assert not section.all("script")
    assert not section.all("img")
    # A workload that is none has an article of its own.
    assert [article.all("h4")[0].text.split(" ")[0] for article in section.all("article")] == ["RNN", "Unknown", "LSTM"]


def test_the_factor_cannot_be_told_from_one_point_or_from_zero() -> None:
    result, records = one_model()
    for record in records:
        record.reference_norms = [0.5, 0.5, 0.5, 0.5, 0.0]
    (group,) = norms.norm_groups(result)
    assert [norms.change(group, setting) for setting in group.settings] == [None] * 3
    assert norms.sentences(group) == "6 of 6 curves agree with the reference."


def test_an_older_result_without_gradient_norms_is_read_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    save(samples.main_job(("jax:jit",)), path)
    data = json.loads(path.read_text())
    del data["faceoff"]["gradient_norms"]
    path.write_text(json.dumps(data))
    result = load(path)
    assert result.gradient_norms == []
    assert "No gradient was followed back through time in this run." in render([("old", result)])


def test_a_curve_counts_in_the_exit_status() -> None:
    result, records = one_model()
    assert result.exit_status == 0
    records[0].outcome = "crashed"
    assert result.exit_status == 3
    records[1].outcome = "disagrees"
    assert result.exit_status == 1


def test_the_summary_has_a_row_for_each_contender_and_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = one_model(outcome="disagrees", reason="dLoss/dh_0 is 41 noise units off")
    print_summary(result, Path("result.json"), Path("page.html"))
    printed = capsys.readouterr().out
    assert "radius 0.5" in printed
    assert "agrees (0.70 units)" in printed
    assert "DISAGREES (0.70 units)" in printed
    assert "1.8e-15 times" in printed
    assert "jax:jit disagrees: dLoss/dh_0 is 41 noise units off" in printed


def test_what_the_open_gate_brings_is_said_where_the_curves_show_it_and_nowhere_else(main_page: Element) -> None:
    said = (
        "At the same spectral radius of 0.5 the RNN's gradient falls to 1.8e-15 of its norm; "
        "with the forget gate open (forget-gate bias 5) the LSTM's grows to 107 times it."
    )
    assert said in main_page.by_id("r1-norms").text
    result = samples.empty(gradient_norms=samples.main_job(("jax:jit",)).gradient_norms)
    for record in result.gradient_norms:
        if record.forget_bias == 5:
            record.reference_norms = [norm * 1e-20 ** (1 - t / 49) for norm, t in zip(
                record.reference_norms, record.time_steps, strict=True)]  # fmt: skip
    assert norms.lesson(norms.norm_groups(result)) == ""
    assert norms.lesson(norms.norm_groups(samples.main_job(("jax:jit",), samples.MODELS[:3]))) == ""


def test_the_lstm_s_tables_say_the_bias_and_where_the_gate_stands(main_page: Element) -> None:
    results, figures = main_page.by_id("r1-norms").all("article")[1].all("table")
    assert [row[2] for row in results.rows()[:5]] == [
        "Forget-gate bias", "0 (gate 0.500)", "1 (gate 0.731)", "2 (gate 0.881)", "5 (gate 0.993)",
    ]  # fmt: skip
    assert figures.rows()[0][0] == "Forget-gate bias"


def test_an_lstm_of_an_older_file_is_shown_by_radius_and_its_gate_is_said_to_be_half_shut() -> None:
    result = samples.empty(gradient_norms=samples.main_job(("jax:jit",), samples.MODELS[3:]).gradient_norms)
    for record in result.gradient_norms:
        record.spectral_radius, record.forget_bias = {0: 0.5, 1: 1.0, 2: 1.5, 5: 2.0}[record.forget_bias], None
    text = page_of(result).by_id("r1-norms").all("article")[0].text
    assert "falls to 1.3e-11 of its norm at spectral radius 0.5" in text
    assert "stood half shut" in text


def test_curves_that_differ_in_the_bias_alone_are_records_of_their_own() -> None:
    result = samples.empty(gradient_norms=samples.main_job(("jax:jit",), samples.MODELS[3:]).gradient_norms)
    assert len(Side("now", result).records) == len(result.gradient_norms) == 8
