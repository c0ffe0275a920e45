"""Arrays from canonical layout to a side's and back: nothing is lost, whatever is permuted, reshaped or cut."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from faceoff.core.own import Input, Placed, Port, PortSide, Targets
from faceoff.ports.entries import Entry, place

SHAPES = st.lists(st.integers(1, 4), max_size=4).map(tuple)


def filled(shape):
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


@given(st.data())
def test_placed_goes_there_and_back(data):
    shape = data.draw(SHAPES)
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    turned = [shape[axis] for axis in axes]
    merge = data.draw(st.integers(0, max(len(turned) - 2, 0)))
    own = data.draw(st.sampled_from([None, (math.prod(shape),), (*turned[:merge], math.prod(turned[merge:]))]))
    placed, value = Placed("w", axes, own), filled(shape)
    there = placed.to_side(value)
    assert there.shape == (tuple(turned) if own is None else own)
    assert there.flags.c_contiguous
    assert not np.shares_memory(there, value)
    np.testing.assert_array_equal(placed.to_canonical(there, shape), value)
    assert placed.to_canonical(there, shape).shape == shape


@given(st.data())
def test_parts_of_an_array_are_put_together_and_taken_apart(data):
    count = data.draw(st.integers(1, 4))
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(list))
    axis = data.draw(st.integers(0, len(shape) - 1))
    whole = (*shape[:axis], shape[axis] * count, *shape[axis + 1 :])
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    labels = tuple(f"part{index}" for index in range(count))
    parts = Entry("w", "linear", "weight", axes, whole).parts(axis, labels)
    shapes = {label: part.canonical_shape for label, part in zip(labels, parts, strict=True)}
    placed = {label: place(part, shapes[label]) for label, part in zip(labels, parts, strict=True)}
    side, array = PortSide("", placed), filled(whole)
    canonical = side.to_canonical({"w": array}, shapes)
    assert sum(value.size for value in canonical.values()) == array.size
    np.testing.assert_array_equal(side.to_side(canonical)["w"], array)


@given(st.data())
def test_what_can_be_placed_is_the_same_elements(data):
    """Axes merged or split on either side, and axes of size 1 anywhere."""
    coarse = data.draw(st.lists(st.sampled_from([1, 2, 4, 6]), min_size=1, max_size=3))
    factors = [data.draw(st.sampled_from([f for f in range(1, size + 1) if size % f == 0])) for size in coarse]
    fine = [size for whole, factor in zip(coarse, factors, strict=True) for size in (factor, whole // factor)]
    value = filled(tuple(fine))
    order = data.draw(st.permutations(range(len(coarse))))
    axes = tuple(axis for group in order for axis in (2 * group, 2 * group + 1))
    entry = Entry("w", "linear", "weight", axes, value.transpose(axes).shape)
    for shape in (tuple(fine), tuple(coarse)):
        placed = place(entry, shape)
        assert placed is not None
        np.testing.assert_array_equal(placed.to_side(value.reshape(shape)), value.transpose(axes))


def test_what_is_no_reshape_is_refused():
    assert place(Entry("w", "linear", "weight", (0, 1), (4, 6)), (6, 4)) is None
    assert place(Entry("w", "linear", "weight", (0, 1), (4, 6)), (4, 5)) is None
    # Heads and their widths do not lie together.
    assert place(Entry("w", "linear", "weight", (0, 2, 1), (3, 5, 2)), (6, 5)) is None
    assert place(Entry("w", "linear", "weight", (0, 1), (4, 6), told_axes=(0,)), (24,)) is not None
    assert place(Entry("w", "linear", "weight", (0, 1), (4, 6), told_axes=(0, 1)), (24,)) is None


def test_a_gradient_that_is_not_there_stays_none_and_others_may_be_left_out():
    side = PortSide("", {"a": Placed("x", (1, 0)), "b": Placed("y", (0,)), "c": Placed("z", (0,))})
    shapes = {"a": (2, 3), "b": (4,), "c": (4,)}
    found = side.to_canonical({"x": np.zeros((3, 2)), "y": None}, shapes)
    assert found["a"].shape == (2, 3)
    assert found["b"] is None
    assert "c" not in found


def test_a_port_survives_json():
    weights = {
        "a": Placed("w", (1, 0), (6,), ((0, 6),)),
        "b": Placed("w", (0,), None, ((6, 8),)),
        "s": Placed("s", ()),
        "t": Placed("t", (0,), ()),
    }
    side = PortSide("/a.py", weights, {"x": (0, 2, 1)}, ("z",))
    shapes = {"a": (2, 3), "b": (2,), "s": (), "t": (1,)}
    port = Port("m", (Input("x", (3, 4)),), Targets((3,)), "squared-error", -1, shapes, {"f": side}, "f")
    again = Port.from_json(port.to_json())
    assert again == port
    assert again.digest == port.digest
    value = {name: filled(shape) for name, shape in shapes.items()}
    assert side.to_side(value)["w"].shape == (8,)
    assert side.to_side(value)["t"].shape == ()
