"""This machine's processor: how many cores there are to use, and what code that is compiled for it depends on."""

from __future__ import annotations

import functools
import math
import os
import platform
from pathlib import Path

from faceoff.core.cgroups import processor_quota


def allowed_cores() -> int:
    """Cores that this process may run on; fewer than the machine has where it was told so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Cores that this process may keep busy: a container may run on all, and have the time of fewer."""
    quota = processor_quota()
    # A thread more than whole processors would be held back in every period of the kernel's.
    return allowed_cores() if quota is None else max(1, min(allowed_cores(), math.floor(quota)))


def describe_quota() -> str:
    """That there is less processor time than there are cores, in words; empty where there is not."""
    quota = processor_quota()
    if quota is None or quota >= allowed_cores():
        return ""
    return f"this container has the processor time of {quota:g} of {allowed_cores()} cores"


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
