"""Faults of a mistaken PyTorch author."""

from tests.meta.faults.fault import Fault, in_optimiser, in_runtime

EAGER = "pytorch:eager"

DENSE = (
    Fault("activation after the last layer too", EAGER, "dense", (
        ("dense.py", "nn.Sequential(*layers[:-1])", "nn.Sequential(*layers)"),
    ), "outputs"),
    Fault("activation missing", EAGER, "dense", (
        ("dense.py", "ACTIVATIONS[spec.activation]()]", "nn.Identity()]"),
    ), "layer.0 (inference)"),
    Fault("hard tanh for tanh", EAGER, "dense", (("dense.py", "nn.Tanh}", "nn.Hardtanh}"),), "layer.0 (inference)"),
    Fault("GELU for ReLU", EAGER, "dense-relu", (("dense.py", "nn.ReLU,", "nn.GELU,"),), "layer.0 (inference)"),
    Fault("leaky ReLU for ReLU", EAGER, "dense-relu", (
        ("dense.py", "nn.ReLU,", "nn.LeakyReLU,"),
    ), "layer.0 (inference)"),
    Fault("functional dropout, which is on in inference too", EAGER, "dense", (
        ("dense.py", "return self.layers(x)", "return self.layers(nn.functional.dropout(x, 0.1))"),
    ), "layer.0 (inference)"),
    Fault("float32 in the second layer", EAGER, "dense", (
        ("dense.py", "return self.layers(x)",
         "y = self.layers[3](self.layers[2](self.layers[:2](x)).float().to(x.dtype))\n"
         "        return self.layers[4:](y)"),
    ), "layer.1 (inference)"),
    Fault("left in an autocast to bfloat16", EAGER, "dense", (
        ("dense.py", "return self.layers(x)",
         'with torch.autocast("cpu", torch.bfloat16):\n            return self.layers(x).to(x.dtype)'),
    ), "layer.0 (inference)", dtype="float32"),
)  # fmt: skip

LSTM = (
    Fault("gates loaded in the order i, f, o, g", EAGER, "lstm", in_runtime(
        "self._held[path].copy_(torch.tensor(weights[name]).permute(axes))",
        "value = torch.tensor(weights[name]).permute(axes)\n"
        '                if name.startswith("layer"):\n'
        "                    i, f, g, o = value.chunk(4)\n"
        "                    value = torch.cat([i, f, o, g])\n"
        "                self._held[path].copy_(value)",
    ), "layer.0 (inference)"),
    Fault("second bias left as it was drawn", EAGER, "lstm", (
        ("lstm.py", "nn.init.zeros_(parameter.requires_grad_(False))", "parameter.requires_grad_(False)"),
    ), "layer.0 (inference)"),
    Fault("second bias trained as well", EAGER, "lstm", (
        ("lstm.py", "nn.init.zeros_(parameter.requires_grad_(False))", "nn.init.zeros_(parameter)"),
        ("runtime.py", "make_optimiser(self._workload.optimiser, self._trained,",
         "make_optimiser(self._workload.optimiser, list(self._network.parameters()),"),
    ), "layer.0 (inference)"),
    Fault("h and c swapped", EAGER, "lstm", (("lstm.py", "(x, (h0, c0))", "(x, (c0, h0))"),), "layer.0 (inference)"),
    Fault("initial cell state given to the first layer only", EAGER, "lstm", (
        ("lstm.py", "(x, (h0, c0))", "(x, (h0, torch.cat([c0[:1], torch.zeros_like(c0[1:])])))"),
    ), "layer.1 (inference)"),
    Fault("sequence shifted by one step", EAGER, "lstm", (
        ("lstm.py", "(x, (h0, c0))", "(x.roll(1, dims=1), (h0, c0))"),
    ), "layer.0 (inference)"),
    Fault("batch_first forgotten, as many steps as examples", EAGER, "lstm", (
        ("lstm.py", "batch_first=True", "batch_first=False"),
    ), "layer.0 (inference)"),
    Fault("last but one hidden state", EAGER, "lstm-last", (
        ("lstm.py", "last[-1])", "hidden[:, -2])"),
    ), "head (inference)"),
    Fault("cell state for the hidden state", EAGER, "lstm-last", (
        ("lstm.py", "hidden, (last, _)", "hidden, (_, last)"),
    ), "head (inference)"),
    Fault("gradient clipped between layer and head", EAGER, "lstm", (
        ("lstm.py", "        return self.head(hidden if",
         "        if hidden.requires_grad:\n"
         "            hidden.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))\n"
         "        return self.head(hidden if"),
    ), "gradient of 'layer.1.bias' (backward)"),
    Fault("bfloat16 before the head", EAGER, "lstm", (
        ("lstm.py", "self.head(hidden if", "self.head(hidden.bfloat16().to(x.dtype) if"),
    ), "head (inference)"),
    Fault("loss summed over time", EAGER, "lstm", in_runtime(
        "F.cross_entropy(logits.flatten(0, -2), targets.flatten())",
        'F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum") / len(targets)',
    ), "loss"),
)  # fmt: skip

