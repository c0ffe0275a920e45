"""Every example of a user's own model agrees on all its sides, in float64 and float32, as its reader would run it."""

from __future__ import annotations

import tomllib

import pytest

from faceoff import load
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.agreements import Agreement
from tests.contract.plain import ROOT, faceoff

EXAMPLES = {path.parent.name: path for path in sorted((ROOT / "impls" / "examples").glob("*/port.toml"))}
LONGEST_README = 40


@pytest.fixture(scope="module")
def sides() -> list[str]:
    """Of all examples, those that are installed."""
    told = [tomllib.loads(path.read_text()) for path in EXAMPLES.values()]
    assert all((set(one["sides"]), one["reference"]) == (set(told[0]["sides"]), told[0]["reference"]) for one in told)
    here = [side for side in told[0]["sides"] if find_installation(FRAMEWORKS[side], Configuration()).installed]
    if told[0]["reference"] not in here or len(here) < 2:
        pytest.skip(f"of {', '.join(told[0]['sides'])} too few are installed")
    return here


@pytest.fixture(scope="module")
def checks(sides: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Agreement]:
    """Of all examples in one run, as each start of the frameworks takes as long as a check."""
    folder = tmp_path_factory.mktemp("examples")
    # One mode of each side: the others compile the same code, for minutes.
    chosen = ",".join(f"{side}:{FRAMEWORKS[side].modes_on('cpu')[0]}" for side in sides)
    models = ",".join(str(path.parent) for path in EXAMPLES.values())
    done = faceoff(folder, "agree", "--models", models, "--contenders", chosen, "--out", "out", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    return load(folder / "out" / "result.json").agreements


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.thorough
def test_an_example_agrees(name: str, sides: list[str], checks: list[Agreement]) -> None:
    of_it = [check for check in checks if check.workload["model"]["name"] == name]
    assert {check.contender.partition(":")[0] for check in of_it if check.outcome == "ok"} == set(sides)
    assert {str(check.workload["dtype"]) for check in of_it} == {"float64", "float32"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_it_shows_and_how_to_run_it(name: str) -> None:
    lines = (EXAMPLES[name].parent / "README.md").read_text().splitlines()
    assert len(lines) <= LONGEST_README
    assert any(f"faceoff agree --models impls/examples/{name}" in line for line in lines)
