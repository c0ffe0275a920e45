"""Layers of a port against its reference's: which is which, and which one makes a difference. Both sides in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from faceoff.agreement.layer_pairs import Call, Layouts, calls_of, pair_layers
from faceoff.agreement.layers import LayerSearch, values_of, with_model
from faceoff.agreement.noise import Noise, noise_of
from faceoff.core.own import Input, Placed, Port, PortSide, Targets

X = np.random.default_rng(0).normal(size=(5, 4))
Layer = Callable[[np.ndarray], np.ndarray]
NAMES = ("first.weight", "second.weight", "last.weight")


def port(theirs: Mapping[str, str], told: dict[str, str] | None = None) -> Port:
    """Of the canonical names to their paths in the side `b`; in `a` they are the same."""
    sides = {
        "a": PortSide("", {name: Placed(f"net.{name}", (0, 1)) for name in theirs}),
        "b": PortSide("", {name: Placed(path, (0, 1)) for name, path in theirs.items()}, layers=told or {}),
    }
    shapes = dict.fromkeys(theirs, (4, 4))
    return Port("m", (Input("x", (4,)),), Targets((4,)), "squared-error", -1, shapes, sides, "a")


class Side:
    """A model of layers within each other that records and is forced, as a worker's would be.

    Args:
        prefix: of the layers' paths; empty: they lie in no other layer.
        layers: each of them, and what lies between.
    """

    def __init__(self, prefix: str, layers: dict[str, Layer]) -> None:
        self.prefix, self.layers = prefix, layers
        self.roundoff, self.generator = 0.0, np.random.default_rng(0)

    def ask(self, forced: Mapping[str, Any] | None) -> dict[str, Any]:
        calls: list[dict[str, Any]] = []
        forced, x = forced or {}, X
        outer = {"name": self.prefix, "kind": "", "entered": 1, "inputs": [x]}
        event = 1
        for name, layer in self.layers.items():
            if name.startswith("between"):
                x = self._rounded(layer(x))
                continue
            path = f"{self.prefix}.{name}".strip(".")
            call = {"name": path, "kind": "", "entered": (event := event + 1), "inputs": [x]}
            x = self._given(forced, path, "inputs", x)
            x = self._rounded(layer(x))
            calls.append({**call, "left": (event := event + 1), "outputs": [x]})
            x = self._given(forced, path, "outputs", x)
        if self.prefix:
            calls.append({**outer, "left": event + 1, "outputs": [x]})
        return {"outputs": x, "layers": calls}

    def _given(self, forced: Mapping[str, Any], path: str, part: str, x: np.ndarray) -> np.ndarray:
        value = forced.get(path, {}).get(part, [None])[0]
        return x if value is None else np.asarray(value)

    def _rounded(self, x: np.ndarray) -> np.ndarray:
        return x * (1 + self.roundoff * self.generator.uniform(-1, 1, x.shape))


class Known:
    """The reference's layers, as `OwnExpected` has them."""

    def __init__(self, side: Side) -> None:
        self.side = side

    def layers(self, dtype: str, training: bool, forced: Mapping[str, Any] | None) -> dict[str, Call]:
        self.side.roundoff = 0.0
        return with_model(self.side.ask(forced))

    def noise_of_layers(
        self, dtype: str, training: bool, forced: Mapping[str, Any] | None, like: str
    ) -> dict[str, Noise]:
        exact = values_of(self.layers(dtype, training, forced))
        self.side.roundoff = {"float64": 2.0**-53, "float32": 2.0**-24}[like]
        return noise_of(exact, [values_of(with_model(self.side.ask(forced))) for _ in range(8)], like)


def matrices() -> dict[str, Layer]:
    generator = np.random.default_rng(1)
    held = {name: generator.normal(size=(4, 4)) for name in ("first", "second", "last")}
    return {
        "first": lambda x: x @ held["first"],
        "between": np.tanh,
        "second": lambda x: x @ held["second"],
        "between again": np.tanh,
        "last": lambda x: x @ held["last"],
    }


PATHS = {name: f"net.{name}" for name in NAMES}


def search(side: Side, theirs: Mapping[str, str] = PATHS, dtype: str = "float64"):
    known = Known(Side("net", matrices()))
    return LayerSearch(port(theirs), "b", dtype, False, known, side.ask).run()


def test_a_right_port_agrees_layer_by_layer_as_it_comes_and_fed():
    found = search(Side("net", matrices()))
    assert (found.place, found.agrees, found.count) == ("", True, 4)
    names = [point.name for point in found.points]
    assert names == [f"output of net{of} (inference)" for of in (".first", ".second", ".last", "")]
    assert all(point.agrees and point.fed_agrees for point in found.points)
    assert all((point.noise_units or 0) < 4 and (point.fed_units or 0) < 4 for point in found.points)


@pytest.mark.parametrize("name", ["first", "second", "last"])
def test_the_layer_that_makes_a_difference_is_named_and_those_after_it_are_not_fed_wrongly(name: str):
    layers = matrices()
    right = layers[name]
    found = search(Side("net", {**layers, name: lambda x: right(x) * 1.001}))
    assert found.place == f"net.{name} (inference)"
    assert f"net.{name} makes it: fed with the reference's input it is" in found.sentence
    assert not found.agrees
    by_name = {point.name.split()[2].removeprefix("net."): point for point in found.points}
    assert by_name[name].first
    order = ["first", "second", "last"]
    for other in order:
        assert by_name[other].fed_agrees == (other != name)
        assert by_name[other].agrees == (order.index(other) < order.index(name))


