"""What an implementation does wrong in a verb, told by what it returned instead of a value, or by how it failed.

Either is a finding about the implementation, with the outcome `disagrees`, and no crash.
"""

import traceback
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from faceoff.core.error_words import ErrorWords
from faceoff.core.errors import FindingError, InputError
from faceoff.core.messages import ARRAY_DTYPES
from faceoff.core.outputs import one_or_named
from faceoff.worker.loading import PACKAGE

# As Python itself fails in code that is mistaken.
MISTAKES = {"KeyError": "no such name", "NameError": "no such name", "IndexError": "no such element"}
# What is wrong then, and where `ErrorWords` has the words for it. Dtypes come first: a line may tell of a shape as it
# names the arrays whose dtypes do not fit.
FINDINGS = {
    "cannot be differentiated": "not_differentiable",
    "no value": "no_value",
    "wrong dtype": "wrong_dtype",
    "wrong shape": "wrong_shape",
}


def finding_of(error: BaseException, said: str, words: ErrorWords) -> str:
    """`wrong dtype`, `wrong shape`, ...: what an exception says of the implementation that raised it; empty if nothing.

    Args:
        error: as it was caught. One that did not pass through files of an implementation says nothing of it.
        said: the line of it that tells what is wrong.
        words: everybody's and the framework's.
    """
    name, frames = type(error).__name__, _own_frames(error)
    if name in MISTAKES and frames and frames[-1] == traceback.extract_tb(error.__traceback__)[-1]:
        return MISTAKES[name]
    if name not in words.kinds or not frames:
        return ""
    lower = said.lower()
    return next((what for what, key in FINDINGS.items() if any(part in lower for part in getattr(words, key))), "")


def place_of(error: BaseException) -> str:
    """`lstm.py, line 45`: the innermost line of the implementation that an exception passed through; empty if none."""
    frames = _own_frames(error)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _own_frames(error: BaseException) -> List[traceback.FrameSummary]:
    walked = traceback.walk_tb(error.__traceback__)
    own = [at for at in walked if str(at[0].f_globals.get("__name__")).partition(".")[0] == PACKAGE]
    return list(traceback.StackSummary.extract(iter(own)))


def as_array(name: str, value: Any) -> np.ndarray:
    """A value that a verb returned, as an array.

    Args:
        name: of the quantity that it should be.
        value: on the host.

    Raises:
        FindingError: it is no array of numbers.
    """
    if value is None or isinstance(value, (str, bytes, dict, list, tuple)):
        size = f" of {len(value)}" if isinstance(value, (dict, list, tuple)) else ""
        raise FindingError("no array", where=name, got=f"{type(value).__name__}{size}", expected="an array")
    array = np.asarray(value)
    if str(array.dtype) not in ARRAY_DTYPES:
        got = type(value).__name__ if array.dtype == object else f"an array of {array.dtype}"
        raise FindingError("no array of numbers", where=name, got=got, expected="an array")
    return array


def as_arrays(name: str, values: Any) -> Dict[str, np.ndarray]:
    """Values by name, without those that are None: whoever compares finds them missing.

    Args:
        name: of one of them, with `{}` for its own name, such as `gradient of {}`.
        values: on the host.

    Raises:
        FindingError: they have no names, or one is no array of numbers.
    """
    if not isinstance(values, Mapping):
        raise FindingError("no arrays by name", where=name.format("each"), got=type(values).__name__, expected="a dict")
    return {key: as_array(name.format(repr(key)), value) for key, value in values.items() if value is not None}


def as_outputs(name: str, value: Any) -> Any:
    """What a user's own model returned: an array, or several in nested tuples, lists and dicts, as a dict of arrays.

    Args:
        name: of the quantity that it should be.
        value: on the host.

    Raises:
        FindingError: something else is among them.
    """
    try:
        return one_or_named(value, _is_numbers, name)
    except InputError as error:
        raise FindingError(error.what, where=error.where, got=error.got, expected="arrays of numbers") from None


def _is_numbers(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f"


def as_gradients(found: Any) -> Dict[str, Any]:
    """What `Model.canonical` returned, without the gradients that are None. Raises FindingError."""
    parts = ("loss", "weights", "inputs")
    if not isinstance(found, Mapping) or any(part not in found for part in parts):
        got = sorted(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise FindingError("not what it should return", where="gradients", got=got, expected=", ".join(parts))
    return {
        "loss": as_array("loss", found["loss"]),
        "weights": as_arrays("gradient of {}", found["weights"]),
        "inputs": as_arrays("gradient of input {}", found["inputs"]),
    }


def as_losses(values: Sequence[Any]) -> np.ndarray:
    """What training steps returned, as one array. Raises FindingError."""
    losses = [as_array("loss of a training step", value) for value in values]
    shapes = {loss.shape for loss in losses}
    if len(shapes) > 1:
        raise FindingError("other shapes from step to step", where="loss of a training step", got=sorted(shapes))
    return np.stack(losses)
