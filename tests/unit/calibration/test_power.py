"""The study of power: sizes of planted faults, what counts as placed, and the search for the smallest fault."""

import numpy as np
import pytest

from faceoff.core.spec import DenseSpec, LstmSpec, ResidualSpec, Workload
from faceoff.workloads.task import Task
from faceoff.workloads.work import count_work
from tests.calibration.power import FEWEST, MOST_FLOPS, draw_workload, is_placed, pieces_of, resized, summarise
from tests.calibration.smallest import KINDS, Right, fits, smallest
from tests.meta.faults.fault import MODELS
from tests.meta.test_fault_catalogue import FAULTS

DENSE = Workload(DenseSpec((6, 8, 4), activation="tanh"), 6)
BY_NAME = {kind.name.partition(",")[0]: kind for kind in KINDS}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_another_size_keeps_layers_and_switches(name):
    spec, other = MODELS[name], resized(MODELS[name], np.random.default_rng(1))
    assert other != spec
    assert type(other) is type(spec)
    for switch in ("activation", "many_to_many", "num_layers", "blocks_per_stage", "epsilon"):
        assert getattr(other, switch, None) == getattr(spec, switch, None)
    sizes = [value for value in vars(other).values() if isinstance(value, int) and not isinstance(value, bool)]
    assert len(sizes) or isinstance(spec, DenseSpec)
    if isinstance(spec, DenseSpec):
        assert min(other.layer_sizes) >= FEWEST
    if isinstance(spec, ResidualSpec):
        assert len(other.stage_widths) == len(spec.stage_widths)


def test_plantings_are_drawn_by_fault_and_trial_and_are_within_the_cap():
    fault = next(iter(FAULTS.values()))
    assert draw_workload(fault, 0, 1) == draw_workload(fault, 0, 1) != draw_workload(fault, 1, 1)
    for fault in FAULTS.values():
        workload, _ = draw_workload(fault, 0, 1)
        assert workload.batch_size >= FEWEST
        assert count_work(workload.replace(step="training")).flops <= MOST_FLOPS


def test_every_fault_and_every_kind_is_a_piece():
    names = [name for name, _ in pieces_of(2)]
    assert len(names) == len(set(names)) == 2 * (len(FAULTS) + 2 * len(KINDS))


@pytest.mark.parametrize(
    ("found", "expected", "right"),
    [
        ("layer.0 (inference), unit 12", "layer.0 (inference), unit 15", True),
        ("loss, without examples 18 to 36", "loss, without examples 3 to 5", True),
        ("layer.0 (inference), first at time step 3", "layer.0 (inference)", True),
        ("layer.1 (inference)", "layer.0 (inference)", False),
        ("loss", "loss, without example 5", False),
        ("", "loss", False),
    ],
)
def test_a_place_is_right_whatever_the_sizes(found, expected, right):
    assert is_placed(found, expected) is right


def planting(outcome, placed, name="gates", has_effect=True):
    has_effect = None if outcome == "disagrees" else has_effect
    return {"name": name, "fault": name, "outcome": outcome, "placed": placed, "has_effect": has_effect}


def test_shares_leave_out_what_ended_in_an_error():
    found = summarise([planting("disagrees", True), planting("disagrees", False), planting("ok", False, "bias"),
                       planting("crashed", False)])  # fmt: skip
    assert (found["plantings"], found["ended_in_an_error"], found["found"], found["placed"]) == (4, 1, 2, 1)
    assert found["share_found"] == pytest.approx(2 / 3)
    assert found["faults"]["bias"] == {"planted": 1, "found": 0, "placed": 0, "errors": 0}
    assert [piece["fault"] for piece in found["overlooked"]] == ["bias"]


def test_shares_leave_out_what_has_no_effect():
    found = summarise([planting("disagrees", True), planting("ok", False, "padding", has_effect=False)])
    assert (found["plantings"], found["without_effect"], found["overlooked"]) == (2, ["padding"], [])
    assert found["share_found"] == 1.0


def test_the_table_of_smallest_faults_tells_what_no_size_lets_show():
    kind = KINDS[0].name
    pieces = [
        {"name": str(size), "kind": kind, "dtype": "float32", "case": "0/1", "model": "m", "size": size}
        for size in (1e-3, None, 1e-1)
    ]
    (row,) = summarise(pieces)["smallest"]
    assert (row["models"], row["never_found"], row["least"], row["most"]) == (3, 1, 1e-3, 1e-1)


def test_the_smallest_fault_is_the_border_between_what_agrees_and_what_does_not():
    kind = BY_NAME["learning rate"]
    size = smallest(kind, DENSE, "float32", 3)
    right = Right(Task.seeded(DENSE.replace(dtype="float64"), 3), "float32")
    assert 1e-7 < size < 1e-2
    assert not right.agrees(kind.plant(right, size))
    assert right.agrees(kind.plant(right, size / 1.2))
    # In float64 far less is seen.
    assert smallest(kind, DENSE, "float64", 3) < 1e-6 * size


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_found_at_some_size_in_float64_and_changes_no_shape(kind):
    spec = {"residual": ResidualSpec(6, 6, 2, (4, 6), 1, 3), "lstm": LstmSpec(3, 5, 3, 4)}.get(kind.family, DENSE.model)
    assert fits(kind, spec)
    workload = DENSE.replace(model=spec)
    size = smallest(kind, workload, "float64", 3)
    assert size is not None
    assert size < 0.1


def test_a_kind_fits_its_family_alone():
    assert not fits(BY_NAME["batch norm's epsilon"], DENSE.model)
    assert not fits(BY_NAME["inputs shifted by one"], LstmSpec(3, 5, 3, 1))
