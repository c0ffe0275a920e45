"""Sizes and names are checked when they are made, with an error that says what, where, got, expected."""

import dataclasses
import json

import pytest

from faceoff.core.errors import InputError
from faceoff.core.spec import (
    Case,
    Contender,
    DenseSpec,
    LstmSpec,
    Optimiser,
    ResidualSpec,
    RnnSpec,
    Workload,
    model_from_json,
)
from faceoff.workloads.presets import PRESETS

SPECS = [
    DenseSpec((4, 3)),
    ResidualSpec(8, 8, 1, (4,), 1, 5),
    RnnSpec(2, 3, 4, 5, activation="relu"),
    LstmSpec(2, 3, 4, 5, 2, True),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_workload_survives_json(spec):
    workload = Workload(spec, 7, "float64", "cpu", "training", Optimiser("adam", epsilon=1e-7))
    assert Workload.from_json(json.loads(json.dumps(workload.to_json()))) == workload


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DenseSpec((4,)), "layer_sizes"),
        (lambda: DenseSpec((4, 0)), "layer_sizes"),
        (lambda: DenseSpec((4, 2.5)), "layer_sizes"),
        (lambda: DenseSpec((4, 2), "gelu"), "one of relu, tanh"),
        (lambda: ResidualSpec(0, 8, 1), "residual.height"),
        (lambda: ResidualSpec(8, 8, 1, ()), "stage_widths"),
        (lambda: ResidualSpec(8, 8, 1, epsilon=float("nan")), "residual.epsilon"),
        (lambda: RnnSpec(True, 3, 4, 5), "rnn.input_size"),
        (lambda: LstmSpec(2, 3, 4, -5), "lstm.sequence_length"),
        (lambda: LstmSpec(2, 3, 4, 5, many_to_many="yes"), "many_to_many"),
        (lambda: Optimiser("rmsprop"), "one of sgd, momentum, adam"),
        (lambda: Optimiser(learning_rate=-1), "learning_rate"),
        (lambda: Workload(SPECS[0], 0), "batch_size"),
        (lambda: Workload(SPECS[0], 1, "float8"), "one of float64, float32"),
        (lambda: Workload(SPECS[0], 1, device="tpu"), "device"),
        (lambda: Workload(SPECS[0], 1, step="test"), "one of inference, gradients, training"),
        (lambda: Workload("dense", 1), "not a model"),
        (lambda: Contender.parse("pytorch"), "framework:mode"),
        (lambda: model_from_json({"kind": "transformer"}), "one of dense, residual, rnn, lstm"),
        (lambda: model_from_json({"kind": "dense", "layer_sizes": [2, 2], "bias": 1}), "unknown field"),
        (lambda: model_from_json({"kind": "lstm", "input_size": 2}), "field missing"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_every_preset_gives_names_that_are_unique():
    for preset in PRESETS.values():
        names = [
            Case(Workload(sized.model, sized.batch_size, step=step), Contender("jax", "jit")).name
            for sized in preset.sized
            for step in ("inference", "gradients", "training")
        ]
        assert len(set(names)) == len(names)


def test_any_change_of_a_size_changes_the_name():
    spec = LstmSpec(2, 3, 4, 5, 6)
    for field in ("input_size", "hidden_size", "output_size", "sequence_length", "num_layers"):
        changed = dataclasses.replace(spec, **{field: 9})
        assert Workload(changed, 1).name != Workload(spec, 1).name


def test_the_blocks_of_resnet_20_halve_the_size_twice():
    strides = [stride for _, _, _, stride in ResidualSpec(32, 32, 3).blocks()]
    assert strides == [1, 1, 1, 2, 1, 1, 2, 1, 1]
