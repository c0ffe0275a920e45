"""Weights of models as they are written in three frameworks, checked by their numbers."""

from itertools import pairwise

import numpy as np
import pytest

from faceoff.core.errors import InputError
from faceoff.core.own import Input, Port, PortSide, Targets
from faceoff.ports.mapping import describe_mapping
from tests.unit.ports.layouts import AXES, DOTTED, PLAIN, SLASHED, Holds, assert_right, mapped, numbers


def mlp(sizes):
    a, b, c = Holds(), Holds(), Holds()
    for index, (incoming, outgoing) in enumerate(pairwise(sizes)):
        weight, bias = numbers(outgoing, incoming), numbers(outgoing)
        a.linear(f"layers.{2 * index}", weight, bias)
        b.dense("sequential/dense" + f"_{index}" * bool(index), weight, bias)
        c.dense(f"layers.{index}", weight, bias, ".")
    return a, b, c


@pytest.mark.parametrize("sizes", [(3, 4, 5), (8, 8, 8, 8, 8)], ids=str)
def test_an_mlp_also_of_square_layers(sizes):
    a, b, c = mlp(sizes)
    for one in (a, b, c):
        for other in (a, b, c):
            assert_right(one, other)
            assert_right(one, other.alphabetical())
    found = assert_right(a, b)
    assert list(found.weights)[:2] == ["layers.0.weight", "layers.0.bias"]
    assert found.weights["layers.0.weight"] == (sizes[1], sizes[0])
    assert next(iter(assert_right(b, a).weights)) == "sequential.dense.weight"


def test_what_is_found_by_order_alone_is_told():
    a, b, c = mlp((8, 8, 8, 8))
    assert set(assert_right(a, b).how["b"].values()) == {"order"}
    assert set(assert_right(a, c).how["b"].values()) == {"name"}


def resnet():
    a, b, c = Holds(), Holds(), Holds()
    count = [0, 0]

    def conv(torch_name, nnx_name, outgoing, kernel, incoming):
        weight = numbers(outgoing, kernel, kernel, incoming)
        a.conv_oihw(torch_name, weight)
        b.conv_hwio("conv2d" + f"_{count[0]}" * bool(count[0]), weight)
        c.conv_hwio(nnx_name, weight, ".")
        count[0] += 1

    def norm(torch_name, nnx_name, size):
        values = [numbers(size) for _ in range(4)]
        a.norm(torch_name, values, DOTTED)
        b.norm("batch_normalization" + f"_{count[1]}" * bool(count[1]), values, SLASHED, "/")
        c.norm(nnx_name, values, PLAIN)
        count[1] += 1

    conv("conv1", "conv1", 8, 3, 3)
    norm("bn1", "bn1", 8)
    for stage, (incoming, width) in enumerate([(8, 8), (8, 16)], 1):
        for block in range(2):
            at, there = f"layer{stage}.{block}", f"layer{stage}.layers.{block}"
            conv(f"{at}.conv1", f"{there}.conv1", width, 3, width if block else incoming)
            norm(f"{at}.bn1", f"{there}.bn1", width)
            conv(f"{at}.conv2", f"{there}.conv2", width, 3, width)
            norm(f"{at}.bn2", f"{there}.bn2", width)
            if not block and incoming != width:
                conv(f"{at}.downsample.0", f"{there}.downsample.layers.0", width, 1, incoming)
                norm(f"{at}.downsample.1", f"{there}.downsample.layers.1", width)
    weight, bias = numbers(10, 16), numbers(10)
    a.linear("fc", weight, bias)
    b.dense("dense", weight, bias)
    c.dense("fc", weight, bias, ".")
    return a, b, c


def test_a_residual_network_with_batch_norm():
    a, b, c = resnet()
    assert_right(a, b)
    assert_right(b, a)
    assert_right(b, c)
    # The attributes of this one are sorted; names tell what is what.
    assert_right(a, c.alphabetical())
    found = assert_right(c, a)
    assert [name for name in found.weights if name.endswith((".mean", ".variance"))][:2] == ["bn1.mean", "bn1.variance"]
    assert found.weights["conv1.weight"] == (8, 3, 3, 3)


