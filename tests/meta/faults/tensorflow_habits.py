"""More faults of a mistaken Keras author: what is left out, remembered, clipped or rounded, and faults in its modes."""

from tests.meta.faults.fault import Fault, in_optimiser, in_runtime

EAGER, GRAPH, ONEDNN, XLA = "tensorflow:eager", "tensorflow:graph", "tensorflow:graph-onednn", "tensorflow:xla"
APPLY = "self._optimiser.apply(gradients)"
LOSSES = "tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)"
LOSS = f"return tf.reduce_mean({LOSSES})"
INFER = "            return self._network(**inputs, training=False)\n\n    def _infer_frozen"
STRIDED = (
    ("residual.py", 'self.conv1 = convolution(outgoing, 3, stride, "conv1")',
     'self.conv1 = convolution(outgoing, 3, 1, "conv1")'),
    ("residual.py", 'self.conv2 = convolution(outgoing, 3, 1, "conv2")',
     'self.conv2 = convolution(outgoing, 3, stride, "conv2")'),
    ("residual.py", "y = self.conv1(self.pad(x) if self.pad else x)", "y = self.conv1(x)"),
    ("residual.py", "self.conv2(y)", "self.conv2(self.pad(y) if self.pad else y)"),
)  # fmt: skip
TF32 = (
    "def tf32(x):\n"
    "    if x.dtype != tf.float32:\n"
    "        return x\n"
    "    bits = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32) + 0x1000, ~0x1FFF)\n"
    "    return x + tf.stop_gradient(tf.bitcast(bits, tf.float32) - x)\n\n\n"
    "class Network(keras.Model):"
)

DATA = (
    Fault("second half of the batch left out of the loss", EAGER, "dense", in_runtime(
        LOSS, f"targets, logits = targets[:3], logits[:3]\n        {LOSS}",
    ), "loss, without examples 3 to 5"),
    Fault("last example left out", EAGER, "rnn", in_runtime(
        LOSS, f"targets, logits = targets[:-1], logits[:-1]\n        {LOSS}",
    ), "loss, without example 5"),
    Fault("a class ignored", EAGER, "dense-relu", in_runtime(
        LOSS, "counted = tf.cast(targets != targets[0], logits.dtype)\n"
        f"        return tf.reduce_sum(counted * {LOSSES}) / tf.reduce_sum(counted)",
    ), "loss, without"),
    Fault("outputs remembered for a batch", EAGER, "lstm", in_runtime(
        "        return self._run(step, batch)\n",
        '        self._seen = getattr(self, "_seen", {})\n'
        "        if id(batch) not in self._seen:\n"
        "            self._seen[id(batch)] = self._run(step, batch)\n"
        "        return self._seen[id(batch)]\n",
    ), "outputs after 3 training steps"),
    Fault("gradients of the first batch remembered", EAGER, "rnn", in_runtime(
        "        return self._run(self._differentiate, batch)\n",
        '        if not hasattr(self, "_seen"):\n'
        "            self._seen = self._run(self._differentiate, batch)\n"
        "        return self._seen\n",
    ), "loss"),
    Fault("recurrent weights of the layers tied", EAGER, "rnn", (
        ("rnn.py", "        for index, layer in enumerate(self.recurrent):\n",
         "        for index, layer in enumerate(self.recurrent):\n"
         "            layer = self.recurrent[0] if index == 1 and x.shape[-1] == 8 else layer\n"
         "            if index == 1:\n"
         "                layer.cell.recurrent_kernel = self.recurrent[0].cell.recurrent_kernel\n"),
    ), "layer.1 (inference)"),
)  # fmt: skip

LAYERS = (
    Fault("stride in the second convolution", EAGER, "residual", STRIDED, "stage.1.block.0.conv1 (inference)"),
    Fault("norm of the shortcut left out", EAGER, "residual", (
        ("residual.py", "x = self.shortcut_norm(self.shortcut_conv(x), training=training)",
         "x = self.shortcut_conv(x)"),
    ), "the model"),
    Fault("second norm with an epsilon of its own", EAGER, "residual", (
        ("residual.py", 'self.norm2 = normalisation(spec, mode, "norm2")',
         'self.norm2 = normalisation(spec, mode, "norm2")\n        self.norm2.epsilon *= 2'),
    ), "stage.0.block.0.norm2 (inference)"),
)  # fmt: skip

