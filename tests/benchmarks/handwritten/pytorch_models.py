"""The four models in PyTorch as one would write them by hand, each step on its own: the contender's yardstick.

Nothing here knows of `impls`. Modes: `eager`, `compile`, and on a GPU `cuda-graphs`: what `compile` runs, each step,
optimiser included, captured as one graph. Eager runs the layers as they are written; folding batch norm and packing
weights is left to the compiler (`freezing`). Where it does not pay (dense, RNN) or packs nothing (a GPU) compile goes
without. While Inductor freezes, Dynamo guards the identity of every weight; else weights are inputs of compiled code.

Recurrent layers on a GPU are cuDNN's, images and kernels channels-last, convolutions searched for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceoff.core.errors import UnsupportedError
from faceoff.core.precision import ADAMS
from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch
from tests.benchmarks.handwritten.cuda_graphs import captured

Placed = tuple[list[Tensor], Tensor]
Steps = dict[str, Callable[[Placed], object]]
MODES = ("eager", "compile", "cuda-graphs")


def place(batch: Batch, workload: Workload) -> Placed:
    """Inputs in the order x, h0, c0, and targets, as tensors on the workload's device."""
    names = [name for name in ("x", "h0", "c0") if name in batch.inputs]
    dtype, device = getattr(torch, workload.dtype), device_of(workload)
    inputs = [torch.tensor(batch.inputs[name], dtype=dtype, device=device) for name in names]
    return inputs, torch.tensor(batch.targets, device=device)


def device_of(workload: Workload) -> str:
    """PyTorch's name for the device."""
    return "cuda" if workload.device == "gpu" else "cpu"


