"""Nothing may be timed that computes less than it should: `faceoff bench` finds whoever returns what it had at hand.

The command runs from a copy of the sources in which PyTorch's models are made forgetful, hasty or idle, each batch size
in a way of its own (`FAULTS`), two of them in none. Half of the faults show in no value that is compared at the start.
"""

import json
import subprocess
import sys

import pytest

from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from tests.meta.test_faults import copy_sources, environment_of

pytestmark = pytest.mark.thorough

STEPS = ("inference", "gradients", "training")
EVERY = "disagrees with the reference"
REMEMBERED = "results are remembered"

# By batch size: what is wrong, the steps in which `bench` has to find it, and how the reason has to be told.
FAULTS = {
    4: ("GradientsUntilWeightsChange", STEPS, EVERY),
    6: ("OutputsOfEveryBatchKept", STEPS, EVERY),
    8: ("StaleGradients", STEPS, EVERY),
    10: ("SharedOutputs", STEPS, EVERY),
    12: ("SharedGradients", STEPS, EVERY),
    14: ("OutputsKeptUntilWeightsChange", ("inference",), REMEMBERED),
    16: ("GradientsKeptByContent", ("gradients",), REMEMBERED),
    18: ("OutputsOfTheFirstWeightsKept", ("inference",), REMEMBERED),
    20: ("TiredOfTraining", ("training",), "timed again from the starting weights"),
    22: ("TiredOfGradients", ("gradients",), "loss of "),
    128: ("TrainsOnSixtyFour", ("training",), "timed again from the starting weights"),
    192: ("TrainsOnHalf", ("training",), "timed again from the starting weights"),
    256: ("OutputsOfHalfTwice", ("inference",), "outputs of the last timed call"),
    320: ("GradientsOfHalf", ("gradients",), "loss of the last timed call"),
    100: ("", (), ""),
    131: ("", (), ""),
}

