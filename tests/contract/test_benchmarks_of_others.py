"""A benchmark in somebody else's repository: two lines, and the options say what is run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.core.spec import Contender

ROOT = Path(__file__).resolve().parents[2]
TEST = """
def test_speed(measured_case):
    assert measured_case.workload["batch_size"] == 3
    assert measured_case.speed.time_s > 0
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "test_mine.py").write_text(TEST)
    return tmp_path


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    # These tests may themselves run in one process of several, in which pytest-benchmark would not measure.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-only", *more]
    environment["PYTHONPATH"] = str(ROOT / "harness")
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.thorough
def test_it_runs_what_the_options_say_and_tells_first_what_it_may_cost(repository: Path, lightest: Contender) -> None:
    done = run(
        repository, "--faceoff-preset=small", "--faceoff-models=dense", "--faceoff-batch-size=3,4",
        "--faceoff-workload=dense-12-16-8-5-tanh-b3", f"--faceoff-contenders={lightest}", "--faceoff-steps=inference",
        "--faceoff-threads=1", "--faceoff-timeout=120", "--faceoff-out=out",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    told, started = done.stdout.index("faceoff: 1 entry of 1 contenders"), done.stdout.index("test_mine.py")
    assert "s on two cores" in done.stdout
    assert told < started
