"""The study of one to a thousand time steps: what is planted where, and what is counted."""

from faceoff.core.spec import OPTIMISERS
from tests.calibration.lengths import DTYPES, LENGTHS, pieces_of, recurrent_faults, sized, summarise


def test_every_kind_of_recurrent_fault_is_planted_and_its_optimiser_is_used():
    faults = recurrent_faults()
    assert len({(fault.model, fault.name) for fault in faults}) == len(faults) > 80
    workloads = [sized(fault.model, 10, "float64", 0, fault.optimiser)[0] for fault in faults]
    assert {workload.optimiser.kind for workload in workloads} == set(OPTIMISERS)
    assert {workload.model.sequence_length for workload in workloads} == {10}


def test_pieces_have_names_of_their_own_and_pytorch_s_faults_stand_at_every_length():
    pieces = dict(pieces_of(0))
    assert len(pieces) == len(list(pieces_of(0)))
    fault = next(fault for fault in recurrent_faults() if fault.contender == "pytorch:eager")
    assert all(f"fault/{fault.id}/{length}/{dtype}" in pieces for length in LENGTHS for dtype in DTYPES)


def planting(outcome, has_effect, dtype="float64"):
    return {"name": "gates", "length": 1, "dtype": dtype, "outcome": outcome, "has_effect": has_effect, "units": 1.0}


def test_what_has_no_effect_is_not_overlooked():
    right = {"name": "right", "comparisons": [{"outcome": "ok", "units": 1.5}, {"outcome": "disagrees", "units": 9.0}]}
    found = summarise([right, planting("disagrees", None), planting("ok", False), planting("ok", True, "float32")])
    counts = {"planted": 3, "found": 1, "without_effect": 1, "overlooked": 1, "errors": 0}
    assert found["plantings"] == counts
    assert [piece["dtype"] for piece in found["overlooked"]] == ["float32"]
    assert (found["comparisons"], len(found["alarms"]), found["largest_noise_units"]) == (2, 1, 9.0)
    assert [(row["dtype"], row["planted"]) for row in found["by_length_and_dtype"]] == [("float64", 2), ("float32", 1)]
