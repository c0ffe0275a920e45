"""What the layers of a user's Flax module are given and return, while a function is traced; and others in their place.

Python looks `__call__` up on the class, so the classes of all modules are wrapped for the length of a call.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
from flax import nnx

from faceoff.core.recorded import watching

from .own_layers import kind_of


class Recorder:
    """Records the calls of some layers of a module; see `Model.layers`.

    Args:
        paths: of the layers.
        forced: see `Model.layers`.

    Attributes:
        calls: what is known of each without its numbers, in the order in which they end.
        arrays: `inputs` and `outputs` of each.
    """

    def __init__(self, paths: Collection[str], forced: Mapping[str, Any] | None) -> None:
        self._paths, self._forced = paths, forced or {}
        self.calls: list[dict[str, Any]] = []
        self.arrays: list[dict[str, list[Any]]] = []
        self._events = 0
        self._called: dict[str, int] = {}

    @contextlib.contextmanager
    def recording(self, module: nnx.Module | None, given: Any) -> Iterator[None]:
        """Records what is called meanwhile.

        Args:
            module: the whole model; None for a plain function, which has no layers.
            given: arrays of the trace whose layers are recorded.
        """
        self._trace = _trace_of(given)
        self._known: dict[int, tuple[str, str]] = {}
        self._inside: set[int] = set()
        classes: set[type] = set()
        for path, part in nnx.iter_modules(module) if module else ():
            name = ".".join(str(key) for key in path)
            if name in self._paths:
                # A class of the user's may do more.
                is_plain = type(part).__module__.startswith("flax.")
                self._known[id(part)] = name, kind_of(part) if is_plain else ""
                classes.update(cls for cls in type(part).__mro__ if "__call__" in vars(cls))
        before = {cls: vars(cls)["__call__"] for cls in classes}
        try:
            for cls, call in before.items():
                cls.__call__ = self._wrapped(call)  # type: ignore[operator]
            with watching(self._value):
                yield
        finally:
            for cls, call in before.items():
                cls.__call__ = call  # type: ignore[operator]

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapper(module: Any, *args: Any, **kwargs: Any) -> Any:
            # A class that calls its parent's does so once; what is called within a loop has no values here.
            if id(module) not in self._known or id(module) in self._inside or not self._is_here((args, kwargs)):
                return call(module, *args, **kwargs)
            path, kind = self._known[id(module)]
            name = self._name(path)
            forced = self._forced.get(name, {})
            inputs, (args, kwargs) = _replaced((args, kwargs), forced.get("inputs", ()))
            entered = self._event()
            self._inside.add(id(module))
            try:
                result = call(module, *args, **kwargs)
            finally:
                self._inside.remove(id(module))
            outputs, result = _replaced(result, forced.get("outputs", ()))
            self.calls.append({"name": name, "kind": kind, "entered": entered, "left": self._event()})
            self.arrays.append({"inputs": inputs, "outputs": outputs})
            return result

        return wrapper

    def _value(self, path: str, value: Any) -> Any:
        if not self._is_here(value):
            return value
        name = self._name(path)
        found, value = _replaced(value, self._forced.get(name, {}).get("inputs", ()))
        self.calls.append({"name": name, "kind": "", "entered": self._event(), "left": self._event()})
        self.arrays.append({"inputs": found, "outputs": []})
        return value

    def _name(self, path: str) -> str:
        number = self._called[path] = self._called.get(path, 0) + 1
        return path if number == 1 else f"{path}#{number}"

    def _event(self) -> int:
        self._events += 1
        return self._events

    def _is_here(self, tree: Any) -> bool:
        return _trace_of(tree) in (None, self._trace)


def _trace_of(tree: Any) -> Any:
    traces = [leaf._trace for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.core.Tracer)]
    return traces[0] if traces else None


def _replaced(tree: Any, given: Any) -> tuple[list[jax.Array], Any]:
    """The arrays in a tree, each once, and the tree with others in their place."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = {id(leaf): leaf for leaf in leaves if isinstance(leaf, jax.Array) and leaf.dtype != bool}
    others = {
        key: value.astype(leaf.dtype)
        for (key, leaf), value in zip(arrays.items(), given, strict=False)
        if value is not None
    }
    return list(arrays.values()), jax.tree.unflatten(structure, [others.get(id(leaf), leaf) for leaf in leaves])
