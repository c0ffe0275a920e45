"""Which larger batches of a sweep are not run: those of which a smaller one ran out of memory for everybody."""

from harness.checking import ran_out_at
from harness.core.spec import Contender, DenseSpec, Workload
from harness.results import Agreement, CaseResult
from tests.unit.result_samples import empty

MODEL = DenseSpec((4, 3))
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
