"""Rules by hand, and what is refused: each in one line that says what to do."""

import tomllib

import numpy as np
import pytest

from faceoff.core.errors import InputError
from tests.unit.ports.layouts import Holds, assert_right, mapped, numbers
from tests.unit.ports.test_mapping import encoder, resnet


def refused(*arguments, **more):
    with pytest.raises(InputError) as told:
        mapped(*arguments, **more)
    text = str(told.value)
    assert "\n" not in text
    assert text.startswith("/somewhere/port.toml: sides.")
    assert told.value.next_step
    return text


def two(names, there, order=None, shape=(4, 4)):
    a, b = Holds(), Holds()
    arrays = [numbers(*shape) for _ in names]
    for name, value in zip(names, arrays, strict=True):
        a.linear(name, value)
    for index in order or range(len(there)):
        b.dense(there[index], arrays[index])
    return a, b


def test_equal_layers_in_different_numbers_of_others_are_not_assumed():
    # One more layer of another shape stands in between, on one side alone: the sequences are not the same.
    a, b = two(["one", "two"], ["dense", "dense_1"])
    a.linear("three", numbers(2, 4))
    text = refused(a, b)
    assert "more than one way" in text
    assert "got dense/kernel [4, 4], dense_1/kernel [4, 4], expected one for each of one.weight [4, 4]" in text
    assert "as in 'dense/kernel' = { to = \"one.weight\" }" in text


def test_an_order_that_the_names_speak_against_is_not_assumed():
    a, b = two(["enc.up", "enc.down", "dec.up", "dec.down"], ["encoder/a", "encoder/b", "decoder/a", "decoder/b"])
    assert_right(a, b)
    a, b = two(
        ["enc.up", "enc.down", "dec.up", "dec.down"],
        ["encoder/a", "encoder/b", "decoder/a", "decoder/b"],
        order=[2, 3, 0, 1],
    )
    assert "more than one way" in refused(a, b)


def test_names_win_where_they_are_the_same_whatever_the_order():
    a, b = two(["gate", "up", "down"], ["gate", "up", "down"], order=[2, 0, 1])
    assert set(assert_right(a, b).how["b"].values()) == {"name"}


def test_numbers_of_a_list_count_in_their_order_not_as_they_are():
    a, b = two(["net.0", "net.2", "net.10"], ["net/0", "net/1", "net/2"])
    assert_right(a, b)
    a, b = two(["net.0", "net.2", "net.10"], ["net/0", "net/1", "net/2"], order=[0, 2, 1])
    assert_right(a, b)


def test_other_shapes_make_other_sequences():
    a, b = two(["a", "b"], ["x", "y"])
    a.linear("c", numbers(4, 2))
    b.dense("z", a.arrays["c.weight"])
    assert_right(a, b)
    assert "more than one way" in refused(a, b_with_z_first(b))


def b_with_z_first(b):
    found = Holds()
    found.arrays = b.arrays
    found.weights = [b.weights[-1], *b.weights[:-1]]
    return found


def test_a_rule_settles_what_is_ambiguous():
    a, b = two(["one", "two"], ["dense", "dense_1"])
    a.linear("three", value := numbers(2, 4))
    b.dense("head", value)
    found = assert_right(a, b_with_z_first(b), rules={r"dense/kernel": {"to": "one.weight"}})
    assert found.how["b"] == {"one.weight": "rule", "two.weight": "shape", "three.weight": "shape"}


def test_a_rule_with_groups_serves_many():
    a, b = two(["f.0", "f.1", "f.2"], ["x2", "x1", "x0"])
    rules = {r"x([0-9])/kernel": {"to": r"f.\1.weight"}}
    found = mapped(a, b, rules=rules)
    assert {name: placed.path for name, placed in found.sides["b"].items()} == {
        f"f.{i}.weight": f"x{i}/kernel" for i in range(3)
    }


