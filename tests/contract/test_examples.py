"""Every example of a user's own model agrees on all its sides, in float64 and float32, as its reader would run it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from faceoff import load
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from tests.contract.plain import ROOT, faceoff

EXAMPLES = {path.parent.name: path for path in sorted((ROOT / "impls" / "examples").glob("*/port.toml"))}
LONGEST_README = 40


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.thorough
def test_an_example_agrees(name: str, tmp_path: Path) -> None:
    told = tomllib.loads(EXAMPLES[name].read_text())
    here = [side for side in told["sides"] if find_installation(FRAMEWORKS[side], Configuration()).installed]
    if told["reference"] not in here or len(here) < 2:
        pytest.skip(f"of {', '.join(told['sides'])} too few are installed")
    # One mode of each side: the others compile the same code, for minutes.
    chosen = ",".join(f"{side}:{FRAMEWORKS[side].modes_on('cpu')[0]}" for side in here)
    models = ("--models", str(EXAMPLES[name].parent), "--contenders", chosen)
    done = faceoff(tmp_path, "agree", *models, "--out", "out", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = load(tmp_path / "out" / "result.json").agreements
    checked = {check.contender.partition(":")[0] for check in checks if check.outcome == "ok"}
    assert checked == set(here)
    assert {str(check.workload["dtype"]) for check in checks} == {"float64", "float32"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_it_shows_and_how_to_run_it(name: str) -> None:
    lines = (EXAMPLES[name].parent / "README.md").read_text().splitlines()
    assert len(lines) <= LONGEST_README
    assert any(f"faceoff agree --models impls/examples/{name}" in line for line in lines)
