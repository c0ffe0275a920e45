"""Parts of layers and gradients that differ are named, and what an implementation fails in by its own fault."""

from contextlib import nullcontext

import numpy as np
import pytest

from faceoff.agreement.check import Expected, check_agreement
from faceoff.agreement.findings import MISSING_GRADIENT
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender
from tests.unit.agreement.test_first_difference import (
    DENSE,
    LSTM,
    RESIDUAL,
    OtherOutputs,
    ReferenceWorker,
    first_difference,
)


class OtherUnits(ReferenceWorker):
    """Two units of a layer are wrong."""

    def trace(self, index, training):
        values = dict(super().trace(index, training)["values"])
        values["layer.0"][:, [1, 4]] += 1e-9
        values["layer.1"] += 1e-9
        return {"values": list(values.items())}


class OtherExample(ReferenceWorker):
    """The last example of a batch is wrong, all of its units."""

    def trace(self, index, training):
        values = dict(super().trace(index, training)["values"])
        values["layer.0"][-1] += 1e-9
        values["layer.1"][-1] += 1e-9
        return {"values": list(values.items())}


class TraceOfAnotherCall(ReferenceWorker):
    """What the trace takes for a layer's output is another call of it; the gradients are wrong by themselves."""

    def trace(self, index, training):
        values = dict(super().trace(index, training)["values"])
        values["layer.0"] = values["layer.0"][:, :1]
        return {"values": list(values.items())}

    def gradients(self, index):
        found = super().gradients(index)
        found["weights"]["head.weight"] *= 1.001
        return found


class OtherNorm(ReferenceWorker):
    """The shortcut's batch norm lacks its bias."""

    def reset(self, weights):
        bias = "stage.1.block.0.shortcut.norm.bias"
        super().reset({**weights, bias: 0 * weights[bias]})


class OtherSum(ReferenceWorker):
    """The parts of a block are right, what they add up to is not."""

    def trace(self, index, training, fine=False):
        values = dict(super().trace(index, training, fine)["values"])
        for name in ("stage.0.block.0", "head"):
            values[name] += 1e-9
        return {"values": list(values.items())}


class DetachedStates(ReferenceWorker):
    """Nothing is handed back from the third time step to the second and further."""

    def gradients(self, index):
        found = super().gradients(index)
        found["weights"] = {n: g if n.startswith("head") else 1.001 * g for n, g in found["weights"].items()}
        found["inputs"]["x"][:, :2] *= 0.5
        return found


class UpperStateDetached(ReferenceWorker):
    def gradients(self, index):
        found = super().gradients(index)
        found["inputs"]["c0"][1] = 0
        return found


class NoGradientAtAll(ReferenceWorker):
    """An input that the loss does not depend on has no gradient that could be returned."""

    def gradients(self, index):
        found = super().gradients(index)
        return {**found, "inputs": {name: value for name, value in found["inputs"].items() if name != "c0"}}


class HalfTheBatch(ReferenceWorker):
    """The loss of the first examples alone."""

    def kept(self, targets):
        return np.arange(len(targets)) < len(targets) // 2

    def gradients(self, index):
        batch = self.batches[index]
        keep = self.kept(batch.targets)
        rows = np.flatnonzero(keep)
        found = self.model.gradients(batch.pick(rows))
        by_x = np.zeros_like(batch.inputs["x"])
        by_x[rows] = found["inputs"]["x"]
        return {**found, "inputs": {"x": by_x}}


class AllButOne(HalfTheBatch):
    def kept(self, targets):
        return np.arange(len(targets)) != 2


class ClassIgnored(HalfTheBatch):
    def kept(self, targets):
        return targets != np.bincount(targets).argmax()


class GradientsAddedUp(ReferenceWorker):
    """Not set to zero after a step; what has added up survives a reset, but not another model."""

    def build(self, workload, mode, weights):
        self.added = {}
        super().build(workload, mode, weights)

    def train(self, indices):
        losses = []
        for index in indices:
            found = self.model.gradients(self.batches[index])
            losses.append(found["loss"])
            self.added = {name: value + self.added.get(name, 0) for name, value in found["weights"].items()}
            self.model._weights.update(self.model._rule.apply(self.model._weights, self.added))
        return {"losses": np.array(losses)}


