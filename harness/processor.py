"""This machine's processor: how many cores there are to use, and what code that is compiled for it depends on."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may use; fewer than the machine has where it was told so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def describe_processor() -> str:
    """Name and instruction sets of the processor, as the kernel tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))


def is_amd_with_avx2() -> bool:
    """Whether MKL takes its slow path here although there are the instructions for its fast one."""
    return "AMD" in describe_processor() and " avx2 " in describe_processor()
