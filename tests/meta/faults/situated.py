"""Faults that neither everyday inputs nor large ones show, one at least for each other situation."""

from __future__ import annotations

from tests.meta.faults.fault import Fault, in_runtime

PYTORCH, TENSORFLOW, JAX = "pytorch:eager", "tensorflow:eager", "jax:jit"

FAULTS = (
    Fault("softmax without its shift", TENSORFLOW, "residual", in_runtime(
        "tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)",
        "tf.math.log(tf.reduce_sum(tf.exp(logits), -1)) - tf.gather(logits, targets, axis=-1, batch_dims=1)",
    ), "loss", dtype="float32", situation="equal-logits"),
    Fault("cell clipped to 3", JAX, "lstm", (
        ("lstm.py", "        h = nnx.sigmoid(o) * nnx.tanh(c)\n",
         "        c = jnp.clip(c, -3, 3)\n        h = nnx.sigmoid(o) * nnx.tanh(c)\n"),
    ), "layer.0 (inference)", situation="saturated"),
    Fault("the largest logit counted once where several are", JAX, "dense", in_runtime(
        "optax.softmax_cross_entropy_with_integer_labels(logits, targets)",
        "(lambda m: m[..., 0] + jnp.log(1 + jnp.where(logits < m, jnp.exp(logits - m), 0).sum(-1))"
        " - jnp.take_along_axis(logits, targets[..., None], -1)[..., 0])(logits.max(-1, keepdims=True))",
    ), "loss", situation="equal-logits"),
    Fault("inputs divided by their norm and multiplied with it", PYTORCH, "dense", (
        ("dense.py", "return self.layers(x)",
         "n = x.norm(dim=-1, keepdim=True)\n        return self.layers(x / n * n)"),
    ), "layer.0 (inference)", situation="zero"),
    Fault("examples that do not vary dropped", PYTORCH, "rnn", (
        ("rnn.py", "        hidden, ", "        x = x * (x.std(dim=1, keepdim=True) > 0)\n        hidden, "),
    ), "layer.0 (inference)", situation="constant"),
    Fault("steps of zeros masked", PYTORCH, "lstm", (
        ("lstm.py", "        return self.head(hidden if",
         "        hidden = hidden * (x != 0).any(dim=-1, keepdim=True)\n        return self.head(hidden if"),
    ), "head (inference)", situation="padded"),
    Fault("axes of one element dropped", JAX, "lstm", (
        ("lstm.py", "        hidden = x.swapaxes(0, 1)\n",
         "        hidden = x.swapaxes(0, 1) * (1 + (x.shape[0] == 1))\n"),
    ), "layer.0 (inference)", situation="one-example"),
    Fault("half a slope of the ReLU at zero", JAX, "dense-relu", (
        ("dense.py", "nnx.relu,", "lambda x: jax.numpy.maximum(x, 0),"),
    ), "gradient of 'layer.1.bias' (backward)", situation="at-zero"),
)  # fmt: skip
