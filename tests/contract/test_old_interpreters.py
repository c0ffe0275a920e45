"""A worker under every Python and NumPy that is promised: an old framework may need old ones."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faceoff.core.clock import monotonic_ns
from faceoff.core.messages import Channel, Message
from faceoff.core.spec import DenseSpec, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.pool.workers import PACKAGE

pytestmark = pytest.mark.thorough

# The oldest that can be had for an interpreter, and some between it and the pinned one.
VERSIONS = {(3, 11): ("1.23.5", "1.24.4", "1.26.4"), (3, 12): ("1.26.4", "2.0.2"), (3, 13): ("2.1.3", "2.2.6")}
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Old frameworks live in old interpreters, the oldest of which lacks dataclasses.
OLD = (("3.6", "1.19.5"), ("3.7", "1.21.6"), ("3.8", "1.23.5"), ("3.10", "1.22.4"))
BACKPORTS = {"3.6": ("dataclasses==0.8",)}
CASES = (*OLD, *((OWN, version) for version in VERSIONS.get(sys.version_info[:2], ())))
WORKLOAD = Workload(DenseSpec((4, 3)), 2)

# A framework that needs nothing but NumPy: one layer, and every kind of value that a reply holds.
MADE_UP = """
import numpy as np
from faceoff.core.contract import Model, Runtime


class Plain(Runtime):
    def configure(self, settings): pass
    def modes(self, device): return ("only",)
    def build(self, workload, weights, mode): return Layer(weights)
    def place(self, batch, dtype): return batch.inputs["x"].astype(dtype)
    def wait(self, value): pass
    def fetch(self, value): return np.asarray(value)
    def memory(self): return {}
    def stream(self, count): return lambda: None
    def describe(self): return {"versions": {"numpy": np.__version__}}


class Layer(Model):
    def __init__(self, weights): self.reset(weights)
    def forward(self, batch): return batch @ self._held["layer.0.weight"].T.astype(batch.dtype)
    def gradients(self, batch): return self.forward(batch).mean()
    def train_step(self, batch): return self.forward(batch).mean()
    def weights(self): return dict(self._held)
    def optimiser_state(self): return {"momentum": dict(self._held)}
    def reset(self, weights): self._held = {name: np.array(value) for name, value in weights.items()}
    def canonical(self, gradients): return {"loss": np.asarray(gradients), "weights": self._held, "inputs": {}}
    def trace(self, batch, training): return {"layer.0": self.forward(batch)}
    def describe(self): return {"kernel": "product"}


RUNTIME = Plain()
"""


def find_python(version):
    """An interpreter of this version: this one, one in the PATH or one of pyenv's; None if there is none."""
    if version == OWN:
        return sys.executable
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for python in (shutil.which(f"python{version}"), *kept.glob(f"{version}.*/bin/python")):
        # A shim may stand for a version that is not chosen.
        if python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return str(python)
    return None


@pytest.fixture(params=CASES, ids=" with ".join)
def old_numpy(request, tmp_path):
    """An interpreter, a folder with this NumPy, and its version."""
    interpreter, wanted = request.param
    python = find_python(interpreter)
    if python is None:
        pytest.skip(f"there is no Python {interpreter} here")
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:"]
    command += [
        "--disable-pip-version-check",
        "--target",
        str(tmp_path / "numpy"),
        f"numpy=={wanted}",
        *BACKPORTS.get(interpreter, ()),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"numpy {wanted} cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    return python, tmp_path / "numpy", wanted


def test_a_worker_serves_every_request(old_numpy, tmp_path):
    python, folder, version = old_numpy
    made_up = tmp_path / "made_up"
    made_up.mkdir(parents=True)
    made_up.joinpath("__init__.py").write_text(MADE_UP)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / PACKAGE.name).symlink_to(PACKAGE)
    ours, theirs = socket.socketpair()
    arguments = [str(theirs.fileno()), str(made_up), str(os.getpid()), str(monotonic_ns()), "", "jax"]
    with theirs, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "faceoff.worker", *arguments],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}/packages:{folder}"},
            pass_fds=[theirs.fileno()], stdout=log, stderr=log,
        )  # fmt: skip
    channel = Channel(ours)

    def request(kind, **body):
        channel.send(Message(kind, body), 60)
        reply = channel.receive(60)
        assert reply.kind == "ok", reply.body
        return reply.body

    try:
        assert request("start", device="cpu", threads=1, seed=0)["settings"]["versions"]["numpy"] == version
        weights = seeded_weights(WORKLOAD.model, 0)
        batch = seeded_batch(WORKLOAD, 0)
        request("build", workload=WORKLOAD.to_json(), mode="only", weights=weights)
        request("load", batches=[batch.to_json()])
        request("first_call", step="training")
        expected = batch.inputs["x"].astype("float32") @ weights["layer.0.weight"].T.astype("float32")
        np.testing.assert_allclose(request("forward", indices=[0])["outputs"][0], expected, rtol=1e-5)
        loss = request("gradients", index=0)["loss"]
        assert (loss.shape, loss.dtype) == ((), np.float32)
        assert request("train", indices=[0, 0])["losses"].shape == (2,)
        assert set(dict(request("trace", index=0, training=True)["values"])) == {"layer.0"}
        assert set(request("weights")) == set(weights)
        assert set(request("optimiser_state")["momentum"]) == set(weights)
        request("reset", weights=weights)
        assert request("time", step="training", warmup=1, iterations=3, start=0)["duration_ns"] > 0
        assert request("last_value", step="training")["value"].shape == ()
        assert {"host_peak_bytes"} <= set(request("memory"))
    finally:
        channel.close()
        assert process.wait(20) == 0
