"""Not drawn and not compared is said, and is not 0."""

import pytest

from faceoff.commands.cli import main
from faceoff.differences.changes import diff
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.file import save
from tests.unit.results.samples import empty, main_job, missing


@pytest.mark.parametrize("layout", ["svg", "png"])
def test_no_picture_is_told(layout, tmp_path, capsys):
    save(empty(), tmp_path / "r.json")
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "r.json"), "--format", layout, "-o", str(tmp_path / "x.svg"), "--quiet"])
    assert ended.value.code == 3
    assert "nothing to draw" in capsys.readouterr().err
    assert not (tmp_path / "x.svg").exists()


def dead_in(result, name, outcome):
    for record in (*result.contenders, *result.records):
        if record.contender == name:
            record.outcome, record.reason = outcome, "gone"
    return result


@pytest.mark.parametrize("outcome", ["missing", "crashed", "timeout"])
def test_a_contender_that_ran_in_neither_file_is_no_green_job(outcome, run_diff):
    before, after = (dead_in(main_job(), "jax:jit", outcome) for _ in range(2))
    status, out, _ = run_diff(before, after)
    assert status == 3
    assert f"jax:jit: {outcome} in both files" in out
    assert out.count("in both files") == 1


def test_a_single_case_that_crashed_in_both_files_is_told_by_its_name(run_diff):
    before, after = main_job(), main_job()
    for result in (before, after):
        result.cases[0].outcome, result.cases[0].reason, result.cases[0].speed = "crashed", "gone", None
    status, out, _ = run_diff(before, after)
    assert status == 3
    assert f"{before.cases[0].contender}: crashed in both files" in out


def test_what_is_an_answer_in_both_files_is_green(run_diff):
    before, after = main_job(), main_job()
    for result in (before, after):
        result.cases[0].outcome, result.cases[0].speed = "out_of_memory", None
    assert run_diff(before, after)[0] == 0


def test_files_in_which_nothing_was_timed_or_agreed_are_not_alike_and_green():
    before, after = (empty(contenders=[missing("jax:jit")], agreements=[]) for _ in range(2))
    for result in (before, after):
        result.agreements = [a for a in main_job().agreements if a.contender == "jax:jit"]
        for agreement in result.agreements:
            agreement.outcome = "missing"
    assert diff(before, after).exit_status == 3


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'no such module' >&2; exit 1", "ended with status 1: no such module"),
        ("exit 7", "ended with status 7: it printed nothing"),
        ("echo hello", "does not answer as Python does"),
    ],
)
def test_an_interpreter_that_fails_is_told_in_words(script, words, tmp_path, monkeypatch):
    (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("FACEOFF_PYTHON_JAX", str(tmp_path / "python"))
    reason = find_installation(FRAMEWORKS["jax"], Configuration()).reason
    assert words in reason
    assert "Command" not in reason
