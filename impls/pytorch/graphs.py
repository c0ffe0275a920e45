"""The mode `cuda-graphs`: each step, the optimiser's part too, captured as one CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any, NamedTuple

import torch

WARM_UP_CALLS = 3


class PlacedBatch(NamedTuple):
    """A batch on the device: inputs by name, and class numbers."""

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor


Step = Callable[[PlacedBatch], Any]


class StepGraphs:
    """The captured steps of one model, a graph for each step and batch size.

    A graph reads its batch from memory of its own, into which every batch is copied first, and writes over what it
    returned before.

    Args:
        changing: gives the tensors that a step may change; they are the same ones as long as graphs are replayed.
    """

    def __init__(self, changing: Callable[[], Iterable[torch.Tensor]]) -> None:
        self._changing = changing
        self._captured: dict[tuple[str, int], tuple[PlacedBatch, Callable[[], Any]]] = {}

    def run(self, step: Step, batch: PlacedBatch) -> Any:
        """What `step` returns, which the next run of it writes over.

        Args:
            step: named, never waits for the device, and reads nothing but the batch and what is `changing`.
            batch: of one shape for each number of examples.
        """
        key = step.__name__, len(batch.targets)
        if key not in self._captured:
            self._captured[key] = self._capture(step, batch)
        held, replay = self._captured[key]
        torch._foreach_copy_(list(held.inputs.values()), list(batch.inputs.values()))
        held.targets.copy_(batch.targets)
        return replay()

    def _capture(self, step: Step, batch: PlacedBatch) -> tuple[PlacedBatch, Callable[[], Any]]:
        held = PlacedBatch({name: value.clone() for name, value in batch.inputs.items()}, batch.targets.clone())
        before = [tensor.detach().clone() for tensor in self._changing()]
        # Compiles, searches for kernels and makes the optimiser's state, none of which a graph can hold.
        warm_up(lambda: step(held))
        with torch.no_grad():
            for tensor, value in zip_longest(self._changing(), before):
                # What was made meanwhile is the optimiser's state, which starts from zero.
                tensor.zero_() if value is None else tensor.copy_(value)
        del before
        return held, capture(lambda: step(held))


def warm_up(run: Callable[[], Any]) -> None:
    """Calls `run` a few times on a stream of its own, as PyTorch wants it before a capture."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            run()
    torch.cuda.current_stream().wait_stream(stream)


def capture(run: Callable[[], Any]) -> Callable[[], Any]:
    """What replays `run` as one graph, and returns what it returned."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            found = run()
    except RuntimeError as error:
        # That the capture failed says nothing; why it did (out of memory, mostly) was raised before.
        if error.__context__ is None or "capture" not in str(error):
            raise
        raise error.__context__ from None

    def replay() -> Any:
        graph.replay()
        return found

    return replay
