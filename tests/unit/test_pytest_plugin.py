"""pytest-benchmark's own options set the engine's budget."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.core.errors import InputError
from faceoff.pytest_plugin import _budget
from faceoff.speed.budget import Budget

ROOT = Path(__file__).resolve().parents[2]
# As pytest-benchmark has them unless they are given.
DEFAULTS = {
    "benchmark_min_rounds": 5,
    "benchmark_max_time": 1.0,
    "benchmark_min_time": 0.000005,
    "benchmark_warmup": False,
}


def run_pytest(folder, *options):
    """Of a repository with one benchmark."""
    (folder / "test_a.py").write_text("def test_speed(measured_case):\n    pass\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_a.py"],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT / "harness")},
    )  # fmt: skip


class Config:
    """Answers as pytest's configuration does."""

    def __init__(self, **options):
        self.options = {**DEFAULTS, **options}

    def getoption(self, name):
        return self.options[name]


def test_rounds_are_counted_over_the_processes():
    assert _budget(Config()).min_passes == 3
    assert _budget(Config(benchmark_min_rounds=1)).min_passes == 1


def test_more_time_is_used_however_short_the_calls_are():
    assert _budget(Config()).max_passes == Budget().max_passes
    long = _budget(Config(benchmark_max_time=30.0))
    assert long.max_passes * long.processes * long.min_round_s == pytest.approx(long.max_time_s)
    assert _budget(Config(benchmark_min_rounds=1000)).max_passes == 500


def test_a_round_may_be_made_longer_and_not_shorter():
    assert _budget(Config(benchmark_min_time=0.1)).min_round_s == 0.1
    assert _budget(Config()).min_round_s == Budget().min_round_s


def test_a_contender_is_warmed_up_when_asked_for():
    assert _budget(Config()).max_warmup_s == 0
    assert _budget(Config(benchmark_warmup=True)).max_warmup_s == Budget().max_warmup_s


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_is_refused(seconds):
    with pytest.raises(InputError, match="more than 0 s"):
        _budget(Config(benchmark_max_time=seconds))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--faceoff-models=lstmm", "lstmm"),
        ("--faceoff-seed=x", "'x'"),
        ("--faceoff-preset=none", "none"),
        ("--faceoff-batch-size=two", "two"),
        ("--faceoff-threads=0", "threads"),
        ("--faceoff-threads=1.5", "threads: not a whole number"),
        ("--faceoff-timeout=long", "timeout: not a number"),
        ("--faceoff-dtype=float8", "float8"),
        ("--faceoff-contenders=mxnet", "mxnet"),
        ("--faceoff-out=/dev/null/x", "another folder with --faceoff-out"),
        ("--faceoff-timeout=-1", "timeout"),
        ("--faceoff-workload=no-such", "no-such"),
    ],
)
def test_a_typing_error_in_an_option_is_one_line(option, said, tmp_path):
    run = run_pytest(tmp_path, "-p", "no:xdist", option)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("ERROR: faceoff: ")
    assert said in lines[0]


def test_under_xdist_it_refuses_in_one_line(tmp_path):
    run = run_pytest(tmp_path, "-n", "2")
    assert run.returncode != 0
    assert "Traceback" not in run.stdout + run.stderr
    assert "faceoff: speed is measured in one process; run with -n 0" in run.stdout + run.stderr


def test_a_settings_file_that_is_damaged_shows_no_traceback_either(tmp_path):
    (tmp_path / "faceoff.toml").write_text("[interpreters\n")
    run = run_pytest(tmp_path, "-p", "no:xdist")
    assert run.returncode != 0
    assert "Traceback" not in run.stdout + run.stderr
    assert "faceoff.toml: cannot be read" in run.stdout + run.stderr
