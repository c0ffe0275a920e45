"""Faults of a mistaken Keras author."""

from tests.meta.faults.fault import Fault, in_optimiser, in_runtime

EAGER = "tensorflow:eager"
APPLY = "self._optimiser.apply(gradients)"
GRADIENTS = 'gradients = tape.gradient(loss, values, unconnected_gradients="zero")'

DENSE = (
    Fault("activation after the last layer too", EAGER, "dense", (
        ("dense.py", "[spec.activation] * (spec.num_layers - 1) + [None]", "[spec.activation] * spec.num_layers"),
    ), "layer.2 (inference)"),
    Fault("activation missing in the second layer", EAGER, "dense", (
        ("dense.py", "[spec.activation] * (spec.num_layers - 1) + [None]", "[spec.activation, None, None]"),
    ), "layer.1 (inference)"),
    Fault("leaky ReLU for ReLU", EAGER, "dense-relu", (
        ("dense.py", "[spec.activation] *", '["leaky_relu"] *'),
    ), "layer.0 (inference)"),
    Fault("softmax in the model and in the loss", EAGER, "dense", (
        ("dense.py", "        return x\n", "        return tf.nn.softmax(x)\n"),
    ), "outputs"),
    Fault("float32 in the last layer", EAGER, "dense", (
        ("dense.py", "            x = layer(x)",
         "            x = tf.cast(tf.cast(x, tf.float32), x.dtype) if layer is self.stack[-1] else x\n"
         "            x = layer(x)"),
    ), "layer.2 (inference)"),
)  # fmt: skip

LSTM = (
    Fault("gates i, g, f, o", EAGER, "lstm", (
        ("lstm.py", "i, f, g, o = tf.split", "i, g, f, o = tf.split"),
    ), "layer.0 (inference)"),
    Fault("bias added in every step again", EAGER, "lstm", (
        ("lstm.py", "sequence + tf.matmul", "sequence + self.bias + tf.matmul"),
    ), "layer.0 (inference)"),
    Fault("h and c swapped at the start", EAGER, "lstm", (
        ("lstm.py", "[h0[index], c0[index]]", "[c0[index], h0[index]]"),
    ), "layer.0 (inference)"),
    Fault("h and c swapped from step to step", EAGER, "lstm", (
        ("lstm.py", "return h, [h, c]", "return h, [c, h]"),
    ), "layer.0 (inference)"),
    Fault("one added to the forget gate's bias", EAGER, "lstm", (
        ("lstm.py", "tf.sigmoid(f)", "tf.sigmoid(f + 1)"),
    ), "layer.0 (inference)"),
    Fault("hard sigmoid in the output gate", EAGER, "lstm", (
        ("lstm.py", "tf.sigmoid(o)", "keras.activations.hard_sigmoid(o)"),
    ), "layer.0 (inference)"),
    Fault("cell state not squashed", EAGER, "lstm", (
        ("lstm.py", "tf.sigmoid(o) * tf.tanh(c)", "tf.sigmoid(o) * c"),
    ), "layer.0 (inference)"),
    Fault("every layer starts from the first one's state", EAGER, "lstm", (
        ("lstm.py", "[h0[index], c0[index]]", "[h0[0], c0[0]]"),
    ), "layer.1 (inference)"),
    Fault("time runs backwards", EAGER, "lstm", (
        ("lstm.py", '"unroll": kernel', '"go_backwards": True, "unroll": kernel'),
    ), "layer.0 (inference)"),
    Fault("input product in float32", EAGER, "lstm", (
        ("recurrent.py", "        return super().call(projected,",
         "        projected = tf.cast(tf.cast(projected, tf.float32), sequences.dtype)\n"
         "        return super().call(projected,"),
    ), "layer.0 (inference)"),
    Fault("no gradient through the input gate", EAGER, "lstm", (
        ("lstm.py", "tf.sigmoid(i)", "tf.stop_gradient(tf.sigmoid(i))"),
    ), "gradient of 'layer.1.bias' (backward)"),
)  # fmt: skip

