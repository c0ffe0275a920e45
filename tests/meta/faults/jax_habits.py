"""More faults of a mistaken Flax author: what is left out, remembered, clipped or rounded, and faults by hand."""

from tests.meta.faults.fault import Fault, in_optimiser, in_runtime

JIT, TUNED = "jax:jit", "jax:tuned"
SGD = "return optax.sgd(optimiser.learning_rate, momentum=momentum, nesterov=False)"
LOSSES = "losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)"
INFER = "        return self._forward(self._trained, self._statistics, batch[0])\n"
LSTM_CALL = "            (_, last), hidden = layer(layer.cell.project(hidden), initial_carry=(c0[index], h0[index]))\n"
STRIDED = (
    ("residual.py", "(3, 3), strides=stride, padding=((1, 1), (1, 1)))", "(3, 3), padding=((1, 1), (1, 1)))"),
    ("residual.py", "self.conv2 = conv(outgoing, outgoing, (3, 3), ",
     "self.conv2 = conv(outgoing, outgoing, (3, 3), strides=stride, "),
)  # fmt: skip


def before_descent(transformation: str) -> str:
    """`SGD` after a transformation of the gradients."""
    sgd = "optax.sgd(optimiser.learning_rate, momentum=momentum)"
    return f"return optax.chain({transformation}, {sgd})"


DATA = (
    Fault("second half of the batch left out of the loss", JIT, "dense", in_runtime(
        "losses.mean()", "losses[: len(losses) // 2].mean()",
    ), "loss, without examples 3 to 5"),
    Fault("last example left out", JIT, "dense-relu", in_runtime(
        "losses.mean()", "losses[:-1].mean()",
    ), "loss, without example 5"),
    Fault("a class ignored", JIT, "dense-relu", in_runtime(
        "losses.mean()", "losses.mean(where=targets != targets[0])",
    ), "loss, without"),
    Fault("outputs remembered for a batch", JIT, "dense", in_runtime(
        INFER,
        '        self._seen = getattr(self, "_seen", {})\n'
        "        if id(batch) not in self._seen:\n"
        "            self._seen[id(batch)] = self._forward(self._trained, self._statistics, batch[0])\n"
        "        return self._seen[id(batch)]\n",
    ), "outputs after 3 training steps"),
    Fault("gradients of the first batch remembered", JIT, "dense", in_runtime(
        "        return self._gradients(self._trained, self._statistics, *batch)\n",
        '        if not hasattr(self, "_seen"):\n'
        "            self._seen = self._gradients(self._trained, self._statistics, *batch)\n"
        "        return self._seen\n",
    ), "loss"),
    Fault("recurrent weights of the layers tied", JIT, "rnn", (
        ("rnn.py", "        for index, layer in enumerate(self.layers):\n            last,",
         "        for index, layer in enumerate(self.layers):\n"
         "            layer.cell.dense_h.kernel[...] = self.layers[0].cell.dense_h.kernel[...]\n"
         "            last,"),
    ), "layer.1 (inference)"),
)  # fmt: skip

LAYERS = (
    Fault("stride in the second convolution", JIT, "residual", STRIDED, "stage.1.block.0.conv1 (inference)"),
)  # fmt: skip

GRADIENTS = (
    Fault("no gradient to x", JIT, "dense", (
        ("dense.py", "        *hidden, last = self.layers\n",
         "        *hidden, last = self.layers\n        x = jax.lax.stop_gradient(x)\n"),
    ), "gradient of input 'x' (backward)"),
    Fault("no gradient to the upper layer's initial state", JIT, "rnn", (
        ("rnn.py", "initial_carry=h0[index]", "initial_carry=h0[0] if index == 0 else jax.lax.stop_gradient(h0[1])"),
    ), "gradient of input 'h0' (backward), layer 1"),
    Fault("states detached in the middle of the sequence", JIT, "lstm-last", (
        ("lstm.py", LSTM_CALL,
         "            carry, first = layer(hidden[:3], initial_carry=(c0[index], h0[index]))\n"
         "            (_, last), second = layer(hidden[3:], initial_carry=jax.lax.stop_gradient(carry))\n"
         "            hidden = jnp.concatenate([first, second])\n"),
    ), "gradient of 'layer.1.bias' (backward), from time step 2 back"),
)  # fmt: skip

