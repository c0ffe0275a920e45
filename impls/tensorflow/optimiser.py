"""Keras' optimisers with every constant set, on TensorFlow's fused kernels, and what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from faceoff.core.spec import Optimiser


class GradientDescent(keras.optimizers.SGD):
    """w -= learning_rate * g, or with momentum v = momentum * v + g; w -= learning_rate * v.

    TensorFlow's fused kernel does it in one pass over a weight. Keras' own update takes several, and rounds its
    constants to float32 in every dtype.
    """

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Any = None) -> None:
        """Moves the variables that the optimiser was built with, in place."""
        if lacks_kernel(grads[0].dtype):
            self._apply_plainly(grads)
            return
        rate = tf.constant(self.learning_rate, grads[0].dtype)
        if not self.momentum:
            for variable, grad in zip(self._trainable_variables, grads, strict=True):
                tf.raw_ops.ResourceApplyGradientDescent(var=variable.value.handle, alpha=rate, delta=grad)
            return
        momentum = tf.constant(self.momentum, grads[0].dtype)
        for variable, velocity, grad in zip(self._trainable_variables, self.momentums, grads, strict=True):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.value.handle, accum=velocity.value.handle, lr=rate, grad=grad, momentum=momentum
            )

    def _apply_plainly(self, grads: Sequence[tf.Tensor]) -> None:
        for index, (variable, grad) in enumerate(zip(self._trainable_variables, grads, strict=True)):
            if self.momentum:
                velocity = self.momentums[index].value
                grad = velocity.assign(tf.constant(self.momentum, grad.dtype) * velocity + grad)
            variable.value.assign(variable.value - tf.constant(self.learning_rate, grad.dtype) * grad)


class Adam(keras.optimizers.Adam):
    """Kingma and Ba 2015, algorithm 1, epsilon added to the bias-corrected root; by the fused kernel likewise.

    With a weight decay it is AdamW: the kernel knows none, so what is kept of a weight is taken before.
    """

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Any = None) -> None:
        """Moves the variables that the optimiser was built with, in place."""
        if lacks_kernel(grads[0].dtype) or not self._fits(grads[0].dtype):
            self._apply_plainly(grads)
        else:
            self._apply_fused(grads)
        self.iterations.assign_add(1)

    @property
    def _share_kept(self) -> float:
        return 1 - float(self.learning_rate) * self.weight_decay

    def _fits(self, dtype: tf.DType) -> bool:
        """Whether the fused kernel's constants, held in the dtype of the weights, are neither 1 nor 0 there.

        Else the bias correction of a decay rate near 1, or a root of 0 with epsilon beside it, is 0 / 0.
        """
        least_epsilon = self.epsilon * np.sqrt(1 - self.beta_2)
        rates, epsilon = (
            np.array(values).astype(dtype.as_numpy_dtype) for values in ((self.beta_1, self.beta_2), least_epsilon)
        )
        return bool((rates != 1).all() and (epsilon != 0 or self.epsilon == 0))

    def _apply_fused(self, grads: Sequence[tf.Tensor]) -> None:
        dtype = grads[0].dtype
        step = tf.cast(self.iterations.value + 1, dtype)
        rate, beta1, beta2 = (tf.constant(value, dtype) for value in (self.learning_rate, self.beta_1, self.beta_2))
        power1, power2 = beta1**step, beta2**step
        # The kernel adds its epsilon to the uncorrected root: sqrt(v) + e * sqrt(1 - beta2^t).
        epsilon = tf.constant(self.epsilon, dtype) * tf.sqrt(1 - power2)
        slots = zip(self._trainable_variables, self._momentums, self._velocities, grads, strict=True)
        for variable, mean, square, grad in slots:
            if self.weight_decay:
                variable.value.assign(variable.value * tf.constant(self._share_kept, dtype))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle, m=mean.value.handle, v=square.value.handle, beta1_power=power1,
                beta2_power=power2, lr=rate, beta1=beta1, beta2=beta2, epsilon=epsilon, grad=grad,
            )  # fmt: skip

    def _apply_plainly(self, grads: Sequence[tf.Tensor]) -> None:
        step = tf.cast(self.iterations.value + 1, tf.float32)
        rate, beta1, beta2, epsilon = float(self.learning_rate), self.beta_1, self.beta_2, self.epsilon
        slots = zip(self._trainable_variables, self._momentums, self._velocities, grads, strict=True)
        for variable, mean, square, grad in slots:
            wide, m, v, w = (tf.cast(x, tf.float32) for x in (grad, mean.value, square.value, variable.value))
            m, v = beta1 * m + (1 - beta1) * wide, beta2 * v + (1 - beta2) * wide**2
            if self.weight_decay:
                w *= self._share_kept
            w -= rate * (m / (1 - beta1**step)) / (tf.sqrt(v / (1 - beta2**step)) + epsilon)
            for held, value in ((mean, m), (square, v), (variable, w)):
                held.value.assign(tf.cast(value, grad.dtype))


def lacks_kernel(dtype: tf.DType) -> bool:
    """Whether TensorFlow's fused update kernels are missing: a GPU's have no bfloat16."""
    return dtype == tf.bfloat16 and bool(tf.config.list_logical_devices("GPU"))


def make_optimiser(rule: Optimiser, variables: Sequence[keras.Variable]) -> keras.optimizers.Optimizer:
    """A Keras optimiser for `variables` with every constant set."""
    unused = {
        "weight_decay": None, "clipnorm": None, "clipvalue": None, "global_clipnorm": None, "use_ema": False,
        "loss_scale_factor": None, "gradient_accumulation_steps": None,
    }  # fmt: skip
    # A plain learning rate would become a float32 variable; a callable's value keeps its digits.
    optimiser: keras.optimizers.Optimizer
    if rule.kind == "adamw":
        optimiser = Adam(
            lambda: rule.learning_rate, rule.beta1, rule.beta2, rule.epsilon, amsgrad=False,
            **{**unused, "weight_decay": rule.weight_decay or None},
        )  # fmt: skip
    elif rule.kind == "adam":
        optimiser = Adam(
            lambda: rule.learning_rate, beta_1=rule.beta1, beta_2=rule.beta2, epsilon=rule.epsilon, amsgrad=False,
            **unused,
        )  # fmt: skip
    else:
        momentum = float(rule.momentum) if rule.kind == "momentum" else 0.0
        optimiser = GradientDescent(lambda: rule.learning_rate, momentum=momentum, nesterov=False, **unused)
    optimiser.build(variables)
    return optimiser


def held_state(optimiser: keras.optimizers.Optimizer) -> dict[str, Sequence[keras.Variable]]:
    """The state of each variable that the optimiser was built with, in their order, by `Optimiser.state_names`.

    TensorFlow's kernel keeps the momentum v itself; Keras' own update would keep -learning_rate * v in its place.
    """
    if isinstance(optimiser, Adam):
        return {"first moment": optimiser._momentums, "second moment": optimiser._velocities}
    return {"momentum": optimiser.momentums} if optimiser.momentum else {}
