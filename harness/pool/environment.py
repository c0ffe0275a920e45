"""The environment that a worker starts in: that of the caller's shell, without what would tilt a contender unseen."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.spec import Contender
from harness.frameworks.environments import FRAMEWORKS
from harness.machine.visible_cards import visible_cards

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# What one library alone obeys (threads, instruction sets, precision, allocators, kernels), and what slows Python down.
_TILTING = (
    "COVERAGE_PROCESS_START",
    "CUDA_CACHE_DISABLE",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_FORCE_PTX_JIT",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "DISABLE_ADDMM_CUDA_LT",
    "GLIBC_TUNABLES",
    "LD_AUDIT",
    "LD_DEBUG",
    "LD_PRELOAD",
    "NPROC",
    "NVIDIA_TF32_OVERRIDE",
    "PYTHONDEVMODE",
    "PYTHONINSPECT",
    "PYTHONOPTIMIZE",
    "PYTHONPERFSUPPORT",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONSTARTUP",
    "PYTHONTRACEMALLOC",
    "PYTHONVERBOSE",
    "PYTHONWARNINGS",
    "PYTHON_CPU_COUNT",
    "PYTHON_JIT",
)
_TILTING_PREFIXES = (
    "ATEN_",
    "COV_CORE_",
    "CUBLAS",
    "CUDNN_",
    "DNNL_",
    "FLAX_",
    "GOMP_",
    "JAX_",
    "KERAS_",
    "KMP_",
    "MALLOC_",
    "MKL_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTHONMALLOC",
    "PYTORCH_",
    "TF_",
    "TORCH",
    "TRITON_",
    "XLA_",
)
# What begins alike and is needed to start, is set anyway, or is scikit-learn's or Terraform's.
_HARMLESS_PREFIXES = (
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "TF_CLI_",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_DATA_DIR",
    "TF_INPUT",
    "TF_IN_AUTOMATION",
    "TF_LOG",
    "TF_PLUGIN_",
    "TF_VAR_",
    "TF_WORKSPACE",
    "TRITON_LIBCUDA_PATH",
    "TRITON_PTXAS_PATH",
)
# A part of XLA_FLAGS that says where CUDA lies, without which XLA may compile nothing for a card.
_CUDA_FOLDER = "--xla_gpu_cuda_data_dir="


def tilts(name: str) -> bool:
    """Whether an environment variable would change the speed or the results of some frameworks and not of others."""
    return name in _TILTING or (name.startswith(_TILTING_PREFIXES) and not name.startswith(_HARMLESS_PREFIXES))


def describe_left_out(threads: int) -> str:
    """Which variables of the caller's shell no worker gets, in words; empty where there are none.

    Args:
        threads: those of one operation; a variable that says the same is not worth a word.
    """
    names = [
        name
        for name, value in sorted(os.environ.items())
        if tilts(name)
        and not (name in THREAD_VARIABLES and value == str(threads))
        and not (name == "XLA_FLAGS" and value.split() == _where_cuda_lies())
    ]
    return f"variables that no framework gets, so that none is favoured: {', '.join(names)}" if names else ""


def worker_environment(
    contender: Contender,
    threads: int,
    compile_cache: Path,
    cold: bool = False,
    device: str = "cpu",
    card: int = 0,
) -> dict[str, str]:
    """The environment variables of a worker, complete before its interpreter starts.

    Args:
        contender: whose worker.
        threads: threads of one operation.
        compile_cache: folder for compiled code.
        cold: only a framework whose users have a compile cache anyway uses the folder, which should be empty.
        device: `cpu` or `gpu`.
        card: which GPU; the worker sees no other.
    """
    framework = FRAMEWORKS[contender.framework]
    environment = {name: value for name, value in os.environ.items() if not tilts(name)}
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    environment.update(
        PYTHONUNBUFFERED="1",
        KERAS_BACKEND="tensorflow",
        # Or a keras.json of the user's would choose dtypes and the layout of images.
        KERAS_HOME=str(compile_cache / "keras"),
        # On a GPU it says in its warnings alone why it sees none.
        TF_CPP_MIN_LOG_LEVEL="1" if device == "gpu" else "2",
        CUDA_DEVICE_ORDER="PCI_BUS_ID",
        CUDA_VISIBLE_DEVICES=visible_cards(device, card),
    )
    if framework.caches_by_default or not cold:
        environment.update({name: text.format(compile_cache) for name, text in framework.compile_cache.items()})
    environment.update(framework.environment(contender.mode, device))
    if flags := " ".join([*_where_cuda_lies(), *environment.get("XLA_FLAGS", "").split()]):
        environment["XLA_FLAGS"] = flags
    return environment


def _where_cuda_lies() -> list[str]:
    return [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag.startswith(_CUDA_FOLDER)]
