"""Layers as a GPU runs them compute what those of a CPU do: tried on a CPU, where JAX's own statement of cuDNN's LSTM,
and one of ours for TensorFlow, stand in for kernels that are not there."""

import pytest

from tests.contract.programs import printed

pytestmark = pytest.mark.thorough

FLAT_WEIGHTS = """
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from jax.experimental import rnn as kernel
from faceoff.core.spec import DenseSpec, LstmSpec
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.core.spec import Workload
from impls.jax import cudnn, lstm

def stated(x, h, c, weights, lengths, input_size, hidden_size, num_layers, dropout, bidirectional):
    parts = kernel.unpack_lstm_weights(weights, input_size, hidden_size, num_layers, bidirectional)
    return kernel.lstm_ref(x, h, c, *parts, lengths, input_size, hidden_size, num_layers, dropout, bidirectional)

cudnn.cudnn.lstm = stated
for many in (False, True):
    spec = LstmSpec(5, 8, 4, 6, num_layers=2, many_to_many=many)
    weights, batch = seeded_weights(spec, 3), seeded_batch(Workload(spec, 7), 3)
    outputs, hidden = [], []
    for network, places in ((lstm.Network, lstm), (cudnn.Lstm, cudnn)):
        module = network(spec, jnp.float32, nnx.Rngs(0))
        graph, state = nnx.split(module)
        flat = dict(nnx.to_flat_state(state))
        for name, (path, axes) in places.weight_map(spec).items():
            flat[path] = flat[path].replace(jnp.array(weights[name].transpose(axes), dtype=jnp.float32))
        module = nnx.merge(graph, nnx.from_flat_state(list(flat.items())))
        inputs = {name: jnp.array(value) for name, value in batch.inputs.items()}
        outputs.append(np.array(module(**inputs)))
        module.layer_by_layer = True
        traced = np.array(module(**inputs))
        assert np.abs(traced - outputs[-1]).max() < 1e-5 * np.abs(traced).max()
        recorded = dict(nnx.to_flat_state(nnx.pop(module, nnx.Intermediate)))
        hidden.append({path[0]: np.array(value[0]) for path, value in recorded.items()})
    assert hidden[0].keys() == hidden[1].keys() == {"layer.0", "layer.1"}
    for name, value in hidden[0].items():
        assert np.abs(hidden[1][name] - value).max() < 1e-5 * np.abs(value).max(), name
    assert outputs[0].shape == outputs[1].shape == ((7, 6, 4) if many else (7, 4))
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5 * np.abs(outputs[0]).max(), outputs
    assert np.abs(outputs[0]).max() > 0.01
assert cudnn.serves(Workload(spec, 7)) and cudnn.serves(Workload(spec, 7, "tf32", "gpu"))
assert not cudnn.serves(Workload(spec, 7, "bfloat16")) and not cudnn.serves(Workload(DenseSpec((2, 3)), 7))
print("same")
"""

COMPARISON = """
import numpy as np
from faceoff.core.contract import Settings
from faceoff.core.spec import LstmSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import seeded_batch, seeded_weights

SIZES = dict(input_size=5, hidden_size=8, output_size=4, sequence_length=5, num_layers=2)
SPECS = [
    RnnSpec(**SIZES),
    RnnSpec(**SIZES, many_to_many=True, activation="relu"),
    LstmSpec(**SIZES),
    LstmSpec(**SIZES, many_to_many=True),
]

# Of the largest value; rounding differs where products are split otherwise.
TOLERANCES = {"float32": 2e-5, "bfloat16": 0.05, "mixed_bfloat16": 0.05}

def outputs(runtime, spec, mode, dtype):
    workload = Workload(spec, 7, dtype)
    model = runtime.build(workload, seeded_weights(spec, 3), mode)
    batch = runtime.place(seeded_batch(workload, 3), workload.storage_dtype)
    found = model.canonical(model.gradients(batch))
    logits = runtime.fetch(model.forward(batch))
    return [logits, found["loss"], *found["weights"].values(), *found["inputs"].values()], str(model.describe())

def compare(runtime, modes, as_on_gpu, said, dtypes=("float32",), specs=SPECS):
    runtime.configure(Settings(device="cpu", threads=1))
    # In a narrow dtype a rounding may flip a ReLU, and a gradient with it.
    cases = [
        (spec, mode, dtype)
        for spec in specs
        for mode in modes
        for dtype in (("float32",) if getattr(spec, "activation", "") == "relu" else dtypes)
    ]
    before = [outputs(runtime, *case)[0] for case in cases]
    as_on_gpu()
    for case, theirs in zip(cases, before):
        ours, ledger = outputs(runtime, *case)
        assert said in ledger, ledger
        for one, other in zip(ours, theirs, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() < TOLERANCES[case[2]] * np.abs(other).max(), case
            assert np.abs(other).max() > 1e-3, case
    print("same")
"""

