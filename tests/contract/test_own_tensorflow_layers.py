"""Layers of a user's own Keras model, against PyTorch's: recorded, fed, and the one that makes a difference named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faceoff.agreement.check import blank, path_of
from faceoff.agreement.comparison import without_value
from faceoff.agreement.layer_pairs import calls_of
from faceoff.agreement.own import OwnExpected
from faceoff.core.own import Port
from faceoff.core.spec import Contender, Optimiser, Workload
from faceoff.pool.workers import Pool
from faceoff.ports.opening import open_port
from faceoff.results.agreements import Agreement
from faceoff.workloads.task import Task
from tests.conftest import new_pool
from tests.contract import own_tensorflow_files as files

GRAPH, REFERENCE = Contender("tensorflow", "graph"), Contender("pytorch", "eager")
LAYERS = [
    "stem", "blocks.0.conv1", "blocks.0.norm1", "blocks.0.conv2", "blocks.0.norm2", "blocks.0.shortcut", "blocks.0",
    "blocks.1.conv1", "blocks.1.norm1", "blocks.1.conv2", "blocks.1.norm2", "blocks.1.shortcut", "blocks.1", "up",
    "head",
]  # fmt: skip


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pool]]:
    logs = tmp_path_factory.mktemp("logs")
    with new_pool([GRAPH], logs / "keras") as keras, new_pool([REFERENCE], logs / "reference") as reference:
        for error in [*keras.failures.values(), *reference.failures.values()]:
            pytest.skip(str(error))
        yield {"tensorflow": keras, "pytorch": reference}


def worker_of(pools: dict[str, Pool], framework: str):
    return pools[framework].worker({"tensorflow": GRAPH, "pytorch": REFERENCE}[framework])


def opened(pools: dict[str, Pool], folder: Path) -> Port:
    return open_port(folder, lambda framework: worker_of(pools, framework), 0)


def look(pools: dict[str, Pool], port: Port) -> Agreement:
    """What the layers tell of a port whose outputs and loss were found to differ."""
    task = Task.seeded(Workload(port.spec, 4, step="training", optimiser=Optimiser("sgd")), 0)
    expected = OwnExpected(task, 0, lambda: worker_of(pools, "pytorch"), "eager")
    agreement = blank(task.workload, GRAPH, "float64", again="again")
    agreement.quantities = [without_value(name, "differs") for name in ("outputs", "loss")]
    agreement.path = path_of(agreement.quantities)
    agreement.outcome = "disagrees"
    expected.look_at_layers(agreement, worker_of(pools, "tensorflow"), "graph", "float64")
    return agreement


@pytest.mark.thorough
def test_every_paired_layer_is_compared_as_it_comes_and_fed(pools, tmp_path):
    agreement = look(pools, opened(pools, files.write(tmp_path, "residual")))
    assert not agreement.first_difference
    for mode in ("inference", "training"):
        names = [point.name for point in agreement.path if point.name.endswith(f"({mode})")]
        assert [name.removeprefix("output of ").removesuffix(f" ({mode})") for name in names] == LAYERS
    fed = [point for point in agreement.path if point.fed_agrees is not None]
    assert len(fed) == 2 * len(LAYERS)
    assert all(point.agrees and point.fed_agrees for point in fed)


@pytest.mark.parametrize(
    ("name", "there", "written", "place"),
    [
        ("residual", "layers.DepthwiseConv2D(3, padding", "layers.DepthwiseConv2D(3, dilation_rate=2, padding",
         "blocks.0.conv2, there blocks/0/conv2 (inference)"),
        ("residual", "self.norm1 = BatchNorm(momentum=0.9, epsilon=1e-5)", "self.norm1 = BatchNorm(momentum=0.9)",
         "blocks.0.norm1, there blocks/0/norm1 (inference)"),
        ("residual", "softplus(y + self", "softplus(y - self",
         "blocks.0, there blocks/0, after blocks.0.shortcut (inference)"),
        ("dense", 'activation="silu"', 'activation="gelu"', "between second and head (inference)"),
        ("gru", "layers.GRU(7, ", 'layers.GRU(7, recurrent_activation="hard_sigmoid", ', "gru (inference)"),
    ],
    ids=["dilation", "epsilon", "sign", "activation", "gates"],
)  # fmt: skip
@pytest.mark.thorough
def test_a_fault_is_blamed_on_the_layer_that_makes_it(pools, tmp_path, name, there, written, place):
    agreement = look(pools, opened(pools, files.write(tmp_path, name, there, written)))
    assert agreement.first_difference == place
    assert agreement.is_placed


@pytest.mark.parametrize("name", ["dense", "residual"])
def test_recording_and_feeding_change_nothing(pools, tmp_path, name):
    port, worker = opened(pools, files.write(tmp_path, name)), worker_of(pools, "tensorflow")
    task = Task.seeded(Workload(port.spec, 4, "float64", step="training"), 0)
    worker.request("build", workload=task.workload.to_json(), mode="graph", weights=task.weights)
    worker.request("load", batches=[task.batches[0].to_json()])
    outputs = worker.request("forward", indices=[0])["outputs"][0]
    last = port.side("tensorflow").weights["head.weight"].path.partition("/")[0]
    for training in (False, True):
        reply = worker.request("layers", index=0, training=training)
        calls = calls_of(reply)
        # What is fed with its own is what it was.
        forced = {name: {"inputs": call.inputs, "outputs": call.outputs} for name, call in calls.items()}
        again = worker.request("layers", index=0, training=training, forced=forced)
        np.testing.assert_allclose(again["outputs"], reply["outputs"], rtol=1e-12)
        doubled = {last: {"inputs": [None], "outputs": [2 * calls[last].outputs[0]]}}
        other = worker.request("layers", index=0, training=training, forced=doubled)
        np.testing.assert_allclose(other["outputs"], 2 * reply["outputs"], rtol=1e-12)
        np.testing.assert_array_equal(calls_of(other)[last].outputs[0], calls[last].outputs[0])
    np.testing.assert_allclose(worker.request("layers", index=0, training=False)["outputs"], outputs, rtol=1e-10)
    np.testing.assert_array_equal(worker.request("forward", indices=[0])["outputs"][0], outputs)
    for weight, value in worker.request("weights").items():
        np.testing.assert_array_equal(value, task.weights[weight])


def test_an_activation_is_no_part_of_the_layer_before_it(pools, tmp_path):
    port, worker = opened(pools, files.write(tmp_path, "dense")), worker_of(pools, "tensorflow")
    task = Task.seeded(Workload(port.spec, 4, "float64", step="training"), 0)
    worker.request("build", workload=task.workload.to_json(), mode="graph", weights=task.weights)
    worker.request("load", batches=[task.batches[0].to_json()])
    second = port.side("tensorflow").weights["second.weight"].path.partition("/")[0]
    call = calls_of(worker.request("layers", index=0, training=False))[second]
    weights = task.weights
    products = call.inputs[0] @ weights["second.weight"].T + weights["second.bias"]
    np.testing.assert_allclose(call.outputs[0], products, rtol=1e-12)
