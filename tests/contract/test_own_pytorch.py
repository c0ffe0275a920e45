"""A user's own PyTorch module through real workers: what it holds, its noise, and that it agrees with itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faceoff.agreement.own import OwnExpected
from faceoff.agreement.quantities import contender_quantities
from faceoff.core.errors import WorkerError
from faceoff.core.own import Input, Placed, Port, PortSide, Targets
from faceoff.core.spec import Contender, Optimiser, Workload
from faceoff.pool.workers import Pool
from faceoff.results.agreements import BELOW_FLOAT32
from faceoff.workloads.task import Task
from tests.conftest import new_pool

MODULE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.conv = nn.Conv1d(12, 16, 3, padding=1)
        self.norm = nn.BatchNorm1d(16)
        self.last = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)
        self.drop = nn.Dropout(0.5)

    def forward(self, tokens, x):
        h = self.embed(tokens) + x
        h = torch.tanh(self.norm(self.conv(h.transpose(1, 2)))).transpose(1, 2)
        return self.head(self.drop(self.last(h).mean(1)))


def build():
    return Net()
"""
EAGER, COMPILE = Contender("pytorch", "eager"), Contender("pytorch", "compile")
INPUTS = (Input("tokens", (7,), "int64", 20), Input("x", (7, 12)))


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pool, Pool]]:
    """That of the contenders, and that of the reference side."""
    logs = tmp_path_factory.mktemp("logs")
    contenders, reference = new_pool([EAGER, COMPILE], logs), new_pool([EAGER], logs / "reference")
    if error := contenders.failures.get(EAGER):
        pytest.skip(str(error))
    yield contenders, reference
    contenders.close()
    reference.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "module.py"
    path.write_text(MODULE)
    return path


@pytest.fixture(scope="module")
def port(pools: tuple[Pool, Pool], file: Path) -> Port:
    """As it opens, every weight under its own name."""
    reply = pools[0].worker(EAGER).request("open_side", file=str(file), seed=0)
    placed, shapes, initial = {}, {}, {}
    for weight in reply["weights"]:
        name = f"{weight['path'].rpartition('.')[0]}.{weight['part']}"
        array, axes = reply["arrays"][weight["path"]], tuple(weight["axes"])
        shapes[name] = tuple(array.shape[axis] for axis in np.argsort(axes))
        placed[name] = Placed(weight["path"], axes)
        initial[name] = placed[name].to_canonical(array, shapes[name])
    sides = {"pytorch": PortSide(str(file), placed)}
    return Port("mine", INPUTS, Targets((), 5), "cross-entropy", -1, shapes, sides, "pytorch", initial=initial)


def test_it_says_what_it_holds(port: Port) -> None:
    assert port.weights == {
        "embed.weight": (20, 12), "conv.weight": (16, 3, 12), "conv.bias": (16,), "norm.scale": (16,),
        "norm.bias": (16,), "norm.mean": (16,), "norm.variance": (16,), "last.scale": (16,), "last.bias": (16,),
        "head.weight": (5, 16), "head.bias": (5,),
    }  # fmt: skip


OWN_LINEAR = """
import torch
from torch import nn


class Turned(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(inputs, outputs)), nn.Parameter(torch.zeros(outputs))


class Usual(Turned):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.weight = nn.Parameter(torch.ones(outputs, inputs))


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.zeros(4))


def build():
    return nn.ModuleDict({"a": Turned(3, 4), "b": Turned(4, 4), "c": Usual(3, 4), "d": Usual(4, 4), "e": Odd()})
"""


