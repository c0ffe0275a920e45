"""What a workload computes, counted anew in every matrix product that the reference makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceoff.core.own import Input, Port, Targets
from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.reference import ReferenceModel
from faceoff.reference.arithmetic import Arithmetic
from faceoff.workloads.work import count_work, counted_bytes, counted_flops, result_bytes


class CountedArray(np.ndarray):
    """Adds up the operations of the matrix products that it is part of."""

    counted = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [x.view(np.ndarray) if isinstance(x, CountedArray) else x for x in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(x.view(np.ndarray) if isinstance(x, CountedArray) else x for x in kwargs["out"])
        result = np.asarray((ufunc if method == "__call__" else getattr(ufunc, method))(*plain, **kwargs))
        if ufunc is np.matmul:
            CountedArray.counted += 2 * result.size * plain[0].shape[-1]
        return result.view(CountedArray)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        # Stacking and joining would lose what counts.
        result = super().__array_function__(func, types, args, kwargs)
        return result.view(CountedArray) if isinstance(result, np.ndarray) else result


class Counted(Arithmetic):
    def array(self, values: Any) -> Any:
        return np.array(values, dtype=np.float64).view(CountedArray)


MODELS = (
    DenseSpec((7, 5, 3)),
    DenseSpec((7, 3)),
    ResidualSpec(6, 5, 2, (8, 12), 2, 3),
    RnnSpec(3, 5, 4, 6, num_layers=2),
    LstmSpec(3, 5, 4, 6),
    LstmSpec(3, 5, 4, 6, num_layers=2, many_to_many=True),
)


def counted_by_the_reference(model: ModelSpec, batch_size: int, step: str) -> int:
    workload = Workload(model, batch_size, step=step)
    reference = ReferenceModel(model, seeded_weights(model, 0), workload.optimiser, Counted())
    batch = seeded_batch(workload, 0)
    CountedArray.counted = 0
    if step == "inference":
        reference.forward(batch)
    else:
        reference.gradients(batch)
    return CountedArray.counted


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.label)
def test_inference_counts_the_products_that_the_reference_makes(model: ModelSpec) -> None:
    assert count_work(Workload(model, 4)).flops == counted_by_the_reference(model, 4, "inference")


# The reference spreads a strided gradient over the whole image, and so multiplies with zeros.
@pytest.mark.parametrize("model", [*MODELS[:2], *MODELS[3:], ResidualSpec(6, 5, 2, (8,), 2, 3)], ids=lambda m: m.label)
def test_gradients_count_the_products_that_the_reference_makes(model: ModelSpec) -> None:
    assert count_work(Workload(model, 4, step="gradients")).flops == counted_by_the_reference(model, 4, "gradients")


def test_training_needs_no_gradient_by_the_inputs() -> None:
    dense = DenseSpec((7, 5, 3))
    first = 2 * 4 * 7 * 5
    gradients, training = (count_work(Workload(dense, 4, step=step)) for step in ("gradients", "training"))
    assert gradients.flops - training.flops == first
    lstm = LstmSpec(3, 5, 4, 6)
    gradients, training = (count_work(Workload(lstm, 4, step=step)) for step in ("gradients", "training"))
    assert gradients.flops - training.flops == 2 * 4 * 6 * 3 * 20 + 2 * 4 * 5 * 20


def test_bytes_are_those_of_weights_state_and_batch() -> None:
    dense, values = DenseSpec((7, 3)), 7 * 3 + 3
    assert count_work(Workload(dense, 4)).bytes == 4 * (values + 4 * 7 + 4 * 3)
    assert count_work(Workload(dense, 4, "bfloat16")).bytes == 2 * (values + 4 * 7 + 4 * 3)
    batch = 4 * 4 * 7 + 8 * 4
    assert count_work(Workload(dense, 4, step="training")).bytes == 4 * 2 * values + batch + 4
    adam = Workload(dense, 4, step="training", optimiser=Optimiser("adam"))
    assert count_work(adam).bytes == 4 * 6 * values + batch + 4
    assert count_work(Workload(dense, 4, step="gradients")).bytes == 4 * 2 * (values + 4 * 7) + 8 * 4 + 4


def test_of_a_users_own_model_is_known_what_its_frameworks_counter_says():
    def port(flops):
        inputs = (Input("tokens", (7,), "int64", 9), Input("x", (2, 3)))
        weights = {"w": (4, 5), "norm.mean": (5,)}
        return Port("mine", inputs, Targets((7,), 9), "cross-entropy", -1, weights, {}, "a", flops=flops)

    counted = Workload(port({"inference": 30, "training": 80}).spec, 4, step="training")
    assert counted_flops(counted) == 320
    assert counted_flops(counted.replace(step="gradients")) is None
    # Of a table of weights it may read a few rows.
    assert counted_bytes(counted) is None
    assert result_bytes(counted.replace(step="inference")) == 4 * 4 * 7 * 9
    assert result_bytes(counted.replace(step="gradients")) == 4 + 4 * (20 + 4 * 6)
    assert counted_flops(Workload(port({}).spec, 4)) is None
    assert (counted_flops(Workload(DenseSpec((3, 2)), 4)), counted_bytes(Workload(DenseSpec((3, 2)), 4))) == (48, 112)
