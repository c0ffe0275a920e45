"""The mode `cuda-graphs`: each step, the optimiser's part too, captured as one CUDA graph and replayed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

WARM_UP_CALLS = 3
# As many as are rotated by whoever times steps; more are for learning from, where copying is the least of it.
MOST_READ_IN_PLACE = 4


@dataclass(frozen=True, eq=False)
class PlacedBatch:
    """A batch on the device: inputs by name, and class numbers."""

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor


Step = Callable[[PlacedBatch], Any]
Replay = Callable[[], Any]


class Captured(NamedTuple):
    """A step as a graph: what replays it, and the bytes that it takes while it runs."""

    replay: Replay
    working_bytes: int


def place_array(value: np.ndarray, dtype: str, device: torch.device) -> torch.Tensor:
    """On the device, floats in `dtype`."""
    return torch.tensor(value, dtype=getattr(torch, dtype) if value.dtype.kind == "f" else None, device=device)


class StepGraphs:
    """The captured steps of one model.

    The first few batches have graphs of their own, which read them where they lie, as long as they lie there. For all
    others there is a graph for each step and batch size, into whose memory they are copied. What a graph returns is
    written over by the next replay of any of them, as they share their memory.

    Args:
        changing: gives the tensors that a step may change; they are the same ones as long as graphs are replayed.
    """

    def __init__(self, changing: Callable[[], Iterable[torch.Tensor]]) -> None:
        self._changing = changing
        self._in_place: WeakKeyDictionary[PlacedBatch, dict[str, Captured]] = WeakKeyDictionary()
        self._copies: dict[int, PlacedBatch] = {}
        self._of_copies: dict[tuple[str, int], Captured] = {}
        self._warm: set[tuple[str, int]] = set()
        self._pool: Any = None

    def run(self, name: str, step: Step, batch: PlacedBatch) -> Any:
        """What `step` returns, until anything is run here again.

        Args:
            name: of the step; `inference` alone reads no targets.
            step: never waits for the device, and reads nothing but the batch and what is `changing`.
            batch: of one shape for each number of examples.
        """
        if batch not in self._in_place and len(self._in_place) >= MOST_READ_IN_PLACE:
            return self._run_copy(name, step, batch)
        graphs = self._in_place.setdefault(batch, {})
        if name not in graphs:
            graphs[name] = self._capture(name, step, batch)
        return graphs[name].replay()

    def working_bytes(self, name: str, batch: PlacedBatch) -> int:
        """Bytes that the step of this name takes while it runs, beside what is held anyway; of one that has run."""
        found = self._in_place.get(batch, {}).get(name) or self._of_copies[name, len(batch.targets)]
        return found.working_bytes

    def _run_copy(self, name: str, step: Step, batch: PlacedBatch) -> Any:
        size = len(batch.targets)
        if size not in self._copies:
            self._copies[size] = PlacedBatch({n: v.clone() for n, v in batch.inputs.items()}, batch.targets.clone())
        held = self._copies[size]
        torch._foreach_copy_(list(held.inputs.values()), list(batch.inputs.values()))
        if name != "inference":
            held.targets.copy_(batch.targets)
        if (name, size) not in self._of_copies:
            self._of_copies[name, size] = self._capture(name, step, held)
        return self._of_copies[name, size].replay()

    def _capture(self, name: str, step: Step, batch: PlacedBatch) -> Captured:
        if (name, len(batch.targets)) not in self._warm:
            before = [tensor.detach().clone() for tensor in self._changing()]
            # Compiles, searches for kernels and makes the optimiser's state, none of which a graph can hold.
            warm_up(lambda: step(batch))
            with torch.no_grad():
                for tensor, value in zip_longest(self._changing(), before):
                    # What was made meanwhile is the optimiser's state, which starts from zero.
                    tensor.zero_() if value is None else tensor.copy_(value)
            self._warm.add((name, len(batch.targets)))
        if self._pool is None:
            self._pool = new_pool()
        return Captured(*capture(lambda: step(batch), self._pool))


@functools.cache
def own_stream() -> torch.cuda.Stream:
    """One stream for all that is captured: cuBLAS keeps memory for every stream that it ever met."""
    return torch.cuda.Stream()


def new_pool() -> Any:
    """Memory for graphs to share."""
    return torch.cuda.graph_pool_handle()


def warm_up(run: Callable[[], Any]) -> None:
    """Calls `run` a few times on the stream of captures, as PyTorch wants it before one."""
    stream = own_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            run()
    torch.cuda.current_stream().wait_stream(stream)


def capture(run: Callable[[], Any], pool: Any) -> tuple[Replay, int]:
    """What replays `run` as one graph and returns what it returned, and the bytes that a replay takes meanwhile.

    Args:
        run: a step.
        pool: memory to take.
    """
    graph = torch.cuda.CUDAGraph()
    torch.cuda.reset_peak_memory_stats()
    try:
        # A capture that cannot be ended would leave its stream the current one.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool=pool, stream=own_stream()):
            found = run()
    except RuntimeError as error:
        cause = error.__context__
        if isinstance(cause, torch.OutOfMemoryError):
            raise cause from None
        # That a capture failed says nothing of why, and why it did not that the process can capture no more.
        raise RuntimeError(f"{cause}; {error}") if cause else error from None

    def replay() -> Any:
        graph.replay()
        return found

    return replay, torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
