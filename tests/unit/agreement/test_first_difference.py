"""Where a disagreement begins: found in order, from the starting weights through every training step."""

import dataclasses

import numpy as np
import pytest

from faceoff.agreement.check import Expected
from faceoff.agreement.comparison import compare_all
from faceoff.agreement.first_difference import ALONE, find_first_difference
from faceoff.agreement.quantities import RESET_GRADIENTS, contender_quantities
from faceoff.core.spec import DenseSpec, LstmSpec, Optimiser, ResidualSpec, Workload
from faceoff.core.weights import Batch
from faceoff.reference import ReferenceModel
from faceoff.workloads.task import Task

DENSE = Task.seeded(Workload(DenseSpec((4, 5, 3)), 6, optimiser=Optimiser("momentum")), 2)
LSTM = Task.seeded(Workload(LstmSpec(3, 5, 4, 6, num_layers=2), 4), 2)
RESIDUAL = Task.seeded(Workload(ResidualSpec(4, 4, 2, (3, 4), 1, 5), 4), 2)


class ReferenceWorker:
    """Answers a worker's requests with the reference in this process; its subclasses make one mistake each."""

    def request(self, kind, **body):
        before, after = body.pop("before", None), body.pop("after", None)
        if before is not None:
            getattr(self, kind)(before)
        found = getattr(self, kind)(**body)
        if after is not None:
            getattr(self, kind)(after)
        return found

    def first_call(self, step):
        assert step == "gradients"
        self.gradients(0)

    def build(self, workload, mode, weights):
        vars(self).pop("model", None)
        self.workload = Workload.from_json(workload)
        self.reset(weights)

    def reset(self, weights):
        self.model = ReferenceModel(self.workload.model, weights, self.workload.optimiser)

    def load(self, batches):
        self.batches = [Batch.from_json(batch) for batch in batches]

    def forward(self, indices):
        return {"outputs": [self.model.forward(self.batches[index]) for index in indices]}

    def gradients(self, index):
        return self.model.gradients(self.batches[index])

    def train(self, indices):
        return {"losses": np.array([self.model.train_step(self.batches[index]) for index in indices])}

    def weights(self):
        return self.model.weights()

    def optimiser_state(self):
        return self.model.optimiser_state()

    def trace(self, index, training, fine=False):
        return {"values": list(self.model.trace(self.batches[index], training, fine).items())}


class OtherOutputs(ReferenceWorker):
    def forward(self, indices):
        return {"outputs": [2 * outputs for outputs in super().forward(indices)["outputs"]]}


class OtherLayer(ReferenceWorker):
    def reset(self, weights):
        super().reset({**weights, "layer.1.bias": weights["layer.1.bias"] + 1e-6})


class BatchStatisticsOff(ReferenceWorker):
    def trace(self, index, training, fine=False):
        return super().trace(index, False, fine)


class OtherLoss(ReferenceWorker):
    def gradients(self, index):
        found = super().gradients(index)
        return {**found, "loss": 1.5 * found["loss"], "weights": {n: 1.5 * g for n, g in found["weights"].items()}}


class NoGradientBehind(ReferenceWorker):
    def gradients(self, index):
        found = super().gradients(index)
        kept = ("layer.1.weight", "layer.1.bias")
        return {**found, "weights": {n: g if n in kept else 0 * g for n, g in found["weights"].items()}}


class NoInputGradient(ReferenceWorker):
    def gradients(self, index):
        found = super().gradients(index)
        return {**found, "inputs": {name: 0 * gradient for name, gradient in found["inputs"].items()}}


class StatisticsMovedByGradients(ReferenceWorker):
    def gradients(self, index):
        found = super().gradients(index)
        held = self.model.weights()
        self.reset({**held, "stem.norm.variance": 1.01 * held["stem.norm.variance"]})
        return found


class OtherMomentum(ReferenceWorker):
    def reset(self, weights):
        rule = dataclasses.replace(self.workload.optimiser, momentum=0.91)
        self.model = ReferenceModel(self.workload.model, weights, rule)


