"""JAX: Flax NNX layers, optax, compiled by XLA."""

from impls.jax.runtime import JaxRuntime

RUNTIME = JaxRuntime()
