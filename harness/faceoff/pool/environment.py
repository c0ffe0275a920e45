"""The environment that a worker starts in: that of the caller's shell, without what would tilt a contender unseen."""

from __future__ import annotations

import os
from pathlib import Path

from faceoff.core.spec import Contender
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine.visible_cards import visible_cards

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
    "COV_CORE_",
    "CUBLAS",
    "CUDNN_",
    "DNNL_",
    "GOMP_",
    "KMP_",
    "MALLOC_",
    "MKL_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTHONMALLOC",
)
# What begins alike and is needed to start.
_HARMLESS_PREFIXES = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")


def tilts(name: str) -> bool:
    """Whether an environment variable would change the speed or the results of some frameworks and not of others."""
    tilting = *_TILTING_PREFIXES, *(prefix for framework in FRAMEWORKS.values() for prefix in framework.tilting)
    harmless = *_HARMLESS_PREFIXES, *(prefix for framework in FRAMEWORKS.values() for prefix in framework.harmless)
    return name in _TILTING or (name.startswith(tilting) and not name.startswith(harmless))


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
        and not (value.split() == _kept(name) and any(name in f.kept_flags for f in FRAMEWORKS.values()))
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
        CUDA_DEVICE_ORDER="PCI_BUS_ID",
        CUDA_VISIBLE_DEVICES=visible_cards(device, card),
    )
    environment.update(framework.always(device, compile_cache))
    if framework.caches_by_default or not cold:
        environment.update(framework.keeps_compiled(compile_cache))
    environment.update(framework.variables_of(contender.mode, device))
    for name in framework.kept_flags:
        if flags := " ".join([*_kept(name), *environment.get(name, "").split()]):
            environment[name] = flags
    return environment


def _kept(name: str) -> list[str]:
    """The flags of a variable of the shell that frameworks need to start, such as where a library lies."""
    beginnings = tuple(flag for framework in FRAMEWORKS.values() for flag in framework.kept_flags.get(name, ()))
    return [flag for flag in os.environ.get(name, "").split() if flag.startswith(beginnings)]
