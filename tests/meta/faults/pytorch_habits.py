"""More faults of a mistaken PyTorch author: what is left out, remembered, clipped, rounded; faults in its modes."""

from tests.meta.faults.fault import Fault, in_optimiser, in_runtime

EAGER, COMPILE, TUNED = "pytorch:eager", "pytorch:compile", "pytorch:tuned"
LOSS = "return F.cross_entropy(logits.flatten(0, -2), targets.flatten())"
LOGITS = "logits = network(**inputs)"
INFER = '        return self._run("inference", self._infer_batch, batch)'
LSTM_CALL = "        hidden, (last, _) = self.recurrent(x, (h0, c0))"
RNN_CALL = "        hidden, last = self.recurrent(x, h0)"
STRIDED = (
    ("residual.py", "self.conv1 = convolution(incoming, outgoing, 3, stride)",
     "self.conv1 = convolution(incoming, outgoing, 3, 1)"),
    ("residual.py", "self.conv2 = convolution(outgoing, outgoing, 3, 1)",
     "self.conv2 = convolution(outgoing, outgoing, 3, stride)"),
)  # fmt: skip
TF32 = (
    "def tf32(x):\n"
    "    if x.dtype != torch.float32:\n"
    "        return x\n"
    "    rounded = ((x.detach().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)\n"
    "    return x + (rounded - x.detach())\n\n\n"
    "class Network(nn.Module):"
)

DATA = (
    Fault("second half of the batch left out of the loss", EAGER, "dense", in_runtime(
        LOSS, f"logits, targets = (value[: len(value) // 2] for value in (logits, targets))\n    {LOSS}",
    ), "loss, without examples 3 to 5"),
    Fault("training on the first half of the batch", EAGER, "dense", in_runtime(
        "loss = self._loss(self._network, batch.inputs, batch.targets)",
        "loss = self._loss(self._network, {n: v[:3] for n, v in batch.inputs.items()}, batch.targets[:3])",
    ), "all weights after training step 1"),
    Fault("last example left out", EAGER, "rnn", in_runtime(
        LOSS, f"logits, targets = logits[:-1], targets[:-1]\n    {LOSS}",
    ), "loss, without example 5"),
    Fault("a class ignored", EAGER, "dense-relu", in_runtime(
        "targets.flatten())", "targets.flatten(), ignore_index=targets[0].item())",
    ), "loss, without"),
    Fault("outputs remembered for a batch", EAGER, "rnn", in_runtime(
        INFER,
        '        self._seen = getattr(self, "_seen", {})\n'
        "        if id(batch) not in self._seen:\n"
        '            self._seen[id(batch)] = self._run("inference", self._infer_batch, batch).clone()\n'
        "        return self._seen[id(batch)]",
    ), "outputs after 3 training steps"),
    Fault("gradients of the first batch remembered", EAGER, "dense", in_runtime(
        '        return self._run("gradients", self._differentiate, batch)',
        '        if not hasattr(self, "_seen"):\n'
        '            self._seen = self._run("gradients", self._differentiate, batch)\n'
        "        return self._seen",
    ), "loss"),
    Fault("recurrent weights of the layers tied", EAGER, "rnn", (
        ("rnn.py", "        self.head = nn.Linear",
         "        self.recurrent.weight_hh_l1 = self.recurrent.weight_hh_l0\n        self.head = nn.Linear"),
    ), "layer.0 (inference)"),
)  # fmt: skip

LAYERS = (
    Fault("stride in the second convolution", EAGER, "residual", STRIDED, "stage.1.block.0.conv1 (inference)"),
    Fault("norm of the shortcut left out", EAGER, "residual", (
        ("residual.py", "y += self.shortcut(x)", "y += self.shortcut.conv(x) if len(self.shortcut) else x"),
    ), "stage.1.block.0.shortcut.norm (inference)"),
    Fault("shortcut of the image moved by a pixel", EAGER, "residual", (
        ("residual.py", "y += self.shortcut(x)",
         "y += self.shortcut(x.roll(1, 2)) if len(self.shortcut) else x"),
    ), "stage.1.block.0.shortcut.conv (inference)"),
    Fault("one channel of the second norm not scaled", EAGER, "residual", (
        ("residual.py", "        y += self.shortcut(x)\n",
         "        y[:, 3] = 0\n        y += self.shortcut(x)\n"),
    ), "stage.0.block.0 (inference), channel 3"),
    Fault("last column of a product left out", EAGER, "dense", (
        ("dense.py", "class Network(nn.Module):",
         "class Ragged(nn.Linear):\n"
         "    def forward(self, x):\n"
         "        y = nn.functional.linear(x, self.weight[:-1], self.bias[:-1])\n"
         "        return torch.cat([y, self.bias[-1:].expand(len(x), 1)], 1)\n\n\n"
         "class Network(nn.Module):"),
        ("dense.py", "[nn.Linear(incoming, outgoing)", "[Ragged(incoming, outgoing)"),
    ), "layer.0 (inference), unit 15"),
)  # fmt: skip

