"""The canonical layout: shapes, seeds, and checks that name what is wrong."""

import numpy as np
import pytest

from faceoff.core.errors import InputError
from faceoff.core.spec import DenseSpec, LstmSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import (
    Batch,
    check_batch,
    check_weights,
    seeded_batch,
    seeded_weights,
    trace_names,
    trainable_names,
    weight_shapes,
)

SPECS = [DenseSpec((4, 3, 2)), ResidualSpec(8, 8, 3, (4, 8), 1, 5), RnnSpec(2, 3, 4, 5), LstmSpec(2, 3, 4, 5, 2, True)]
every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)


def test_the_lstm_stacks_four_gates_and_has_one_bias():
    shapes = weight_shapes(LstmSpec(input_size=5, hidden_size=7, output_size=3, sequence_length=2, num_layers=2))
    assert shapes["layer.0.weight_ih"] == (28, 5)
    assert shapes["layer.1.weight_ih"] == (28, 7)
    assert shapes["layer.1.weight_hh"] == (28, 7)
    assert shapes["layer.0.bias"] == (28,)
    assert shapes["head.weight"] == (3, 7)


def test_a_resnet_20_has_the_number_of_weights_of_the_paper():
    spec = ResidualSpec(32, 32, 3)
    shapes = weight_shapes(spec)
    count = sum(int(np.prod(shapes[name])) for name in trainable_names(spec))
    # He et al. 2016, table 6: 0.27 million; the projections of option B add 2,752.
    assert count == 272_474


@every_spec
def test_weights_depend_on_the_seed_alone_and_are_exact_in_float32(spec):
    first, again, other = seeded_weights(spec, 1), seeded_weights(spec, 1), seeded_weights(spec, 2)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value, value.astype(np.float32).astype(np.float64))
        assert not np.array_equal(value, other[name])
        assert len(np.unique(value)) > 1 or value.size == 1


@every_spec
def test_statistics_are_not_trained(spec):
    untrained = set(weight_shapes(spec)) - set(trainable_names(spec))
    assert all(name.endswith((".mean", ".variance")) for name in untrained)
    assert bool(untrained) == (spec.kind == "residual")


@every_spec
def test_trace_names_are_prefixes_of_weight_names_in_order(spec):
    prefixes = [name for name in trace_names(spec) if name != "pool"]
    positions = [min(i for i, w in enumerate(weight_shapes(spec)) if w.startswith(name + ".")) for name in prefixes]
    assert positions == sorted(positions)


def test_fine_trace_names_have_every_convolution_and_norm_before_what_it_is_a_part_of():
    fine = trace_names(ResidualSpec(8, 8, 3, (4, 8), 1, 5), fine=True)
    assert fine[:8] == (
        "stem.conv", "stem.norm", "stem", "stage.0.block.0.conv1", "stage.0.block.0.norm1", "stage.0.block.0.conv2",
        "stage.0.block.0.norm2", "stage.0.block.0",
    )  # fmt: skip
    block = "stage.1.block.0"
    assert fine[-5:] == (f"{block}.shortcut.conv", f"{block}.shortcut.norm", block, "pool", "head")


@every_spec
def test_fine_trace_names_are_the_others_and_more_of_a_residual_network_alone(spec):
    coarse, fine = trace_names(spec), trace_names(spec, fine=True)
    assert tuple(name for name in fine if name in coarse) == coarse
    assert (fine == coarse) == (spec.kind != "residual")


@every_spec
def test_seeded_batches_pass_the_check_and_differ_by_index(spec):
    workload = Workload(spec, 6)
    first, second = seeded_batch(workload, 0, 0), seeded_batch(workload, 0, 1)
    check_batch(spec, 6, first)
    assert first.inputs["x"].dtype == np.float32
    assert not np.array_equal(first.inputs["x"], second.inputs["x"])


@every_spec
def test_a_nan_in_the_data_is_refused_with_its_place(spec):
    batch = seeded_batch(Workload(spec, 6, "float64"), 0)
    batch.inputs["x"].reshape(-1)[3] = np.nan
    with pytest.raises(InputError, match=r"batch\.x at \[0, .*not a finite number"):
        check_batch(spec, 6, batch)


@every_spec
def test_wrong_batches_are_refused(spec):
    good = seeded_batch(Workload(spec, 6, "float64"), 0)
    wrong = [
        Batch({**good.inputs, "x": good.inputs["x"][..., :-1]}, good.targets),
        Batch({**good.inputs, "z": good.inputs["x"]}, good.targets),
        Batch(good.inputs, good.targets[:-1]),
        Batch(good.inputs, good.targets + spec.output_size),
        Batch(good.inputs, good.targets.astype(np.float64)),
    ]
    for batch in wrong:
        with pytest.raises(InputError):
            check_batch(spec, 6, batch)


@every_spec
def test_wrong_weights_are_refused_by_name(spec):
    good = seeded_weights(spec, 0)
    name = next(iter(good))
    bad_value = good[name].copy()
    bad_value.reshape(-1)[0] = np.inf
    for wrong in (
        {key: value for key, value in good.items() if key != name},
        {**good, "extra": np.zeros(1)},
        {**good, name: good[name].T if good[name].ndim > 1 else good[name][:-1]},
        {**good, name: bad_value},
    ):
        with pytest.raises(InputError):
            check_weights(spec, wrong)
