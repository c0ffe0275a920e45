"""Loss and optimisers of the hand-written models in TensorFlow, in all modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import Optimiser

Tensors = dict[str, tf.Tensor]
Placed = tuple[Tensors, tf.Tensor]
Steps = dict[str, Callable[[Placed], Any]]


def on_gpu() -> bool:
    """Whether this process computes on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def mean_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean softmax cross-entropy."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))


class Update:
    """An optimiser by TensorFlow's fused kernels, but for bfloat16 on a GPU, which has none: there SGD alone, plainly.

    Args:
        rule: its constants.
        variables: what it moves.
    """

    def __init__(self, rule: Optimiser, variables: list[tf.Variable]) -> None:
        self.rule, self.variables = rule, variables
        count = {"sgd": 0, "momentum": 1}.get(rule.kind, 2)
        self.slots = [[tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(count)]
        self.step = tf.Variable(0, dtype=variables[0].dtype)

    def __call__(self, gradients: list[tf.Tensor]) -> None:
        """Moves the variables in place."""
        rule, ops = self.rule, tf.raw_ops
        lacks_kernel = self.step.dtype == tf.bfloat16 and on_gpu()
        if lacks_kernel and rule.kind != "sgd":
            raise UnsupportedError("no such optimiser by hand in bfloat16 on a GPU", where="optimiser", got=rule.kind)
        rate, momentum, beta1, beta2 = (
            tf.constant(v, self.step.dtype) for v in (rule.learning_rate, rule.momentum, rule.beta1, rule.beta2)
        )
        if rule.kind == "sgd":
            for w, g in zip(self.variables, gradients, strict=True):
                if lacks_kernel:
                    w.assign_sub(rate * g)
                    continue
                ops.ResourceApplyGradientDescent(var=w.handle, alpha=rate, delta=g)
        elif rule.kind == "momentum":
            for w, v, g in zip(self.variables, *self.slots, gradients, strict=True):
                ops.ResourceApplyMomentum(var=w.handle, accum=v.handle, lr=rate, grad=g, momentum=momentum)
        else:
            self.step.assign_add(1)
            power1, power2 = beta1**self.step, beta2**self.step
            # The kernel corrects the root after adding epsilon.
            epsilon = rule.epsilon * tf.sqrt(1 - power2)
            kept = tf.constant(1 - rule.learning_rate * rule.weight_decay, self.step.dtype)
            for w, m, v, g in zip(self.variables, *self.slots, gradients, strict=True):
                if rule.kind == "adamw":
                    w.assign(kept * w)
                ops.ResourceApplyAdam(
                    var=w.handle, m=m.handle, v=v.handle, beta1_power=power1, beta2_power=power2, lr=rate,
                    beta1=beta1, beta2=beta2, epsilon=epsilon, grad=g,
                )  # fmt: skip
