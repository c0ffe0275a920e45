"""What of the caller's shell a worker gets: what it needs, and nothing that would tilt a comparison."""

import os

import pytest

from faceoff.core.spec import Contender
from faceoff.pool.environment import THREAD_VARIABLES, describe_left_out, worker_environment


@pytest.fixture(autouse=True)
def shell(monkeypatch):
    """A shell with nothing but these."""
    for name in os.environ:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/someone")
    return monkeypatch


def environment(tmp_path, framework="jax", mode="jit", **options):
    return worker_environment(Contender(framework, mode), 3, tmp_path, **options)


@pytest.mark.parametrize(
    "name",
    [
        "ATEN_CPU_CAPABILITY",
        "CUBLAS_WORKSPACE_CONFIG",
        "CUDA_MODULE_LOADING",
        "JAX_DEBUG_NANS",
        "MALLOC_ARENA_MAX",
        "OMP_PROC_BIND",
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "PYTHONOPTIMIZE",
        "TF_CPP_MAX_VLOG_LEVEL",
        "TF_NUM_INTRAOP_THREADS",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "TORCHINDUCTOR_MAX_AUTOTUNE",
        "TRITON_CACHE_DIR",
    ],
)
def test_what_would_tilt_a_contender_does_not_reach_it_and_is_told(shell, tmp_path, name):
    shell.setenv(name, "1")
    assert name not in environment(tmp_path, device="gpu")
    assert describe_left_out(3).endswith(f": {name}")


@pytest.mark.parametrize(
    "name",
    ["CUDA_HOME", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "LD_LIBRARY_PATH", "TF_VAR_region", "TRITON_PTXAS_PATH"],
)
def test_what_is_needed_or_harmless_is_passed_on_without_a_word(shell, tmp_path, name):
    shell.setenv(name, "1")
    assert environment(tmp_path)[name] == "1"
    assert describe_left_out(3) == ""


def test_of_xla_s_flags_a_worker_gets_where_cuda_lies_and_no_more(shell, tmp_path):
    shell.setenv("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/opt/cuda")
    assert environment(tmp_path, "tensorflow", "xla", device="gpu")["XLA_FLAGS"] == "--xla_gpu_cuda_data_dir=/opt/cuda"
    assert describe_left_out(3) == ""
    shell.setenv("XLA_FLAGS", "--xla_dump_to=/tmp --xla_gpu_cuda_data_dir=/opt/cuda")
    flags = environment(tmp_path, mode="tuned", device="gpu")["XLA_FLAGS"].split()
    assert flags[0] == "--xla_gpu_cuda_data_dir=/opt/cuda"
    assert [flag for flag in flags if "dump" in flag] == []
    assert len(flags) == 2
    assert describe_left_out(3).endswith(": XLA_FLAGS")


def test_threads_are_those_asked_for_and_others_are_told(shell, tmp_path):
    shell.setenv("OMP_NUM_THREADS", "1")
    assert {environment(tmp_path)[name] for name in THREAD_VARIABLES} == {"3"}
    assert "OMP_NUM_THREADS" in describe_left_out(3)
    assert describe_left_out(1) == ""


def test_keras_reads_no_settings_of_the_user_s(shell, tmp_path):
    shell.setenv("KERAS_HOME", "/home/someone/keras")
    assert environment(tmp_path, "tensorflow", "graph")["KERAS_HOME"] == str(tmp_path / "keras")


def test_what_a_mode_needs_is_set_after_all_else(shell, tmp_path):
    shell.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert environment(tmp_path, "tensorflow", "graph")["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert environment(tmp_path, "tensorflow", "graph-onednn")["TF_ENABLE_ONEDNN_OPTS"] == "1"
