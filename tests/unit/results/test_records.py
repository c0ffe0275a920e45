"""Result files: pytest-benchmark's schema, whole or not at all, and every broken one refused with one clear line."""

import json
import os
import statistics
import subprocess
import sys

import pytest

from faceoff.commands.summary import print_summary
from faceoff.core.errors import InputError, ResultFileError
from faceoff.results.file import load, save, write_text
from faceoff.results.records import SCHEMA_VERSION, NoiseFloor
from tests.unit.results.samples import main_job


@pytest.fixture(scope="module")
def result():
    return main_job()


@pytest.fixture
def path(result, tmp_path):
    path = tmp_path / "result.json"
    save(result, path)
    return path


def test_a_result_survives_its_file(result, path):
    assert load(path) == result


def test_a_file_from_before_the_harness_timed_itself_is_read(result, path):
    text = json.loads(path.read_text())
    del text["faceoff"]["harness_s"]
    path.write_text(json.dumps(text))
    assert load(path).harness_s == 0.0


def test_the_summary_of_agree_says_what_the_harness_itself_took(result, path, capsys):
    checked = result.model_copy(update={"cases": [], "comparisons": [], "harness_s": 41.6})
    print_summary(checked, path, path)
    assert "the harness's own part: 42 s of processor time" in capsys.readouterr().out
    print_summary(checked.model_copy(update={"harness_s": 0.0}), path, path)
    assert "own part" not in capsys.readouterr().out


@pytest.mark.parametrize(("named", "word"), [("pytorch:eager", "baseline"), ("", "fastest")])
def test_the_summary_calls_a_baseline_that_others_beat_no_fastest(result, path, capsys, named, word):
    at = result.comparisons[0].workload
    for comparison in result.comparisons:
        comparison.ratio = 0.8 if named and comparison.workload == at else 1.2
    print_summary(result, path, path)
    printed = capsys.readouterr().out
    assert f"{word})" in printed
    assert ("baseline)" in printed) == bool(named)


def test_the_summary_says_what_to_do_on_a_busy_machine_and_who_was_not_steady(result, path, capsys):
    def printed():
        print_summary(result, path, path)
        return " ".join(capsys.readouterr().out.split())

    case = next(case for case in result.cases if case.speed)
    at = case.parsed_workload().name
    result.noise_floors = [NoiseFloor(workload=at, resolvable=1.02, twins={}, disturbed=0.0, noisy=False)]
    quiet = printed()
    assert "this machine was busy" not in quiet
    assert "no steady state" not in quiet
    result.noise_floors[0].noisy = True
    case.speed.processes[0].warm = False
    told = printed()
    assert "this machine was busy while rounds were timed: end other work, or give it --budget thorough" in told
    assert f"no steady state was reached by {case.contender} ({case.workload['step']}," in told


def test_the_file_is_strict_json(path):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert "faceoff" in json.loads(path.read_text(), parse_constant=refuse)


def test_the_entries_are_the_cases_that_were_timed_and_agree(result, path):
    entries = json.loads(path.read_text())["benchmarks"]
    timed = [case for case in result.cases if case.outcome == "ok" and case.speed]
    assert [entry["name"] for entry in entries] == [case.name for case in timed]
    for entry, case in zip(entries, timed, strict=True):
        assert entry["stats"]["median"] == pytest.approx(statistics.median(case.speed.rounds_s))
        assert entry["stats"]["data"] == case.speed.rounds_s
        assert entry["extra_info"]["contender"] == case.contender
        assert entry["extra_info"]["agrees"] is True
        assert entry["extra_info"]["versions"]


def test_pytest_benchmark_itself_reads_the_file(path):
    run = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(path.read_text())["benchmarks"][0]["name"][:20] in run.stdout


def changed(text: str, **changes: object) -> str:
    """The file with other values in our part."""
    return json.dumps({"faceoff": {**json.loads(text)["faceoff"], **changes}})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text[: text.index('"stats"') + 5], "cut off"),
        (lambda text: text[: text.index("}") + 1], "cut off"),
        (lambda text: text.replace(",", ";", 1), "not JSON"),
        (lambda text: "", "not JSON"),
        (lambda text: "<html>", "not JSON"),
        (lambda text: "[" * 100_000, "cut off|not JSON|nested"),
        (lambda text: "[1, 2]", "not a result"),
        (lambda text: '{"benchmarks": []}', "not a result"),
        (lambda text: changed(text, schema_version=99), "another schema"),
        (lambda text: changed(text, schema_version="\x1b]0;title\x07\x1b[2J"), "another schema"),
        (lambda text: changed(text, machine={"operating_system": "\ud800"}), "surrogate|lone|Invalid JSON"),
        (lambda text: changed(text, cases=3), r"faceoff\.cases"),
        (lambda text: json.dumps({"faceoff": {"schema_version": SCHEMA_VERSION}}), "Field required"),
        (lambda text: changed(text, interrupted="perhaps"), "interrupted"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_that_names_it(path, spoil, said):
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ResultFileError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(ResultFileError, match="No such file"):
        load(tmp_path / "nothing.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResultFileError, match="not text"):
        load(tmp_path / "binary")


def test_what_was_there_stays_when_the_new_file_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"):
        write_text(tmp_path / "file" / "result.json", "x")
