"""What a worker's server does itself, with a framework that is made up here."""

import gc
import weakref

import pytest

from harness.core.spec import DenseSpec, Workload
from harness.worker.server import Server

WORKLOAD = Workload(DenseSpec((4, 3)), 2).to_json()


class Circular:
    """A model that refers to itself, as a method that was compiled once does."""

    def __init__(self):
        self.call = self.forward

    def forward(self):
        return None


class MadeUp:
    """A runtime that notes which of its models were alive when it built the next."""

    def __init__(self):
        self.models, self.alive = [], []
        self.peaks_forgotten = 0

    def build(self, workload, weights, mode):
        self.alive.append([model() is not None for model in self.models])
        model = Circular()
        self.models.append(weakref.ref(model))
        return model

    def memory(self):
        return {"device_peak_bytes": 7}

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


def test_memory_is_the_host_s_and_the_device_s_and_both_peaks_are_forgotten(server):
    found = server.do_memory()
    assert found["device_peak_bytes"] == 7
    assert 2**20 < found["host_in_use_bytes"] <= found["host_peak_bytes"]
    server.do_forget_peak()
    assert server.runtime.peaks_forgotten == 1