RNN = (
    Fault("bias of the first layer dropped", EAGER, "rnn", (
        ("rnn.py", "        hidden, last = self.recurrent(x, h0)",
         "        with torch.no_grad():\n            self.recurrent.bias_ih_l0.zero_()\n"
         "        hidden, last = self.recurrent(x, h0)"),
    ), "layer.0 (inference)"),
    Fault("ReLU for tanh", EAGER, "rnn", (
        ("rnn.py", "nonlinearity=spec.activation", 'nonlinearity="relu"'),
    ), "layer.0 (inference)"),
    Fault("sequence read backwards", EAGER, "rnn", (
        ("rnn.py", "self.recurrent(x, h0)", "self.recurrent(x.flip(1), h0)"),
    ), "layer.0 (inference)"),
    Fault("initial states of the layers in reverse", EAGER, "rnn", (
        ("rnn.py", "self.recurrent(x, h0)", "self.recurrent(x, h0.flip(0))"),
    ), "layer.0 (inference)"),
    Fault("recurrent weight transposed", EAGER, "rnn", (
        ("rnn.py", 'f"recurrent.weight_hh_l{index}", (0, 1)', 'f"recurrent.weight_hh_l{index}", (1, 0)'),
    ), "layer.0 (inference)"),
    Fault("recurrent weights of the layers in reverse", EAGER, "rnn", (
        ("rnn.py", 'f"recurrent.weight_hh_l{index}"', 'f"recurrent.weight_hh_l{spec.num_layers - 1 - index}"'),
    ), "layer.0 (inference)"),
    Fault("head on the first layer", EAGER, "rnn", (("rnn.py", "last[-1])", "last[0])"),), "head (inference)"),
    Fault("head on the mean over time", EAGER, "rnn", (
        ("rnn.py", "last[-1])", "hidden.mean(1))"),
    ), "head (inference)"),
    Fault("last state carried over to the next call", EAGER, "rnn", (
        ("rnn.py", "        hidden, last = self.recurrent(x, h0)",
         '        h0 = h0 + getattr(self, "carried", torch.zeros_like(h0))\n'
         "        hidden, last = self.recurrent(x, h0)\n"
         "        self.carried = last.detach()"),
    ), "loss"),
)  # fmt: skip

