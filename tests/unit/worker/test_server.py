"""What a worker's server does itself, with a framework that is made up here."""

import gc
import time
import weakref

import pytest

from faceoff.core.contract import STAGES
from faceoff.core.spec import DenseSpec, Workload
from faceoff.worker.failures import describe_error
from faceoff.worker.server import Server

WORKLOAD = Workload(DenseSpec((4, 3)), 2).to_json()


class Circular:
    """A model that refers to itself, as a method that was compiled once does."""

    def __init__(self):
        self.call = self.forward

    def forward(self):
        return None

    def working_bytes(self, step, batch):
        return 3 if step == "training" else None


class MadeUp:
    """A runtime that notes which of its models were alive when it built the next."""

    def __init__(self):
        self.models, self.alive = [], []
        self.peaks_forgotten = 0
        self.device_memory = {"device_peak_bytes": 7}

    def build(self, workload, weights, mode):
        self.alive.append([model() is not None for model in self.models])
        model = Circular()
        self.models.append(weakref.ref(model))
        return model

    def memory(self):
        return self.device_memory

    def forget_peak(self):
        self.peaks_forgotten += 1


@pytest.fixture
def server():
    found = Server(None, "made-up", 0.0)
    found._runtime = MadeUp()
    gc.collect()
    gc.disable()
    yield found
    gc.enable()


def test_on_a_card_a_model_has_left_before_the_next_is_built(server):
    server._device = "gpu"
    for _ in range(3):
        server.do_build(WORKLOAD, "mode", {})
    assert server.runtime.alive == [[], [False], [False, False]]


class Told:
    """A model that tells its stages, slow the first time."""

    def __init__(self):
        self.calls = 0

    def stages(self, batch):
        self.calls += 1
        return {name: float(self.calls == 1) for name in STAGES}


def test_the_first_inference_from_host_memory_is_left_out_and_who_tells_no_stages_tells_none(server):
    server._model, server._batches = Told(), [None]
    found = server.do_stages(repetitions=3)
    assert {name: list(seconds) for name, seconds in found.items()} == {name: [0.0] * 3 for name in STAGES}
    server._model.stages = lambda batch: None
    assert server.do_stages(repetitions=3) == {}


class Late:
    """A runtime and a model whose calls return at once and are done when they are waited for."""

    def __init__(self, wait_s):
        self.wait_s = wait_s

    def forward(self, batch):
        return batch

    def wait(self, value):
        time.sleep(self.wait_s)

    def start_clock(self):
        return None


@pytest.mark.parametrize("wait_s", [0.0, 0.02])
def test_of_calls_in_a_row_the_last_wait_is_told_and_of_others_none(wait_s):
    server = Server(None, "made-up", 0.0)
    server._runtime = server._model = Late(wait_s)
    server._batches = [1, 2]
    in_a_row = server.do_time(step="inference", warmup=0, iterations=5, start=0, pipelined=True)
    assert in_a_row["wait_ns"] >= 1e9 * wait_s
    # One wait, not five.
    assert in_a_row["wait_ns"] <= in_a_row["duration_ns"] < 5e9 * max(wait_s, 1)
    assert len(in_a_row["call_ns"]) == 0
    assert server.do_time(step="inference", warmup=0, iterations=5, start=0)["wait_ns"] == 0


def test_memory_is_the_host_s_and_the_device_s_and_both_peaks_are_forgotten(server):
    found = server.do_memory()
    assert found["device_peak_bytes"] == 7
    assert 2**20 < found["host_in_use_bytes"] <= found["host_peak_bytes"]
    server.do_forget_peak()
    assert server.runtime.peaks_forgotten == 1


def test_a_peak_that_a_device_does_not_tell_is_what_is_in_use_and_what_the_timed_call_takes(server):
    server.do_build(WORKLOAD, "mode", {})
    server.runtime.device_memory = {"device_in_use_bytes": 5}
    assert "device_peak_bytes" not in server.do_memory()
    for step, peak in (("training", 8), ("inference", None)):
        server._timed = step, None
        assert server.do_memory().get("device_peak_bytes") == peak
    # One that the device tells counts, but where the model knows better, as of CUDA graphs.
    server.runtime.device_memory = {"device_in_use_bytes": 5, "device_peak_bytes": 9}
    for step, peak in (("training", 8), ("inference", 9)):
        server._timed = step, None
        assert server.do_memory()["device_peak_bytes"] == peak


def test_the_reason_is_what_the_compiler_said_and_no_heading():
    text = """backend='inductor' raised:
CppCompileError: C++ compile error

Command:
g++ /tmp/a b/x.cpp

Output:
g++: fatal error: input file is the same as output file
"""
    said = "CppCompileError: C++ compile error: g++: fatal error: input file is the same as output file"
    assert describe_error(RuntimeError(text))["reason"] == f"RuntimeError: {said}"