def test_the_layer_behind_a_flattened_image():
    """One side flattens channels first, the other last; the canonical weight has the image's axes."""
    a, b = Holds(), Holds()
    weight = numbers(10, 8, 4, 5)
    a.linear("fc", weight.reshape(10, -1))
    b.dense("dense", weight.transpose(0, 2, 3, 1).reshape(10, -1))
    own = {r"fc\.weight": {"shape": [10, 8, 4, 5]}}
    found = assert_right(a, b, own=own, rules={"dense/kernel": {"axes": [2, 3, 1, 0]}})
    assert found.weights == {"fc.weight": (10, 8, 4, 5)}


def test_a_rule_names_a_weight_of_the_reference():
    a, b = two(["fc"], ["dense"], shape=(3, 4))
    found = assert_right(a, b, own={r"fc\.weight": {"to": "head.weight"}})
    assert list(found.weights) == ["head.weight"]
    found = assert_right(a, b, own={r"fc\.weight": {"axes": [1, 0]}}, rules={"dense/kernel": {"axes": [0, 1]}})
    assert found.weights == {"fc.weight": (4, 3)}


def test_packed_projections_by_rules():
    a, b = Holds(), Holds()
    q, k, v = (numbers(6, 4) for _ in range(3))
    for name, value in (("a", q), ("b", k), ("c", v)):
        a.linear(name, value)
    b.dense("all", np.concatenate([v, q, k]))
    rules = {"all/kernel": {"to": ["c.weight", "a.weight", "b.weight"], "along": 1}}
    assert_right(a, b, rules=rules)
    assert_right(b, a, own=rules)
    text = refused(a, b, rules={"all/kernel": {"to": ["a.weight", "b.weight", "c.weight"]}})
    assert "equal parts along axis 0; got all/kernel [4, 18]; name another axis" in text


def test_rules_that_are_wrong():
    a, b = two(["fc", "gc"], ["dense", "other"], shape=(3, 4))
    text = refused(a, b, rules={"nothing": {"to": "fc.weight"}})
    assert "matches no weight; got 'nothing', expected a whole path, such as" in text
    assert "dense/kernel" in text
    assert "two rules match one weight" in refused(a, b, rules={"dense.*": {"to": "x"}, ".*/kernel": {"to": "y"}})
    assert "the reference has not; got 'fc.weigth' for dense/kernel, expected such as fc.weight" in refused(
        a, b, rules={"dense/kernel": {"to": "fc.weigth"}}
    )
    assert "filled twice; got 'fc.weight' from dense/kernel and other/kernel" in refused(
        a, b, rules={".*/kernel": {"to": "fc.weight"}}
    )
    assert "two weights of one name" in refused(a, b, own={".*": {"to": "fc.weight"}})
    assert "not as many elements" in refused(a, b, own={r"fc\.weight": {"shape": [3, 5]}})
    assert "not as many axes as the weight has" in refused(a, b, own={r"fc\.weight": {"axes": [0, 1, 2]}})
    assert "alone, are called mean or variance" in refused(a, b, own={r"fc\.weight": {"to": "fc.mean"}})
    assert "shapes that do not fit" in refused(a, b, rules={"dense/kernel": {"to": "fc.weight", "axes": [0, 1, 2]}})


def test_what_is_left_over_is_named_with_the_rule_that_may_be_meant():
    a, b = Holds(), Holds()
    a.linear("fc", value := numbers(3, 4), numbers(3))
    b.dense("dense", value)
    text = refused(a, b)
    assert "weights without a counterpart; got dense/kernel [4, 3]" in text
    assert "expected one for each of fc.weight [3, 4], fc.bias [3]" in text
    assert "as in 'dense/kernel' = { to = \"fc.weight\" }" in text
    # Then the bias alone is left.
    text = refused(a, b, rules={"dense/kernel": {"to": "fc.weight"}})
    assert "got nothing, expected one for each of fc.bias [3]; build both sides with the same layers" in text
    text = refused(b, a, rules={r"fc\.weight": {"to": "dense.weight"}})
    assert "got fc.bias [3], expected none left; build both sides" in text


