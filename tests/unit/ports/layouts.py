"""What sides hold, as three frameworks name and lay it out: the same numbers in each, and the mapping of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.core.own import PortSide
from faceoff.ports.manifest import PortManifest
from faceoff.ports.mapping import Mapped, map_sides

AXES = {"linear": (0, 1), "turned": (1, 0), "oihw": (0, 3, 1, 2), "hwio": (1, 2, 3, 0)}
_COUNT = itertools.count()


def numbers(*shape: int) -> np.ndarray:
    """Numbers that no other array has."""
    return np.random.default_rng(next(_COUNT)).standard_normal(shape).astype(np.float32)


class Holds:
    """What one side holds, in its order; a reply of `open_side`."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Any]] = []
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, path: str, layer: str, part: str, axes: tuple[int, ...], value: np.ndarray, **more: Any) -> None:
        """A weight in its own layout."""
        assert path not in self.arrays
        self.weights.append({"path": path, "layer": layer, "part": part, "axes": list(axes), **more})
        self.arrays[path] = np.ascontiguousarray(value)

    def reply(self) -> dict[str, Any]:
        return {"weights": self.weights, "arrays": self.arrays}

    def alphabetical(self) -> Holds:
        """As a side that sorts its attributes."""
        found = Holds()
        found.arrays = self.arrays
        found.weights = sorted(self.weights, key=lambda told: told["path"])
        return found

    # Canonical arrays, as each maker keeps them.

    def linear(self, name: str, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
        """`name.weight` (outputs, inputs)."""
        self.add(f"{name}.weight", "linear", "weight", AXES["linear"], weight)
        if bias is not None:
            self.add(f"{name}.bias", "linear", "bias", (0,), bias)

    def dense(self, name: str, weight: np.ndarray, bias: np.ndarray | None = None, between: str = "/") -> None:
        """`name/kernel` (inputs, outputs)."""
        self.add(f"{name}{between}kernel", "linear", "weight", AXES["turned"], weight.T)
        if bias is not None:
            self.add(f"{name}{between}bias", "linear", "bias", (0,), bias)

    def conv_oihw(self, name: str, weight: np.ndarray) -> None:
        self.add(f"{name}.weight", "convolution", "weight", AXES["oihw"], weight.transpose(AXES["oihw"]))

    def conv_hwio(self, name: str, weight: np.ndarray, between: str = "/") -> None:
        self.add(f"{name}{between}kernel", "convolution", "weight", AXES["hwio"], weight.transpose(AXES["hwio"]))

    def norm(self, name: str, values: list[np.ndarray], parts: list[str], between: str = ".") -> None:
        """Scale, bias, mean and variance by the names that a maker has for them."""
        for value, said, part in zip(values, parts, ("scale", "bias", "mean", "variance"), strict=False):
            self.add(f"{name}{between}{said}", "norm", part, (0,), value)


DOTTED = ["weight", "bias", "running_mean", "running_var"]
SLASHED = ["gamma", "beta", "moving_mean", "moving_variance"]
PLAIN = ["scale", "bias", "mean", "var"]


def manifest(sides: dict[str, dict[str, Any]], reference: str) -> PortManifest:
    return PortManifest.model_validate(
        {
            "name": "model",
            "reference": reference,
            "loss": "squared-error",
            "inputs": {"x": {"shape": [3]}},
            "sides": {side: {"weights": rules} for side, rules in sides.items()},
            "path": Path("/somewhere/port.toml"),
        }
    )


def mapped(reference: Holds, other: Holds, *, rules: dict[str, Any] | None = None, own: Any = None) -> Mapped:
    """The mapping of two sides, `a`, the reference, and `b`."""
    return map_sides(manifest({"a": own or {}, "b": rules or {}}, "a"), {"a": reference.reply(), "b": other.reply()})


def carried(found: Mapped, reference: Holds) -> dict[str, np.ndarray]:
    """The reference's own arrays as the other side has them, by way of the canonical ones."""
    a, b = (PortSide("", found.sides[side], {}, found.zeros[side]) for side in "ab")
    canonical = {n: v for n, v in a.to_canonical(reference.arrays, found.weights).items() if v is not None}
    assert {n: v.shape for n, v in canonical.items()} == found.weights
    back = a.to_side(canonical)
    for path, array in back.items():
        np.testing.assert_array_equal(array, reference.arrays[path])
    assert set(back) | set(a.zeros) == set(reference.arrays)
    told = b.to_side(canonical)
    again = b.to_canonical(told, found.weights)
    for name, value in canonical.items():
        np.testing.assert_array_equal(again[name], value)
    return told


def assert_right(reference: Holds, other: Holds, **more: Any) -> Mapped:
    """Both sides hold the same numbers, and the mapping makes each side's arrays of the other's, both ways round."""
    found = mapped(reference, other, **more)
    told = carried(found, reference)
    assert set(told) | set(found.zeros["b"]) == set(other.arrays)
    for path, array in told.items():
        np.testing.assert_array_equal(array, other.arrays[path], err_msg=path)
    return found
