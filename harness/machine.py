"""What this machine is."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import psutil
from cpuinfo import get_cpu_info

from harness.cards import open_card
from harness.cost_records import UNKNOWN


def describe_machine(device: str = "cpu", card: int = 0) -> dict[str, object]:
    """Processor, cores, memory, operating system and Python of this machine, and the GPU when that is the device."""
    with open_card(device, card) as found:
        gpu = {"gpu": found.describe().model_dump()} if found else {}
    return {
        **gpu,
        "processor": get_cpu_info().get("brand_raw") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "operating_system": platform.platform(),
        "python": platform.python_version(),
    }


def card_name(machine: Mapping[str, object]) -> str:
    """The name of the GPU in what `describe_machine` gave; empty where the driver tells none."""
    gpu = machine.get("gpu")
    name = str(gpu.get("name") or "") if isinstance(gpu, Mapping) else ""
    return "" if name == UNKNOWN else name
