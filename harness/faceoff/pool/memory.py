"""How much memory is left on this machine, and what a workload takes of it before any framework sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import psutil

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Workload
from faceoff.core.weights import input_shapes, weight_shapes
from faceoff.machine.processor import usable_cores
from faceoff.workloads.task import TRAINING_STEPS
from faceoff.workloads.work import ITEM_BYTES

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# The limit, what is used, and of that the pages of files, which are given back when somebody needs the memory: as the
# two versions of cgroups name them.
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
SECOND = ("memory.max", "memory.current", "inactive_file")
VMSTAT = Path("/proc/vmstat")
# Peak memory by weight, and by number in the inputs of all batches: of one stochastic training, and of the reference as
# a whole while it makes one at a time. Measured with models that are mostly weights, or mostly inputs; activations are
# not counted.
BYTES_OF_A_PASS, BYTES_OF_THE_REFERENCE = (86, 23), (136, 34)
# Inputs this large in float64 are in no cache when they come round again, so timing needs no others between.
LARGE_BATCH_BYTES = 256 * 2**20
# How it is said that memory ran out on the host. On a GPU all else is the card's.
WORDS_FOR_THE_HOST = (
    "in the harness",
    "the kernel ended",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    ": memoryerror",
    "bad_alloc",
    "device:cpu",
    "on host",
)
OF_THE_HOST, OF_THE_CARD = "memory of the host", "memory of the card"


def available_bytes() -> int:
    """Memory that can be had without swapping: of the machine, or of a control group around it, whichever is less."""
    return min((int(psutil.virtual_memory().available), *_left_in_groups()))


def _left_in_groups() -> Iterator[int]:
    """What the limit of each control group that this process is in leaves; groups without one are left out."""
    for folder, (limit_name, used_name, files_name) in _groups():
        try:
            limit, used = (int((folder / name).read_text()) for name in (limit_name, used_name))
            yield max(0, limit - used + int(_counter(folder / "memory.stat", files_name)))
        except (OSError, ValueError):
            continue


def _groups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The folders of the groups that count this process' memory, with the names of their files, from the root on."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, names = CGROUPS, SECOND
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", FIRST
        else:
            continue
        folder = root
        yield folder, names
        # A container may see its own group as the root, and be told the path that the host knows.
        for part in Path(path).parts[1:]:
            folder /= part
            yield folder, names


def timed_batches(workload: Workload) -> int:
    """How many batches timing rotates over, so that inputs are not found in a cache: of a large one that alone."""
    return 1 if ITEM_BYTES["float64"] * _input_count(workload) > LARGE_BATCH_BYTES else TRAINING_STEPS


def _input_count(workload: Workload) -> int:
    return sum(math.prod(shape) for shape in input_shapes(workload.model, workload.batch_size).values())


def _weight_count(workload: Workload) -> int:
    return sum(math.prod(shape) for shape in weight_shapes(workload.model).values())


def needed_bytes(workload: Workload, batches: int = TRAINING_STEPS) -> int:
    """What so many batches and the weights take at least in the process of the harness."""
    # In float64, in the working dtype, and once more on the way to a worker.
    return (ITEM_BYTES["float64"] + 2 * ITEM_BYTES[workload.storage_dtype]) * (
        batches * _input_count(workload) + _weight_count(workload)
    )


def require_memory(workload: Workload, batches: int) -> None:
    """Raises MemoryError when the data of a workload do not fit: the kernel would end some process instead."""
    needed, available = needed_bytes(workload, batches), available_bytes()
    if needed > available:
        raise MemoryError(
            f"its batches and weights alone take {needed / 2**30:.1f} GiB beside the framework, "
            f"{available / 2**30:.1f} GiB are free"
        )


def require_memory_of_reference(workload: Workload) -> None:
    """Raises MemoryError when the reference's training of a workload does not fit."""
    needed, available = _weigh(workload, BYTES_OF_THE_REFERENCE), available_bytes()
    if needed > available:
        raise MemoryError(
            f"the reference's training takes at least {needed / 2**30:.1f} GiB, {available / 2**30:.1f} GiB are free"
        )


def _weigh(workload: Workload, by_weight_and_input: tuple[int, int]) -> int:
    by_weight, by_input = by_weight_and_input
    return by_weight * _weight_count(workload) + by_input * TRAINING_STEPS * _input_count(workload)


def passes_at_once(workload: Workload) -> int:
    """How many trainings of the reference can go on side by side: one for each core, as far as memory allows."""
    return max(1, min(usable_cores(), available_bytes() // _weigh(workload, BYTES_OF_A_PASS)))


def as_outcome(error: MemoryError) -> WorkerError:
    """What a case ends with when memory runs out in the harness's own process; other sizes may fit."""
    what, next_step = f"out of memory in the harness: {error}", "choose smaller sizes"
    return WorkerError(what, outcome="out_of_memory", where="reference", next_step=next_step)


def reason_of(error: WorkerError, device: str) -> str:
    """What an error says; where memory ran out, with work for `device` under way, also whose."""
    text = str(error)
    if error.outcome != "out_of_memory" or error.what.startswith("not run"):
        return text
    of_the_host = device != "gpu" or any(words in text.lower() for words in WORDS_FOR_THE_HOST)
    return f"{OF_THE_HOST if of_the_host else OF_THE_CARD}: {text}"


def out_of_memory_kills() -> int:
    """How many processes the kernel has ended since it started because memory ran out; 0 where it does not tell."""
    try:
        return int(_counter(VMSTAT, "oom_kill"))
    except (OSError, ValueError):
        return 0


def _counter(path: Path, name: str) -> str:
    """The value after a name at the beginning of a line; raises OSError or ValueError."""
    for line in path.read_text().splitlines():
        if line.startswith(f"{name} "):
            return line.split()[1]
    raise ValueError(name)
