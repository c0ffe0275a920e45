"""Times a call on a batch that a model has seen beside one on a batch that is new to it."""

from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np

from faceoff.core.clock import monotonic_ns
from faceoff.core.contract import Model


def time_new(
    model: Model,
    call: Callable[[Any], Any],
    wait: Callable[[Any], None],
    batches: Mapping[str, Any],
    new_first: bool,
    warmup: int,
    weights: Optional[Mapping[str, np.ndarray]],
    other: Optional[Mapping[str, np.ndarray]],
) -> Tuple[Dict[str, int], Any]:
    """Nanoseconds of a call on the batch `seen` and one on the batch `new` (`seen_ns`, `new_ns`); the latter's value.

    Args:
        model: holds the weights that both are called with.
        call, wait: the verb, and what waits for its value.
        batches: `seen`, `new`, and one that is called `between`.
        new_first: the order of the two.
        warmup: calls just before, not timed.
        weights, other: those now held and other ones, or None. With the others the new batch is called before all else:
            so what a framework prepares for a batch is prepared, and with the weights now held it is as new.
    """
    if weights is not None and other is not None:
        model.reset(other)
        wait(call(batches["new"]))
        model.reset(weights)
        wait(call(batches["seen"]))
    for _ in range(warmup):
        wait(call(batches["between"]))
    durations_ns, values = {}, {}
    for name in ("new", "seen") if new_first else ("seen", "new"):
        begin = monotonic_ns()
        values[name] = call(batches[name])
        wait(values[name])
        durations_ns[f"{name}_ns"] = monotonic_ns() - begin
    return durations_ns, values["new"]