RNN = (
    Fault("bias after the activation", EAGER, "rnn", (
        ("rnn.py", "self.activation(products + self.bias)", "self.activation(products) + self.bias"),
    ), "layer.0 (inference)"),
    Fault("state passed on before its activation", EAGER, "rnn", (
        ("rnn.py", "+ self.bias)\n        return h, [h]", "+ self.bias)\n        return h, [products + self.bias]"),
    ), "layer.0 (inference)"),
    Fault("recurrent kernel transposed", EAGER, "rnn", (
        ("rnn.py", "self.kernel) + tf.matmul(states[0], self.recurrent_kernel)",
         "self.kernel) + tf.matmul(states[0], self.recurrent_kernel, transpose_b=True)"),
    ), "layer.0 (inference)"),
    Fault("initial states off by one layer", EAGER, "rnn", (
        ("rnn.py", "[h0[index]]", "[h0[index - 1]]"),
    ), "layer.0 (inference)"),
    Fault("dropout left on", EAGER, "rnn", (
        ("rnn.py", "layer(hidden, initial", "layer(tf.nn.dropout(hidden, 0.1), initial"),
    ), "layer.0 (inference)"),
    Fault("last but one hidden state", EAGER, "rnn", (
        ("rnn.py", "every = spec.many_to_many or index < spec.num_layers - 1", "every = True"),
        ("rnn.py", "return self.head(hidden)", "return self.head(hidden[:, -2:][:, 0])"),
    ), "head (inference)"),
    Fault("sequence reversed in training", EAGER, "rnn", (
        ("rnn.py", "        hidden = x\n", "        hidden = x[:, ::-1] if training else x\n"),
    ), "layer.0 (training)"),
)  # fmt: skip

