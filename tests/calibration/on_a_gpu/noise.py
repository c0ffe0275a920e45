"""Computes beforehand the rounding noise that agreement is judged by: it depends on no card, and takes minutes.

It depends on the version of NumPy, among others. So the interpreter that computes it has the other machine's.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from faceoff.agreement.check import Expected
from faceoff.agreement.quantities import Detail
from faceoff.agreement.timed_check import examples_compared
from faceoff.commands.cli import cli
from faceoff.core.spec import Workload
from faceoff.pool.memory import require_memory_of_reference
from faceoff.workloads.presets import PUBLISHED_V100_MS, choose
from faceoff.workloads.task import Task
from tests.calibration.on_a_gpu.packing import pack
from tests.calibration.on_a_gpu.plan import DEVICE, PUBLISHED, Part
from tests.calibration.on_a_gpu.preparing import project_files, weigh
from tests.calibration.on_a_gpu.schedule import CACHES

COMMANDS = ("agree", "bench")


class Noise(NamedTuple):
    """What is judged by one noise.

    Args:
        workload: with as many examples as are compared.
        dtype: in which it is computed.
        detail: which quantities there are.
        seed: of weights, batches and noise.
    """

    workload: Workload
    dtype: str
    detail: Detail
    seed: int


def compute(parts: Sequence[Part], asked: argparse.Namespace, limit_bytes: int) -> str:
    """Computes what the parts need, and packs it into the prepared folder.

    Args:
        parts: of the plan, the most worthwhile first.
        asked: of the command line: `folder`, `device`, `minutes`.
        limit_bytes: as of `prepare`.

    Returns:
        How much was computed and how large the folder is now, in words.

    Raises:
        NotPreparedError: the folder is too large with it.
    """
    kept = asked.folder.with_name(f"{asked.folder.name}-noise").resolve()
    # Found again by the next call, and by nobody else.
    os.environ["XDG_CACHE_HOME"] = str(kept)
    until_s = time.monotonic() + 60 * asked.minutes
    wanted, done = wanted_by(parts, asked.device), 0
    for noise, part in wanted.items():
        if time.monotonic() > until_s:
            break
        done += _compute(part, noise)
    asked.folder.mkdir(parents=True, exist_ok=True)
    pack(kept, sorted(path for path in kept.rglob("*") if path.is_file()), asked.folder / CACHES)
    size = weigh(asked.folder, project_files(asked.folder), limit_bytes)
    return f"noise of {done} of {len(wanted)} checks, for NumPy {np.__version__}; {size}"


def wanted_by(parts: Sequence[Part], device: str) -> dict[Noise, str]:
    """Each noise that parts need, with the first of them."""
    found: dict[Noise, str] = {}
    for part in parts:
        if part.arguments[1] == "faceoff" and part.arguments[2] in COMMANDS:
            for noise in _of(part, device):
                found.setdefault(noise, part.name)
    return found


def _of(part: Part, device: str) -> Iterator[Noise]:
    command = part.arguments[2]
    words = [
        word.replace(DEVICE, device).replace(PUBLISHED, ",".join(PUBLISHED_V100_MS)) for word in part.arguments[3:]
    ]
    asked: dict[str, Any] = cli.commands[command].make_context(command, words).params
    sizes = asked["batch_size"], asked["sequence_length"], asked["hidden_size"]
    agree = command == "agree"
    timed = "float32" if agree else asked["dtype"][0]
    for item in choose(asked["preset"], asked["models"], *sizes, asked["workload"]):
        kind = asked["device"].partition(":")[0]
        workload = Workload(item.model, item.batch_size, timed, kind, "training", item.optimiser)
        if not agree:
            workload = workload.replace(batch_size=examples_compared(workload))
        for dtype in asked["dtype"] if agree else dict.fromkeys(("float64", timed)):
            yield Noise(workload, dtype, "layers" if agree else "whole", asked["seed"])


def _compute(part: str, noise: Noise) -> bool:
    began_s = time.monotonic()
    name = f"{part}: {noise.workload.name}, noise in {noise.dtype}"
    try:
        require_memory_of_reference(noise.workload)
        task = Task.seeded(noise.workload, noise.seed)
        # Passes go side by side instead, as in a run.
        with threadpool_limits(1):
            Expected(task, noise.seed, detail=noise.detail).noise(noise.dtype)
    except MemoryError as error:
        print(f"{name}: left out: {error}", flush=True)
        return False
    print(f"{name}: {time.monotonic() - began_s:.1f} s", flush=True)
    return True
