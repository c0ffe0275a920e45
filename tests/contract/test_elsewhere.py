"""A framework whose folder lies outside the project, and which `faceoff.toml` names, is one like any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import load

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).parent / "elsewhere" / "plain"


@pytest.fixture
def faceoff(tmp_path: Path) -> Any:
    """Runs a command in a working folder whose `faceoff.toml` names the framework."""
    (tmp_path / "faceoff.toml").write_text(f'[frameworks.plain]\npath = "{PLAIN}"\n')

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def test_it_is_listed(faceoff: Any) -> None:
    told = json.loads(faceoff("list", "--json").stdout)
    assert told["frameworks"]["plain"]["contenders"] == ["plain:eager", "plain:tuned"]
    assert told["frameworks"]["plain"]["installed"]


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_it_is_checked_timed_and_drawn(faceoff: Any, tmp_path: Path, optimiser: str) -> None:
    options = ("--preset", "small", "--models", "dense", "--contenders", "plain", "--optimiser", optimiser)
    done = faceoff("bench", *options, "--budget", "quick", "--steps", "inference,training", "--out", "out", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(tmp_path / "out" / "result.json")
    assert {agreement.outcome for agreement in result.agreements} == {"ok"}
    assert {agreement.workload["dtype"] for agreement in result.agreements} == {"float64", "float32"}
    assert [case.contender for case in result.cases] == ["plain:eager"] * 2
    assert "plain:eager" in (tmp_path / "out" / "page.html").read_text()


def test_what_is_wrong_in_it_is_found(faceoff: Any, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in PLAIN.glob("*.*"):
        (folder / file.name).write_text(file.read_text().replace("grad /= len(x)", "grad /= len(x) + 1"))
    (tmp_path / "faceoff.toml").write_text('[frameworks.plain]\npath = "plain"\n')
    done = faceoff(
        "agree", "--preset", "small", "--models", "dense", "--contenders", "plain", "--out", "out", "--quiet"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "first difference: gradient of 'layer.2.bias' (backward)" in done.stdout + done.stderr
