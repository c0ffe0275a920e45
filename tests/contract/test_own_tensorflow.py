"""Users' own Keras models, through real workers: what they hold, against PyTorch's, faults, losses, bad files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceoff import load
from faceoff.agreement.own import OwnExpected
from faceoff.agreement.quantities import contender_quantities
from faceoff.core.errors import InputError, WorkerError
from faceoff.core.own import Input, Placed, Port, PortSide, Targets
from faceoff.core.spec import Contender, Optimiser, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.pool.workers import Pool
from faceoff.ports.opening import open_port
from faceoff.results.agreements import Quantity
from faceoff.workloads.task import Task
from tests.conftest import new_pool
from tests.contract import own_tensorflow_files as files
from tests.contract.own_losses import LOSSES, cross_entropy, own_in
from tests.contract.plain import ROOT, edit, faceoff

EAGER, REFERENCE = Contender("tensorflow", "eager"), Contender("pytorch", "eager")
GRAPH, XLA = Contender("tensorflow", "graph"), Contender("tensorflow", "xla")
EXAMPLE = ROOT / "impls" / "examples" / "transformer"


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pool, Pool]]:
    """That of Keras, and that of the reference side."""
    logs = tmp_path_factory.mktemp("logs")
    with new_pool([EAGER, GRAPH, XLA], logs) as keras, new_pool([REFERENCE], logs / "reference") as reference:
        for error in [*keras.failures.values(), *reference.failures.values()]:
            pytest.skip(str(error))
        yield keras, reference


@pytest.fixture
def worker(pools: tuple[Pool, Pool]):
    return pools[0].worker(EAGER)


def opened(pools: tuple[Pool, Pool], folder: Path) -> Port:
    """A model of two sides, its weights paired."""
    contenders = {"tensorflow": EAGER, "pytorch": REFERENCE}
    both = dict(zip(contenders, pools, strict=True))
    return open_port(folder, lambda framework: both[framework].worker(contenders[framework]), 0)


@pytest.fixture(scope="module")
def expectations() -> dict[str, OwnExpected]:
    """What the reference sides say, by the name of the model: whatever stands in the Keras side, they are the same."""
    return {}


def judged(
    pools: tuple[Pool, Pool], expectations: dict[str, OwnExpected], port: Port, dtype: str, contender: Contender = EAGER
) -> tuple[list[Quantity], str]:
    """Every quantity of the Keras side by the noise of PyTorch's, and the note."""
    optimiser = Optimiser(files.OPTIMISERS.get(port.name, "sgd"))
    task = Task.seeded(Workload(port.spec, 5, step="training", optimiser=optimiser), 0)
    if port.name not in expectations:
        expectations[port.name] = OwnExpected(task, 0, lambda: pools[1].worker(REFERENCE), "eager")
    got = contender_quantities(pools[0].worker(contender), task, contender.mode, dtype)
    quantities, note = expectations[port.name].judge(got, dtype)
    assert expectations[port.name].left_whole == []
    return quantities, note


def failing(quantities: list[Quantity]) -> list[Quantity]:
    return [quantity for quantity in quantities if not quantity.agrees]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "dense" else pytest.mark.thorough) for name in files.MODELS]
)
def test_a_right_port_agrees(pools, expectations, tmp_path, name):
    port = opened(pools, files.write(tmp_path, name))
    for contender, dtype in ((EAGER, "float64"), (EAGER, "float32"), (GRAPH, "float32"), (XLA, "float32")):
        quantities, note = judged(pools, expectations, port, dtype, contender)
        assert failing(quantities) == [], (contender, dtype)
        assert not note
        units = [quantity.noise_units for quantity in quantities if quantity.noise_units]
        # A noise that is far too wide would let everything agree.
        assert 0.02 < np.median(units) < 3, (contender, dtype)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "there", "written", "first"),
    [fault[1:] for fault in files.FAULTS],
    ids=[f"{fault[1]}: {fault[0]}" for fault in files.FAULTS],
)
def test_what_is_wrong_is_found(pools, expectations, tmp_path, name, there, written, first):
    port = opened(pools, files.write(tmp_path, name, there, written))
    quantities, _ = judged(pools, expectations, port, "float64")
    assert failing(quantities)[0].name.startswith(first)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("__pycache__"))
    edit(tmp_path / "example" / "port.toml", "[sides.jax]\n", "")
    return tmp_path / "example"


