"""The check of agreement fails when it should: faults planted in a copy of the sources, found and named by the command.

Nothing here is simulated: the copy is a whole tree, its implementation is edited as a mistaken author would write it,
and `faceoff agree` is run from it. `test_fault_catalogue.py` has many more faults, without the command.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]

# framework, contender, file, what stands there, what the mistaken author wrote, model, a layer or weight it must name
FAULTS = {
    "pytorch swaps the input and forget gate": (
        "pytorch:eager", "lstm.py",
        "        hidden, (last, _) = self.recurrent(x, (h0, c0))",
        "        with torch.no_grad():\n"
        "            for weight in self.recurrent.parameters():\n"
        "                i, f, g, o = weight.detach().clone().chunk(4)\n"
        "                weight.copy_(torch.cat([f, i, g, o]))\n"
        "        hidden, (last, _) = self.recurrent(x, (h0, c0))",
        "lstm", "layer.0",
    ),
    "jax drops the bias": (
        "jax:jit", "lstm.py", "@ kernel + self.dense_h.bias[...]", "@ kernel", "lstm", "layer.0",
    ),
    "tensorflow uses keras' own epsilon": (
        "tensorflow:eager", "residual.py", "epsilon=spec.epsilon", "epsilon=1e-3", "residual", "stem",
    ),
}  # fmt: skip


def copy_sources(tree: Path) -> None:
    """Copies everything that a run needs to `tree`."""
    for package in ("harness", "impls"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))


def environment_of(tree: Path) -> dict[str, str]:
    """The variables with which the command runs from the copy."""
    return {**os.environ, "PYTHONPATH": str(tree / "harness")}


def plant(tree: Path, contender: str, file: str, there: str, written: str) -> None:
    """Copies the sources to `tree` and replaces text in one file of the contender's implementation."""
    copy_sources(tree)
    path = tree / "impls" / contender.partition(":")[0] / file
    text = path.read_text()
    assert text.count(there) == 1, f"{file} no longer holds {there!r} once: mend this test"
    path.write_text(text.replace(there, written))


def agree(tree: Path, contender: str, model: str) -> tuple[int, dict, str]:
    """Runs the check from `tree`; returns exit status, result and what was printed."""
    options = ["--preset", "small", "--models", model, "--contenders", contender, "--dtype", "float64"]
    run = subprocess.run(
        [sys.executable, "-m", "faceoff", "agree", *options, "--out", str(tree / "out"), "--quiet"],
        cwd=tree, env=environment_of(tree), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (tree / "out" / "result.json").exists(), run.stderr
    return run.returncode, json.loads((tree / "out" / "result.json").read_text())["faceoff"], run.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_ends_with_1_and_is_named(tmp_path, fault):
    contender, file, there, written, model, place = FAULTS[fault]
    framework = FRAMEWORKS[contender.partition(":")[0]]
    if not find_installation(framework, Configuration()).installed:
        pytest.skip(f"{framework.name} is not installed")
    plant(tmp_path, contender, file, there, written)
    status, result, printed = agree(tmp_path, contender, model)
    assert status == 1
    (agreement,) = result["agreements"]
    assert agreement["outcome"] == "disagrees"
    assert "AgreementError" in printed
    assert contender in printed
    assert f"--workload {model}-" in agreement["again"]
    found = agreement["first_difference"] + agreement["message"] + json.dumps(
        [quantity["name"] for quantity in agreement["quantities"] if not quantity["agrees"]]
    )  # fmt: skip
    assert place in found
    if place.startswith(("layer", "stem", "stage")):
        assert agreement["first_difference"].startswith(place)


def test_the_unharmed_copy_agrees(tmp_path):
    for contender in ("jax:jit", "pytorch:eager", "tensorflow:graph"):
        if find_installation(FRAMEWORKS[contender.partition(":")[0]], Configuration()).installed:
            copy_sources(tmp_path)
            status, _, printed = agree(tmp_path, contender, "lstm")
            assert status == 0, printed
            return
    pytest.skip("no framework is installed")