GRADIENTS = (
    Fault("no gradient to x", EAGER, "dense", (
        ("dense.py", "        for layer in self.stack:",
         "        x = tf.stop_gradient(x)\n        for layer in self.stack:"),
    ), "gradient of input 'x' (backward)"),
    Fault("no gradient to the initial hidden state", EAGER, "rnn", (
        ("rnn.py", "[h0[index]]", "[tf.stop_gradient(h0[index])]"),
    ), "gradient of input 'h0' (backward)"),
    Fault("no gradient to the initial cell state", EAGER, "lstm", (
        ("lstm.py", "c0[index]]", "tf.stop_gradient(c0[index])]"),
    ), "gradient of input 'c0' (backward)"),
    Fault("no gradient to a bias", EAGER, "rnn", (
        ("rnn.py", "products + self.bias", "products + tf.stop_gradient(tf.convert_to_tensor(self.bias))"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("loss detached", EAGER, "dense", in_runtime(
        "loss = self._loss(inputs, targets)\n        return loss, *tape",
        "loss = tf.stop_gradient(self._loss(inputs, targets))\n        return loss, *tape",
    ), "gradient of 'layer.2.bias' (backward)"),
)  # fmt: skip

VERBS = (
    Fault("logits returned in a list", EAGER, "dense", in_runtime(
        INFER, INFER.replace("self._network(**inputs, training=False)", "[self._network(**inputs, training=False)]"),
    ), "outputs"),
    Fault("input product in float32, its kernel not", EAGER, "lstm", (
        ("recurrent.py", "tf.tensordot(sequences, ", "tf.tensordot(tf.cast(sequences, tf.float32), "),
    ), "the model"),
    Fault("biases missing in what the weights are", EAGER, "dense", in_runtime(
        "variable.value) for name, variable in self._held.items()}",
        'variable.value) for name, variable in self._held.items() if "bias" not in name}',
    ), "'layer.0.bias' before training"),
)  # fmt: skip

LIMITS = (
    Fault("gradient clipped to norm 1", EAGER, "lstm", in_runtime(
        APPLY, "self._optimiser.apply(tf.clip_by_global_norm(gradients, 1.0)[0])",
    ), "all weights after training step 1", situation="large"),
    Fault("gradient clipped to norm 5", EAGER, "rnn", in_runtime(
        APPLY, "self._optimiser.apply(tf.clip_by_global_norm(gradients, 5.0)[0])",
    ), "all weights after training step 1", situation="large"),
    Fault("gradient clipped by value 5", EAGER, "dense", in_runtime(
        APPLY, "self._optimiser.apply([tf.clip_by_value(gradient, -5.0, 5.0) for gradient in gradients])",
    ), "'layer.0.weight' after training step 1", situation="large"),
    Fault("cell state clipped to 3", EAGER, "lstm", (
        ("lstm.py", "c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)",
         "c = tf.clip_by_value(tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g), -3.0, 3.0)"),
    ), "layer.0 (inference)", situation="large"),
    Fault("probabilities for logits, clipped as Keras does", EAGER, "dense", in_runtime(
        LOSS, "return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(targets, tf.nn.softmax(logits)))",
    ), "loss", situation="large"),
    Fault("softmax without the shift", EAGER, "dense", in_runtime(
        LOSS, "powers = tf.exp(logits)\n"
        "        probabilities = powers / tf.reduce_sum(powers, -1, keepdims=True)\n"
        "        return -tf.reduce_mean(tf.math.log(tf.gather(probabilities, targets, axis=-1, batch_dims=1)))",
    ), "loss", dtype="float32", situation="large"),
)  # fmt: skip

RULES = (
    Fault("rate ten times as high", EAGER, "dense", in_optimiser(
        "rate = tf.constant(self.learning_rate, grads[0].dtype)",
        "rate = tf.constant(10 * self.learning_rate, grads[0].dtype)",
    ), "all weights after training step 1"),
    Fault("Adam for plain descent", EAGER, "dense", in_optimiser(
        'if rule.kind == "adam":', 'if rule.kind != "momentum":',
    ), "all weights after training step 1"),
    Fault("a decay that does not follow the learning rate", EAGER, "lstm", in_optimiser(
        "return 1 - float(self.learning_rate) * self.weight_decay", "return 1 - self.weight_decay",
    ), "all weights after training step 1", "adamw"),
    Fault("AMSGrad", EAGER, "dense", in_optimiser(
        "        self.iterations.assign_add(1)\n",
        "        self.iterations.assign_add(1)\n"
        '        self.most = getattr(self, "most", [0 * slot.value for slot in self._velocities])\n'
        "        self.most = [tf.maximum(m, s.value) for m, s in zip(self.most, self._velocities)]\n"
        "        for most, slot in zip(self.most, self._velocities):\n"
        "            slot.assign(most)\n",
    ), "second moment of 'layer.0.weight' after training step 2", "adam"),
)  # fmt: skip

ROUNDING = (
    Fault("cell state kept in float32", EAGER, "lstm", (
        ("lstm.py", "return h, [h, c]", "return h, [h, tf.cast(c, tf.float32)]"),
    ), "layer.0 (inference), first at time step 1"),
    Fault("inputs of products rounded to ten bits", EAGER, "dense", (
        ("dense.py", "class Network(keras.Model):", TF32), ("dense.py", "x = layer(x)", "x = layer(tf32(x))"),
    ), "layer.0 (inference)", dtype="float32"),
    Fault("a layer in float16", EAGER, "dense", (
        ("dense.py", 'name=f"layer.{index}")', 'name=f"layer.{index}", dtype="float16" if index == 1 else None)'),
    ), "layer.1 (inference)"),
    Fault("gates' sums in bfloat16", EAGER, "lstm-last", (
        ("lstm.py", "tf.split(sequence + tf.matmul(h, self.recurrent_kernel), 4, axis=1)",
         "tf.split(tf.cast(tf.cast(sequence + tf.matmul(h, self.recurrent_kernel), tf.bfloat16), h.dtype), 4, axis=1)"),
    ), "layer.0 (inference)"),
)  # fmt: skip

MODES = (
    Fault("Adam's steps counted in Python, which a graph reads once", GRAPH, "dense", in_optimiser(
        "step = tf.cast(self.iterations.value + 1, dtype)",
        'self.steps = getattr(self, "steps", 0) + 1\n        step = tf.constant(self.steps, dtype)',
    ), "all weights after training step 2", "adam"),
    Fault("no gradient to x, compiled", XLA, "dense", (
        ("dense.py", "        for layer in self.stack:",
         "        x = tf.stop_gradient(x)\n        for layer in self.stack:"),
    ), "gradient of input 'x' (backward)"),
    Fault("last example left out", XLA, "dense", in_runtime(
        LOSS, f"targets, logits = targets[:-1], logits[:-1]\n        {LOSS}",
    ), "loss, without example 5"),
    Fault("input of each layer in bfloat16", ONEDNN, "dense", (
        ("dense.py", "x = layer(x)", "x = layer(tf.cast(tf.cast(x, tf.bfloat16), x.dtype))"),
    ), "layer.0 (inference)"),
    Fault("gradient clipped to a norm", ONEDNN, "dense", in_runtime(
        APPLY, "self._optimiser.apply(tf.clip_by_global_norm(gradients, 0.1)[0])",
    ), "all weights after training step 1"),
)  # fmt: skip

FAULTS = (*DATA, *LAYERS, *GRADIENTS, *VERBS, *LIMITS, *RULES, *ROUNDING, *MODES)