RESIDUAL = (
    Fault("Keras' epsilon", EAGER, "residual", (
        ("residual.py", '"eps": spec.epsilon', '"eps": 1e-3'),
    ), "stem.norm (inference)"),
    Fault("momentum as Keras means it", EAGER, "residual", (
        ("residual.py", '"momentum": spec.momentum', '"momentum": 1 - spec.momentum'),
    ), "'stem.norm.mean' after training step 1"),
    Fault("unbiased running variance", EAGER, "residual", (
        ("residual.py", "[(n - 1) / n for n in", "[1.0 for n in"),
    ), "'stem.norm.variance' after training step 1"),
    Fault("unbiased running variance of another batch size", EAGER, "residual", in_runtime(
        "self._variances.make_unbiased(batch_size)", "self._variances.make_unbiased(2 * batch_size)",
    ), "'stem.norm.variance' after training step 1"),
    Fault("running variance read as PyTorch averages it", EAGER, "residual", in_runtime(
        '        self._enter("inference")\n        return {name: self._to', "        return {name: self._to",
    ), "'stem.norm.variance' after training step 1"),
    Fault("running statistics not updated", EAGER, "residual", in_runtime(
        'norm.track_running_stats = phase != "gradients"', "norm.track_running_stats = False",
    ), "'stem.norm.mean' after training step 1"),
    Fault("running statistics used in training", EAGER, "residual", (
        ("residual.py", "    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        \"\"\"Maps `x`",
         "    def train(self, mode: bool = True) -> nn.Module:\n"
         "        super().train(mode)\n"
         "        for module in self.modules():\n"
         "            if isinstance(module, nn.BatchNorm2d):\n"
         "                module.eval()\n"
         "        return self\n\n"
         "    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        \"\"\"Maps `x`"),
    ), "stem.norm (training)"),
    Fault("batch statistics used in inference", EAGER, "residual", in_runtime(
        'self._network.train(phase != "inference")', "self._network.train()",
    ), "outputs"),
    Fault("running statistics moved by gradients alone", EAGER, "residual", in_runtime(
        'norm.track_running_stats = phase != "gradients"', "norm.track_running_stats = True",
    ), "'stem.norm.mean' before training"),
    Fault("edges repeated for padding", EAGER, "residual", (
        ("residual.py", "padding=kernel // 2, bias=False", 'padding=kernel // 2, bias=False, padding_mode="replicate"'),
    ), "stem.conv (inference)"),
    Fault("shortcut after the activation", EAGER, "residual", (
        ("residual.py", "        y += self.shortcut(x)\n        return F.relu(y, inplace=True)",
         "        return F.relu(y) + self.shortcut(x)"),
    ), "stage.0.block.0 (inference)"),
    Fault("identity shortcut missing", EAGER, "residual", (
        ("residual.py", "        y += self.shortcut(x)\n",
         "        if len(self.shortcut):\n            y += self.shortcut(x)\n"),
    ), "stage.0.block.0 (inference)"),
    Fault("second norm before its convolution", EAGER, "residual", (
        ("residual.py", "self.norm2(self.conv2(y))", "self.conv2(self.norm2(y))"),
    ), "stage.0.block.0.conv2 (inference)"),
    Fault("activation between the convolutions missing", EAGER, "residual", (
        ("residual.py", "F.relu(self.norm1(self.conv1(x)), inplace=True)", "self.norm1(self.conv1(x))"),
    ), "stage.0.block.0.conv2 (inference)"),
    Fault("no gradient through the projection", EAGER, "residual", (
        ("residual.py", "y += self.shortcut(x)", "y += self.shortcut(x.detach())"),
    ), "gradient of 'stage.0.block.0.norm2.bias' (backward)"),
    Fault("maximum for average pooling", EAGER, "residual", (
        ("residual.py", "x.mean((2, 3))", "x.amax((2, 3))"),
    ), "pool (inference)"),
    Fault("kernel height and width swapped", EAGER, "residual", (
        ("residual.py", "4: (0, 3, 1, 2)", "4: (0, 3, 2, 1)"),
    ), "stem.conv (inference)"),
    Fault("image height and width swapped", EAGER, "residual", (
        ("residual.py", "x.permute(0, 3, 1, 2)", "x.permute(0, 3, 2, 1)"),
    ), "stem.conv (inference)"),
)  # fmt: skip