def test_a_statistic_is_no_trained_weight():
    a, b = Holds(), Holds()
    a.norm("bn", [numbers(4) for _ in range(4)], ["weight", "bias", "running_mean", "running_var"])
    b.norm("bn", [numbers(4), numbers(4)], ["scale", "bias"])
    b.add("bn.shift", "norm", "shift", (0,), numbers(4))
    b.add("bn.spread", "norm", "spread", (0,), numbers(4))
    assert "weights without a counterpart" in refused(a, b)
    text = refused(a, b, rules={r"bn\.shift": {"to": "bn.mean"}})
    assert "a running statistic against a trained weight" in text


def test_axes_that_a_side_tells_wrongly():
    a, b = two(["fc"], ["dense"])
    b.weights[0]["axes"] = [0, 0]
    assert "axes that do not fit the array; got [0, 0] of [4, 4]" in refused(a, b)


def test_many_left_over_are_counted():
    a, b = two([f"f{i}" for i in range(9)], ["dense"], shape=(3, 4))
    assert "and 5 more" in refused(a, b)


def test_an_order_of_the_alphabet_alone_is_none():
    a, b = two(["up", "down", "last"], ["expand", "contract", "result"])
    assert_right(a, b)
    assert "more than one way" in refused(a, b.alphabetical())
    assert "more than one way" in refused(b.alphabetical(), a)


def test_numbers_of_sorted_names_count_as_numbers():
    names = [f"net.{index}" for index in range(12)]
    a, b = two(names, [f"params.Dense_{index}" for index in range(12)])
    assert_right(a, b)
    assert [told["path"] for told in b.alphabetical().weights][2].startswith("params.Dense_10")
    assert_right(a, b.alphabetical())


def test_an_order_against_the_numbers_is_not_assumed():
    a, b = two(["x", "y", "z"], ["dense_1", "dense_2", "dense"])
    assert "more than one way" in refused(a, b)


@pytest.mark.parametrize("path", ["dense_1/kernel", "net.0.weight", "['params']['Dense-0']['kernel']", 'a"b c'])
def test_the_rule_that_is_proposed_can_be_pasted(path):
    a, b = Holds(), Holds()
    a.linear("fc", value := numbers(3, 4), numbers(3))
    b.add(path, "linear", "weight", (0, 1), value)
    proposed = refused(a, b).rpartition("as in ")[2]
    rules = tomllib.loads(proposed)
    a.weights.pop()
    a.arrays.pop("fc.bias")
    assert_right(a, b, rules=rules)


def test_a_kind_of_layer_that_nobody_knows_is_none():
    a, b = two(["fc", "gc"], ["fc", "gc"], shape=(3, 4))
    b.weights[0]["layer"] = "attention"
    assert_right(a, b)


def test_parts_by_their_full_names():
    a, b = Holds(), Holds()
    values = [numbers(4) for _ in range(4)]
    a.norm("bn", values, ["weight", "bias", "running_mean", "running_var"])
    for part, value in zip(["gamma", "beta", "moving_mean", "moving_variance"], values, strict=True):
        b.add(f"mine/{part}", "norm", part, (0,), value)
    assert_right(a, b)
    assert list(assert_right(b, a).weights) == ["mine.scale", "mine.bias", "mine.mean", "mine.variance"]
    for told in b.weights:
        told["layer"] = ""
    assert_right(a, b)


def shuffled(side, seed):
    found = Holds()
    found.arrays = side.arrays
    found.weights = [side.weights[i] for i in np.random.default_rng(seed).permutation(len(side.weights))]
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["apart", "sorted", "packed"])
def test_where_names_tell_the_order_does_not_matter(seed, name):
    sides = encoder(3, 12, 4, 12)
    for reference in ("apart", "sorted", "packed"):
        assert_right(sides[reference], shuffled(sides[name], seed))
    a, _, c = resnet()
    assert_right(a, shuffled(c, seed))
    assert_right(c, shuffled(a, seed))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("reference", ["apart", "sorted", "packed"])
def test_where_names_are_numbers_alone_no_wrong_order_is_assumed(seed, reference):
    sides = encoder(3, 12, 4, 12)
    assert "more than one way" in refused(sides[reference], shuffled(sides["by heads"], seed))
    a, b, c = resnet()
    for one in (a, c):
        assert "more than one way" in refused(one, shuffled(b, seed))
