"""JAX's cuDNN LSTM takes flat weights: on a CPU, where that kernel is not, JAX's own statement of it stands in."""

import subprocess
import sys

import pytest

from harness.environments import FRAMEWORKS, Configuration, find_installation

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from jax.experimental import rnn as kernel
from harness.core.spec import DenseSpec, LstmSpec
from harness.core.weights import seeded_batch, seeded_weights
from harness.core.spec import Workload
from impls.jax import cudnn, lstm

def stated(x, h, c, weights, lengths, input_size, hidden_size, num_layers, dropout, bidirectional):
    parts = kernel.unpack_lstm_weights(weights, input_size, hidden_size, num_layers, bidirectional)
    return kernel.lstm_ref(x, h, c, *parts, lengths, input_size, hidden_size, num_layers, dropout, bidirectional)

cudnn.cudnn.lstm = stated
for many in (False, True):
    spec = LstmSpec(5, 8, 4, 6, num_layers=2, many_to_many=many)
    weights, batch = seeded_weights(spec, 3), seeded_batch(Workload(spec, 7), 3)
    outputs = []
    for network, places in ((lstm.Network, lstm), (cudnn.Lstm, cudnn)):
        module = network(spec, jnp.float32, nnx.Rngs(0))
        graph, state = nnx.split(module)
        flat = dict(nnx.to_flat_state(state))
        for name, (path, axes) in places.weight_map(spec).items():
            flat[path] = flat[path].replace(jnp.array(weights[name].transpose(axes), dtype=jnp.float32))
        module = nnx.merge(graph, nnx.from_flat_state(list(flat.items())))
        outputs.append(np.array(module(**{name: jnp.array(value) for name, value in batch.inputs.items()})))
    assert outputs[0].shape == outputs[1].shape == ((7, 6, 4) if many else (7, 4))
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5 * np.abs(outputs[0]).max(), outputs
    assert np.abs(outputs[0]).max() > 0.01
assert cudnn.serves(Workload(spec, 7)) and cudnn.serves(Workload(spec, 7, "tf32", "gpu"))
assert not cudnn.serves(Workload(spec, 7, "bfloat16")) and not cudnn.serves(Workload(DenseSpec((2, 3)), 7))
print("same")
"""


def test_the_flat_weights_mean_the_same_lstm():
    installation = find_installation(FRAMEWORKS["jax"], Configuration())
    if not installation.installed:
        pytest.skip(installation.reason)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env={"JAX_PLATFORMS": "cpu"}
    )
    assert done.stdout.strip() == "same", done.stderr
