"""What is not run: larger batches than what ran out of memory for everybody, and what has hung already."""

from types import SimpleNamespace

import faceoff.run.checking
from faceoff.agreement.timed_check import examples_compared
from faceoff.core.spec import Contender, DenseSpec, LstmSpec, Workload
from faceoff.results.agreements import Agreement
from faceoff.results.records import CaseResult
from faceoff.run.checking import Checking, outcomes_of_last, ran_out_at
from faceoff.run.timing import hung_in
from tests.unit.results.samples import empty

MODEL = DenseSpec((4, 3))
# 33 inputs in float64 are more than 256 MiB.
WIDE = DenseSpec((2**20, 3))
A, B = Contender("jax", "jit"), Contender("pytorch", "eager")
STEPS = ("inference", "training")


def at(size, **changes):
    return Workload(MODEL, size, step="training").replace(**changes)


def case(size, contender, step, outcome="out_of_memory", **changes):
    workload = at(size, step=step, **changes).to_json()
    return CaseResult(name=f"{size}{step}{contender}", workload=workload, contender=str(contender), outcome=outcome)


def ran_out(cases=(), agreements=(), size=32):
    result = empty()
    result.cases, result.agreements = list(cases), list(agreements)
    return ran_out_at(result, at(size), (A, B), STEPS)


def everybody(size, **changes):
    return [case(size, contender, step, **changes) for contender in (A, B) for step in STEPS]


def test_large_models_are_compared_on_fewer_examples_but_never_on_hardly_any():
    def compared(hidden, batch_size):
        return examples_compared(Workload(LstmSpec(hidden, hidden, 10, 25), batch_size, step="training"))

    assert [compared(hidden, 1000) for hidden in (64, 1024, 4096)] == [50, 8, 4]
    assert [compared(hidden, 2) for hidden in (64, 1024, 4096)] == [2, 2, 2]


def test_the_smallest_batch_that_nobody_could_run_ends_a_sweep():
    assert ran_out([*everybody(16), *everybody(8)]) == 8


def test_a_step_or_a_contender_that_went_on_keeps_it_going():
    assert ran_out([case(8, contender, "training") for contender in (A, B)]) == 0
    assert ran_out([case(8, A, step) for step in STEPS]) == 0
    assert ran_out(everybody(8, outcome="crashed")) == 0


def test_who_is_missing_or_crashes_at_that_size_keeps_nothing_going():
    gone = [case(8, B, step, outcome=outcome) for step, outcome in zip(STEPS, ("missing", "crashed"), strict=True)]
    assert ran_out([*(case(8, A, step) for step in STEPS), *gone]) == 8


def test_larger_batches_and_other_models_say_nothing():
    assert ran_out(everybody(64)) == 0
    assert ran_out(everybody(8, model=DenseSpec((4, 4, 3)))) == 0


def test_who_ran_out_of_memory_in_its_check_has_no_step_left():
    checks = [
        Agreement(workload=at(8, dtype="float64").to_json(), contender=str(c), check="meaning", outcome="out_of_memory")
        for c in (A, B)
    ]
    assert ran_out(agreements=checks) == 8
    assert ran_out(agreements=checks[:1]) == 0


def test_a_batch_too_large_for_caches_is_made_once_and_after_the_last_ones_have_gone(monkeypatch):
    asked = []

    def require(workload, batches):
        asked.append((batches, dict(checking._expected)))
        raise MemoryError("9 GiB")

    monkeypatch.setattr(faceoff.run.checking, "require_memory", require)
    checking = object.__new__(Checking)
    checking._options = SimpleNamespace(
        command="bench",
        device="cpu",
        contenders=(A,),
        steps=STEPS,
        dtypes=("float64",),
        seed=0,
        again=lambda *a: "again",
    )
    checking._reporter = SimpleNamespace(stage=lambda text: None, advance=lambda units: None)
    checking._pool = SimpleNamespace(failures={})
    # What is compared as it is trains on three batches, whatever their size.
    for workload in (at(64), at(65), at(64, model=WIDE), at(65, model=WIDE)):
        checking._expected, checking._result = {at(4): "the last one's batches"}, empty()
        checking.check(workload, timed=True)
    assert asked == [(3, {}), (3, {}), (3, {}), (1, {})]
    assert checking._result.agreements[0].reason.startswith("memory of the host: ")


def check(dtype, outcome, size=8):
    workload = at(size, dtype=dtype).to_json()
    return Agreement(workload=workload, contender=str(A), check="precision", outcome=outcome)


def test_who_hangs_in_one_dtype_is_not_asked_for_the_next():
    asked = []
    checking = object.__new__(Checking)
    checking._options = SimpleNamespace(
        dtypes=("float64", "float32", "bfloat16"),
        again=lambda *arguments: "again",
        situations_of=lambda *arguments: ("everyday",),
    )
    task = SimpleNamespace(workload=at(8))
    for outcomes, expected, count in (
        ({"float64": "timeout"}, ["timeout"] * 3, 1),
        ({"float64": "crashed", "float32": "timeout"}, ["crashed", "timeout", "timeout"], 2),
        ({}, ["ok"] * 3, 3),
    ):
        asked.clear()

        def check_one(contender, task, reference, dtype, outcomes=outcomes):
            asked.append(dtype)
            return check(dtype, outcomes.get(dtype, "ok"))

        checking._check_one = check_one
        found = checking._check_all(A, task, None, SimpleNamespace(check=lambda *arguments: []))
        assert [agreement.outcome for agreement in found] == expected
        assert len(asked) == count
        if count < 3:
            assert f"no answer in time in {asked[-1]}" in found[-1].reason


def test_who_hangs_in_one_step_is_not_asked_for_the_other_and_is_for_the_next_size():
    result = empty()
    result.cases = [case(8, A, "inference", outcome="timeout"), case(8, B, "inference", outcome="ok")]
    assert hung_in(result, at(8), A) == "inference"
    assert hung_in(result, at(8), B) == ""
    assert hung_in(result, at(4), A) == ""


def test_the_last_workload_is_known_with_its_checks_and_cases():
    result = empty()
    assert outcomes_of_last(result) == set()
    result.agreements = [check("float64", "ok", size=4), check("float64", "ok"), check("float32", "disagrees")]
    result.cases = [case(4, A, "inference"), case(8, A, "training", outcome="crashed")]
    assert outcomes_of_last(result) == {"ok", "disagrees", "crashed"}
