"""Bad usage and bad input: one clear line, exit status 2, nothing started and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.commands.cli import main
from faceoff.machine.description import describe_machine
from faceoff.results.file import save
from tests.unit.results.samples import main_job

ROOT = Path(__file__).resolve().parents[3]


def run(arguments, capsys) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "--models", "transformer"], "transformer"),
        (["compare", "--models", ","], "no name"),
        (["compare", "--contenders", "mxnet:eager"], "mxnet"),
        (["compare", "--contenders", "pytorch:warp"], "pytorch:eager, pytorch:compile"),
        (["compare", "--steps", "evaluation"], "evaluation"),
        (["compare", "--preset", "huge"], "one of default, small, lecture"),
        (["compare", "--batch-size", "0"], "at least 1"),
        (["compare", "--batch-size", "many"], "whole numbers"),
        (["compare", "--dtype", "float8"], "float8"),
        (["agree", "--dtype", "float32,int4"], "int4"),
        (["agree", "--dtype", "float64,float16", "--optimiser", "adam"], "epsilon is zero in this dtype"),
        (["agree", "--dtype", "bfloat16", "--optimiser", "adam"], "beta2 is one in this dtype"),
        (["compare", "--device", "tpu"], "tpu"),
        (["compare", "--seed", "-1"], "seed"),
        (["compare", "--threads", "100000"], "cores of this machine"),
        (["compare", "--timeout", "-3"], "seconds above 0"),
        (["compare", "--timeout", "nan"], "seconds above 0"),
        (["compare", "--optimiser", "lion"], "lion"),
        (["compare", "--models", "dense", "--data", "nowhere", "--quiet"], "data_batch_1"),
        (["defaults", "--frameworks", "mxnet"], "mxnet"),
        (["defaults", "--frameworks", ","], "no name"),
        (["defaults", "--device", "tpu"], "tpu"),
        (["compare", "--resume", "nowhere"], "expected the journal of a run"),
        (["nonsense"], "nonsense"),
        (["report"], "RESULTS"),
        (["report", "nothing.json"], "No such file"),
        (["diff", "a.json"], "two files"),
        (["diff", "a.json", "b.json", "--env", "old"], "two files"),
        (["diff", "a.json", "--env", "old,"], "one or two environments"),
        (["diff", "nothing.json", "nothing.json"], "No such file"),
        (["diff", "a.json", "b.json", "--threshold", "nan"], "at least 0"),
        (["diff", "a.json", "b.json", "--threshold", "much"], "much"),
        (["diff", "a.json", "b.json", "--format", "html"], "html"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_ends_with_2_and_says_what_was_expected(arguments, said, capsys):
    status, out, err = run(arguments, capsys)
    assert status == 2
    assert said in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("interpreters = [", "TOML"),
        ("interpeters = 3", "interpeters"),
        ("[interpreters]\nmxnet = '/usr/bin/python3'", "mxnet"),
        ("timeout_s = 'long'", "timeout_s"),
        ("timeout_s = -1", "timeout_s"),
    ],
)
def test_a_broken_settings_file_is_refused_with_its_name(text, said, capsys, empty_folder):
    (empty_folder / "faceoff.toml").write_text(text)
    for command in (["list"], ["agree", "--preset", "small"]):
        status, _, err = run(command, capsys)
        assert status == 2
        assert "faceoff.toml" in err
        assert said in err
        assert len(err.strip().splitlines()) == 1


def test_an_output_folder_that_cannot_be_written_to_is_refused_before_anything_runs(capsys, empty_folder):
    (empty_folder / "file").write_text("precious")
    status, _, err = run(["agree", "--preset", "small", "--out", "file/inside"], capsys)
    assert status == 2
    assert "file/inside" in err
    assert (empty_folder / "file").read_text() == "precious"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_page_on_a_full_device_is_refused_and_leaves_no_half_file(capsys, empty_folder):
    save(main_job(), empty_folder / "result.json")
    status, _, err = run(["report", "result.json", "-o", "/dev/full/page.html"], capsys)
    assert status == 2
    assert "cannot be written" in err
    assert [path.name for path in empty_folder.iterdir()] == ["result.json"]


def test_a_report_is_made_from_a_result_and_its_path_is_told(capsys, empty_folder):
    save(main_job(), empty_folder / "result.json")
    status, out, _ = run(["report", "result.json"], capsys)
    assert status == 0
    assert "page.html" in out
    assert (empty_folder / "page.html").stat().st_size > 10_000
    status, out, _ = run(["report", "result.json", "-o", "other.html", "--json"], capsys)
    assert json.loads(out) == {"page": "other.html"}
    assert (empty_folder / "other.html").exists()


def test_a_broken_result_makes_no_page_and_keeps_the_old_one(capsys, empty_folder):
    (empty_folder / "result.json").write_text('{"benchmarks": [')
    (empty_folder / "page.html").write_text("old page")
    status, _, err = run(["report", "result.json"], capsys)
    assert status == 2
    assert "cut off" in err
    assert (empty_folder / "page.html").read_text() == "old page"


def test_the_list_names_everything_that_can_be_asked_for(capsys):
    status, out, _ = run(["list", "--json"], capsys)
    assert status == 0
    found = json.loads(out)
    usual, on_request = (
        {n for n, f in found["frameworks"].items() if f["on_request"] is asked} for asked in (False, True)
    )
    assert usual == {"pytorch", "tensorflow", "jax"}
    assert on_request == {"opencl", "cuda", "triton"}
    assert "tensorflow:graph-onednn" in found["frameworks"]["tensorflow"]["contenders"]
    assert set(found["models"]) == {"dense", "residual", "rnn", "lstm"}
    assert {"default", "small", "lecture"} <= set(found["presets"])
    status, out, _ = run(["list"], capsys)
    assert "jax:jit" in out
    assert "opencl (on" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["compare", "--models", "transformer"], "some of dense, residual, rnn, lstm; see `faceoff compare --help`"),
        (["bench", "--batch-size", "0"], "at least 1"),
        (["bench", "--nonsense"], "--nonsense"),
        (["report"], "RESULTS"),
        (["nonsense"], "see `faceoff --help`"),
    ],
)
def test_a_usage_error_is_one_line_that_says_where_help_is(arguments, expected, capsys):
    status, out, err = run(arguments, capsys)
    assert status == 2
    assert out == ""
    assert err.startswith("faceoff: ")
    assert expected in err
    assert err.endswith(" --help`\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["compare", "agree", "bench", "report", "list", "doctor", "defaults"])
def test_every_command_has_help(command, capsys):
    status, out, _ = run([command, "--help"], capsys)
    assert status == 0
    assert "Usage: faceoff" in out


def test_the_module_is_the_same_command():
    run = subprocess.run([sys.executable, "-m", "faceoff", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("faceoff")


@pytest.mark.parametrize("arguments", [["compare", "--preset", "small"], ["report", "result.json"]], ids=" ".join)
def test_an_interpreter_that_leaves_docstrings_out_is_told_before_anything_is_run(arguments):
    command = [sys.executable, "-OO", "-m", "faceoff", *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("faceoff: PYTHONOPTIMIZE, or -OO: no charts")
    assert len(run.stderr.splitlines()) == 1


def test_the_list_tells_how_to_install_what_is_missing_to_the_last_bracket(capsys, monkeypatch, empty_folder):
    monkeypatch.setenv("COLUMNS", "300")
    bare = empty_folder / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv("FACEOFF_PYTHON_JAX", str(bare))
    _, out, _ = run(["list"], capsys)
    assert f"{bare} -m pip install '{ROOT}[jax]'" in "".join(out.split("\n"))
    told = {"runs": False, "reason": "no [/x]", "versions": {}, "gpu": "pip install 'a[b]'", "next_step": ""}
    told.update(lacks={}, on_request=False)
    found = {"machine": describe_machine(), "cards": [], "no_card": "", "frameworks": {"jax": told}}
    monkeypatch.setattr("faceoff.commands.inventory.diagnose", lambda: found)
    _, out, _ = run(["doctor"], capsys)
    assert "no: no [/x]" in out
    assert "pip install 'a[b]'" in out


def test_an_atlas_that_cannot_be_written_is_found_out_before_anything_is_run(capsys, empty_folder, monkeypatch):
    monkeypatch.setattr("faceoff.defaults.find_defaults", lambda *arguments, **options: pytest.fail("it was run"))
    (empty_folder / "file").write_text("")
    status, _, err = run(["defaults", "--out", "file/atlas.json"], capsys)
    assert status == 2
    assert "cannot be written" in err
    assert len(err.splitlines()) == 1


def test_a_tilde_is_the_home_also_behind_an_equals_sign(capsys, empty_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(empty_folder / "home"))
    status, _, err = run(["report", "~/none.json"], capsys)
    assert status == 2
    assert str(empty_folder / "home" / "none.json") in err
