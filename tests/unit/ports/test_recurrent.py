"""Recurrent layers: gates in one array or apart, in one order or another, and one bias or two."""

import numpy as np
import pytest

from faceoff.core.errors import InputError
from tests.unit.ports.layouts import Holds, assert_right, mapped, numbers

SIZE, INCOMING = 5, 3


def stacked(arrays, order):
    return np.concatenate([arrays[gate] for gate in order])


def gates(names, *shape):
    return {gate: numbers(*shape) for gate in names}


def lstm(layers=2, biases=2):
    """Two biases or one with dotted names; slashed names; two products that are layers; each gate a layer."""
    dotted, slashed, products, apart = Holds(), Holds(), Holds(), Holds()
    order = "ifgo"
    for layer in range(layers):
        incoming = SIZE if layer else INCOMING
        w, u, b = gates(order, SIZE, incoming), gates(order, SIZE, SIZE), gates(order, SIZE)
        dotted.add(f"lstm.weight_ih_l{layer}", "recurrent", "weight_ih", (0, 1), stacked(w, order))
        dotted.add(f"lstm.weight_hh_l{layer}", "recurrent", "weight_hh", (0, 1), stacked(u, order))
        dotted.add(f"lstm.bias_ih_l{layer}", "recurrent", "bias_ih", (0,), stacked(b, order))
        if biases == 2:
            dotted.add(f"lstm.bias_hh_l{layer}", "recurrent", "bias_hh", (0,), np.zeros(4 * SIZE, np.float32))
        name = "lstm" + f"_{layer}" * bool(layer) + "/lstm_cell"
        slashed.add(f"{name}/kernel", "recurrent", "weight", (1, 0), stacked(w, order).T)
        slashed.add(f"{name}/recurrent_kernel", "recurrent", "weight", (1, 0), stacked(u, order).T)
        slashed.add(f"{name}/bias", "recurrent", "bias", (0,), stacked(b, order))
        products.dense(f"layers.{layer}.cell.dense_i", stacked(w, order), between=".")
        products.dense(f"layers.{layer}.cell.dense_h", stacked(u, order), stacked(b, order), ".")
        for gate in order:
            apart.dense(f"layers.{layer}.cell.i{gate}" + "_" * (gate == "f"), w[gate], between=".")
        for gate in order:
            apart.dense(f"layers.{layer}.cell.h{gate}", u[gate], b[gate], ".")
    for side in (dotted, slashed, products, apart):
        side.dense("head", numbers(2, 1))
        side.arrays["head/kernel"] = dotted.arrays["head/kernel"]
    return {"dotted": dotted, "slashed": slashed, "products": products, "apart": apart}


@pytest.mark.parametrize("reference", ["dotted", "slashed", "products", "apart"])
@pytest.mark.parametrize("other", ["dotted", "slashed", "products", "apart"])
def test_an_lstm_with_one_bias(reference, other):
    sides = lstm(biases=1)
    found = assert_right(sides[reference], sides[other])
    if reference == "dotted":
        apart = other == "apart"
        assert ("lstm.ih_l0.f.weight" if apart else "lstm.ih_l0.weight") in found.weights


@pytest.mark.parametrize("other", ["slashed", "products", "apart"])
def test_two_biases_against_one_are_asked_for_and_the_second_stays_zero(other):
    sides = lstm()
    rule = "keep the second bias at zero on the side that has two, by 'lstm\\.bias_hh_l0' = { zero = true }"
    zero = {"lstm\\.bias_hh_l.": {"zero": True}}
    for reference, second in (("dotted", other), (other, "dotted")):
        with pytest.raises(InputError) as told:
            mapped(sides[reference], sides[second])
        assert told.value.next_step == rule
    found = assert_right(sides["dotted"], sides[other], own=zero)
    assert found.zeros["a"] == ("lstm.bias_hh_l0", "lstm.bias_hh_l1")
    found = assert_right(sides[other], sides["dotted"], rules=zero)
    assert found.zeros["b"] == ("lstm.bias_hh_l0", "lstm.bias_hh_l1")


def gru():
    """Gates r, z, n with two biases; z, r, n with two rows of bias."""
    dotted, slashed = Holds(), Holds()
    w, u, b, c = gates("rzn", SIZE, INCOMING), gates("rzn", SIZE, SIZE), gates("rzn", SIZE), gates("rzn", SIZE)
    for name, part, value in (("weight_ih", "weight", w), ("weight_hh", "weight", u), ("bias_ih", "bias", b)):
        axes = (0, 1) if part == "weight" else (0,)
        dotted.add(f"gru.{name}_l0", "recurrent", part, axes, stacked(value, "rzn"), stacked=["r", "z", "n"])
    dotted.add("gru.bias_hh_l0", "recurrent", "bias", (0,), stacked(c, "rzn"), stacked=["r", "z", "n"])
    slashed.add("gru/gru_cell/kernel", "recurrent", "weight", (1, 0), stacked(w, "zrn").T, stacked=["z", "r", "n"])
    slashed.add(
        "gru/gru_cell/recurrent_kernel", "recurrent", "weight", (1, 0), stacked(u, "zrn").T, stacked=["z", "r", "n"]
    )
    rows = np.stack([stacked(b, "zrn"), stacked(c, "zrn")])
    slashed.add("gru/gru_cell/bias", "recurrent", "bias", (0, 1), rows, stacked=["z", "r", "n"])
    return dotted, slashed