def encoder(blocks, width, heads, hidden):
    """Packed, separate, separate by heads with automatic names, and separate by heads in attributes."""
    packed, apart, by_heads, sorted_ = Holds(), Holds(), Holds(), Holds()
    split = (heads, width // heads)
    for index in range(blocks):
        at, number = f"encoder.layers.{index}", f"_{index}" * bool(index)
        q, k, v, o = (numbers(width, width) for _ in range(4))
        bq, bk, bv, bo = (numbers(width) for _ in range(4))
        packed.add(f"{at}.self_attn.in_proj_weight", "linear", "weight", (0, 1), np.concatenate([q, k, v]))
        packed.add(f"{at}.self_attn.in_proj_bias", "linear", "bias", (0,), np.concatenate([bq, bk, bv]))
        packed.linear(f"{at}.self_attn.out_proj", o, bo)
        for name, weight, bias in (("k_proj", k, bk), ("v_proj", v, bv), ("q_proj", q, bq), ("out_proj", o, bo)):
            apart.linear(f"{at}.self_attn.{name}", weight, bias)
        for name, weight, bias in (("query", q, bq), ("key", k, bk), ("value", v, bv)):
            for side, path in (
                (by_heads, f"multi_head_attention{number}/{name}/"),
                (sorted_, f"encoder.blocks.{index}.attention.{name}."),
            ):
                side.add(f"{path}kernel", "linear", "weight", (2, 0, 1), weight.T.reshape(width, *split))
                side.add(f"{path}bias", "linear", "bias", (0, 1), bias.reshape(split))
        for side, path in (
            (by_heads, f"multi_head_attention{number}/attention_output/"),
            (sorted_, f"encoder.blocks.{index}.attention.out."),
        ):
            side.add(f"{path}kernel", "linear", "weight", (1, 2, 0), o.T.reshape(*split, width))
            side.add(f"{path}bias", "linear", "bias", (0,), bo)
        for which, (outgoing, incoming) in enumerate([(hidden, width), (width, hidden)]):
            weight, bias = numbers(outgoing, incoming), numbers(outgoing)
            packed.linear(f"{at}.linear{which + 1}", weight, bias)
            apart.linear(f"{at}.fc{which + 1}", weight, bias)
            position = 2 * index + which
            by_heads.dense("dense" + f"_{position}" * bool(position), weight, bias)
            sorted_.dense(f"encoder.blocks.{index}.linear{which + 1}", weight, bias, ".")
        for which in range(2):
            values = [numbers(width), numbers(width)]
            position = 2 * index + which
            packed.norm(f"{at}.norm{which + 1}", values, DOTTED)
            apart.norm(f"{at}.layer_norm{which + 1}", values, DOTTED)
            by_heads.norm("layer_normalization" + f"_{position}" * bool(position), values, SLASHED, "/")
            sorted_.norm(f"encoder.blocks.{index}.norm{which + 1}", values, PLAIN)
    return {"packed": packed, "apart": apart, "by heads": by_heads, "sorted": sorted_.alphabetical()}


@pytest.mark.parametrize("reference", ["packed", "apart", "by heads", "sorted"])
@pytest.mark.parametrize("other", ["packed", "apart", "by heads", "sorted"])
def test_an_encoder_whose_projections_are_packed_or_apart(reference, other):
    sides = encoder(3, 12, 4, 12)
    found = assert_right(sides[reference], sides[other])
    if reference == other == "packed":
        assert found.weights["encoder.layers.0.self_attn.in_proj.weight"] == (36, 12)
    elif reference == "packed":
        assert found.weights["encoder.layers.0.self_attn.query.weight"] == (12, 12)
        assert found.sides["a"]["encoder.layers.0.self_attn.value.bias"].block == ((24, 36),)


@pytest.mark.parametrize("size", [(8, 4), (4, 4)], ids=["narrowing", "square"])
def test_transposed_convolutions(size):
    """Kernels (inputs, outputs, height, width) and (height, width, outputs, inputs)."""
    a, b = Holds(), Holds()
    for level in (2, 1):
        weight, bias = numbers(size[0], 4, 4, size[1]), numbers(size[1])
        kind = "transposed convolution"
        a.add(f"widen{level}.weight", kind, "weight", AXES["oihw"], weight.transpose(AXES["oihw"]))
        b.add(f"widen{level}.kernel", kind, "weight", AXES["hwio"], weight.transpose(AXES["hwio"]))
        a.add(f"widen{level}.bias", kind, "bias", (0,), bias)
        b.add(f"widen{level}.bias", kind, "bias", (0,), bias)
    found = assert_right(a, b)
    assert found.weights["widen2.weight"] == (size[0], 4, 4, size[1])
    assert_right(b, a)


def test_depthwise_convolutions_with_one_filter_and_with_two():
    a, b, c = Holds(), Holds(), Holds()
    for index, (channels, filters) in enumerate([(6, 1), (6, 2)]):
        weight = numbers(channels * filters, 3, 3, 1)
        a.conv_oihw(f"features.{index}.0", weight)
        turned = weight.transpose(1, 2, 0, 3).reshape(3, 3, channels, filters)
        b.add(f"depthwise_conv2d_{index}/kernel", "convolution", "weight", (1, 2, 3, 0), turned)
        c.conv_hwio(f"blocks.{index}.depthwise", weight, ".")
        values = [numbers(channels * filters) for _ in range(4)]
        a.norm(f"features.{index}.1", values, DOTTED)
        b.norm(f"batch_normalization_{index}", values, SLASHED, "/")
        c.norm(f"blocks.{index}.norm", values, PLAIN)
        pointwise = numbers(6, 1, 1, channels * filters)
        a.conv_oihw(f"features.{index}.3", pointwise)
        b.conv_hwio(f"conv2d_{index}", pointwise)
        c.conv_hwio(f"blocks.{index}.pointwise", pointwise, ".")
    for one in (a, b, c):
        for other in (a, b, c):
            assert_right(one, other)


def test_a_separable_convolution_has_its_bias_in_the_second():
    a, b = Holds(), Holds()
    for index in range(2):
        depthwise, pointwise, bias = numbers(6, 3, 3, 1), numbers(6, 1, 1, 6), numbers(6)
        a.conv_oihw(f"{index}.depthwise", depthwise)
        a.conv_oihw(f"{index}.pointwise", pointwise)
        a.add(f"{index}.pointwise.bias", "convolution", "bias", (0,), bias)
        name = "separable_conv2d" + f"_{index}" * index
        turned = depthwise.transpose(1, 2, 0, 3)
        b.add(f"{name}/depthwise_kernel", "convolution", "weight", (1, 2, 3, 0), turned)
        b.add(f"{name}/pointwise_kernel", "convolution", "weight", (1, 2, 3, 0), pointwise.transpose(1, 2, 3, 0))
        b.add(f"{name}/bias", "convolution", "bias", (0,), bias)
    assert_right(a, b)
    assert_right(b, a)


def test_embeddings_and_parameters_that_belong_to_no_layer():
    a, b, c = Holds(), Holds(), Holds()
    tokens, positions, begin = numbers(50, 8), numbers(16, 8), numbers(1, 1, 8)
    a.add("tok_emb.weight", "embedding", "weight", (0, 1), tokens)
    a.add("pos_emb.weight", "embedding", "weight", (0, 1), positions)
    a.add("cls_token", "", "", (0, 1, 2), begin)
    b.add("embedding/embeddings", "embedding", "weight", (0, 1), tokens)
    b.add("embedding_1/embeddings", "embedding", "weight", (0, 1), positions)
    b.add("vision/cls_token", "", "cls_token", (0, 1, 2), begin)
    c.add("['params']['embed']['embedding']", "embedding", "weight", (0, 1), tokens)
    c.add("['params']['pos']['embedding']", "embedding", "weight", (0, 1), positions)
    c.add("['params']['cls']", "", "", (0,), begin.reshape(-1))
    for one in (a, b, c):
        for other in (a, b, c):
            assert_right(one, other)
    assert list(assert_right(c, a).weights) == ["embed.weight", "pos.weight", "cls.weight"]


def test_a_function_and_its_parameters_know_no_kinds_of_layers():
    a, b = Holds(), Holds()
    for index in range(3):
        weight, bias = numbers(4, 4), numbers(4)
        a.linear(f"net.{index}", weight, bias)
        b.add(f"[{index}]['w']", "", "w", (1, 0), weight.T)
        b.add(f"[{index}]['b']", "", "b", (0,), bias)
    scale = numbers(4)
    a.norm("norm", [scale], ["weight"])
    b.add("[3]['gamma']", "", "gamma", (0,), scale)
    assert_right(a, b)
    assert_right(b, a)


def test_a_layer_that_belongs_to_no_known_kind_has_the_kind_of_all_that_it_fits():
    """The sides make norms and the rest in other orders, and one keeps a projection as a plain array by heads."""
    a, b = Holds(), Holds()
    for block in range(2):
        out, wide, narrow = (numbers(6, 6), numbers(6)), (numbers(8, 6), numbers(8)), (numbers(6, 8), numbers(6))
        norms = [[numbers(6), numbers(6)] for _ in range(2)]
        a.linear(f"block.{block}.attention.dense", *out)
        a.norm(f"block.{block}.attention.norm", norms[0], DOTTED)
        a.linear(f"block.{block}.wide.dense", *wide)
        a.linear(f"block.{block}.narrow.dense", *narrow)
        a.norm(f"block.{block}.narrow.norm", norms[1], DOTTED)
        at = f"transformer_{block}"
        b.add(f"{at}/merge_heads/kernel", "", "kernel", (1, 2, 0), out[0].T.reshape(2, 3, 6))
        b.add(f"{at}/merge_heads/bias", "", "bias", (0,), out[1])
        b.norm(f"{at}/first_norm", norms[0], SLASHED, "/")
        b.norm(f"{at}/second_norm", norms[1], SLASHED, "/")
        b.dense(f"{at}/expanding", *wide)
        b.dense(f"{at}/contracting", *narrow)
    assert set(assert_right(a, b).how["b"].values()) == {"order"}
    assert_right(b, a)


def test_projections_of_no_known_kind_on_both_sides_are_parted_from_the_rest_by_what_they_are_called():
    """What is left then has kinds, and the sides make norms and the rest in other orders."""
    a, b = Holds(), Holds()
    for block in range(2):
        norms, wide, narrow = [[numbers(6), numbers(6)] for _ in range(2)], numbers(8, 6), numbers(6, 8)
        projections = {name: numbers(6, 6) for name in ("query", "key", "value", "output")}
        a.norm(f"h.{block}.ln_1", norms[0], DOTTED)
        for name, weight in projections.items():
            own = "c_proj" if name == "output" else name
            a.add(f"h.{block}.attn.{own}.weight", "", "weight", (0, 1), weight)
        a.norm(f"h.{block}.ln_2", norms[1], DOTTED)
        a.add(f"h.{block}.mlp.c_fc.weight", "", "weight", (0, 1), wide)
        a.add(f"h.{block}.mlp.c_proj.weight", "", "weight", (0, 1), narrow)
        at = f"transformer_{block}"
        for name, weight in projections.items():
            by_heads = weight.T.reshape((2, 3, 6) if name == "output" else (6, 2, 3))
            axes = (1, 2, 0) if name == "output" else (2, 0, 1)
            b.add(f"{at}/self_attention/{name}_dense/kernel", "", "kernel", axes, by_heads)
        b.norm(f"{at}/first_norm", norms[0], SLASHED, "/")
        b.dense(f"{at}/expanding", wide)
        b.dense(f"{at}/contracting", narrow)
        b.norm(f"{at}/second_norm", norms[1], SLASHED, "/")
    assert_right(a, b)
    assert_right(b, a)


def test_norms_are_not_paired_by_an_order_that_convolutions_contradict():
    """A short cut is made last on one side, and before the second convolution on the other; norms look all alike."""
    a, b = Holds(), Holds()
    for name, shape in (("conv1", (8, 3, 3, 4)), ("conv2", (8, 3, 3, 8)), ("downsample.0", (8, 1, 1, 4))):
        a.conv_oihw(name, numbers(*shape))
        a.norm({"conv1": "bn1", "conv2": "bn2"}.get(name, "downsample.1"), [numbers(8) for _ in range(4)], DOTTED)
    for name, shape in (("_1", (8, 3, 3, 4)), ("_0", (8, 1, 1, 4)), ("_2", (8, 3, 3, 8))):
        b.conv_hwio(f"stack{name}_conv", numbers(*shape))
        b.norm(f"stack{name}_bn", [numbers(8) for _ in range(4)], SLASHED, "/")
    with pytest.raises(
        InputError, match=r"more than one way.*stack_1_bn/gamma \[8\].*and 8 more, .*bn1.scale.* and 8 more"
    ):
        mapped(a, b)


def test_what_is_called_mean_and_trained_gets_another_name():
    a, b = Holds(), Holds()
    for side in (a, b):
        side.add("policy.mean", "", "mean", (0,), np.arange(4.0, dtype=np.float32))
        side.add("mean", "linear", "mean", (0,), np.arange(3.0, dtype=np.float32), trained=True)
        side.add("bn.mean", "norm", "mean", (0,), np.arange(5.0, dtype=np.float32))
    found = assert_right(a, b)
    assert sorted(name for name in found.weights if name.rpartition(".")[2] in ("mean", "variance")) == ["bn.mean"]
    assert len(found.weights) == 3


def test_rows_for_printing():
    a, b = encoder(1, 12, 4, 16)["packed"], encoder(1, 12, 4, 16)["by heads"]
    found = mapped(a, b)
    sides = {side: PortSide("", found.sides[side]) for side in "ab"}
    how = {"b": found.how["b"]}
    port = Port("m", (Input("x", (3,)),), Targets((3,)), "squared-error", -1, found.weights, sides, "a", how=how)
    rows = {row.name: row for row in describe_mapping(port).weights}
    row = rows["encoder.layers.0.self_attn.key.weight"]
    assert row.shape == [12, 12]
    assert row.sides == {
        "a": "encoder.layers.0.self_attn.in_proj_weight, [12:24, 0:12]",
        "b": "multi_head_attention/key/kernel, axes [1, 0], reshaped to [12, 4, 3]",
    }
    assert list(rows) == list(found.weights)
    assert row.how == {"b": "name"}
