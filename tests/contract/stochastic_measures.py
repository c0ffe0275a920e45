"""What the tests of stochastic arithmetic ask of JAX, as one JSON object on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impls.jax.stochastic import Stochastic
from tests.contract.stochastic_programs import IN_FLOAT64, PROGRAMS

RUNS = 8
UNIT = 2.0**-24
# So small that nothing takes another side; the spread is scaled up.
SMALL = 2.0**-40


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, np.float64))))) if values.size else 0.0


def named(results: Any) -> dict[str, np.ndarray]:
    """Every array of what `value_and_grad` returned."""
    (loss, outputs), gradients = results
    found = {"loss": np.asarray(loss)}
    for kind, tree in (("outputs", outputs), ("gradient", gradients)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[f"{kind}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    return found


def differentiated(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if name.startswith("trained"):
        # Weights after steps are the outputs here; what they are differentiated by is another question.
        return lambda *args: (function(*args), ())
    return jax.value_and_grad(function, has_aux=True)


def cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, np.floating) else x, tree)


def measure(name: str, seed: int) -> dict[str, Any]:
    """One program: what was not taken apart, its undisturbed run against plain float64, errors over noise."""
    function, args = PROGRAMS[name](np.random.default_rng(seed))
    both = differentiated(name, function)
    noisy = Stochastic(both, "float32", SMALL)
    centre = named(noisy.again(unit_roundoff=0.0).run(*args))
    runs = [named(noisy.again(run).run(*args)) for run in range(RUNS)]
    narrow = named(jax.jit(both)(*args))
    with jax.enable_x64(True):
        plain = IN_FLOAT64.get(name, PROGRAMS[name])(np.random.default_rng(seed))[0]
        wide = named(jax.jit(differentiated(name, plain))(*cast(args, "float64")))
    noise = {q: np.sqrt(np.mean([rms(run[q] - x) ** 2 for run in runs])) * UNIT / SMALL for q, x in centre.items()}
    # Where terms cancel, what is left is as large as their rounding.
    sizes = {q: max(float(np.max(np.abs(x))), noise[q] / UNIT) for q, x in wide.items()}
    return {
        "whole": dict(noisy.whole),
        "off centre": {
            q: float(np.max(np.abs(centre[q] - x))) / sizes[q] if sizes[q] else 0.0 for q, x in wide.items()
        },
        "noise": noise,
        "error": {q: rms(narrow[q] - x) for q, x in centre.items()},
    }


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(PROGRAMS)
    print(json.dumps({name: measure(name, 0) for name in chosen}))