class FrozenBias(ReferenceWorker):
    def train(self, indices):
        kept = self.model.weights()["layer.0.bias"]
        losses = super().train(indices)
        # Its momentum stays right, so a model made anew would be another mistake.
        self.model._weights["layer.0.bias"] = kept
        return losses


class VelocityKept(ReferenceWorker):
    """A reset brings the weights back and lets the optimiser be."""

    def reset(self, weights):
        rule = self.model._rule if hasattr(self, "model") else None
        super().reset(weights)
        self.model._rule = rule or self.model._rule


class WeightsKept(ReferenceWorker):
    def reset(self, weights):
        if not hasattr(self, "model"):
            super().reset(weights)


class OtherVelocity(ReferenceWorker):
    """As Keras keeps it; the weights are right."""

    def optimiser_state(self):
        held = super().optimiser_state()["momentum"]
        return {"momentum": {name: -0.01 * value for name, value in held.items()}}


class NarrowVelocity(ReferenceWorker):
    """Kept in float32, zeros after a reset included."""

    def optimiser_state(self):
        held = super().optimiser_state()["momentum"]
        return {"momentum": {name: value.astype("float32") for name, value in held.items()}}


class OtherStepThree(ReferenceWorker):
    """A recurrent layer that goes wrong at its fourth time step, and all that comes of it."""

    def trace(self, index, training):
        values = dict(super().trace(index, training)["values"])
        values["layer.0"][:, 3:] += 1e-9
        values["head"] += 1e-9
        return {"values": list(values.items())}


class OtherGates(ReferenceWorker):
    """Gradients of the input gate and the cell candidate of the upper layer are off."""

    def gradients(self, index):
        found = super().gradients(index)
        hidden = self.workload.model.hidden_size
        for start in (0, 2 * hidden):
            found["weights"]["layer.1.bias"][start : start + hidden] *= 1.001
        return found


class AllGates(ReferenceWorker):
    def gradients(self, index):
        found = super().gradients(index)
        found["weights"]["layer.1.bias"] *= 1.001
        return found


class HiddenState(ReferenceWorker):
    """Something beside the weights moves in training and adds to the input."""

    def reset(self, weights):
        super().reset(weights)
        self.hidden = 0.0

    def train(self, indices):
        losses = super().train(indices)
        self.hidden += 1e-3
        return losses

    def trace(self, index, training):
        batch = self.batches[index]
        moved = Batch({"x": batch.inputs["x"] + self.hidden}, batch.targets)
        return {"values": list(self.model.trace(moved, training).items())}

    def forward(self, indices):
        return {"outputs": [self.trace(index, False)["values"][-1][1] for index in indices]}


class GradientsUntilWeightsChange(ReferenceWorker):
    """Remembers its first result for as long as the weights stay."""

    def reset(self, weights):
        super().reset(weights)
        self.held = None

    def train(self, indices):
        self.held = None
        return super().train(indices)

    def gradients(self, index):
        self.held = self.held or super().gradients(index)
        return self.held


class StaleGradients(ReferenceWorker):
    """The loss is right, the gradients are those of the call before."""

    earlier = None

    def gradients(self, index):
        found = super().gradients(index)
        shown = {**(self.earlier or found), "loss": found["loss"]}
        self.earlier = found
        return shown


class SharedOutputs(ReferenceWorker):
    """Every call writes its logits into the same memory."""

    def forward(self, indices):
        (last,) = super().forward(indices[-1:])["outputs"]
        return {"outputs": [last] * len(indices)}


class RememberedByBatch(ReferenceWorker):
    """Keeps the logits of every batch that it was ever given."""

    def build(self, workload, mode, weights):
        super().build(workload, mode, weights)
        self.known = {}

    def forward(self, indices):
        return {"outputs": [self.known.setdefault(i, self.model.forward(self.batches[i])) for i in indices]}


