"""Users' own models in JAX, through a real worker: weights, outputs, gradients, losses, training, disturbed or not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from faceoff.core.own import Targets
from faceoff.core.spec import Contender, Optimiser, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.workers import WorkerError
from tests.conftest import new_pool
from tests.contract import own_jax_files as files
from tests.contract.own_losses import LOSSES, cross_entropy

JIT = Contender("jax", "jit")


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    if not find_installation(FRAMEWORKS["jax"], Configuration()).installed:
        pytest.skip("JAX is not installed")
    with new_pool([JIT], tmp_path_factory.mktemp("logs")) as pool:
        yield pool.worker(JIT)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    return files.write_module(tmp_path_factory.mktemp("net"))


def prepare(worker, port, dtype="float64", batch_size=4, optimiser="momentum"):
    """The worker has this model and a batch."""
    workload = Workload(port.spec, batch_size, dtype, "cpu", "training", Optimiser(optimiser, 0.01))
    weights, batch = seeded_weights(workload.model, 0), seeded_batch(workload, 0)
    worker.request("build", workload=workload.to_json(), mode="jit", weights=weights)
    worker.request("load", batches=[batch.to_json()])
    return weights, batch


def disturb(worker, unit_roundoff=None, seed=0, dtype="float32"):
    worker.request("disturb", dtype=dtype, unit_roundoff=unit_roundoff, seed=seed, alike=True)


def flat(gradients):
    return {**gradients["weights"], **{f"input {n}": v for n, v in gradients["inputs"].items()}, "l": gradients["loss"]}


def spread(one, other):
    """The largest distance of values by name, in units of the largest value."""
    assert set(one) == set(other)
    return max(np.abs(one[name] - other[name]).max() / max(np.abs(other[name]).max(), 1.0) for name in one)


def test_a_side_says_what_it_holds(worker, port):
    found = worker.request("open_side", file=port.side("jax").file, seed=0)
    kinds = {weight["path"]: (weight["layer"], weight["part"], tuple(weight["axes"])) for weight in found["weights"]}
    assert list(kinds) == list(found["arrays"])
    assert set(kinds) == {path for path, *_ in files.WEIGHTS.values()}
    # As they were made, not by the alphabet.
    owners = list(dict.fromkeys(path.split(".")[0] for path in kinds))
    assert owners == ["conv", "norm", "embed", "blocks", "head", "factor"]
    assert kinds["conv.kernel"] == ("convolution", "weight", (1, 2, 3, 0))
    assert kinds["norm.var"] == ("norm", "variance", (0,))
    assert kinds["embed.embedding"] == ("embedding", "weight", (0, 1))
    assert kinds["blocks.0.attention.query.kernel"] == ("attention", "weight", (2, 0, 1))
    assert kinds["blocks.0.norm.scale"] == ("norm", "scale", (0,))
    assert kinds["head.kernel"] == ("linear", "weight", (1, 0))
    assert kinds["factor"] == ("", "factor", ())
    assert found["arrays"]["conv.kernel"].shape == (3, 2, 2, 4)
    assert {value.dtype for value in found["arrays"].values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("layer", "kernel", "kind", "axes"),
    [
        ("nnx.ConvTranspose(2, 3, (2, 2), rngs=r)", "kernel", "transposed convolution", (1, 2, 0, 3)),
        ("nnx.ConvTranspose(2, 3, 2, transpose_kernel=True, rngs=r)", "kernel", "transposed convolution", (1, 2, 0)),
        ("nnx.Conv(4, 6, 3, feature_group_count=2, rngs=r)", "kernel", "convolution", (1, 2, 0)),
        ("nnx.LinearGeneral(2, 3, rngs=r)", "kernel", "linear", (1, 0)),
        ("nnx.Einsum('ab,bc->ac', (2, 3), (3,), rngs=r)", "kernel", "einsum", (0, 1)),
        ("nnx.RMSNorm(3, rngs=r)", "scale", "norm", (0,)),
        ("nnx.RNN(nnx.GRUCell(2, 3, rngs=r))", "cell.dense_h.kernel", "recurrent", (1, 0)),
        ("nnx.LSTMCell(2, 3, rngs=r)", "if_.kernel", "recurrent", (1, 0)),
    ],
)
def test_kinds_of_layers(worker, tmp_path, layer, kernel, kind, axes):
    (tmp_path / "one.py").write_text(f"from flax import nnx\nr = nnx.Rngs(0)\n\ndef build():\n    return {layer}\n")
    found = worker.request("open_side", file=str(tmp_path / "one.py"), seed=0)["weights"]
    by_path = {weight["path"]: weight for weight in found}
    assert (by_path[kernel]["layer"], tuple(by_path[kernel]["axes"])) == (kind, axes)
    if kind == "recurrent":
        assert by_path[kernel]["part"] == ("weight_hh" if "_h" in kernel else "weight_ih")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_weights_come_back_to_the_last_bit(worker, port, dtype):
    weights, _ = prepare(worker, port, dtype)
    other = seeded_weights(port.spec, 1)
    for given in (weights, other):
        worker.request("reset", weights=given)
        found = worker.request("weights")
        assert list(found) == list(port.weights)
        for name, value in given.items():
            assert found[name].shape == value.shape
            np.testing.assert_array_equal(found[name], value.astype(dtype))


def test_outputs_gradients_and_a_step_are_those_of_a_direct_computation(worker, port, tmp_path):
    weights, batch = prepare(worker, port, optimiser="sgd")
    placed = port.side("jax").weights
    for file in ("net.py", "sizes.py"):
        (tmp_path / file).write_text((files.Path(port.side("jax").file).parent / file).read_text())
    image = batch.inputs["image"].transpose(0, 2, 3, 1)
    native = {placed[name].path: placed[name].to_side(value) for name, value in weights.items()}
    np.savez(tmp_path / "given.npz", image=image, tokens=batch.inputs["tokens"], targets=batch.targets, **native)
    command = [sys.executable, "-c", files.DIRECT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    direct = dict(np.load(tmp_path / "found.npz"))
    canonical = {n: placed[n].to_canonical(direct[placed[n].path], shape) for n, shape in port.weights.items()}

    np.testing.assert_allclose(worker.request("forward", indices=[0])["outputs"][0], direct["outputs"], rtol=1e-11)
    found = worker.request("gradients", index=0)
    np.testing.assert_allclose(found["loss"], direct["loss"], rtol=1e-12)
    # Words have none.
    assert set(found["inputs"]) == {"image"}
    np.testing.assert_allclose(found["inputs"]["image"], direct["by_image"].transpose(0, 3, 1, 2), atol=1e-12)
    statistics = {"norm.mean", "norm.variance"}
    assert set(found["weights"]) == set(port.weights) - statistics
    assert max(np.abs(value).max() for value in found["weights"].values()) > 1e-3
    for name, value in found["weights"].items():
        np.testing.assert_allclose(value, canonical[name], atol=1e-12)

    assert worker.request("train", indices=[0])["losses"] == pytest.approx(float(direct["loss"]), rel=1e-12)
    for name, value in worker.request("weights").items():
        moved = canonical[name] if name in statistics else weights[name] - 0.01 * canonical[name]
        np.testing.assert_allclose(value, moved, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_narrower_dtypes_are_computed_in(worker, port, dtype):
    weights, _ = prepare(worker, port)
    exact = worker.request("forward", indices=[0])["outputs"][0]
    prepare(worker, port, dtype)
    found = worker.request("forward", indices=[0])["outputs"][0]
    off = np.abs(found - exact).max() / np.abs(exact).max()
    assert 1e-9 < off < {"float32": 1e-5, "bfloat16": 0.1}[dtype]
    # bfloat16 travels as float32 whose lower half is empty.
    assert found.dtype == np.float32
    assert (dtype == "bfloat16") == (not (found.view(np.uint32) & 0xFFFF).any())
    losses = worker.request("train", indices=[0, 0, 0])["losses"]
    assert losses[2] < losses[0]
    assert np.any(worker.request("weights")["norm.mean"] != weights["norm.mean"].astype(np.float32))


def by_hand(weights, x):
    hidden = np.tanh(x @ weights["first.weight"].T + weights["first.bias"]) ** 2
    return hidden @ weights["second.weight"].T


@pytest.mark.parametrize("loss", LOSSES)
def test_a_function_with_each_loss(worker, tmp_path, loss):
    targets, compute = LOSSES[loss]
    port = files.write_function(tmp_path, loss, targets)
    sides = worker.request("open_side", file=port.side("jax").file, seed=0)["weights"]
    assert [weight["path"] for weight in sides] == ["second", "first.0", "first.1"]
    weights, batch = prepare(worker, port, batch_size=5)
    outputs = by_hand(weights, batch.inputs["x"])
    np.testing.assert_allclose(worker.request("forward", indices=[0])["outputs"][0], outputs, rtol=1e-12)
    found = worker.request("gradients", index=0)
    # It is told that it is trained, and doubles what it returns.
    np.testing.assert_allclose(found["loss"], compute(2 * outputs, batch.targets), rtol=1e-12)
    direction = np.random.default_rng(3).normal(size=weights["first.weight"].shape)
    ahead, behind = (
        compute(2 * by_hand({**weights, "first.weight": weights["first.weight"] + h * direction}, batch.inputs["x"]),
                batch.targets) for h in (1e-5, -1e-5)
    )  # fmt: skip
    assert (found["weights"]["first.weight"] * direction).sum() == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)
    np.testing.assert_array_equal(worker.request("weights")["first.weight"], weights["first.weight"])


def test_what_belongs_to_no_weight_stays_zero(worker, tmp_path):
    port = files.write_function(tmp_path, "squared-error", Targets((2,)))
    held = {name: placed for name, placed in port.side("jax").weights.items() if name != "first.bias"}
    side = replace(port.side("jax"), weights=held, zeros=("first.1",))
    shapes = {name: shape for name, shape in port.weights.items() if name in held}
    weights, batch = prepare(worker, replace(port, weights=shapes, sides={"jax": side}))
    without = by_hand({**weights, "first.bias": np.zeros(4)}, batch.inputs["x"])
    np.testing.assert_allclose(worker.request("forward", indices=[0])["outputs"][0], without, rtol=1e-12)
    worker.request("train", indices=[0])
    assert set(worker.request("weights")) == set(held)


def test_classes_along_another_axis(worker, tmp_path):
    turned = files.FUNCTION.replace("return hidden @", "return (hidden[:, None] @").replace(
        'parameters["second"] *', 'parameters["second"]).swapaxes(1, 2) *'
    )
    port = replace(files.write_function(tmp_path, "cross-entropy", Targets((1,), classes=2), turned), class_axis=1)
    weights, batch = prepare(worker, port)
    expected = cross_entropy(2 * by_hand(weights, batch.inputs["x"])[:, None], batch.targets)
    np.testing.assert_allclose(worker.request("gradients", index=0)["loss"], expected, rtol=1e-12)


def test_stochastic_arithmetic(worker, port):
    weights, _ = prepare(worker, port)
    outputs = worker.request("forward", indices=[0])["outputs"][0]
    gradients = flat(worker.request("gradients", index=0))
    worker.request("train", indices=[0, 0])
    trained = worker.request("weights")

    def runs():
        worker.request("reset", weights=weights)
        found = worker.request("forward", indices=[0, 0])["outputs"]
        found = {"first": found[0], "second": found[1]}, flat(worker.request("gradients", index=0))
        losses = worker.request("train", indices=[0, 0])["losses"]
        assert np.isfinite(losses).all()
        return (*found, worker.request("weights"))

    disturb(worker, unit_roundoff=0.0)
    still = runs()
    for found, expected in zip(still, ({"first": outputs, "second": outputs}, gradients, trained), strict=True):
        assert spread(found, expected) < 1e-12
    disturb(worker, seed=1)
    one = runs()
    disturb(worker, seed=2)
    other = runs()
    disturb(worker, seed=1)
    again = runs()
    for first, second, same, centre in zip(one, other, again, still, strict=True):
        assert 1e-9 < spread(first, centre) < 1e-4
        assert 1e-9 < spread(second, first) < 1e-4
        # The same seed draws the same.
        assert spread(same, first) == 0.0
    # And not twice within a run.
    assert spread({"": one[0]["first"]}, {"": one[0]["second"]}) > 1e-9
    # Behind a softmax, and before a batch norm, a bias makes no difference.
    moved = set(weights) - {"key.bias", "conv.bias"}
    assert min(np.abs(one[2][name] - weights[name]).max() for name in moved) > 1e-5
    assert set(worker.request("optimiser_state")["momentum"]) == set(weights) - {"norm.mean", "norm.variance"}
    assert worker.request("left_whole")["operations"] == {}

    prepare(worker, port)
    assert spread({"": worker.request("forward", indices=[0])["outputs"][0]}, {"": outputs}) < 1e-12
    assert worker.request("left_whole")["operations"] == {}


def refused(worker, kind, **body):
    with pytest.raises(WorkerError) as caught:
        worker.request(kind, **body)
    assert "\n" not in caught.value.reason
    return caught.value


@pytest.mark.parametrize(
    ("text", "reason", "outcome"),
    [
        ("import no_such_thing\n", "no_such_thing", "unsupported"),
        ("def build(:\n", "SyntaxError", "crashed"),
        ("x = 1\n", "no function `build`", "crashed"),
        ("def build():\n    raise ValueError('two\\nlines')\n", "ValueError: two lines", "crashed"),
        ("def build():\n    return 3\n", "returned no model; got int", "crashed"),
        ("def build():\n    return {'a': 1}, lambda p, x: x\n", "no arrays among its parameters", "crashed"),
    ],
)
def test_a_file_that_cannot_be_used(worker, tmp_path, text, reason, outcome):
    file = tmp_path / "bad.py"
    file.write_text(text)
    error = refused(worker, "open_side", file=str(file), seed=0)
    assert str(file) in error.reason
    assert reason in error.reason
    assert error.outcome == outcome


def test_a_file_that_is_not_there(worker, tmp_path):
    assert "absent.py" in refused(worker, "open_side", file=str(tmp_path / "absent.py"), seed=0).reason


def test_helpers_of_one_name_in_two_folders(worker, tmp_path):
    text = "import jax.numpy as jnp\nfrom sizes import WIDTH\n\n\ndef build():\n"
    text += "    return {'w': jnp.ones(WIDTH)}, lambda p, x: x * p['w']\n"
    for width in (2, 3):
        (tmp_path / str(width)).mkdir()
        (tmp_path / str(width) / "sizes.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / str(width) / "side.py").write_text(text)
    for width in (2, 3, 2):
        found = worker.request("open_side", file=str(tmp_path / str(width) / "side.py"), seed=0)
        assert found["arrays"]["w"].shape == (width,)


def test_what_is_refused(worker, port, tmp_path):
    workload = Workload(port.spec, 4, "float32")
    weights = seeded_weights(port.spec, 0)
    for mode in ("tuned", "cudnn"):
        error = refused(worker, "build", workload=workload.to_json(), mode=mode, weights=weights)
        assert (error.outcome, "`jit` only" in error.reason) == ("unsupported", True)
    prepare(worker, port, "float32")
    error = refused(worker, "disturb", dtype="float32", unit_roundoff=None, seed=0, alike=False)
    assert (error.outcome, "float64" in error.reason) == ("unsupported", True)

    few = {name: place for name, place in port.side("jax").weights.items() if name != "factor"}
    side = replace(port.side("jax"), weights=few)
    short = replace(
        port, name="short", sides={"jax": side}, weights={n: s for n, s in port.weights.items() if n in few}
    )
    workload = Workload(short.spec, 4, "float32")
    error = refused(worker, "build", workload=workload.to_json(), mode="jit", weights=seeded_weights(short.spec, 0))
    assert "missing ['factor']" in error.reason

    other = replace(port, name="other", targets=Targets((5,), classes=3))
    prepare(worker, other)
    assert "do not fit the targets" in refused(worker, "gradients", index=0).reason


def test_randomness_that_cannot_be_switched_off_is_refused(worker, tmp_path):
    dropping = files.FUNCTION.replace(
        "    hidden =",
        "    x = x * (jax.random.bernoulli(jax.random.key(0), 0.5, x.shape) if training else 1)\n    hidden =",
    ).replace("import jax.numpy as jnp", "import jax\nimport jax.numpy as jnp")
    port = files.write_function(tmp_path, "squared-error", Targets((2,)), dropping)
    weights, batch = prepare(worker, port)
    outputs = by_hand(weights, batch.inputs["x"])
    np.testing.assert_allclose(worker.request("forward", indices=[0])["outputs"][0], outputs, rtol=1e-12)
    error = refused(worker, "gradients", index=0)
    assert (error.outcome, "draws random numbers" in error.reason) == ("unsupported", True)