@pytest.mark.thorough
def test_the_example_agrees_without_a_rule_by_hand(pools, expectations, example, capsys):
    port = opened(pools, example)
    assert capsys.readouterr().err == ""
    quantities, note = judged(pools, expectations, port, "float64")
    assert failing(quantities) == []
    # Keras' GELU and its attention have a constant each in float32.
    assert note.startswith("the same up to float32's rounding, and not beyond: outputs by")
    for contender in (EAGER, GRAPH, XLA):
        quantities, note = judged(pools, expectations, port, "float32", contender)
        assert failing(quantities) == []
        assert not note


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("there", "written", "first"),
    [
        ("MultiHeadAttention(HEADS, WIDTH // HEADS)", "MultiHeadAttention(WIDTH // HEADS, HEADS)", "outputs"),
        ("self.norm2 = keras.layers.LayerNormalization(epsilon=1e-5)", "self.norm2 = keras.layers.LayerNormalization()",
         "outputs"),
        ("self.attention(normed, normed)", "self.attention(normed, normed, use_causal_mask=True)", "outputs"),
        ("self.attention(normed, normed)", "self.attention(normed, x)", "outputs"),
        ("+ self.positions\n", "+ keras.ops.roll(self.positions, 1, axis=0)\n", "outputs"),
    ],
    ids=["heads", "epsilon", "mask", "value", "positions"],
)  # fmt: skip
def test_what_is_wrong_in_the_example_is_found(pools, expectations, example, there, written, first):
    edit(example / "tensorflow_model.py", there, written)
    quantities, _ = judged(pools, expectations, opened(pools, example), "float64")
    assert failing(quantities)[0].name == first


def test_a_bias_that_is_missing_is_one_line(pools, tmp_path):
    folder = files.write(tmp_path, "dense", "layers.Dense(4)(x)", "layers.Dense(4, use_bias=False)(x)")
    with pytest.raises(
        InputError, match=r"sides\.tensorflow\.weights: weights without a counterpart.*head\.bias"
    ) as told:
        opened(pools, folder)
    assert "\n" not in str(told.value)


WEIGHTS = {
    "first.weight": Placed("first/kernel", (1, 0)), "first.bias": Placed("first/bias", (0,)),
    "second.weight": Placed("second/kernel", (1, 0)),
}  # fmt: skip
SHAPES = {"first.weight": (4, 3), "first.bias": (4,), "second.weight": (2, 4)}
SMALL = """
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(4, activation="tanh")
        self.second = layers.Dense(2, use_bias=False)

    def call(self, x, training=False):
        return self.second(self.first(x)) * (2.0 if training else 1.0)


def build():
    net = Net()
    net(keras.ops.zeros((1, 3)))
    return net
"""


def small(folder: Path, loss: str, targets: Targets, text: str = SMALL) -> Port:
    """Two layers; told that it is trained, it doubles what it returns."""
    file = folder / "net.py"
    file.write_text(files.KERAS + text + (own_in("keras.ops") if loss == "own" else ""))
    rng = np.random.default_rng(5)
    initial = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    return Port(
        "small", (Input("x", (3,)),), targets, loss, -1, SHAPES, {"tensorflow": PortSide(str(file), WEIGHTS)},
        "tensorflow", initial=initial,
    )  # fmt: skip