GRADIENTS = (
    Fault("no gradient to x", EAGER, "dense", (
        ("dense.py", "return self.layers(x)", "return self.layers(x.detach())"),
    ), "gradient of input 'x' (backward)"),
    Fault("no gradient to the initial hidden state", EAGER, "rnn", (
        ("rnn.py", "self.recurrent(x, h0)", "self.recurrent(x, h0.detach())"),
    ), "gradient of input 'h0' (backward)"),
    Fault("no gradient to the initial cell state", EAGER, "lstm", (
        ("lstm.py", "(x, (h0, c0))", "(x, (h0, c0.detach()))"),
    ), "gradient of input 'c0' (backward)"),
    Fault("no gradient to the upper layer's initial state", EAGER, "rnn", (
        ("rnn.py", "self.recurrent(x, h0)", "self.recurrent(x, torch.cat([h0[:1], h0[1:].detach()]))"),
    ), "gradient of input 'h0' (backward), layer 1"),
    Fault("states detached in the middle of the sequence", EAGER, "lstm-last", (
        ("lstm.py", LSTM_CALL,
         "        half = x.shape[1] // 2\n"
         "        first, states = self.recurrent(x[:, :half], (h0, c0))\n"
         "        second, (last, _) = self.recurrent(x[:, half:], tuple(state.detach() for state in states))\n"
         "        hidden = torch.cat([first, second], 1)"),
    ), "gradient of 'layer.1.bias' (backward), from time step 2 back"),
    Fault("a weight left out of the gradient", EAGER, "dense", (
        ("dense.py", "return self.layers(x)",
         "y = nn.functional.linear(x, self.layers[0].weight, self.layers[0].bias.detach())\n"
         "        return self.layers[1:](y)"),
    ), "gradient of 'layer.0.bias' (backward)"),
    Fault("loss detached", EAGER, "dense", in_runtime(LOSS, LOSS.replace("logits.", "logits.detach()."), ),
          "loss and gradients (backward)"),
)  # fmt: skip

VERBS = (
    Fault("a tuple of logits and nothing returned", EAGER, "dense", in_runtime(
        INFER, INFER.replace("return ", "return None, "),
    ), "outputs"),
    Fault("no loss returned from training", EAGER, "dense", in_runtime(
        'return self._run("training", self._train, batch)', 'self._run("training", self._train, batch)',
    ), "training step 1"),
    Fault("biases missing in what the weights are", EAGER, "dense", in_runtime(
        "self._held[self._map[name][0]]) for name in self._map}",
        'self._held[self._map[name][0]]) for name in self._map if "bias" not in name}',
    ), "'layer.0.bias' before training"),
    Fault("head left in float32", EAGER, "lstm", (
        ("lstm.py", "        hidden, (last, _) = self", "        self.head.float()\n        hidden, (last, _) = self"),
    ), "forward pass (inference)"),
)  # fmt: skip

LIMITS = (
    Fault("gradient clipped to norm 1", EAGER, "lstm", in_runtime(
        "loss.backward()", "loss.backward()\n        nn.utils.clip_grad_norm_(self._trained, 1.0)",
    ), "all weights after training step 1", situation="large"),
    Fault("gradient clipped to norm 5", EAGER, "dense", in_runtime(
        "loss.backward()", "loss.backward()\n        nn.utils.clip_grad_norm_(self._trained, 5.0)",
    ), "all weights after training step 1", situation="large"),
    Fault("gradient clipped by value 5", EAGER, "residual", in_runtime(
        "loss.backward()", "loss.backward()\n        nn.utils.clip_grad_value_(self._trained, 5.0)",
    ), "'stem.conv.weight' after training step 1", situation="large"),
    Fault("initial cell state clipped to 3", EAGER, "lstm", (
        ("lstm.py", "(x, (h0, c0))", "(x, (h0, c0.clamp(-3, 3)))"),
    ), "layer.0 (inference)", situation="large"),
    Fault("probabilities clipped", EAGER, "dense", in_runtime(
        LOSS, "return F.nll_loss(F.softmax(logits.flatten(0, -2), -1).clamp(1e-7, 1 - 1e-7).log(), targets.flatten())",
    ), "loss", situation="large"),
    Fault("softmax without the shift", EAGER, "dense", in_runtime(
        LOSS, "logits = logits.flatten(0, -2).exp()\n"
        "    return F.nll_loss((logits / logits.sum(-1, keepdim=True)).log(), targets.flatten())",
    ), "loss", dtype="float32", situation="large"),
)  # fmt: skip

