"""The quantities stand in the order of computation, and `--trace` shows them, the first that differs marked."""

import io
from contextlib import nullcontext

import pytest
from rich.console import Console

from faceoff.agreement.check import Expected, check_agreement
from faceoff.agreement.quantities import (
    RESET_STATE,
    RESET_STEP,
    RESET_WEIGHTS,
    contender_quantities,
    reference_quantities,
)
from faceoff.commands.path_table import path_line, print_paths
from faceoff.core.spec import Contender, LstmSpec, Optimiser, Workload
from faceoff.reference.arithmetic import Exact
from faceoff.results.agreements import Agreement
from faceoff.run.options import make_options
from faceoff.workloads.task import Task
from tests.unit.agreement.test_first_difference import (
    DENSE,
    NoGradientBehind,
    OtherStepThree,
    ReferenceWorker,
    WeightsKept,
)

LSTM = Task.seeded(Workload(LstmSpec(3, 5, 4, 6), 4, optimiser=Optimiser("adam")), 2)


def check(worker, task=DENSE, detail="steps") -> Agreement:
    expected = Expected(task, 0, detail=detail)
    contender = Contender.parse("jax:jit")
    return check_agreement(
        worker, contender, task, lambda: expected, "float64", again="", busy=nullcontext(), detail=detail
    )


def printed(agreement: Agreement) -> str:
    text = io.StringIO()
    print_paths(Console(width=120, file=text), [agreement])
    return text.getvalue()


def test_the_quantities_of_every_step_stand_in_the_order_of_computation():
    names = list(reference_quantities(LSTM, Exact(), "steps"))
    order = [
        "output of layer.0 (inference)", "output of head (inference)", "outputs", "output of layer.0 (training)",
        "loss", "gradient of 'head.bias'", "gradient of 'layer.0.weight_ih'", "gradient of input 'c0'",
        "weights before training", "first moment of 'head.bias' after 1 training step",
        "second moment of 'head.bias' after 1 training step", "weight 'head.bias' after 1 training step",
        "weight 'head.bias' after 3 training steps", "outputs after 3 training steps", RESET_WEIGHTS, RESET_STATE,
        RESET_STEP,
    ]  # fmt: skip
    positions = [names.index(name) for name in order]
    assert positions == sorted(positions)


@pytest.mark.parametrize(("detail", "layers", "between"), [("whole", 0, 0), ("layers", 4, 0), ("steps", 4, 2)])
def test_less_detail_leaves_out_layers_and_steps_and_nothing_else(detail, layers, between):
    names = set(reference_quantities(LSTM, Exact(), detail))
    assert sum(name.startswith("output of") for name in names) == layers
    assert sum(name.startswith("first moment of 'head.bias'") for name in names) == 1 + between
    assert {"outputs", "loss", "weight 'head.bias' after 3 training steps", RESET_WEIGHTS, RESET_STATE} <= names


@pytest.mark.parametrize("detail", ["whole", "layers", "steps"])
def test_a_contender_is_asked_for_what_the_reference_has(detail):
    names = set(reference_quantities(LSTM, Exact(), detail))
    assert set(contender_quantities(ReferenceWorker(), LSTM, "jit", "float64", detail)) == names


def test_a_reset_is_compared_exactly():
    class AlmostReset(ReferenceWorker):
        def reset(self, weights):
            again = hasattr(self, "model")
            super().reset(weights)
            if again:
                self.model._weights["layer.0.bias"][0] *= 1 + 2e-16

    found = {quantity.name: quantity for quantity in check(AlmostReset(), detail="whole").quantities}
    assert not found[RESET_WEIGHTS].agrees
    assert found[RESET_STEP].agrees


def test_where_all_agree_the_path_is_kept_with_nothing_marked():
    agreement = check(ReferenceWorker())
    assert agreement.outcome == "ok"
    assert [point.name for point in agreement.path] == [quantity.name for quantity in agreement.quantities]
    assert not any(point.first for point in agreement.path)
    assert "jax:jit, dense b6, float64: agrees, at most" in path_line(agreement)
    text = printed(agreement)
    assert "output of layer.1 (training)" in text
    assert "differs" not in text


@pytest.mark.parametrize(
    ("worker", "task", "first"),
    [
        (NoGradientBehind, DENSE, "gradient of 'layer.0.bias'"),
        (WeightsKept, DENSE, RESET_WEIGHTS),
        (OtherStepThree, LSTM, "output of layer.0 (inference)"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_the_first_that_differs_is_marked_and_all_before_it_agree(worker, task, first):
    agreement = check(worker(), task)
    (marked,) = [index for index, point in enumerate(agreement.path) if point.first]
    assert agreement.path[marked].name == first
    assert all(point.agrees for point in agreement.path[:marked])
    (line,) = [line for line in printed(agreement).splitlines() if "first  " in line]
    assert first in line
    assert f"DISAGREES, first at {agreement.first_difference}" in path_line(agreement)


def test_without_trace_there_is_no_path_and_old_records_load():
    agreement = check(ReferenceWorker(), detail="layers")
    assert agreement.path == []
    assert printed(agreement) == ""
    old = agreement.model_dump()
    del old["path"]
    assert Agreement.model_validate(old) == agreement


def test_a_path_survives_its_record():
    agreement = check(NoGradientBehind())
    assert Agreement.model_validate_json(agreement.model_dump_json()) == agreement


@pytest.mark.parametrize(
    ("command", "trace", "detail"),
    [("agree", False, "layers"), ("agree", True, "steps"), ("bench", False, "whole"), ("compare", False, "whole")],
)
def test_the_commands_that_repeat_it_ask_for_the_same(command, trace, detail, tmp_path):
    options = make_options(command, preset="small", models=["dense"], trace=trace, out=tmp_path)
    assert options.detail == detail
    again = options.again(options.workloads[0], options.contenders[0], "float64")
    assert ("--trace" in options.command_line().split()) is trace
    assert ("--trace" in again.split()) is trace


def test_a_quantity_of_another_shape_after_a_reset_is_a_disagreement_and_no_crash():
    class Short(ReferenceWorker):
        def weights(self):
            held = super().weights()
            return {**held, "layer.0.bias": held["layer.0.bias"][:-1]}

    assert check(Short()).outcome == "disagrees"
