"""What this machine is."""

from __future__ import annotations

import platform

import psutil
from cpuinfo import get_cpu_info


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, operating system and Python of this machine."""
    return {
        "processor": get_cpu_info().get("brand_raw") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "operating_system": platform.platform(),
        "python": platform.python_version(),
    }
