"""What a user's own model returns: one array, or several in nested tuples, lists and dicts, each with a name.

Names are places: `logits`, `1`, `decoder.0`. A framework's arrays and NumPy's are looked at alike.
"""

from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, Tuple

from faceoff.core.errors import InputError

IsArray = Callable[[Any], bool]
NAME_ONE = 'write output = "NAME" for the one that the loss is of, or loss = "own"'


def named_leaves(outputs: Any, is_array: IsArray, where: str) -> Dict[str, Any]:
    """The arrays by name; None, which some models return for what they were not asked for, is none.

    Args:
        outputs: as a model returned them.
        is_array: whether something is an array of real numbers.
        where: whose they are, for errors.

    Raises:
        InputError: there is none, or something else among them.
    """
    found = dict(_leaves(outputs, is_array, ""))
    for name, value in found.items():
        if not is_array(value):
            what = f"output {name!r} is" if name else "its outputs are"
            got = getattr(value, "dtype", type(value).__name__)
            raise InputError(f"{what} no array of real numbers", where=where, got=got)
    if not found:
        raise InputError("returned no outputs", where=where, got=type(outputs).__name__)
    return found


def one_or_named(outputs: Any, is_array: IsArray, where: str) -> Any:
    """The one array that there is, or several by name; arguments and errors as of `named_leaves`."""
    found = named_leaves(outputs, is_array, where)
    return found if len(found) > 1 else next(iter(found.values()))


def scored(outputs: Any, name: str, is_array: IsArray, where: str) -> Any:
    """The array that a loss with a name is of; arguments and errors as of `named_leaves`.

    Args:
        name: of this output; empty where there is only one.

    Raises:
        InputError: also where there is no such output, or several and none is named.
    """
    found = named_leaves(outputs, is_array, where)
    if name in found:
        return found[name]
    if len(found) == 1 and not name:
        return next(iter(found.values()))
    what = "no output of this name" if name else "several outputs, and none is named for the loss"
    raise InputError(
        what, where=where, got=name or None, expected="one of " + ", ".join(map(repr, found)), next_step=NAME_ONE
    )


def _leaves(value: Any, is_array: IsArray, path: str) -> Iterator[Tuple[str, Any]]:
    if value is None:
        return
    if is_array(value) or not isinstance(value, (tuple, list, Mapping)):
        yield path, value
        return
    parts: Iterable[Tuple[Any, Any]] = enumerate(value)
    if isinstance(value, Mapping):
        parts = value.items()
    elif hasattr(value, "_fields"):
        parts = [(field, getattr(value, field)) for field in value._fields]
    for key, part in parts:
        yield from _leaves(part, is_array, f"{path}.{key}" if path else str(key))