JAX = """
import jax
from impls.jax import RUNTIME, gpu, lstm, products, residual, rnn, tuned

asked, unrolled, scan = set(), set(), jax.lax.scan

def of(module):
    def on_gpu():
        asked.add(module)
        return True
    return on_gpu

def scanned(*arguments, unroll=1, **options):
    unrolled.add(unroll)
    return scan(*arguments, unroll=unroll, **options)

def as_on_gpu():
    for module in (gpu, lstm, products, residual, rnn, tuned):
        module.on_gpu = of(module)
    gpu.MOST_STEPS_AT_ONCE = 3
    jax.lax.scan = scanned
"""

JAX_RECURRENT = """
MODES = ("jit", "tuned", "tuned-without-backward-by-hand", "tuned-without-one-tanh")
compare(RUNTIME, MODES, as_on_gpu, "scan over time")
assert asked == {gpu, lstm, products, rnn, tuned}
assert unrolled == {3}
"""

JAX_RESIDUAL = """
compare(RUNTIME, ("jit",), as_on_gpu, "OHWI", specs=[ResidualSpec(9, 8, 3, (4, 8), 2, 5)])
assert asked == {residual}
"""

TENSORFLOW_CUDNN = """
import tensorflow as tf
from impls.tensorflow import RUNTIME, lstm, recurrent, rnn

calls = []

def stated(
    input, input_h, input_c, params, sequence_lengths, rnn_mode, is_training, time_major, seed
):
    # cuDNN's own order: kernels and recurrent kernels gate by gate, their outputs first, then both biases.
    calls.append((rnn_mode, is_training))
    batch_size, steps, input_size = input.shape
    assert not time_major and input_h.shape[1] == 1
    assert input.dtype == params.dtype == input_h.dtype != tf.bfloat16
    assert tf.get_static_value(sequence_lengths).tolist() == [steps] * batch_size
    size, gates = input_h.shape[2], 4 if rnn_mode == "lstm" else 1
    lengths = [size * input_size] * gates + [size * size] * gates + [size] * 2 * gates
    parts = tf.split(params, lengths)
    w = [tf.reshape(part, (size, input_size)) for part in parts[:gates]]
    r = [tf.reshape(part, (size, size)) for part in parts[gates : 2 * gates]]
    b = [one + other for one, other in zip(parts[2 * gates : 3 * gates], parts[3 * gates :])]
    h, c, found = input_h[:, 0], input_c[:, 0] if gates == 4 else None, []
    for t in range(steps):
        sums = [input[:, t] @ tf.transpose(w[k]) + h @ tf.transpose(r[k]) + b[k] for k in range(gates)]
        if gates == 4:
            i, f, g, o = tf.sigmoid(sums[0]), tf.sigmoid(sums[1]), tf.tanh(sums[2]), tf.sigmoid(sums[3])
            c = f * c + i * g
            h = o * tf.tanh(c)
        else:
            h = {"rnn_tanh": tf.tanh, "rnn_relu": tf.nn.relu}[rnn_mode](sums[0])
        found.append(h)
    return tf.stack(found, 1), h[:, None], c, None, None

def as_on_gpu():
    tf.raw_ops.CudnnRNNV3 = stated
    for module in (lstm, recurrent, rnn):
        module.on_gpu = lambda: True

compare(RUNTIME, ("eager", "graph"), as_on_gpu, "cuDNN", TOLERANCES)
assert {kind for kind, _ in calls} == {"rnn_tanh", "rnn_relu", "lstm"}
assert {training for _, training in calls} == {False, True}
"""

TENSORFLOW_PRODUCTS = """
from impls.tensorflow import RUNTIME, lstm, recurrent, rnn

projected, call = set(), recurrent.ProjectedLayer.call

def counted(self, sequences, initial_state=None, mask=None, training=False):
    projected.add(type(self.cell))
    return call(self, sequences, initial_state, mask, training)

def as_on_gpu():
    recurrent.ProjectedLayer.call = counted
    for module in (lstm, recurrent, rnn):
        module.on_gpu = lambda: True

compare(RUNTIME, ("xla",), as_on_gpu, "one matrix product for all inputs, one a step")
assert projected == {lstm.ProjectedCell, rnn.ProjectedCell}
"""


@pytest.mark.parametrize(
    ("framework", "program"),
    [
        pytest.param("jax", FLAT_WEIGHTS, id="jax cuDNN"),
        pytest.param("jax", COMPARISON + JAX + JAX_RECURRENT, id="jax recurrent"),
        pytest.param("jax", COMPARISON + JAX + JAX_RESIDUAL, id="jax residual"),
        pytest.param("tensorflow", COMPARISON + TENSORFLOW_CUDNN, id="tensorflow cuDNN"),
        pytest.param("tensorflow", COMPARISON + TENSORFLOW_PRODUCTS, id="tensorflow products"),
    ],
)
def test_layers_of_a_gpu_compute_the_same(framework, program):
    assert printed(framework, program) == "same"
