"""What the tests of stochastic arithmetic ask of JAX; for a process of its own, as it switches float64 on and off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impls.jax.stochastic import Stochastic
from tests.contract.stochastic_programs import IN_FLOAT64, PROGRAMS

RUNS = 8
# So small that nothing takes another side; the spread is scaled up.
SMALL = 2.0**-40
UNIT = 2.0**-24

Values = dict[str, np.ndarray]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def named(results: Any) -> Values:
    """Every array of what `value_and_grad` returned."""
    (loss, outputs), gradients = results
    found = {"loss": np.asarray(loss)}
    for kind, tree in (("outputs", outputs), ("gradient", gradients)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[f"{kind}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    return found


def differentiated(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A program with its gradients; one that trains has used them already."""
    if name.startswith("trained"):
        return lambda *args: (function(*args), ())
    return jax.value_and_grad(function, has_aux=True)


def in_float64(function: Callable[..., Any], args: Any) -> Any:
    """What JAX itself computes in float64; compiled in half the time."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype("float64") if jnp.issubdtype(x.dtype, jnp.floating) else x, args)
        found = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*wide)
        return jax.tree.map(np.asarray, found)


def spread(centre: Mapping[str, np.ndarray], runs: list[Values], times: float) -> dict[str, float]:
    """The rms over elements and runs, by quantity."""
    return {q: times * float(np.sqrt(np.mean([rms(run[q] - x) ** 2 for run in runs]))) for q, x in centre.items()}


def measure(name: str, seed: int = 0) -> dict[str, Any]:
    """One program: what was not taken apart, the undisturbed run against JAX's own, errors of float32 over noise."""
    function, args = PROGRAMS[name](np.random.default_rng(seed))
    both = differentiated(name, function)
    noisy = Stochastic(both, "float32", SMALL)
    centre = named(noisy.again(unit_roundoff=0.0).run(*args))
    noise = spread(centre, [named(noisy.again(run).run(*args)) for run in range(RUNS)], UNIT / SMALL)
    narrow = named(jax.jit(both)(*args))
    alone = IN_FLOAT64.get(name, PROGRAMS[name])(np.random.default_rng(seed))[0]
    wide = named(in_float64(differentiated(name, alone), args))
    # Where terms cancel, what is left is as large as their rounding.
    sizes = {q: max(float(np.max(np.abs(x), initial=0.0)), noise[q] / UNIT) for q, x in wide.items()}
    errors = {q: rms(narrow[q] - x) for q, x in centre.items()}
    return {
        "whole": dict(noisy.whole),
        "off": {q: float(np.max(np.abs(centre[q] - x))) / (sizes[q] or 1.0) for q, x in wide.items()},
        "ratios": {q: errors[q] / noise[q] if noise[q] else float(errors[q] > 0) * 1e300 for q in centre},
    }