TRAINING = (
    Fault("loss summed, not averaged", EAGER, "dense", in_runtime(
        "F.cross_entropy(logits.flatten(0, -2), targets.flatten())",
        'F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum")',
    ), "loss"),
    Fault("labels smoothed", EAGER, "residual", in_runtime(
        "F.cross_entropy(logits.flatten(0, -2), targets.flatten())",
        "F.cross_entropy(logits.flatten(0, -2), targets.flatten(), label_smoothing=0.1)",
    ), "loss"),
    Fault("loss scaled for half precision and gradients not scaled back", EAGER, "rnn", in_runtime(
        "torch.autograd.grad(loss, wanted,", "torch.autograd.grad(1024 * loss, wanted,",
    ), "gradient of 'head.bias' (backward)"),
    Fault("Keras' epsilon in Adam", EAGER, "dense", in_optimiser(
        "eps=optimiser.epsilon", "eps=1e-7",
    ), "all weights after training step 1", "adam"),
    Fault("another second decay rate in Adam", EAGER, "lstm", in_optimiser(
        "betas=(optimiser.beta1, optimiser.beta2)", "betas=(optimiser.beta1, 0.99)",
    ), "second moment of all weights after training step 1", "adam"),
    Fault("AdamW's decay ten times as strong", EAGER, "dense", in_optimiser(
        "optimiser.weight_decay,", "10 * optimiser.weight_decay,",
    ), "all weights after training step 1", "adamw"),
    Fault("weight decay coupled", EAGER, "residual", in_optimiser(
        "dampening=0.0, weight_decay=0.0", "dampening=0.0, weight_decay=1e-4",
    ), "all weights after training step 1"),
    Fault("velocity damped", EAGER, "rnn", in_optimiser(
        "dampening=0.0", "dampening=momentum",
    ), "momentum of all weights after training step 2", "momentum"),
    Fault("Nesterov's momentum", EAGER, "dense", in_optimiser(
        "nesterov=False", "nesterov=momentum > 0",
    ), "all weights after training step 1", "momentum"),
    Fault("gradient clipped to a norm", EAGER, "rnn", in_runtime(
        "loss.backward()", "loss.backward()\n        nn.utils.clip_grad_norm_(self._trained, 0.1)",
    ), "all weights after training step 1"),
    Fault("gradients added up over the steps", EAGER, "dense", in_runtime(
        "        self._optimiser.zero_grad(set_to_none=True)\n", "",
    ), "all weights after training step"),
    Fault("weights updated before there are gradients", EAGER, "dense", in_runtime(
        "        loss.backward()\n        self._optimiser.step()\n",
        "        self._optimiser.step()\n        loss.backward()\n",
    ), "all weights after training step 1"),
    Fault("optimiser made anew in every step", EAGER, "lstm", in_runtime(
        "if self._optimiser is None:", "if True:",
    ), "momentum of all weights after training step 2", "momentum"),
    Fault("head's bias left out of training", EAGER, "rnn", in_runtime(
        "make_optimiser(self._workload.optimiser, self._trained,",
        "make_optimiser(self._workload.optimiser, self._trained[:-1],",
    ), "'head.bias' after training step 1"),
    Fault("biases frozen", EAGER, "dense", in_runtime(
        "make_optimiser(self._workload.optimiser, self._trained,",
        "make_optimiser(self._workload.optimiser, [w for w in self._trained if w.ndim > 1],",
    ), "'layer.0.bias' after training step 1"),
    Fault("velocity kept in a reset", EAGER, "rnn", in_runtime(
        "        else:\n            self._optimiser = None\n", "",
    ), "optimiser state after a reset", "momentum"),
    Fault("running statistics kept in a reset", EAGER, "residual", in_runtime(
        "                self._held[path].copy_(",
        '                if not (hasattr(self, "_is_constant") and "running" in path):\n'
        "                    self._held[path].copy_(",
    ), "change of the starting weights by a reset"),
    Fault("loss after the step returned", EAGER, "dense", in_runtime(
        "        self._optimiser.zero_grad(set_to_none=True)\n        return loss.detach()",
        "        self._optimiser.zero_grad(set_to_none=True)\n"
        "        return self._loss(self._network, batch.inputs, batch.targets).detach()",
    ), "losses in training"),
)  # fmt: skip

FAULTS = (*DENSE, *LSTM, *RNN, *RESIDUAL, *TRAINING)