class Refuses(ReferenceWorker):
    """Fails in one verb, from its own fault."""

    verb = "trace"

    def request(self, kind, **body):
        if kind == self.verb:
            raise WorkerError(f"`{kind}` failed: wrong dtype", outcome="disagrees", request=kind, reason="wrong dtype")
        return super().request(kind, **body)


class RefusesToBuild(Refuses):
    verb = "build"


class RefusesToInfer(Refuses):
    verb = "forward"


class RefusesToDifferentiate(Refuses):
    verb = "gradients"


class RefusesToTrain(Refuses):
    verb = "train"


@pytest.mark.parametrize(
    ("worker", "task", "place"),
    [
        (OtherUnits, DENSE, "layer.0 (inference), units 1 and 4"),
        (OtherExample, DENSE, "layer.0 (inference), example 5"),
        (TraceOfAnotherCall, LSTM, "gradient of 'head.weight' (backward)"),
        (OtherNorm, RESIDUAL, "stage.1.block.0.shortcut.norm (inference)"),
        (OtherSum, RESIDUAL, "stage.0.block.0 (inference)"),
        (DetachedStates, LSTM, "gradient of 'layer.1.bias' (backward), from time step 1 back"),
        (UpperStateDetached, LSTM, "gradient of input 'c0' (backward), layer 1"),
        (NoGradientAtAll, LSTM, "gradient of input 'c0' (backward)"),
        (HalfTheBatch, DENSE, "loss, without examples 3 to 5"),
        (AllButOne, DENSE, "loss, without example 2"),
        (ClassIgnored, DENSE, "loss, without class 0"),
        (GradientsAddedUp, DENSE, "momentum of all weights after training step 2"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_the_parts_that_differ_are_named(worker, task, place):
    assert first_difference(worker(), task) == place


@pytest.mark.parametrize(
    ("worker", "name", "place"),
    [
        (RefusesToBuild, "the model", "the model"),
        (RefusesToInfer, "outputs", "outputs"),
        (RefusesToDifferentiate, "loss and gradients", "loss and gradients (backward)"),
        (RefusesToTrain, "losses in training", "training step 1"),
    ],
)
def test_what_a_worker_fails_in_by_its_own_fault_is_a_disagreement_with_a_place(worker, name, place):
    agreement = checked(worker())
    assert (agreement.outcome, agreement.first_difference) == ("disagrees", place)
    assert [(quantity.name, quantity.problem) for quantity in agreement.quantities] == [(name, "wrong dtype")]
    assert f"{name}: wrong dtype; nothing more could be compared" in agreement.message


def test_a_search_that_meets_such_a_fault_itself_names_what_it_asked_for():
    class Other(Refuses, OtherOutputs):
        pass

    assert checked(Other()).first_difference == "forward pass (inference)"


def test_a_crash_during_the_check_stays_one():
    class Crashes(Refuses):
        def request(self, kind, **body):
            if kind == "gradients":
                raise WorkerError("worker ended", outcome="crashed")
            return ReferenceWorker.request(self, kind, **body)

    agreement = checked(Crashes())
    assert (agreement.outcome, agreement.message, agreement.quantities) == ("crashed", "", [])


def test_a_missing_gradient_is_said_to_be_missing_and_the_message_begins_with_what_differs_first():
    class Both(NoGradientAtAll):
        """The gradients of the head are off by little, that of an input is not there: the first one is the headline."""

        def gradients(self, index):
            found = super().gradients(index)
            found["weights"]["head.weight"] *= 1 + 1e-9
            return found

    message = checked(Both(), LSTM).message
    first, *others = message.splitlines()
    assert "gradient of 'head.weight' is" in first
    assert "3 of " in first
    assert f"  farthest off: gradient of input 'c0': {MISSING_GRADIENT}" in others
    assert "  first difference: gradient of 'head.weight' (backward)        again: " in others


def checked(worker, task=DENSE):
    expected = Expected(task, 0)
    return check_agreement(
        worker, Contender("jax", "jit"), task, lambda: expected, "float64", again="", busy=nullcontext()
    )
