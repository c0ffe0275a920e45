"""PyTorch's mode `cuda-graphs` on a CPU: everything but the capture itself, for which the step is called anew."""

import pytest

from tests.contract.programs import printed

pytestmark = pytest.mark.thorough

STEPS = """
import numpy as np
import torch
from faceoff.core.contract import Settings
from faceoff.core.precision import ADAMS
from faceoff.core.spec import OPTIMISERS, Optimiser, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.workloads.presets import PRESETS
from impls.pytorch import RUNTIME, graphs
from impls.pytorch.runtime import PyTorchModel

captured, pools = [], set()

def capture(run, pool):
    captured.append(run)
    pools.add(pool)
    return run, 1000 + len(captured)

def warm_up(run):
    for _ in range(graphs.WARM_UP_CALLS):
        run()

graphs.capture, graphs.warm_up, graphs.new_pool = capture, warm_up, object
# What is compiled has tests of its own.
torch.compile = lambda function, **options: function
RUNTIME.configure(Settings(device="cpu", threads=1))

def same(ours, theirs):
    assert ours.keys() == theirs.keys() and theirs
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs), [
        name for name in theirs if not np.array_equal(ours[name], theirs[name])
    ]

for sized in PRESETS["small"].sized:
    for kind in OPTIMISERS:
        rate = 0.01 if kind in ADAMS else 0.1
        workload = Workload(sized.model, sized.batch_size, optimiser=Optimiser(kind, learning_rate=rate))
        weights = seeded_weights(sized.model, 1)
        mode, device = "eager", torch.device("cpu")
        eager, graphed = (PyTorchModel(workload, weights, mode, device) for mode in ("eager", "cuda-graphs"))
        # More than are read in place.
        batches = [RUNTIME.place(seeded_batch(workload, seed), "float32") for seed in range(6)]
        captured.clear()
        pools.clear()
        # The second time from the first weights again, with what is captured already.
        for _ in range(2):
            for batch in batches:
                assert torch.equal(graphed.forward(batch), eager.forward(batch))
                ours, theirs = (model.canonical(model.gradients(batch)) for model in (graphed, eager))
                assert np.array_equal(ours["loss"], theirs["loss"])
                same(ours["weights"], theirs["weights"])
                same(ours["inputs"], theirs["inputs"])
            for batch in batches:
                assert torch.equal(graphed.train_step(batch), eager.train_step(batch))
            same(graphed.weights(), eager.weights())
            assert not all(np.array_equal(eager.weights()[name], weights[name]) for name in weights)
            for name, held in eager.optimiser_state().items():
                same(graphed.optimiser_state()[name], held)
            for model in (graphed, eager):
                model.reset(weights)
            same(graphed.weights(), weights)
        # Each step for each of four batches, and for a copy of all others.
        assert len(captured) == 3 * (4 + 1) and len(pools) == 1, (sized, kind, len(captured))
        taken = [graphed.working_bytes("training", batch) for batch in batches]
        assert taken == [1011, 1012, 1013, 1014, 1015, 1015] and eager.working_bytes("training", batches[0]) is None
print("same")
"""

IN_PLACE = """
import gc
import torch
from impls.pytorch import graphs
from impls.pytorch.graphs import PlacedBatch, StepGraphs

read, warmed = [], []

def capture(run, pool):
    run()
    return (lambda: "replayed"), 1

def step(batch):
    read.append(batch.inputs["x"].data_ptr())

def made():
    return PlacedBatch({"x": torch.zeros(2, 3)}, torch.zeros(2, dtype=torch.long))

graphs.capture, graphs.warm_up, graphs.new_pool = capture, warmed.append, object
captured = StepGraphs(lambda: ())
batches = [made() for _ in range(graphs.MOST_READ_IN_PLACE + 2)]
for _ in range(2):
    for batch in batches:
        assert captured.run("inference", step, batch) == "replayed"
lies = [batch.inputs["x"].data_ptr() for batch in batches]
assert read[:-1] == lies[:-2] and read[-1] not in lies, (read, lies)
# The others' kernels are known by then.
assert len(warmed) == 1
read.clear()
del batch, batches
gc.collect()
new = made()
captured.run("inference", step, new)
assert read == [new.inputs["x"].data_ptr()]
print("in place")
"""

FAILURES = """
from contextlib import nullcontext
import torch
from impls.pytorch import graphs

class Graph:
    pass

class Capture:
    def __init__(self, graph, pool, stream):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *error):
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

torch.cuda.CUDAGraph, torch.cuda.graph = Graph, Capture
torch.cuda.stream, torch.cuda.current_stream = lambda stream: nullcontext(), lambda: None
torch.cuda.reset_peak_memory_stats = lambda: None
graphs.own_stream = lambda: None

def run_out():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

def synchronise():
    raise RuntimeError("operation not permitted when stream is capturing")

for step in (run_out, synchronise, lambda: 1):
    try:
        graphs.capture(step, None)
    except RuntimeError as error:
        print(type(error).__name__, error)
"""


def test_steps_that_are_captured_once_compute_what_eager_ones_do():
    assert printed("pytorch", STEPS) == "same"


def test_the_first_batches_are_read_where_they_lie_and_make_room_when_they_go():
    assert printed("pytorch", IN_PLACE) == "in place"


def test_why_a_capture_failed_is_what_is_raised():
    assert printed("pytorch", FAILURES).splitlines() == [
        "OutOfMemoryError CUDA out of memory. Tried to allocate 9 GiB",
        "RuntimeError operation not permitted when stream is capturing; "
        "CUDA error: operation failed due to a previous error during capture",
        "RuntimeError CUDA error: operation failed due to a previous error during capture",
    ]
