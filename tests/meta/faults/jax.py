"""Faults of a mistaken Flax author."""

from tests.meta.faults.fault import Fault, in_optimiser, in_runtime

JIT = "jax:jit"

DENSE = (
    Fault("activation after the last layer too", JIT, "dense", (
        ("dense.py", "return last(x)", "return self.activation(last(x))"),
    ), "layer.2 (inference)"),
    Fault("GELU for ReLU", JIT, "dense-relu", (("dense.py", "nnx.relu,", "nnx.gelu,"),), "layer.0 (inference)"),
    Fault("no gradient through the input of a layer", JIT, "dense", (
        ("dense.py", "self.activation(layer(x))", "self.activation(layer(jax.lax.stop_gradient(x)))"),
    ), "gradient of 'layer.0.bias' (backward)"),
    Fault("layers made for float32", JIT, "dense", (
        ("dense.py", "param_dtype=dtype", 'dtype="float32", param_dtype=dtype'),
    ), "layer.0 (inference)"),
    Fault("inputs of float32 layers in bfloat16", JIT, "dense", (
        ("dense.py", "self.activation(layer(x))",
         'self.activation(layer(x.astype("bfloat16") if x.dtype == "float32" else x))'),
    ), "layer.0 (inference)", dtype="float32"),
    Fault("x64 left off", JIT, "dense", in_runtime(
        'workload.dtype == "float64")', "False)",
    ), "layer.0 (inference)"),
)  # fmt: skip

