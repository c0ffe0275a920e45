"""Faults that no everyday input shows, each with the situation that is there to find it."""

from __future__ import annotations

from typing import NamedTuple

from tests.meta.faults.fault import Fault, in_runtime

PYTORCH, TENSORFLOW, JAX = "pytorch:eager", "tensorflow:eager", "jax:jit"
STEP = "        self._optimiser.step()\n"
FIRST_STEP = "after training step 1"


class Situated(NamedTuple):
    """A fault, and the situation that shows it."""

    situation: str
    fault: Fault


def _before_step(written: str) -> tuple[tuple[str, str, str], ...]:
    return in_runtime(STEP, f"        {written}\n{STEP}")


LARGE = (
    Fault("gradient clipped at norm 5", PYTORCH, "lstm", _before_step(
        "nn.utils.clip_grad_norm_(self._trained, 5.0)",
    ), f"all weights {FIRST_STEP}"),
    Fault("gradient clipped by value 5", PYTORCH, "residual", _before_step(
        "nn.utils.clip_grad_value_(self._trained, 5.0)",
    ), f"'stem.conv.weight' {FIRST_STEP}"),
    Fault("cell clipped to 3", JAX, "lstm", (
        ("lstm.py", "        h = nnx.sigmoid(o) * nnx.tanh(c)\n",
         "        c = jnp.clip(c, -3, 3)\n        h = nnx.sigmoid(o) * nnx.tanh(c)\n"),
    ), "layer.0 (inference)"),
    Fault("probabilities clipped at 1e-7, as Keras does", TENSORFLOW, "dense", in_runtime(
        "tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)",
        "keras.losses.sparse_categorical_crossentropy(targets, tf.nn.softmax(logits))",
    ), "loss"),
)  # fmt: skip
OTHERS = (
    Situated("equal-logits", Fault("softmax without its shift", TENSORFLOW, "residual", in_runtime(
        "tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)",
        "tf.math.log(tf.reduce_sum(tf.exp(logits), -1)) - tf.gather(logits, targets, axis=-1, batch_dims=1)",
    ), "loss", dtype="float32")),
    Situated("saturated", Fault("cell clipped to 3", JAX, "lstm", LARGE[2].edits, "layer.0 (inference)")),
    Situated("equal-logits", Fault("the largest logit counted once where several are", JAX, "dense", in_runtime(
        "optax.softmax_cross_entropy_with_integer_labels(logits, targets)",
        "(lambda m: m[..., 0] + jnp.log(1 + jnp.where(logits < m, jnp.exp(logits - m), 0).sum(-1))"
        " - jnp.take_along_axis(logits, targets[..., None], -1)[..., 0])(logits.max(-1, keepdims=True))",
    ), "loss")),
    Situated("zero", Fault("inputs divided by their norm and multiplied with it", PYTORCH, "dense", (
        ("dense.py", "return self.layers(x)",
         "n = x.norm(dim=-1, keepdim=True)\n        return self.layers(x / n * n)"),
    ), "layer.0 (inference)")),
    Situated("constant", Fault("examples that do not vary dropped", PYTORCH, "rnn", (
        ("rnn.py", "        hidden, ", "        x = x * (x.std(dim=1, keepdim=True) > 0)\n        hidden, "),
    ), "layer.0 (inference)")),
    Situated("padded", Fault("steps of zeros masked", PYTORCH, "lstm", (
        ("lstm.py", "        return self.head(hidden if",
         "        hidden = hidden * (x != 0).any(dim=-1, keepdim=True)\n        return self.head(hidden if"),
    ), "head (inference)")),
    Situated("one-example", Fault("axes of one element dropped", JAX, "lstm", (
        ("lstm.py", "        hidden = x.swapaxes(0, 1)\n",
         "        hidden = x.swapaxes(0, 1) * (1 + (x.shape[0] == 1))\n"),
    ), "layer.0 (inference)")),
    Situated("at-zero", Fault("half a slope of the ReLU at zero", JAX, "dense-relu", (
        ("dense.py", "nnx.relu,", "lambda x: jax.numpy.maximum(x, 0),"),
    ), "gradient of 'layer.1.bias' (backward)")),
)  # fmt: skip
SITUATED = (*(Situated("large", fault) for fault in LARGE), *OTHERS)