def test_gates_in_another_order_and_two_rows_of_bias():
    dotted, slashed = gru()
    found = assert_right(dotted, slashed)
    placed = found.sides["b"]["gru.hh_l0.z.bias"]
    assert placed.path == "gru/gru_cell/bias"
    assert placed.block == ((1, 2), (0, SIZE))
    assert_right(slashed, dotted)
    # Among themselves nothing need be cut.
    assert "gru.hh_l0.weight" in assert_right(dotted, dotted).weights


def test_gates_in_another_order_by_rules():
    """Where no side tells which gates it stacks, a user can."""
    dotted, slashed = gru()
    for side in (dotted, slashed):
        for told in side.weights:
            del told["stacked"]
    order = {"a": ("reset", "update", "new"), "b": ("update", "reset", "new")}
    own = {
        rf"gru\.({part})_({role})_l0": {"to": [rf"gru.\2.{gate}.\1" for gate in order["a"]]}
        for part in ("weight", "bias")
        for role in ("ih", "hh")
    }
    rules = {
        "gru/gru_cell/kernel": {"to": [f"gru.ih.{gate}.weight" for gate in order["b"]], "along": 1},
        "gru/gru_cell/recurrent_kernel": {"to": [f"gru.hh.{gate}.weight" for gate in order["b"]], "along": 1},
    }
    # Two rows of bias are not six equal parts along one axis; they need the side to say so.
    dotted.weights = [told for told in dotted.weights if "bias" not in told["path"]]
    slashed.weights = [told for told in slashed.weights if "bias" not in told["path"]]
    for side in (dotted, slashed):
        side.arrays = {path: array for path, array in side.arrays.items() if "bias" not in path}
    own = {pattern: rule for pattern, rule in own.items() if "weight" in pattern}
    found = assert_right(dotted, slashed, own=own, rules=rules)
    assert set(found.how["b"].values()) == {"rule"}
    assert found.weights["gru.ih.reset.weight"] == (SIZE, INCOMING)


def test_a_layer_that_runs_backwards_too():
    a, b = Holds(), Holds()
    for ours, theirs in (("", "forward_lstm"), ("_reverse", "backward_lstm")):
        w, u, bias = numbers(4 * SIZE, INCOMING), numbers(4 * SIZE, SIZE), numbers(4 * SIZE)
        a.add(f"lstm.weight_ih_l0{ours}", "recurrent", "weight", (0, 1), w)
        a.add(f"lstm.weight_hh_l0{ours}", "recurrent", "weight", (0, 1), u)
        a.add(f"lstm.bias_ih_l0{ours}", "recurrent", "bias", (0,), bias)
        b.add(f"bidirectional/{theirs}/lstm_cell/kernel", "recurrent", "weight", (1, 0), w.T)
        b.add(f"bidirectional/{theirs}/lstm_cell/recurrent_kernel", "recurrent", "weight", (1, 0), u.T)
        b.add(f"bidirectional/{theirs}/lstm_cell/bias", "recurrent", "bias", (0,), bias)
    assert_right(a, b)
    assert_right(b, a)


def test_a_gru_of_two_layers_in_both_directions():
    """One module with all layers, and a cell for each layer and direction, whose two products are layers."""
    a, b = Holds(), Holds()
    for side in (a, b):
        side.dense("embed", numbers(4, 2))
        side.arrays["embed/kernel"] = a.arrays["embed/kernel"]
    for layer in range(2):
        for ours, theirs in (("", "forward_rnn"), ("_reverse", "backward_rnn")):
            incoming = 2 * SIZE if layer else INCOMING
            for name, role, size in (("dense_i", "ih", incoming), ("dense_h", "hh", SIZE)):
                weight, bias, gates_of = numbers(3 * SIZE, size), numbers(3 * SIZE), {"stacked": list("rzn")}
                at, there = f"_{role}_l{layer}{ours}", f"layers.{layer}.{theirs}.cell.{name}."
                a.add(f"gru.weight{at}", "recurrent", f"weight{at}", (0, 1), weight, **gates_of)
                a.add(f"gru.bias{at}", "recurrent", f"bias{at}", (0,), bias, **gates_of)
                b.add(f"{there}kernel", "recurrent", f"weight_{role}", (1, 0), weight.T, **gates_of)
                b.add(f"{there}bias", "recurrent", f"bias_{role}", (0,), bias, **gates_of)
    found = assert_right(a, b)
    assert found.weights["gru.hh_l1_reverse.bias"] == (3 * SIZE,)
    assert set(found.how["b"].values()) == {"name"}
    assert_right(b, a)


def test_three_gates_whose_order_one_side_alone_tells_are_asked_for():
    dotted, slashed = gru()
    for told in slashed.weights:
        del told["stacked"]
    with pytest.raises(InputError, match="without a counterpart"):
        mapped(dotted, slashed)


def test_gates_told_of_two_products_that_are_layers():
    a, b = Holds(), Holds()
    w, u, bias = gates("rzn", SIZE, INCOMING), gates("rzn", SIZE, SIZE), gates("rzn", SIZE)
    for name, value in (("i", w), ("h", u)):
        a.add(f"cell.dense_{name}.kernel", "linear", "weight", (1, 0), stacked(value, "rzn").T, stacked=list("rzn"))
        path = "gru/gru_cell/" + "recurrent_" * (name == "h") + "kernel"
        b.add(path, "recurrent", "weight", (1, 0), stacked(value, "zrn").T, stacked=list("zrn"))
    a.add("cell.dense_i.bias", "linear", "bias", (0,), stacked(bias, "rzn"), stacked=list("rzn"))
    b.add("gru/gru_cell/bias", "recurrent", "bias", (0,), stacked(bias, "zrn"), stacked=list("zrn"))
    assert_right(a, b)
    assert_right(b, a)