LSTM = (
    Fault("gates i, f, o, g", JIT, "lstm", (
        ("lstm.py", "i, f, g, o = jnp.split", "i, f, o, g = jnp.split"),
    ), "layer.0 (inference)"),
    Fault("bias dropped", JIT, "lstm", (
        ("lstm.py", "@ kernel + self.dense_h.bias[...]", "@ kernel"),
    ), "layer.0 (inference)"),
    Fault("carry taken as (h, c)", JIT, "lstm", (("lstm.py", "c, h = carry", "h, c = carry"),), "layer.0 (inference)"),
    Fault("initial carry given as (h, c)", JIT, "lstm", (
        ("lstm.py", "(c0[index], h0[index])", "(h0[index], c0[index])"),
    ), "layer.0 (inference)"),
    Fault("initial hidden state not passed", JIT, "lstm", (
        ("lstm.py", "(c0[index], h0[index])", "(c0[index], jnp.zeros_like(h0[index]))"),
    ), "layer.0 (inference)"),
    Fault("no gradient to the initial cell state", JIT, "lstm", (
        ("lstm.py", "(c0[index], h0[index])", "(jax.lax.stop_gradient(c0[index]), h0[index])"),
    ), "gradient of input 'c0' (backward)"),
    Fault("no gradient through the cell state", JIT, "lstm", (
        ("lstm.py", "nnx.sigmoid(f) * c", "nnx.sigmoid(f) * jax.lax.stop_gradient(c)"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("hard sigmoid in the input gate", JIT, "lstm", (
        ("lstm.py", "nnx.sigmoid(i)", "nnx.hard_sigmoid(i)"),
    ), "layer.0 (inference)"),
    Fault("input gate coupled to the forget gate", JIT, "lstm", (
        ("lstm.py", "nnx.sigmoid(i)", "(1 - nnx.sigmoid(f))"),
    ), "layer.0 (inference)"),
    Fault("time runs backwards", JIT, "lstm", (
        ("lstm.py", "time_major=True, return_carry", "time_major=True, reverse=True, return_carry"),
    ), "layer.0 (inference)"),
    Fault("last hidden state of the first layer", JIT, "lstm-last", (
        ("lstm.py", "(_, last), hidden = layer(layer.cell.project(hidden), initial_carry=(c0[index], h0[index]))",
         "(_, final), hidden = layer(hidden, initial_carry=(c0[index], h0[index]))\n"
         "            last = final if index == 0 else last"),
    ), "head (inference)"),
)  # fmt: skip

RNN = (
    Fault("bias dropped in training", JIT, "rnn", (
        ("rnn.py", " + self.dense_i.bias[...]", ""),
    ), "layer.0 (training)"),
    Fault("state before the input in the joined product", JIT, "rnn", (
        ("rnn.py", "jnp.concatenate([inputs, carry]", "jnp.concatenate([carry, inputs]"),
    ), "layer.0 (training)"),
    Fault("no gradient through time", JIT, "rnn", (
        ("rnn.py", "jnp.concatenate([inputs, carry]", "jnp.concatenate([inputs, jax.lax.stop_gradient(carry)]"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("recurrent kernel not transposed", JIT, "rnn", (
        ("rnn.py", '"dense_h", "kernel"), (1, 0)', '"dense_h", "kernel"), (0, 1)'),
    ), "layer.0 (inference)"),
    Fault("every layer starts from the first one's state", JIT, "rnn", (
        ("rnn.py", "initial_carry=h0[index]", "initial_carry=h0[0]"),
    ), "layer.1 (inference)"),
    Fault("last but one hidden state", JIT, "rnn", (("rnn.py", "else last)", "else hidden[-2])"),), "head (inference)"),
    Fault("batch taken for time, as many steps as examples", JIT, "rnn", (
        ("rnn.py", "        hidden = x.swapaxes(0, 1)\n", "        hidden = x\n"),
    ), "layer.0 (inference)"),
)  # fmt: skip

RESIDUAL = (
    Fault("Flax's momentum taken for the spec's", JIT, "residual", (
        ("residual.py", "momentum=1 - spec.momentum", "momentum=spec.momentum"),
    ), "'stem.norm.mean' after training step 1"),
    Fault("Flax's own epsilon", JIT, "residual", (
        ("residual.py", "epsilon=spec.epsilon", "epsilon=1e-4"),
    ), "stem.norm (inference)"),
    Fault("unbiased running variance", JIT, "residual", (
        ("residual.py", "self._move(self.var, variance)", "self._move(self.var, jnp.var(x, axis=(0, 1, 2), ddof=1))"),
    ), "'stem.norm.variance' after training step 1"),
    Fault("running mean not updated", JIT, "residual", (
        ("residual.py", "self._move(self.mean, mean)", "pass"),
    ), "'stem.norm.mean' after training step 1"),
    Fault("normalised by the running statistics just updated", JIT, "residual", (
        ("residual.py", "        factor = scale",
         "        mean, variance = self.mean[...], self.var[...]\n        factor = scale"),
    ), "stem.norm (training)"),
    Fault("epsilon outside the root", JIT, "residual", (
        ("residual.py", "lax.rsqrt(variance + self.epsilon)", "/ (jnp.sqrt(variance) + self.epsilon)"),
        ("residual.py", "scale * /", "scale /"),
    ), "stem.norm (inference)"),
    Fault("batch statistics taken as constants backward", JIT, "residual", (
        ("residual.py", "            variance = jnp.mean(jnp.square(x - mean), axis=(0, 1, 2))\n",
         "            variance = jnp.mean(jnp.square(x - mean), axis=(0, 1, 2))\n"
         "            mean, variance = lax.stop_gradient((mean, variance))\n"),
    ), "gradient of 'stage.1.block.0.shortcut.conv.weight' (backward)"),
    Fault("padding on one side", JIT, "residual", (
        ("residual.py", "strides=stride, padding=((1, 1), (1, 1))", 'strides=stride, padding="SAME"'),
    ), "stage.1.block.0.conv1 (inference)"),
    Fault("projection without its norm", JIT, "residual", (
        ("residual.py", "            x = self._seen(\"shortcut.norm\", self.shortcut_norm(x))\n", ""),
    ), "stage.1.block.0.shortcut.norm (inference)"),
    Fault("shortcut after the activation", JIT, "residual", (
        ("residual.py", "nnx.relu(y + x)", "nnx.relu(y) + x"),
    ), "stage.0.block.0 (inference)"),
    Fault("pooling by the maximum", JIT, "residual", (
        ("residual.py", "jnp.mean(x, axis=(1, 2))", "jnp.max(x, axis=(1, 2))"),
    ), "pool (inference)"),
    Fault("always in training mode", JIT, "residual", in_runtime(
        "module.train() if training else module.eval()", "module.train()",
    ), "stem.norm (inference)"),
)  # fmt: skip

TRAINING = (
    Fault("loss summed, not averaged", JIT, "dense", in_runtime("losses.mean()", "losses.sum()"), "loss"),
    Fault("loss averaged over examples, summed over time", JIT, "lstm", in_runtime(
        "losses.mean()", "losses.mean(axis=0).sum()",
    ), "loss"),
    Fault("gradients taken in inference mode", JIT, "residual", in_runtime(
        "module = self._module(self._narrow(trained), statistics, training=True)",
        "module = self._module(self._narrow(trained), statistics, training=False)",
    ), "loss"),
    Fault("running statistics not kept", JIT, "residual", in_runtime(
        "(loss, statistics), gradients = differentiate", "(loss, _), gradients = differentiate",
    ), "'stem.norm.mean' after training step 1"),
    Fault("optimiser state not kept", JIT, "rnn", in_runtime(
        "updates, state = self._optimiser", "updates, _ = self._optimiser",
    ), "momentum of all weights after training step 1", "momentum"),
    Fault("epsilon inside the root", JIT, "dense", in_optimiser(
        "eps_root=0.0", "eps_root=1e-8",
    ), "all weights after training step 1", "adam"),
    Fault("another first decay rate in Adam", JIT, "rnn", in_optimiser(
        "b1=optimiser.beta1", "b1=0.95",
    ), "first moment of all weights after training step 1", "adam"),
    Fault("Nesterov's momentum", JIT, "dense", in_optimiser(
        "momentum=momentum, nesterov=False", "momentum=momentum, nesterov=True",
    ), "all weights after training step 1", "momentum"),
    Fault("velocity in float32", JIT, "dense", in_optimiser(
        "momentum=momentum, nesterov=False", 'momentum=momentum, accumulator_dtype="float32"',
    ), "momentum of all weights after training step 1", "momentum"),
    Fault("moments kept in a reset", JIT, "rnn", in_runtime(
        "self._optimiser_state = self._optimiser.init(self._trained)",
        'self._optimiser_state = getattr(self, "_optimiser_state", None) or self._optimiser.init(self._trained)',
    ), "optimiser state after a reset", "adam"),
    Fault("weight decay coupled", JIT, "rnn", in_optimiser(
        "return optax.sgd(optimiser.learning_rate, momentum=momentum, nesterov=False)",
        "return optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(optimiser.learning_rate, momentum=momentum))",
    ), "all weights after training step 1"),
    Fault("gradient clipped element by element", JIT, "lstm", in_optimiser(
        "return optax.sgd(optimiser.learning_rate, momentum=momentum, nesterov=False)",
        "return optax.chain(optax.clip(1e-3), optax.sgd(optimiser.learning_rate, momentum=momentum))",
    ), "all weights after training step 1"),
)  # fmt: skip

FAULTS = (*DENSE, *LSTM, *RNN, *RESIDUAL, *TRAINING)
