"""Markdown, the table of cases, and the pictures of the charts: what they hold, and that names cannot break them."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from faceoff.commands.cli import cli
from faceoff.core.errors import InputError
from faceoff.report import to_csv, to_markdown, write_charts
from faceoff.report.exports import COLUMNS
from faceoff.results.file import save
from faceoff.results.records import NoiseFloor
from tests.unit.results import hostile_samples, samples


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_has_a_row_for_every_case_with_its_figures():
    result = samples.main_job()
    rows = rows_of(to_csv([("run 1", result)]))
    assert len(rows) == len(result.cases)
    assert tuple(rows[0]) == COLUMNS
    for case, row in zip(result.cases, rows, strict=True):
        assert (row["result"], row["contender"], row["outcome"]) == ("run 1", case.contender, "ok")
        assert float(row["time_s"]) == pytest.approx(case.speed.time_s, rel=1e-8)
        assert float(row["memory_bytes"]) == 300 * 2**20
        assert float(row["host_peak_bytes"]) == 350 * 2**20
        assert (row["model"], row["optimiser"]) == (
            case.workload["model"]["kind"],
            "adam" if case.workload["step"] == "training" else "",
        )
        start = next(
            s for s in result.cold_starts
            if s.contender == case.contender and s.workload["model"] == case.workload["model"]
        )  # fmt: skip
        # Of no other step was a start measured.
        started = row["step"] == "inference"
        assert row["cold_start_s"] == (f"{start.total_s:.9g}" if started else "")
        assert (row["pipelined_calls"], row["last_wait"]) == ("8", "0.004")
        assert 0.4 < float(row["noise_units"]) < 1.1
    compared = {(c.workload, c.contender): c for c in result.comparisons}
    for row in rows:
        comparison = compared.get((row["workload"], row["contender"]))
        assert row["verdict"] == ("" if comparison is None else comparison.verdict)
        if comparison is not None:
            assert float(row["ratio"]) == pytest.approx(comparison.ratio, rel=1e-8)


def test_what_is_not_known_is_an_empty_cell():
    result = samples.main_job()
    result.cases[0].speed = None
    result.cases[0].outcome, result.cases[0].reason = "crashed", "line one\nline two"
    result.cases[1].speed.time_s = math.nan
    rows = rows_of(to_csv([("a", result)]))
    assert (rows[0]["time_s"], rows[0]["reason"]) == ("", "line one line two")
    assert rows[1]["time_s"] == ""
    assert rows[1]["low_s"] != ""


def test_markdown_says_the_same_as_the_first_screen():
    text = to_markdown([("main job", samples.main_job())])
    assert "**✓ All 7 contenders agree with the reference on all 4 models" in text
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == 8
    assert "pytorch:eager is fastest, 34.8 ms per call" in next(
        line for line in lines if line.startswith("- LSTM training")
    )
    assert "jax:jit 1.90 \\[1.84, 1.96\\]" in next(line for line in lines if line.startswith("- LSTM training"))


def test_markdown_names_what_did_not_end_ok():
    text = to_markdown([("troubled", samples.troubled())])
    assert "**✗ " in text
    assert "disagrees with the reference on" in text
    assert "**What did not end ok**" in text
    assert "pip install" in text


def test_hostile_names_stay_text():
    result = hostile_samples.hostile()
    markdown = to_markdown([(hostile_samples.HOSTILE[0], result)])
    assert "<script" not in markdown
    assert "<img" not in markdown
    rows = rows_of(to_csv([(hostile_samples.HOSTILE[0], result)]))
    assert len(rows) == len(result.cases)
    assert not any("\u202e" in cell or "\n" in cell for row in rows for cell in row.values())


@pytest.mark.parametrize(("picture", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_every_chart_is_drawn_into_a_file_of_its_own(tmp_path: Path, picture, start):
    result = samples.main_job(models=samples.MODELS[:1])
    paths = write_charts([("a", result)], tmp_path / "charts", picture)
    assert sorted(paths) == sorted((tmp_path / "charts").iterdir())
    assert [path.name.split("-")[0] for path in paths] == [
        "speed", "rounds", "memory", "ceiling", "total", "speed", "rounds", "memory", "ceiling", "cold", "training",
        "training",
    ]  # fmt: skip
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(start)
        assert b"var(--" not in content
    if picture == "svg":
        assert b"pytorch:compile" in paths[0].read_bytes()


def test_charts_of_several_results_do_not_overwrite_each_other(tmp_path):
    result = samples.main_job(("jax:jit",), samples.MODELS[:1])
    # And of the history of the two: one chart for each workload.
    assert len(set(write_charts([("a", result), ("b", result)], tmp_path, "svg"))) == 2 * 11 + 2


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="cannot be written"):
        write_charts([("a", samples.main_job(models=samples.MODELS[:1]))], tmp_path / "file", "svg")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(("layout", "beginning"), [("md", "### Face-off"), ("csv", "result,created")])
def test_the_command_prints_text_or_writes_it(tmp_path, layout, beginning):
    path = tmp_path / "result.json"
    save(samples.main_job(), path)
    printed = CliRunner().invoke(cli, ["report", str(path), "--format", layout])
    assert printed.output.startswith(beginning)
    CliRunner().invoke(cli, ["report", str(path), "--format", layout, "--out", str(tmp_path / "out")])
    assert (tmp_path / "out").read_text() == printed.output


def test_a_row_says_how_large_the_error_of_its_own_step_is_and_whether_the_machine_was_busy():
    result = samples.main_job(("jax:jit",), samples.MODELS[:1])
    at = result.cases[0].parsed_workload().name
    result.noise_floors = [NoiseFloor(workload=at, resolvable=1.1, twins={}, disturbed=0.27, noisy=True)]
    (check,) = [check for check in result.agreements if check.check == "precision"]
    for quantity in check.quantities:
        quantity.noise_units = 3.0 if quantity.name.startswith("weight") else 0.5
    inference, training = rows_of(to_csv([("run", result)]))
    assert (inference["noise_units"], training["noise_units"]) == ("0.5", "3")
    assert (inference["busy"], inference["disturbed"], training["busy"]) == ("yes", "0.27", "")
