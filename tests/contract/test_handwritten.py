"""The comparison with hand-written code runs, and says what it cannot run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tests.benchmarks.handwritten"]


@pytest.mark.parametrize("contender", ["pytorch:eager", "tensorflow:graph", "jax:jit"])
def test_a_contender_is_compared_with_hand_written_code(contender, tmp_path):
    installation = find_installation(FRAMEWORKS[contender.partition(":")[0]], Configuration())
    if not installation.installed:
        pytest.skip(installation.reason)
    options = ["--preset", "small", "--models", "dense", "--passes", "1", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        [*COMMAND, contender, *options], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["step"] for row in found["rows"]] == ["inference", "gradients", "training"], done.stdout
    assert found["not_run"] == []
    assert found["settings"][contender]["versions"]
    assert done.returncode == int(any(row["ratio"] > found["limit"] for row in found["rows"]))
