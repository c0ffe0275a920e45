"""What a framework's own figures of a device's memory are made of, as far as that can be seen without a GPU."""

from tests.contract.programs import printed

PLAN = """
import numpy as np
from faceoff.core.contract import Settings
from faceoff.core.spec import DenseSpec, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from impls.jax import RUNTIME

RUNTIME.configure(Settings(device="cpu", threads=1))
workload = Workload(DenseSpec((64, 1000, 10)), 500, step="training")
model = RUNTIME.build(workload, seeded_weights(workload.model, 0), "jit")
batch = RUNTIME.place(seeded_batch(workload, 0), "float32")
for step, call in (("inference", model.forward), ("gradients", model.gradients), ("training", model.train_step)):
    RUNTIME.wait(call(batch))
    print(step, model.working_bytes(step, batch))
"""

CHUNK = """
import torch
from torch import nn
from impls.pytorch.gpu import is_in_one_chunk

layer = nn.LSTM(3, 4)
print(is_in_one_chunk(layer))
sizes = [weight.numel() for weight in layer.parameters()]
for weight, part in zip(layer.parameters(), torch.empty(sum(sizes)).split(sizes)):
    weight.data = part.view(weight.shape)
print(is_in_one_chunk(layer))
"""


def test_jax_says_what_a_call_takes_beside_what_is_held():
    found = printed("jax", PLAN).split()
    taken = dict(zip(found[::2], map(int, found[1::2]), strict=True))
    # Forward at least the logits; backward the hidden layer too, or what is made of it.
    assert 500 * 10 * 4 <= taken["inference"] < 4 * 500 * 1000 * 4
    assert 500 * 1000 * 4 <= taken["training"] < 6 * 500 * 1000 * 4
    # Which returns a gradient for every weight and every input.
    assert taken["gradients"] >= taken["training"] + 64 * 1000 * 4


def test_pytorch_knows_weights_in_one_chunk():
    assert printed("pytorch", CHUNK).split() == ["False", "True"]
