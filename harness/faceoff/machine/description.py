"""What this machine is."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import psutil
from cpuinfo import get_cpu_info

from faceoff.core.cgroups import processor_quota
from faceoff.machine.cards import open_card
from faceoff.machine.processor import describe_quota
from faceoff.results.costs import UNKNOWN

# The widest vector instructions, by the kernel's flag.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sve": "SVE", "asimd": "NEON"}


def describe_machine(device: str = "cpu", card: int = 0) -> dict[str, object]:
    """Processor, cores, memory, operating system and Python of this machine, and the GPU when that is the device."""
    with open_card(device, card) as found:
        gpu = {"gpu": found.describe().model_dump()} if found else {}
    quota = processor_quota()
    return {
        **gpu,
        "processor": name_processor(get_cpu_info()),
        "cores": psutil.cpu_count(),
        **({"processor_quota": quota} if describe_quota() else {}),
        "memory_bytes": psutil.virtual_memory().total,
        "operating_system": platform.platform(),
        "python": platform.python_version(),
    }


def name_processor(info: Mapping[str, Any]) -> str:
    """Its name, and what tells it from others of that name: on a rented machine a name stands for several kinds."""
    name = info.get("brand_raw") or platform.processor() or platform.machine()
    parts = [f"{key} {info[key]}" for key in ("family", "model") if key in info]
    flags = set(info.get("flags", ()))
    parts += [next((text for flag, text in VECTORS.items() if flag in flags), "")]
    told = ", ".join(filter(None, parts))
    return f"{name} ({told})" if told else str(name)


def card_name(machine: Mapping[str, object]) -> str:
    """The name of the GPU in what `describe_machine` gave; empty where the driver tells none."""
    gpu = machine.get("gpu")
    name = str(gpu.get("name") or "") if isinstance(gpu, Mapping) else ""
    return "" if name == UNKNOWN else name