SOURCE = '''

import torch
from .graphs import PlacedBatch


def part(batch, rows):
    inputs = {n: value[rows] if n == "x" else value[:, rows] for n, value in batch.inputs.items()}
    return PlacedBatch(inputs, batch.targets[rows])


class Wrapped:
    """A model as it is, but for what its subclasses do to it."""

    def __init__(self, model):
        self.model, self.kept, self.calls = model, {}, 0

    def __getattr__(self, name):
        return getattr(self.model, name)


class Forgetting(Wrapped):
    """Forgets what it kept when weights change."""

    def train_step(self, batch):
        self.kept.clear()
        return self.model.train_step(batch)

    def reset(self, weights):
        self.kept.clear()
        self.model.reset(weights)


class GradientsUntilWeightsChange(Forgetting):
    def gradients(self, batch):
        if not self.kept:
            self.kept[0] = self.model.gradients(batch)
        return self.kept[0]


class OutputsOfEveryBatchKept(Wrapped):
    def forward(self, batch):
        # The batch is kept too, so that no other comes to lie in its place.
        if id(batch) not in self.kept:
            self.kept[id(batch)] = batch, self.model.forward(batch)
        return self.kept[id(batch)][1]


class OutputsKeptUntilWeightsChange(OutputsOfEveryBatchKept, Forgetting):
    pass


class OutputsOfTheFirstWeightsKept(OutputsOfEveryBatchKept):
    """As where weights become constants: never forgotten, and not used while other weights are held."""

    first = True

    def forward(self, batch):
        return super().forward(batch) if self.first else self.model.forward(batch)

    def train_step(self, batch):
        self.first = False
        return self.model.train_step(batch)

    def reset(self, weights):
        self.starting = getattr(self, "starting", None) or {name: value.copy() for name, value in weights.items()}
        self.first = all((value == weights[name]).all() for name, value in self.starting.items())
        self.model.reset(weights)


class GradientsKeptByContent(Forgetting):
    def gradients(self, batch):
        key = batch.inputs["x"].numpy().tobytes()
        if key not in self.kept:
            self.kept[key] = self.model.gradients(batch)
        return self.kept[key]


class StaleGradients(Wrapped):
    def gradients(self, batch):
        loss, *found = self.model.gradients(batch)
        shown, self.kept[0] = self.kept.get(0, found), found
        return (loss, *shown)


class SharedOutputs(Wrapped):
    def forward(self, batch):
        found = self.model.forward(batch)
        self.kept.setdefault(0, found.clone()).copy_(found)
        return self.kept[0]


class SharedGradients(Wrapped):
    def gradients(self, batch):
        found = self.model.gradients(batch)
        kept = self.kept.setdefault(0, [value.clone() for value in found])
        for buffer, value in zip(kept, found):
            buffer.copy_(value)
        return tuple(kept)


class TiredOfTraining(Wrapped):
    def train_step(self, batch):
        self.calls += 1
        if self.calls <= 30:
            self.kept[0] = self.model.train_step(batch)
        return self.kept[0]


class TiredOfGradients(Wrapped):
    """Each batch keeps what it gave at last, and a batch that never came gets what any other has."""

    def gradients(self, batch):
        self.calls += 1
        if self.calls <= 30 or not self.kept:
            self.kept[id(batch)] = self.model.gradients(batch)
        return self.kept.get(id(batch), next(iter(self.kept.values())))


class TrainsOnSixtyFour(Wrapped):
    def train_step(self, batch):
        return self.model.train_step(part(batch, slice(64)))


class TrainsOnHalf(Wrapped):
    def train_step(self, batch):
        size = len(batch.targets)
        return self.model.train_step(part(batch, slice(None, None, 2)) if size > 64 else batch)


class OutputsOfHalfTwice(Wrapped):
    def forward(self, batch):
        size = len(batch.targets)
        if size <= 64:
            return self.model.forward(batch)
        return torch.cat([self.model.forward(part(batch, slice(size // 2)))] * 2)


class GradientsOfHalf(Wrapped):
    def gradients(self, batch):
        size = len(batch.targets)
        if size <= 64:
            return self.model.gradients(batch)
        loss, *found = self.model.gradients(part(batch, slice(size // 2)))
        x = found.pop()
        return (loss, *found, torch.cat([x, x]) / 2)


class Faulty(PyTorchRuntime):
    def build(self, workload, weights, mode):
        model = super().build(workload, weights, mode)
        name = FAULTS.get(workload.batch_size, "")
        return globals()[name](model) if name else model


RUNTIME = Faulty()
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The exit status and the cases of one run, by batch size and step."""
    if not find_installation(FRAMEWORKS["pytorch"], Configuration()).installed:
        pytest.skip("pytorch is not installed")
    tree = tmp_path_factory.mktemp("timed")
    copy_sources(tree)
    names = {size: fault for size, (fault, _, _) in FAULTS.items()}
    with (tree / "impls" / "pytorch" / "__init__.py").open("a") as file:
        file.write(f"{SOURCE}\nFAULTS = {names}\n")
    options = ["--preset", "small", "--models", "dense", "--contenders", "pytorch:eager", "--steps", ",".join(STEPS)]
    options += ["--batch-size", ",".join(map(str, FAULTS)), "--budget", "quick", "--threads", "1", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "faceoff", "bench", *options, "--out", str(tree / "out")],
        cwd=tree, env=environment_of(tree), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (tree / "out" / "result.json").exists(), done.stderr
    cases = json.loads((tree / "out" / "result.json").read_text())["faceoff"]["cases"]
    return done.returncode, {(case["workload"]["batch_size"], case["workload"]["step"]): case for case in cases}


def test_the_command_ends_with_1_and_times_every_step_of_every_size(run):
    status, cases = run
    assert status == 1
    assert set(cases) == {(size, step) for size in FAULTS for step in STEPS}


@pytest.mark.parametrize("size", FAULTS, ids=lambda size: f"{size}-{FAULTS[size][0] or 'right'}")
def test_what_is_wrong_is_found_in_its_steps_and_no_other_is_accused(run, size):
    _, found_in, told = FAULTS[size]
    for step in STEPS:
        case = run[1][size, step]
        assert (case["outcome"], bool(case["speed"])) == (("disagrees", False) if step in found_in else ("ok", True))
        assert (told if step in found_in else "") in case["reason"]
