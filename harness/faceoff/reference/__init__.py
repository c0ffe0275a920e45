"""The reference: all four model families in float64 NumPy, forward and backward by hand, and their rounding noise.

    model = ReferenceModel(spec, weights, optimiser)
    model.forward(batch)             logits, inference mode
    model.gradients(batch)           {"loss", "weights": {...}, "inputs": {...}}, training mode, changes nothing
    model.step(batch)                one training step, with the gradients and logits it computed: Step
    model.train_step(batch)          one training step; the loss before it
    model.loss(batch)                the training loss alone
    model.trace(batch, training)     intermediate values by name
    model.weights()                  copies of weights and running statistics

A noise run is the same model with the arithmetic `Rounded("float32", noise_generator(seed, run))`: its distance from
the exact model is one sample of the rounding error that float32 may cause in this very computation.
"""

from faceoff.reference.arithmetic import Arithmetic, Exact, noise_generator, unit_roundoff
from faceoff.reference.model import ReferenceModel, Step
from faceoff.reference.rounding import Rounded

__all__ = ["Arithmetic", "Exact", "ReferenceModel", "Rounded", "Step", "noise_generator", "unit_roundoff"]