def test_what_lies_between_layers_is_named_by_these():
    layers = {**matrices(), "between again": np.arctan}
    found = search(Side("net", layers))
    assert found.place == "between net.second and net.last (inference)"
    assert [point.name for point in found.points if point.first] == ["input of net.last (inference)"]


def test_what_comes_after_the_last_layer_is_named_too():
    layers = {**matrices(), "between at last": lambda x: 2 * x}
    found = search(Side("net", layers))
    assert found.place == "net, after net.last (inference)"


def test_a_port_that_is_cut_into_layers_elsewhere_is_not_blamed_for_it():
    layers = matrices()
    first = layers.pop("first")
    layers.pop("between")
    cut = {"first": lambda x: np.tanh(first(x)), **layers}
    found = search(Side("net", cut))
    assert (found.place, found.agrees) == ("", True)
    assert [point.problem for point in found.points if point.problem] == ["cut otherwise: what follows agrees"]
    last = layers["last"]
    found = search(Side("net", {**cut, "last": lambda x: 1.01 * last(x)}))
    assert found.place == "net.last (inference)"


def test_a_difference_below_the_rounding_of_float32_is_none_of_meaning():
    layers = matrices()
    second = layers["second"]
    found = search(Side("net", {**layers, "second": lambda x: second(x) * (1 + 1e-9)}))
    assert found.place == ""
    assert found.agrees
    point = found.points[1]
    assert point.problem == "below float32's rounding"
    assert point.noise_units > 1e4


def test_layers_are_the_same_that_hold_the_same_weights_and_of_several_the_innermost():
    theirs = {"first.weight": "one/dense/kernel", "second.weight": "two/kernel", "last.weight": "three/kernel"}
    side = [call("one", 1, 4), call("one/dense", 2, 3), call("two", 5, 6), call("three", 7, 8)]
    ours = [call("net", 1, 8), call("net.first", 2, 3), call("net.second", 4, 5), call("net.last", 6, 7)]
    pairs = {a.name: b.name for a, b in pair_layers(port(theirs), "b", named(ours), named(side))}
    assert pairs == {"net.first": "one/dense", "net.second": "two", "net.last": "three"}


def test_the_user_may_say_which_is_which():
    told = {"net.first": "one", "net.second": "", "net.activation": "act"}
    theirs = {"first.weight": "one/dense/kernel", "second.weight": "two/kernel"}
    side = [call("one", 1, 4), call("one/dense", 2, 3), call("act", 5, 6), call("two", 7, 8)]
    ours = [call("net.first", 2, 3), call("net.activation", 4, 5), call("net.second", 6, 7)]
    assert port(theirs, told).layers_of("a") >= {"net.activation"}
    assert port(theirs, told).layers_of("b") == {"one", "one/dense", "two", "act"}
    pairs = {a.name: b.name for a, b in pair_layers(port(theirs, told), "b", named(ours), named(side))}
    assert pairs == {"net.first": "one", "net.activation": "act"}


def test_calls_of_one_layer_are_paired_by_their_number_if_they_are_as_many():
    theirs = {"first.weight": "one/kernel"}
    ours = [call("net.first", 1, 2), call("net.first#2", 3, 4)]
    side = [call("one", 1, 2), call("one#2", 3, 4)]
    assert [(a.name, b.name) for a, b in pair_layers(port(theirs), "b", named(ours), named(side))] == [
        ("net.first", "one"), ("net.first#2", "one#2"),
    ]  # fmt: skip
    assert pair_layers(port(theirs), "b", named(ours), named(side[:1])) == []


def call(name: str, entered: int, left: int) -> dict[str, Any]:
    return {"name": name, "kind": "", "entered": entered, "left": left, "inputs": [], "outputs": []}


def named(calls: list[dict[str, Any]]) -> dict[str, Call]:
    return calls_of({"layers": calls})


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((2, 5, 7, 3), (0, 3, 1, 2)), ((4, 4, 4, 4), (0, 3, 1, 2)), ((6, 2, 3), (1, 0, 2)), ((3, 8), (0, 1))],
    ids=str,
)
def test_layouts_are_found_by_shapes_and_else_by_the_values(shape: tuple[int, ...], axes: tuple[int, ...]):
    ours = np.random.default_rng(3).normal(size=shape)
    theirs = ours.transpose(axes)
    ((number, layout),) = Layouts().match([ours], [theirs]).values()
    assert number == 0
    np.testing.assert_array_equal(layout.to_reference(theirs, ours.shape), ours)
    np.testing.assert_array_equal(layout.to_side(ours), theirs)


def test_heads_that_one_side_counts_together_are_matched_and_other_shapes_are_not():
    ours = np.arange(24.0).reshape(2, 12)
    layouts = Layouts().match([ours], [ours.reshape(2, 3, 4)])
    np.testing.assert_array_equal(layouts[0][1].to_side(ours), ours.reshape(2, 3, 4))
    assert Layouts().match([ours], [np.zeros((3, 12))]) == {}
    assert Layouts().match([ours], [np.zeros((2, 12), dtype=np.int64)]) == {}
