"""JAX: Flax NNX layers, optax, compiled by XLA."""

from .runtime import JaxRuntime

RUNTIME = JaxRuntime()