def prepare(worker, port: Port, dtype: str = "float64"):
    """The worker has this model and a batch."""
    workload = Workload(port.spec, 5, dtype, "cpu", "training", Optimiser("momentum", 0.01))
    weights, batch = seeded_weights(workload.model, 0), seeded_batch(workload, 0)
    worker.request("build", workload=workload.to_json(), mode="eager", weights=weights)
    worker.request("load", batches=[batch.to_json()])
    return weights, batch


def by_hand(weights, x):
    return np.tanh(x @ weights["first.weight"].T + weights["first.bias"]) @ weights["second.weight"].T


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_by_hand(worker, tmp_path, loss):
    targets, compute = LOSSES[loss]
    weights, batch = prepare(worker, small(tmp_path, loss, targets))
    x = batch.inputs["x"]
    np.testing.assert_allclose(worker.request("forward", indices=[0])["outputs"][0], by_hand(weights, x), rtol=1e-12)
    found = worker.request("gradients", index=0)
    np.testing.assert_allclose(found["loss"], compute(2 * by_hand(weights, x), batch.targets), rtol=1e-12)
    direction = np.random.default_rng(3).normal(size=weights["first.weight"].shape)
    ahead, behind = (
        compute(2 * by_hand({**weights, "first.weight": weights["first.weight"] + h * direction}, x), batch.targets)
        for h in (1e-5, -1e-5)
    )
    assert (found["weights"]["first.weight"] * direction).sum() == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)
    np.testing.assert_array_equal(worker.request("weights")["first.weight"], weights["first.weight"])


def test_classes_along_another_axis(worker, tmp_path):
    turned = SMALL.replace("return self.second(self.first(x)) *", "return self.second(self.first(x))[:, :, None] *")
    port = replace(small(tmp_path, "cross-entropy", Targets((1,), classes=2), turned), class_axis=1)
    weights, batch = prepare(worker, port)
    expected = cross_entropy(2 * by_hand(weights, batch.inputs["x"])[:, None], batch.targets)
    np.testing.assert_allclose(worker.request("gradients", index=0)["loss"], expected, rtol=1e-12)


@pytest.mark.parametrize(
    "call",
    ["self, x, w", "self, inputs", "graph", "graph by name", "dict"],
)
def test_two_inputs_however_the_model_takes_them(worker, tmp_path, call):
    if "self" in call:
        text = SMALL.replace("self, x, training=False", call).replace("self.first(x))", "self.first(x)) + w")
        text = text.replace("net(keras.ops.zeros((1, 3)))", "net(*given)" if "w" in call else "net(list(given))")
        text = text.replace(
            "    net = Net()", "    given = keras.ops.zeros((1, 3)), keras.ops.zeros((1, 2))\n    net = Net()"
        )
        text = text.replace(" * (2.0 if training else 1.0)", "")
        if call == "self, inputs":
            text = text.replace("return self.second", "x, w = inputs\n        return self.second")
    else:
        text = """
def build():
    x, w = keras.Input((3,), name="x"), keras.Input((2,), name="w")
    first = layers.Dense(4, activation="tanh", name="first")
    second = layers.Dense(2, use_bias=False, name="second")
    return keras.Model(GIVEN, second(first(x)) + w)
""".replace("GIVEN", {"graph": "[x, w]", "graph by name": "[w, x]", "dict": '{"x": x, "w": w}'}[call])
    port = replace(small(tmp_path, "squared-error", Targets((2,)), text), inputs=(Input("x", (3,)), Input("w", (2,))))
    weights, batch = prepare(worker, port)
    outputs = by_hand(weights, batch.inputs["x"]) + batch.inputs["w"]
    np.testing.assert_allclose(worker.request("forward", indices=[0])["outputs"][0], outputs, rtol=1e-12)
    assert set(worker.request("gradients", index=0)["inputs"]) == {"x", "w"}


def refused(worker, kind, **body):
    with pytest.raises(WorkerError) as caught:
        worker.request(kind, **body)
    assert "\n" not in caught.value.reason
    return caught.value


DENSE = "def build():\n    return keras.Sequential([keras.Input((3,)), layers.Dense(2{})])\n"


