"""`faceoff.record`: names a value within a user's own model that no layer returns, so that it is compared like one."""

import contextlib
from typing import Any, Callable, Iterator, List

RECORDED = "value "
"""How such a value's name begins among the calls of layers."""

_WATCHING: List[Callable[[str, Any], Any]] = []


def record(name: str, value: Any) -> Any:
    """Names a value: the same name in another side of the model means the same value.

    Args:
        name: whatever tells it apart from others. A value that is computed several times may keep its name.
        value: an array, or nested tuples, lists and dicts of them.

    Returns:
        `value`. It is to be used in its place: while layers are compared, the reference's comes back instead.
    """
    return _WATCHING[-1](f"{RECORDED}{name!r}", value) if _WATCHING else value


@contextlib.contextmanager
def watching(watch: Callable[[str, Any], Any]) -> Iterator[None]:
    """Tells `watch` of every value that is recorded meanwhile; what it returns is used."""
    _WATCHING.append(watch)
    try:
        yield
    finally:
        _WATCHING.remove(watch)
