"""What the layers of a user's module are given and return, by hooks; and other values in the place of these."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from faceoff.core.recorded import watching

from .tracing import to_numpy

KindOf = Callable[[nn.Module], str]
Forced = Mapping[str, Any] | None


class Recorder:
    """Records the calls of some layers of a module; see `Model.layers`.

    Args:
        module: the whole model.
        paths: of the layers.
        kind_of: says of what kind a layer is.
        forced: see `Model.layers`.
    """

    def __init__(self, module: nn.Module, paths: Collection[str], kind_of: KindOf, forced: Forced) -> None:
        self._module, self._paths, self._kind_of = module, paths, kind_of
        self._forced = {
            (name, part): [None if value is None else torch.tensor(value) for value in values]
            for name, parts in (forced or {}).items()
            for part, values in parts.items()
        }
        self._events = 0
        self._calls: dict[str, int] = {}
        self._open: list[dict[str, Any]] = []
        self._done: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Records what is called meanwhile."""
        # One kernel for a whole encoder layer would leave out the layers in it.
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        hooks = []
        try:
            for path, part in self._module.named_modules():
                if path in self._paths:
                    hooks.append(part.register_forward_pre_hook(self._entering(path), with_kwargs=True))
                    hooks.append(part.register_forward_hook(self._leaving()))
            with watching(self._value):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            torch.backends.mha.set_fastpath_enabled(fast)

    def layers(self) -> list[dict[str, Any]]:
        """The calls, as `Model.layers` returns them."""
        return [
            {**call, **{part: [to_numpy(value) for value in call[part]] for part in ("inputs", "outputs")}}
            for call in self._done
        ]

    def _value(self, path: str, value: Any) -> Any:
        name = self._name(path)
        found, value = self._replaced(value, self._forced.get((name, "inputs"), ()))
        events = {"entered": self._event(), "left": self._event()}
        self._done.append({"name": name, "kind": "", "inputs": found, "outputs": [], **events})
        return value

    def _name(self, path: str) -> str:
        number = self._calls[path] = self._calls.get(path, 0) + 1
        return path if number == 1 else f"{path}#{number}"

    def _entering(self, path: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
            name = self._name(path)
            given = self._forced.get((name, "inputs"), ())
            inputs, (args, kwargs) = self._replaced((args, kwargs), given)
            # A class of the user's may do more.
            kind = self._kind_of(module) if type(module).__module__.startswith("torch.") else ""
            self._open.append({"name": name, "kind": kind, "entered": self._event(), "inputs": inputs})
            return args, kwargs

        return enter

    def _leaving(self) -> Any:
        def leave(module: nn.Module, args: Any, result: Any) -> Any:
            call = self._open.pop()
            given = self._forced.get((call["name"], "outputs"), ())
            outputs, result = self._replaced(result, given)
            self._done.append({**call, "left": self._event(), "outputs": outputs})
            return result

        return leave

    def _event(self) -> int:
        self._events += 1
        return self._events

    def _replaced(self, tree: Any, given: Any) -> tuple[list[torch.Tensor], Any]:
        """The arrays in a tree, copied, and the tree with others in their place."""
        leaves, structure = tree_flatten(tree)
        arrays = {id(leaf): leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dtype != torch.bool}
        # What is changed in place later must not change here.
        found = [leaf.detach().clone() for leaf in arrays.values()]
        others = {
            key: value.to(leaf) for (key, leaf), value in zip(arrays.items(), given, strict=False) if value is not None
        }
        return found, tree_unflatten([others.get(id(leaf), leaf) for leaf in leaves], structure)