@pytest.mark.parametrize(
    ("text", "reason", "outcome"),
    [
        ("import no_such_thing\n", "no_such_thing", "unsupported"),
        ("def build(:\n", "SyntaxError", "crashed"),
        ("x = 1\n", "no function `build`", "crashed"),
        ("def build():\n    raise ValueError('two\\nlines')\n", "ValueError: two lines", "crashed"),
        ("def build():\n    return 3\n", "returned no model; got int", "crashed"),
        ("def build():\n    return keras.Sequential([layers.Dense(2)])\n", "not called yet", "crashed"),
        (DENSE.format(", trainable=False"), "dense/kernel: a weight that is not trained", "unsupported"),
        (DENSE.format(", kernel_regularizer='l2'"), "dense/kernel: a weight with a regulariser", "unsupported"),
        (DENSE.format(", activity_regularizer='l2'"), "dense: a layer that adds a loss", "unsupported"),
        (DENSE.format(", dtype='float64'"), "dense/kernel: a weight in float64 where all is", "unsupported"),
    ],
)
def test_a_file_that_cannot_be_used(worker, tmp_path, text, reason, outcome):
    file = tmp_path / "bad.py"
    file.write_text(files.KERAS + text)
    error = refused(worker, "open_side", file=str(file), seed=0)
    assert str(file) in error.reason
    assert reason in error.reason
    assert error.outcome == outcome


def test_outputs_that_fit_nothing_are_one_line(worker, tmp_path):
    prepare(worker, small(tmp_path, "cross-entropy", Targets((5,), classes=2)))
    assert "net.py: its outputs do not fit the targets" in refused(worker, "gradients", index=0).reason


def test_several_outputs_have_names_and_a_loss_of_none_of_them_is_one_line(worker, tmp_path):
    text = SMALL.replace("return self.second", "return x, self.second")
    prepare(worker, small(tmp_path, "squared-error", Targets((2,)), text))
    (outputs,) = worker.request("forward", indices=[0])["outputs"]
    assert {name: value.shape for name, value in outputs.items()} == {"0": (5, 3), "1": (5, 2)}
    assert "net.py: several outputs, and none is named for the loss" in refused(worker, "gradients", index=0).reason


def test_what_cannot_be_computed_in_float64_is_one_line(worker, tmp_path):
    cast = 'self.first(x) + tensorflow.cast(x, "float32")[:, :1]'
    text = SMALL.replace("self.first(x)", cast).replace("class Net", "import tensorflow\n\n\nclass Net")
    port = small(tmp_path, "squared-error", Targets((2,)), text)
    prepare(worker, port, "float32")
    workload = Workload(port.spec, 5, "float64").to_json()
    error = refused(worker, "build", workload=workload, mode="eager", weights=seeded_weights(port.spec, 0))
    assert "net.py: `build()` failed" in error.reason
    assert "was expected to be a double tensor but is a float tensor" in error.reason


def test_randomness_that_cannot_be_switched_off_is_refused(worker, tmp_path):
    dropping = SMALL.replace("return self.second(", "return self.second(keras.random.dropout(").replace(
        "self.first(x))", "self.first(x), 0.5) if training else self.first(x))"
    )
    weights, batch = prepare(worker, small(tmp_path, "squared-error", Targets((2,)), dropping))
    outputs = by_hand(weights, batch.inputs["x"])
    np.testing.assert_allclose(worker.request("forward", indices=[0])["outputs"][0], outputs, rtol=1e-12)
    error = refused(worker, "gradients", index=0)
    assert (error.outcome, "draws random numbers" in error.reason) == ("unsupported", True)