RULES = (
    Fault("AMSGrad", EAGER, "dense", in_optimiser("weight_decay=0.0, amsgrad=False", "weight_decay=0.0, amsgrad=True"),
          "'layer.0.weight' after training step 2", "adam"),
    Fault("rate ten times as high", EAGER, "dense", in_optimiser(
        "parameters, lr=optimiser.learning_rate, momentum", "parameters, lr=10 * optimiser.learning_rate, momentum",
    ), "all weights after training step 1"),
    Fault("Adam for plain descent", EAGER, "rnn", in_optimiser(
        'if optimiser.kind == "adam":\n        return', 'if optimiser.kind != "momentum":\n        return',
    ), "all weights after training step 1"),
)  # fmt: skip

ROUNDING = (
    Fault("operands of the first product rounded to ten bits", EAGER, "dense", (
        ("dense.py", "class Network(nn.Module):", TF32),
        ("dense.py", "return self.layers(x)",
         "return self.layers[1:](nn.functional.linear(tf32(x), tf32(self.layers[0].weight), self.layers[0].bias))"),
    ), "layer.0 (inference)", dtype="float32"),
    Fault("operands of the last product in bfloat16", EAGER, "dense-relu", (
        ("dense.py", "return self.layers(x)",
         "y, last = self.layers[:-1](x), self.layers[-1]\n"
         "        narrow = torch.bfloat16 if x.dtype == torch.float32 else x.dtype\n"
         "        return nn.functional.linear(y.to(narrow).to(x), last.weight.to(narrow).to(x), last.bias)"),
    ), "layer.2 (inference)", dtype="float32"),
    Fault("a layer in float16", EAGER, "dense", (
        ("dense.py", "return self.layers(x)",
         "y, layer = self.layers[:2](x), self.layers[2]\n"
         "        y = nn.functional.linear(y.half(), layer.weight.half(), layer.bias.half()).to(x.dtype)\n"
         "        return self.layers[3:](y)"),
    ), "layer.1 (inference)"),
)  # fmt: skip

# The backward passes by hand, and what is compiled.
MODES = (
    Fault("states not shifted in the gradient of the recurrent weight", TUNED, "rnn", (
        ("tuned.py", "torch.cat([h0[None], hidden[:-1]])", "hidden"),
    ), "gradient of 'layer.1.weight_hh' (backward)"),
    Fault("slope of tanh without the square", TUNED, "rnn", (
        ("tuned.py", "1 - hidden * hidden", "1 - hidden"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("gradient not handed on at one time step", TUNED, "rnn", (
        ("tuned.py", "arriving = sums[step] @ weight_hh", "arriving = sums[step] @ weight_hh if step != 3 else 0 * h0"),
    ), "gradient of 'layer.1.bias' (backward), from time step 2 back"),
    Fault("no gradient by the initial state returned", TUNED, "rnn", (
        ("tuned.py", "return by_x, arriving,", "return by_x, None,"),
    ), "gradient of input 'h0' (backward)"),
    Fault("bias summed over the first time step alone", TUNED, "rnn", (
        ("tuned.py", "flat.sum(0), None", "sums[0].sum(0), None"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("last example left out", COMPILE, "dense", in_runtime(
        LOSS, f"logits, targets = logits[:-1], targets[:-1]\n    {LOSS}",
    ), "loss, without example 5"),
    Fault("inference by the weights of the first call", COMPILE, "lstm", in_runtime(
        "        self._is_constant = False\n        if self._optimiser", "        if self._optimiser",
    ), "outputs after 3 training steps", dtype="float32"),
)  # fmt: skip

FAULTS = (*DATA, *LAYERS, *GRADIENTS, *VERBS, *LIMITS, *RULES, *ROUNDING, *MODES)
