"""What JAX does differently on a GPU: it makes few kernels of a loop, and launches them together."""

from __future__ import annotations

import jax

# XLA takes some 0.2 s to compile each of them.
MOST_STEPS_AT_ONCE = 32


def on_gpu() -> bool:
    """Whether this process computes on a GPU."""
    return jax.default_backend() == "gpu"


def steps_at_once(sequence_length: int) -> int:
    """How many time steps each turn of a loop over time makes.

    XLA joins the kernels of successive steps, and launches straight code as one CUDA graph, but a loop's body turn by
    turn. Turns of nearly equal length leave little over to compile apart. On a CPU it is one time step: there is
    nothing to launch.
    """
    if not on_gpu():
        return 1
    turns = -(-sequence_length // MOST_STEPS_AT_ONCE)
    return -(-sequence_length // turns)