class RememberedUntilTrained(ReferenceWorker):
    """Keeps results by batch, and forgets them when it trains, but not when it is reset."""

    def build(self, workload, mode, weights):
        super().build(workload, mode, weights)
        self.outputs, self.found = {}, {}

    def train(self, indices):
        self.outputs, self.found = {}, {}
        return super().train(indices)

    def forward(self, indices):
        return {"outputs": [self.outputs.setdefault(i, self.model.forward(self.batches[i])) for i in indices]}


class GradientsUntilTrained(RememberedUntilTrained):
    def forward(self, indices):
        return ReferenceWorker.forward(self, indices)

    def gradients(self, index):
        return self.found.setdefault(index, super().gradients(index))


def first_difference(worker, task):
    got = contender_quantities(worker, task, "eager", "float64", "layers")
    expected = Expected(task, 0, detail="layers")
    quantities = compare_all(expected.values("float64"), got, "float64", expected.noise("float64"))
    return find_first_difference(worker, task, "eager", "float64", quantities)


@pytest.mark.parametrize("task", [DENSE, RESIDUAL, LSTM], ids=["dense", "residual", "lstm"])
def test_the_reference_differs_nowhere_from_itself(task):
    assert first_difference(ReferenceWorker(), task) == ""


@pytest.mark.parametrize(
    ("worker", "task", "place"),
    [
        (OtherLayer, DENSE, "layer.1 (inference)"),
        (OtherOutputs, DENSE, "outputs"),
        (BatchStatisticsOff, RESIDUAL, "stem.norm (training)"),
        (OtherLoss, DENSE, "loss"),
        (NoGradientBehind, DENSE, "gradient of 'layer.0.bias' (backward)"),
        (NoInputGradient, DENSE, "gradient of input 'x' (backward)"),
        (StatisticsMovedByGradients, RESIDUAL, "'stem.norm.variance' before training"),
        (FrozenBias, DENSE, "'layer.0.bias' after training step 1"),
        (OtherMomentum, DENSE, "momentum of all weights after training step 2"),
        (OtherVelocity, DENSE, "momentum of all weights after training step 1"),
        (NarrowVelocity, DENSE, "momentum of all weights after training step 1"),
        (VelocityKept, DENSE, "optimiser state after a reset"),
        (WeightsKept, DENSE, "change of the starting weights by a reset"),
        (OtherStepThree, LSTM, "layer.0 (inference), first at time step 3"),
        (OtherGates, LSTM, "gradient of 'layer.1.bias' (backward), gates i and g"),
        (AllGates, LSTM, "gradient of 'layer.1.bias' (backward)"),
        (HiddenState, DENSE, "layer.0 (inference) after training step 1"),
        (GradientsUntilWeightsChange, DENSE, "loss" + ALONE),
        (StaleGradients, DENSE, "gradient of 'layer.1.bias' (backward)" + ALONE),
        (SharedOutputs, DENSE, "outputs" + ALONE),
        (RememberedByBatch, DENSE, "outputs after 3 training steps"),
        (RememberedUntilTrained, DENSE, "outputs after a reset"),
        (GradientsUntilTrained, DENSE, RESET_GRADIENTS),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_mistake_is_placed_where_it_begins(worker, task, place):
    assert first_difference(worker(), task) == place


def test_a_step_of_float32_is_placed_within_its_own_noise():
    """One frozen bias is told from rounding in the working dtype too."""
    found = find_first_difference(Float32(), DENSE, "eager", "float32", [])
    assert found == "'layer.0.bias' after training step 1"


class Float32(FrozenBias):
    """The same, its weights rounded to float32 whenever they are asked for."""

    def weights(self):
        return {name: value.astype("float32") for name, value in super().weights().items()}

    def optimiser_state(self):
        return {
            kind: {name: value.astype("float32") for name, value in held.items()}
            for kind, held in super().optimiser_state().items()
        }

    def trace(self, index, training):
        return {"values": [(name, value.astype("float32")) for name, value in super().trace(index, training)["values"]]}