def test_what_is_refused(worker, tmp_path):
    port = small(tmp_path, "squared-error", Targets((2,)))
    workload = Workload(port.spec, 4, "float32")
    weights = seeded_weights(port.spec, 0)
    error = refused(worker, "build", workload=workload.to_json(), mode="tuned", weights=weights)
    assert (error.outcome, "no tuned mode" in error.reason) == ("unsupported", True)
    few = {name: placed for name, placed in WEIGHTS.items() if name != "first.bias"}
    short = replace(
        port, name="short", weights={name: SHAPES[name] for name in few},
        sides={"tensorflow": replace(port.side("tensorflow"), weights=few)},
    )  # fmt: skip
    workload = Workload(short.spec, 4, "float32")
    error = refused(worker, "build", workload=workload.to_json(), mode="eager", weights=seeded_weights(short.spec, 0))
    assert "missing ['first/bias']" in error.reason


def test_a_keras_reference_is_not_offered(tmp_path):
    files.write(tmp_path / "mine", "dense")
    edit(tmp_path / "mine" / "port.toml", 'name = "dense"\n', 'reference = "tensorflow"\n')
    done = faceoff(tmp_path, "agree", "--models", "./mine", "--out", "out", "--quiet")
    assert done.returncode == 2
    assert "reference: not offered: a reference side must be one whose rounding noise can be measured" in done.stderr
    assert "a side in PyTorch or JAX; write reference = " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.thorough
def test_the_command_takes_it_and_nan_disagrees(tmp_path):
    files.write(tmp_path / "mine", "dense")
    chosen = ("--models", "./mine", "--contenders", "tensorflow:graph-onednn", "--dtype", "float32", "--quiet")
    done = faceoff(tmp_path, "agree", *chosen, "--out", "right")
    assert done.returncode == 0, done.stdout + done.stderr
    edit(tmp_path / "mine" / "tensorflow_model.py", 'activation="silu")(x)', "activation=keras.ops.log)(x)")
    done = faceoff(tmp_path, "agree", *chosen, "--out", "wrong")
    assert done.returncode == 1, done.stdout + done.stderr
    (check,) = load(tmp_path / "wrong" / "result.json").agreements
    assert (check.outcome, check.first_difference) == ("disagrees", "between second and head (inference)")
    assert any("not finite" in (quantity.problem or "") for quantity in check.quantities)


RECURRENT = """
def build():
    inputs = keras.Input((3, 2))
    return keras.Model(inputs, layers.{kind}(4)(inputs))
"""


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "SimpleRNN"])
def test_recurrent_layers_are_made_in_every_dtype(worker, tmp_path, kind):
    file = tmp_path / "net.py"
    file.write_text(files.KERAS + RECURRENT.format(kind=kind))
    held = worker.request("open_side", file=str(file), seed=0)["arrays"]
    weights = {path: Placed(path, tuple(range(array.ndim))) for path, array in held.items()}
    shapes = {path: array.shape for path, array in held.items()}
    port = Port(
        kind.lower(), (Input("x", (3, 2)),), Targets((4,)), "squared-error", -1, shapes,
        {"tensorflow": PortSide(str(file), weights)}, "tensorflow", initial=held,
    )  # fmt: skip
    prepare(worker, port)
    (exact,) = worker.request("forward", indices=[0])["outputs"]
    for dtype, largest in (("float16", 2e-3), ("bfloat16", 2e-2), ("mixed_bfloat16", 2e-2)):
        prepare(worker, port, dtype)
        (outputs,) = worker.request("forward", indices=[0])["outputs"]
        assert 1e-9 < np.max(np.abs(outputs - exact)) < largest


def test_a_model_that_fails_leaves_nothing_behind_in_the_framework(worker, tmp_path):
    file = tmp_path / "bad.py"
    # Keras makes the layers' weights when it looks through the model, and fills them after that; there it fails.
    never = "def never(shape, dtype):\n    raise ValueError('never filled')\n\n\n"
    file.write_text(files.KERAS + never + SMALL.replace("use_bias=False", "kernel_initializer=never"))
    assert "never filled" in refused(worker, "open_side", file=str(file), seed=0).reason
    prepare(worker, small(tmp_path, "squared-error", Targets((2,))))
    worker.request("train", indices=[0])
