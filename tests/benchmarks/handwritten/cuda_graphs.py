"""A step of PyTorch as one CUDA graph, captured by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Placed = tuple[list[Tensor], Tensor]
WARMUP_CALLS = 3


def captured(
    run: Callable[[Placed], Any],
    network: nn.Module,
    optimiser: torch.optim.Optimizer | None = None,
    reads_targets: bool = True,
) -> Callable[[Placed], Any]:
    """`run` replayed as one graph, captured at the first call; what it returns is written over by the next one.

    Args:
        run: a step that never waits for the device.
        network: whose weights it uses, and perhaps changes.
        optimiser: whose state it changes.
        reads_targets: whether it does.
    """
    captures: list[tuple[list[Tensor], torch.cuda.CUDAGraph, Any]] = []

    def replay(batch: Placed) -> Any:
        if not captures:
            captures.append(capture(run, batch, network, optimiser))
        held, graph, found = captures[0]
        torch._foreach_copy_(held[:-1], batch[0])
        if reads_targets:
            held[-1].copy_(batch[1])
        graph.replay()
        return found

    return replay


def capture(
    run: Callable[[Placed], Any], batch: Placed, network: nn.Module, optimiser: torch.optim.Optimizer | None
) -> tuple[list[Tensor], torch.cuda.CUDAGraph, Any]:
    """The tensors that the graph reads a batch from, the graph, and what it writes."""
    held = [value.clone() for value in flat(batch)]
    placed = held[:-1], held[-1]
    tensors = [*network.parameters(), *network.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Compiles, searches for kernels and makes the optimiser's state, none of which a graph can hold.
        for _ in range(WARMUP_CALLS):
            run(placed)
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
            for value in state_of(optimiser):
                value.zero_()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        found = run(placed)
    return held, graph, found


def flat(batch: Placed) -> list[Tensor]:
    """Inputs, then targets."""
    return [*batch[0], batch[1]]


def state_of(optimiser: torch.optim.Optimizer | None) -> Iterator[Tensor]:
    """The tensors that an optimiser holds; before its first step they would be zero."""
    for state in optimiser.state.values() if optimiser else ():
        yield from (value for value in state.values() if isinstance(value, Tensor))