def test_a_linear_layer_of_another_class_is_known_by_its_bias(pools: tuple[Pool, Pool], tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(OWN_LINEAR)
    told = pools[0].worker(EAGER).request("open_side", file=str(path), seed=0)["weights"]
    kinds = {weight["path"]: (weight["layer"], list(weight["axes"])) for weight in told if weight["part"] == "weight"}
    assert kinds == {
        "a.weight": ("linear", [1, 0]), "b.weight": ("linear", [1, 0]),
        "c.weight": ("linear", [0, 1]), "d.weight": ("linear", [0, 1]),
        "e.weight": ("", [0, 1]),
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [pytest.param("sgd", marks=pytest.mark.thorough), pytest.param("momentum", marks=pytest.mark.thorough), "adam"],
)
def test_it_agrees_with_its_own_reference_within_a_few_noise_units(
    pools: tuple[Pool, Pool], port: Port, kind: str
) -> None:
    task = Task.seeded(Workload(port.spec, 6, step="training", optimiser=Optimiser(kind)), 0)
    expected = OwnExpected(task, 0, lambda: pools[1].worker(EAGER), "eager")
    for dtype in ("float64", "float32", *(("bfloat16",) if kind != "adam" else ())):
        got = contender_quantities(pools[0].worker(EAGER), task, "eager", dtype)
        quantities, _ = expected.judge(got, dtype)
        assert all(quantity.agrees for quantity in quantities), [q for q in quantities if not q.agrees]
        # A noise that is far too wide would let everything agree.
        units = [q.noise_units for q in quantities if q.noise_units]
        assert 0.02 < np.median(units) < 3, dtype


@pytest.mark.thorough
def test_what_is_compiled_agrees_too(pools: tuple[Pool, Pool], port: Port) -> None:
    task = Task.seeded(Workload(port.spec, 6, step="training"), 1)
    expected = OwnExpected(task, 1, lambda: pools[1].worker(EAGER), "eager")
    got = contender_quantities(pools[0].worker(COMPILE), task, "compile", "float32")
    quantities, _ = expected.judge(got, "float32")
    assert all(quantity.agrees for quantity in quantities), [q for q in quantities if not q.agrees]


@pytest.mark.parametrize(("size", "agrees"), [(1e-3, False), (1e-9, True)])
def test_a_fault_stands_far_above_the_noise_and_one_below_float32_is_named(
    pools: tuple[Pool, Pool], port: Port, size: float, agrees: bool
) -> None:
    task = Task.seeded(Workload(port.spec, 6, step="training"), 0)
    expected = OwnExpected(task, 0, lambda: pools[1].worker(EAGER), "eager")
    wrong = {name: value * (1 + size * (name == "last.bias")) for name, value in task.weights.items()}
    got = contender_quantities(pools[0].worker(EAGER), Task(task.workload, wrong, task.batches), "eager", "float64")
    quantities, note = expected.judge(got, "float64")
    failing = [quantity for quantity in quantities if not quantity.agrees]
    assert (not failing) == agrees
    if agrees:
        assert f"{BELOW_FLOAT32}: outputs by" in note
    else:
        assert failing[0].name == "outputs"
        assert failing[0].noise_units > 1e6


def test_several_tasks_may_take_turns_with_one_reference(pools: tuple[Pool, Pool], port: Port) -> None:
    def expected(optimiser: str) -> OwnExpected:
        task = Task.seeded(Workload(port.spec, 6, step="training", optimiser=Optimiser(optimiser)), 0)
        return OwnExpected(task, 0, lambda: pools[1].worker(EAGER), "eager")

    alone, first, second = expected("sgd"), expected("sgd"), expected("adam")
    first.noise("float32")
    assert second.noise("float32").keys() > first.noise("float32").keys()
    found, wanted = first.larger_noise("float32"), alone.larger_noise("float32")
    assert {name: noise.rms for name, noise in found.items()} == {name: noise.rms for name, noise in wanted.items()}


def test_the_program_is_taken_apart_whole(pools: tuple[Pool, Pool], port: Port) -> None:
    task = Task.seeded(Workload(port.spec, 6, step="training", optimiser=Optimiser("adam")), 0)
    expected = OwnExpected(task, 0, lambda: pools[1].worker(EAGER), "eager")
    expected.noise("float32")
    assert expected.left_whole == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package", "no_such_package"),
        ("x = 1", "no function `build`"),
        ("def build():\n    return 3", "returns no module"),
        ("def build():\n    raise ValueError('sizes')", "ValueError: sizes"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    pools: tuple[Pool, Pool], tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    with pytest.raises(WorkerError, match=r"module\.py") as caught:
        pools[0].worker(EAGER).request("open_side", file=str(path), seed=0)
    assert said in str(caught.value)
