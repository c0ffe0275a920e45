"""Settings of the user's shell and home folder that would slow down, break or change one framework reach none."""

import json
import subprocess
import sys

import pytest

from faceoff import agree, load

pytestmark = pytest.mark.thorough

HOSTILE = {
    # Plain loops instead of vector instructions, in PyTorch alone.
    "ATEN_CPU_CAPABILITY": "default",
    "JAX_DEBUG_NANS": "1",
    "KERAS_BACKEND": "jax",
    # Products of float32 in bfloat16.
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "TF_NUM_INTRAOP_THREADS": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    # XLA ends a process that has a flag it does not know.
    "XLA_FLAGS": "--xla_of_the_user",
}


def test_no_setting_of_shell_or_home_reaches_a_framework(monkeypatch, tmp_path, capfd):
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    for folder in (tmp_path, tmp_path / ".keras"):
        folder.mkdir(exist_ok=True)
        (folder / "keras.json").write_text(json.dumps({"image_data_format": "channels_first", "floatx": "float16"}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    contenders = ["pytorch:eager", "tensorflow:graph-onednn", "jax:jit"]
    result = agree(preset="small", models=["residual"], contenders=contenders, out=tmp_path / "out", quiet=True)
    started = {info.contender: info for info in result.contenders if info.outcome != "missing"}
    assert result.exit_status in (0, 3)
    assert {a.contender for a in result.agreements if a.outcome == "ok"} == set(started)
    if "pytorch:eager" in started:
        assert started["pytorch:eager"].settings["device"] != "DEFAULT"
    told = capfd.readouterr().err
    assert all(name in told for name in (*HOSTILE, "KERAS_HOME"))


@pytest.mark.parametrize("gone", ["2>/dev/full", ">&- 2>&-"])
def test_a_run_outlives_whoever_watched_it(gone, lightest, tmp_path):
    command = f"agree --preset small --models dense --contenders {lightest} --out '{tmp_path}/a run'"
    run = subprocess.run(["bash", "-c", f"exec {sys.executable} -m faceoff {command} {gone}"], timeout=300)
    assert run.returncode == 0
    result = load(tmp_path / "a run" / "result.json")
    assert {agreement.outcome for agreement in result.agreements} == {"ok"}
    assert (tmp_path / "a run" / "page.html").exists()