VERBS = (
    Fault("cell state in float32 inside the scan", JIT, "lstm", (
        ("lstm.py", "        return (c, h), h", '        return (c.astype("float32"), h), h'),
    ), "forward pass (inference)"),
    Fault("logits returned with the hidden states", JIT, "dense", in_runtime(
        INFER, INFER.replace("batch[0])", "batch[0]), None"),
    ), "outputs"),
    Fault("biases missing in what is returned", JIT, "dense", in_runtime(
        " if name in arrays}", ' if name in arrays and "bias" not in name}',
    ), "gradient of 'layer.2.bias' (backward)"),
    Fault("weights of the head of another shape", JIT, "dense", (
        ("dense.py", "return last(x)", "return x @ last.kernel[...].T + last.bias[...]"),
    ), "forward pass (inference)"),
)  # fmt: skip

LIMITS = (
    Fault("gradient clipped to norm 1", JIT, "dense", in_optimiser(
        SGD, before_descent("optax.clip_by_global_norm(1.0)"),
    ), "all weights after training step 1", situation="large"),
    Fault("gradient clipped to norm 5", JIT, "dense", in_optimiser(
        SGD, before_descent("optax.clip_by_global_norm(5.0)"),
    ), "all weights after training step 1", situation="large"),
    Fault("gradient clipped by value 5", JIT, "dense", in_optimiser(
        SGD, before_descent("optax.clip(5.0)"),
    ), "'layer.0.weight' after training step 1", situation="large"),
    Fault("cell state clipped to 3", JIT, "lstm", (
        ("lstm.py", "c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * nnx.tanh(g)",
         "c = jnp.clip(nnx.sigmoid(f) * c + nnx.sigmoid(i) * nnx.tanh(g), -3, 3)"),
    ), "layer.0 (inference)", situation="large"),
    Fault("probabilities clipped", JIT, "dense", in_runtime(
        LOSSES, "chosen = jnp.take_along_axis(jax.nn.softmax(logits), targets[:, None], -1)\n"
        "        losses = -jnp.log(jnp.clip(chosen, 1e-7, 1 - 1e-7))",
    ), "loss", situation="large"),
    Fault("softmax without the shift", JIT, "dense", in_runtime(
        LOSSES, "powers = jnp.exp(logits)\n"
        "        chosen = jnp.take_along_axis(powers, targets[:, None], -1)\n"
        "        losses = jnp.log(powers.sum(-1, keepdims=True)) - jnp.log(chosen)",
    ), "loss", dtype="float32", situation="large"),
)  # fmt: skip

RULES = (
    Fault("AMSGrad", JIT, "dense", in_optimiser("return optax.adam(", "return optax.amsgrad(")[:1] + in_optimiser(
        "            eps_root=0.0,\n            nesterov=False,\n", "            eps_root=0.0,\n",
    ), "all weights after training step 2", "adam"),
    Fault("rate ten times as high", JIT, "dense", in_optimiser(
        "return optax.sgd(optimiser.learning_rate", "return optax.sgd(10 * optimiser.learning_rate",
    ), "all weights after training step 1"),
    Fault("optax' own decay for AdamW", JIT, "rnn", in_optimiser(
        "weight_decay=optimiser.weight_decay, ", "",
    ), "all weights after training step 1", "adamw"),
    Fault("Adam for plain descent", JIT, "dense", in_optimiser(
        'if optimiser.kind == "adam":', 'if optimiser.kind != "momentum":',
    ), "all weights after training step 1"),
)  # fmt: skip

ROUNDING = (
    Fault("operands of the first product rounded to ten bits", JIT, "dense", (
        ("dense.py", "        *hidden, last = self.layers\n",
         "        *hidden, last = self.layers\n"
         "        if x.dtype == 'float32':\n"
         "            x = x + jax.lax.stop_gradient(jax.lax.reduce_precision(x, 8, 10) - x)\n"),
    ), "layer.0 (inference)", dtype="float32"),
    Fault("input of the last product in float16", JIT, "dense", (
        ("dense.py", "return last(x)", 'return last(x.astype("float16").astype(x.dtype))'),
    ), "layer.2 (inference)"),
)  # fmt: skip

# The backward passes by hand.
MODES = (
    Fault("cell state after the step in the forget gate's gradient", TUNED, "lstm", (
        ("through_time.py", "by_c * c_before * f * (1 - f)", "by_c * c * f * (1 - f)"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("gradient of the cell state handed on without the forget gate", TUNED, "lstm", (
        ("through_time.py", "return (by_sum @ w_h.T, by_c * f), by_sum", "return (by_sum @ w_h.T, by_c), by_sum"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("no gradient by the initial cell state returned", TUNED, "lstm", (
        ("through_time.py", "return by_sums @ w_x.T, by_h0, by_c0,",
         "return by_sums @ w_x.T, by_h0, jnp.zeros_like(by_c0),"),
    ), "gradient of input 'c0' (backward)"),
)  # fmt: skip

FAULTS = (*DATA, *LAYERS, *GRADIENTS, *VERBS, *LIMITS, *RULES, *ROUNDING, *MODES)
