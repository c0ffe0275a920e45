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


@pytest.mark.parametrize("out", [None, "-", "x.csv"])
def test_no_row_is_told(out, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = main_job()
    result.cases = []
    save(result, tmp_path / "r.json")
    with pytest.raises(SystemExit) as ended:
        main(["report", "r.json", "--format", "csv", *(["-o", out] if out else [])])
    assert ended.value.code == 3
    printed = capsys.readouterr()
    assert printed.err == "faceoff: no row to write: these files hold no case\n"
    # The names of its columns are there all the same, for whoever puts tables together.
    table = (tmp_path / "x.csv").read_text() if out == "x.csv" else printed.out
    assert table.startswith("result,created")
    assert table.count("\n") == 1


def test_one_file_with_cases_is_enough_for_a_table(tmp_path, capsys):
    for name, result in (("a.json", main_job()), ("b.json", empty())):
        save(result, tmp_path / name)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--format", "csv"])
    assert ended.value.code == 0
    assert capsys.readouterr().err == ""


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