RESIDUAL = (
    Fault("Keras' own epsilon", EAGER, "residual", (
        ("residual.py", "epsilon=spec.epsilon", "epsilon=1e-3"),
    ), "stem.norm (inference)"),
    Fault("momentum as PyTorch means it", EAGER, "residual", (
        ("residual.py", "momentum=1 - spec.momentum", "momentum=spec.momentum"),
    ), "'stem.norm.mean' after training step 1"),
    Fault("padding on one side", EAGER, "residual", (
        ("residual.py", "keras.layers.ZeroPadding2D(1)", "keras.layers.ZeroPadding2D(((0, 1), (0, 1)))"),
    ), "stage.1.block.0.conv1 (inference)"),
    Fault("first norm trains in inference too", EAGER, "residual", (
        ("residual.py", "self.norm1(y, training=training)", "self.norm1(y, training=True)"),
    ), "stage.0.block.0.norm1 (inference)"),
    Fault("leaky ReLU between the convolutions", EAGER, "residual", (
        ("residual.py", "tf.nn.relu(self.norm1", "tf.nn.leaky_relu(self.norm1"),
    ), "stage.0.block.0.conv2 (inference)"),
    Fault("shortcut after the activation", EAGER, "residual", (
        ("residual.py", "tf.nn.relu(y + x)", "tf.nn.relu(y) + x"),
    ), "stage.0.block.0 (inference)"),
    Fault("no gradient through the projection", EAGER, "residual", (
        ("residual.py", "self.shortcut_conv(x)", "self.shortcut_conv(tf.stop_gradient(x))"),
    ), "gradient of 'stage.0.block.0.norm2.bias' (backward)"),
    Fault("maximum for average pooling", EAGER, "residual", (
        ("residual.py", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
    ), "pool (inference)"),
    Fault("stem's activation not quite ReLU", EAGER, "residual", (
        ("residual.py", 'keras.layers.ReLU(name="stem")', 'keras.layers.ReLU(negative_slope=0.01, name="stem")'),
    ), "stem (inference)"),
    Fault("kernel height and width swapped", EAGER, "residual", (
        ("residual.py", "4: (1, 2, 3, 0)", "4: (2, 1, 3, 0)"),
    ), "stem.conv (inference)"),
    Fault("fused kernel's unbiased variance kept", EAGER, "residual", (
        ("residual.py", "            variance *= (n - 1) / n\n", ""),
        ("residual.py", "            n = math.prod(inputs.shape[:-1])\n", ""),
    ), "'stem.norm.variance' after training step 1", dtype="float32"),
    Fault("fused kernel with its own epsilon", EAGER, "residual", (
        ("residual.py", "epsilon=self.epsilon, is_training", "epsilon=1e-4, is_training"),
    ), "stem.norm (inference)", dtype="float32"),
)  # fmt: skip

TRAINING = (
    Fault("loss summed, not averaged", EAGER, "rnn", in_runtime("tf.reduce_mean(", "tf.reduce_sum("), "loss"),
    Fault("loss by softmax over time", EAGER, "lstm", in_runtime(
        "tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)",
        "-tf.gather(tf.nn.log_softmax(logits, axis=1), targets, axis=-1, batch_dims=2)",
    ), "loss"),
    Fault("running statistics not assigned", EAGER, "residual", in_runtime(
        "variable.value.assign(scope.get_current_value(variable))", "variable.value.assign(variable.value)",
    ), "'stem.norm.mean' after training step 1"),
    Fault("epsilon added to the uncorrected root", EAGER, "dense", in_optimiser(
        "tf.constant(self.epsilon, dtype) * tf.sqrt(1 - power2)", "tf.constant(self.epsilon, dtype)",
    ), "all weights after training step 1", "adam"),
    Fault("no bias correction in Adam", EAGER, "rnn", in_optimiser(
        "power1, power2 = beta1**step, beta2**step", "power1 = power2 = tf.zeros_like(step)",
    ), "all weights after training step 1", "adam"),
    Fault("Adam's steps not counted", EAGER, "dense", in_optimiser(
        "        self.iterations.assign_add(1)\n", "",
    ), "all weights after training step 2", "adam"),
    Fault("Nesterov's momentum", EAGER, "lstm", in_optimiser(
        "grad=grad, momentum=momentum\n", "grad=grad, momentum=momentum, use_nesterov=True\n",
    ), "all weights after training step 1", "momentum"),
    Fault("steps kept for the velocity, as Keras does", EAGER, "dense", in_optimiser(
        "lr=rate, grad=grad, momentum=momentum\n", "lr=-tf.ones_like(rate), grad=-rate * grad, momentum=momentum\n",
    ), "momentum of all weights after training step 1", "momentum"),
    Fault("Adam's steps counted on over a reset", EAGER, "dense", in_runtime(
        "for variable in self._optimiser.variables:", "for variable in self._optimiser.variables[1:]:",
    ), "weights after a reset and a training step", "adam"),
    Fault("gradient clipped to a norm", EAGER, "residual", in_runtime(
        APPLY, "self._optimiser.apply(tf.clip_by_global_norm(gradients, 0.1)[0])",
    ), "all weights after training step 1"),
    Fault("weight decay coupled", EAGER, "dense", in_runtime(
        GRADIENTS, "gradients = [g + 1e-4 * w for g, w in zip(tape.gradient(loss, values), values, strict=True)]",
    ), "all weights after training step 1"),
    Fault("gradient ascent", EAGER, "dense", in_runtime(
        APPLY, "self._optimiser.apply([-gradient for gradient in gradients])",
    ), "all weights after training step 1"),
    Fault("learning rate rounded to float32", EAGER, "dense", in_optimiser(
        "rate = tf.constant(self.learning_rate, grads[0].dtype)",
        "rate = tf.cast(tf.constant(self.learning_rate, tf.float32), grads[0].dtype)",
    ), "all weights after training step 1"),
    Fault("inference by the weights of the first graph", "tensorflow:graph", "dense", in_runtime(
        "        self._is_frozen = False\n        return self._run(self._train", "        return self._run(self._train",
    ), "outputs after 3 training steps"),
)  # fmt: skip

FAULTS = (*DENSE, *LSTM, *RNN, *RESIDUAL, *TRAINING)