def build(workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Steps:
    """Makes `inference`, `gradients` and `training`, each with a network of its own and taking a placed batch."""
    if mode not in MODES:
        raise UnsupportedError("no such mode by hand", where="mode", got=mode, expected=", ".join(MODES))
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    # PyTorch packs weights for cuDNN in the dtypes of this list, which lacks one.
    torch.backends.cudnn.CUDNN_TENSOR_DTYPES.add(torch.bfloat16)
    if mode != "eager":
        # One function serves the networks of all sizes; beyond the limit it would be run eagerly.
        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000
    return {
        "inference": inference(workload, weights, mode),
        "gradients": gradients(workload, weights, mode),
        "training": training(workload, weights, mode),
    }


def inference(workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Callable[[Placed], Tensor]:
    """The logits."""
    network = make_network(workload, weights).eval()
    call: Callable[..., Tensor] = network
    packs = workload.dtype == "float32" and workload.device == "cpu"
    freezes = mode == "compile" and packs and isinstance(workload.model, (ResidualSpec, LstmSpec))
    if mode != "eager":
        call = torch.compile(lambda *inputs: network(*inputs), dynamic=False)

    @torch.inference_mode()
    def run(batch: Placed) -> Tensor:
        return call(*batch[0])

    if mode == "cuda-graphs":
        return captured(run, network)
    if not freezes:
        return run
    first = [True]

    def run_frozen(batch: Placed) -> Tensor:
        if first:
            first.clear()
            with torch._inductor.config.patch(freezing=True), torch._dynamo.config.patch(allow_rnn=True):
                return run(batch)
        return run(batch)

    return run_frozen


def gradients(workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Callable[[Placed], list[Tensor]]:
    """The loss and its gradients by weights and inputs."""
    network = make_network(workload, weights).train()
    for norm in batch_norms(network):
        norm.track_running_stats = False
    loss_of = make_loss(network, mode)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def run(batch: Placed) -> list[Tensor]:
        inputs = [value.detach().requires_grad_() for value in batch[0]]
        loss = loss_of(inputs, batch[1])
        return [loss.detach(), *torch.autograd.grad(loss, parameters + inputs)]

    return captured(run, network) if mode == "cuda-graphs" else run


def training(workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Callable[[Placed], Tensor]:
    """One optimiser step; the loss before it."""
    network = make_network(workload, weights).train()
    loss_of = make_loss(network, mode)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = make_optimiser(workload, parameters, mode)
    variances = [norm.running_var for norm in batch_norms(network)]
    shares = biased_shares(workload)

    def run(batch: Placed) -> Tensor:
        # PyTorch averages the unbiased variance, so it is given the average of those, and the biased one is taken back.
        if variances:
            torch._foreach_div_(variances, shares)
        loss = loss_of(*batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if variances:
            torch._foreach_mul_(variances, shares)
        return loss.detach()

    return captured(run, network, optimiser) if mode == "cuda-graphs" else run


def make_optimiser(workload: Workload, parameters: list[nn.Parameter], mode: str) -> torch.optim.Optimizer:
    """PyTorch's fused optimiser, but for SGD in half types on a CPU, where its kernel leaves weights unchanged."""
    wanted = workload.optimiser
    if wanted.kind in ADAMS:
        betas, in_graph = (wanted.beta1, wanted.beta2), mode == "cuda-graphs"
        constants = {"lr": wanted.learning_rate, "betas": betas, "eps": wanted.epsilon, "capturable": in_graph}
        if wanted.kind == "adamw":
            return torch.optim.AdamW(parameters, weight_decay=wanted.weight_decay, fused=True, **constants)
        return torch.optim.Adam(parameters, fused=True, **constants)
    momentum = wanted.momentum if wanted.kind == "momentum" else 0.0
    fused = workload.device == "gpu" or workload.dtype in ("float32", "float64")
    return torch.optim.SGD(parameters, lr=wanted.learning_rate, momentum=momentum, fused=fused)


def make_loss(network: nn.Module, mode: str) -> Callable[[list[Tensor], Tensor], Tensor]:
    """Mean softmax cross-entropy of the network's logits."""

    def loss_of(inputs: list[Tensor], targets: Tensor) -> Tensor:
        logits = network(*inputs)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))

    return loss_of if mode == "eager" else torch.compile(loss_of, dynamic=False)


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """In forward order, a shortcut's after its block's."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def biased_shares(workload: Workload) -> list[float]:
    """(n - 1) / n for every batch norm, with n the values per channel that it normalises."""
    spec = workload.model
    if not isinstance(spec, ResidualSpec):
        return []
    height, width, found = spec.height, spec.width, []
    n = workload.batch_size * height * width
    found.append((n - 1) / n)
    for _, incoming, outgoing, stride in spec.blocks():
        height, width = (height + stride - 1) // stride, (width + stride - 1) // stride
        n = workload.batch_size * height * width
        found += [(n - 1) / n] * (3 if stride != 1 or incoming != outgoing else 2)
    return found


class Mlp(nn.Sequential):
    """Linear layers with activations between."""

    def __init__(self, spec: DenseSpec) -> None:
        layers: list[nn.Module] = []
        for incoming, outgoing in itertools.pairwise(spec.layer_sizes):
            layers += [nn.Linear(incoming, outgoing), nn.ReLU() if spec.activation == "relu" else nn.Tanh()]
        super().__init__(*layers[:-1])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, incoming: int, outgoing: int, stride: int, epsilon: float, momentum: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(incoming, outgoing, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outgoing, epsilon, momentum)
        self.conv2 = nn.Conv2d(outgoing, outgoing, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outgoing, epsilon, momentum)
        self.projects = stride != 1 or incoming != outgoing
        if self.projects:
            self.conv3 = nn.Conv2d(incoming, outgoing, 1, stride, bias=False)
            self.bn3 = nn.BatchNorm2d(outgoing, epsilon, momentum)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.bn3(self.conv3(x)) if self.projects else x
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """He et al. 2016, section 4.2."""

    def __init__(self, spec: ResidualSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(spec.channels, spec.stage_widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(spec.stage_widths[0], spec.epsilon, spec.momentum)
        blocks = [BasicBlock(*sizes, spec.epsilon, spec.momentum) for _, *sizes in spec.blocks()]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(spec.stage_widths[-1], spec.output_size)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x.permute(0, 3, 1, 2))), inplace=True)
        return self.fc(self.blocks(x).mean((2, 3)))


class Recurrent(nn.Module):
    """nn.RNN or nn.LSTM, and a linear layer on top."""

    def __init__(self, spec: RnnSpec | LstmSpec) -> None:
        super().__init__()
        sizes = spec.input_size, spec.hidden_size, spec.num_layers
        self.is_lstm = isinstance(spec, LstmSpec)
        self.many_to_many = spec.many_to_many
        if isinstance(spec, LstmSpec):
            self.rnn: nn.RNNBase = nn.LSTM(*sizes, batch_first=True)
        else:
            self.rnn = nn.RNN(*sizes, nonlinearity=spec.activation, batch_first=True)
        self.fc = nn.Linear(spec.hidden_size, spec.output_size)

    def forward(self, x: Tensor, *state: Tensor) -> Tensor:
        y, last = self.rnn(x, state if self.is_lstm else state[0])
        if self.many_to_many:
            return self.fc(y)
        return self.fc(last[0][-1] if self.is_lstm else last[-1])


def make_network(workload: Workload, weights: Mapping[str, np.ndarray]) -> nn.Module:
    """The network with canonical weights in it: both list their tensors in the same order."""
    spec: ModelSpec = workload.model
    if isinstance(spec, DenseSpec):
        network: nn.Module = Mlp(spec)
    elif isinstance(spec, ResidualSpec):
        network = ResNet(spec).to(memory_format=torch.channels_last)
    else:
        assert isinstance(spec, (RnnSpec, LstmSpec))
        network = Recurrent(spec)
    # All at once, which puts cuDNN's recurrent weights into one block.
    network.to(device=device_of(workload), dtype=getattr(torch, workload.dtype))
    tensors = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    for name in [name for name in tensors if "bias_hh" in name]:
        nn.init.zeros_(tensors.pop(name))
        network.get_parameter(name).requires_grad_(False)
    for tensor, array in zip(tensors.values(), weights.values(), strict=True):
        axes = (0, 3, 1, 2) if array.ndim == 4 else range(array.ndim)
        tensor.copy_(torch.from_numpy(array.transpose(*axes)))
    return network
