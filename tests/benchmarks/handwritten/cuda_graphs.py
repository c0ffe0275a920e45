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
) -> Callable[[Placed], Any]:
    """`run` replayed, a graph for each batch, captured at its first call; any call may write over what others returned.

    Args:
        run: a step that never waits for the device.
        network: whose weights it uses, and perhaps changes.
        optimiser: whose state it changes.
    """
    graphs: dict[int, tuple[Placed, torch.cuda.CUDAGraph, Any]] = {}
    stream, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def replay(batch: Placed) -> Any:
        if id(batch) not in graphs:
            if not graphs:
                warm_up(run, batch, network, optimiser, stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream):
                found = run(batch)
            graphs[id(batch)] = batch, graph, found
        _, graph, found = graphs[id(batch)]
        graph.replay()
        return found

    return replay


def warm_up(
    run: Callable[[Placed], Any],
    batch: Placed,
    network: nn.Module,
    optimiser: torch.optim.Optimizer | None,
    stream: torch.cuda.Stream,
) -> None:
    """Compiles, searches for kernels and makes the optimiser's state, none of which a graph can hold."""
    tensors = [*network.parameters(), *network.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_CALLS):
            run(batch)
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
            for value in state_of(optimiser):
                value.zero_()
    torch.cuda.current_stream().wait_stream(stream)


def state_of(optimiser: torch.optim.Optimizer | None) -> Iterator[Tensor]:
    """The tensors that an optimiser holds; before its first step they would be zero."""
    for state in optimiser.state.values() if optimiser else ():
        yield from (value for value in state.values() if isinstance(value, Tensor))
