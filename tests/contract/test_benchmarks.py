"""pytest-benchmark drives the engine: entries, saved runs, comparisons, and a failure when it got slower."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.core.spec import Contender

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory, lightest: Contender):
    """Runs the benchmarks of a small dense model with more options."""
    folder = tmp_path_factory.mktemp("benchmarks")

    def start(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "tests/benchmarks", "--benchmark-only", "-p", "no:cacheprovider"]
        command += ["--faceoff-preset", "small", "--faceoff-models", "dense", "--faceoff-contenders", str(lightest)]
        command += ["--faceoff-out", str(folder / "out"), "--benchmark-storage", str(folder / "storage"), *more]
        # These tests may themselves run in one process of several, in which pytest-benchmark would not measure.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    start.folder = folder  # type: ignore[attr-defined]
    return start


def test_the_loop_around_a_timed_call_is_measured():
    command = [sys.executable, "-m", "tests.benchmarks.loop", "--rounds", "3", "--calls", "50", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    found = json.loads(done.stdout)
    assert 0 < found["empty_call_ns"] < math.inf
    assert done.returncode == int(found["added_ns"] >= found["limit_ns"])


def test_entries_tables_files_and_comparisons_work(run, lightest):
    saved = run("--benchmark-save=before", f"--benchmark-json={run.folder / 'b.json'}")
    assert saved.returncode == 0, saved.stdout
    assert "2 passed" in saved.stdout
    assert f"training-sgd-{lightest}" in saved.stdout
    entries = json.loads((run.folder / "b.json").read_text())["benchmarks"]
    assert {entry["extra_info"]["step"] for entry in entries} == {"inference", "training"}
    for entry in entries:
        assert entry["group"] == entry["name"].split("[")[1].rpartition("-" + str(lightest))[0]
        assert entry["extra_info"]["agrees"] is True
        assert entry["extra_info"]["versions"]
        assert 0 < entry["stats"]["min"] <= entry["stats"]["median"] <= entry["stats"]["max"]
        assert len(entry["stats"]["data"]) == entry["stats"]["rounds"] >= 5

    compared = run("--benchmark-compare", "-k", "inference")
    assert compared.returncode == 0, compared.stdout
    assert "(0001_before)" in compared.stdout
    # No run is a hundred times as slow as another, but as one that is said to have been a million times as fast.
    (path,) = (run.folder / "storage").rglob("0001_before.json")
    document = json.loads(path.read_text())
    for entry in document["benchmarks"]:
        for name in ("min", "max", "mean", "median", "q1", "q3"):
            entry["stats"][name] /= 1e6
    path.with_name("0002_faster.json").write_text(json.dumps(document))
    for number, regressed in (("0001", False), ("0002", True)):
        judged = run(f"--benchmark-compare={number}", "--benchmark-compare-fail=median:10000%", "-k", "inference")
        assert (judged.returncode != 0) == regressed, judged.stdout
        assert ("Performance has regressed" in judged.stdout + judged.stderr) == regressed


def test_the_options_set_the_budget(run):
    path = run.folder / "few.json"
    done = run("--benchmark-min-rounds=3", "--benchmark-max-time=0.001", f"--benchmark-json={path}", "-k", "inference")
    assert done.returncode == 0, done.stdout
    (entry,) = json.loads(path.read_text())["benchmarks"]
    # Whole passes over two processes: the fewest that make three rounds.
    assert entry["stats"]["rounds"] == 4


def test_bad_options_are_refused_with_what_was_expected(run):
    refused = run("--faceoff-steps", "evaluation")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in refused.stdout + refused.stderr
    assert "one of inference, gradients, training" in refused.stderr
