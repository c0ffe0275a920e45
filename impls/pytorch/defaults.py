"""What PyTorch does when nothing but the sizes is given: small pieces, written as its users write them.

Each probe takes sizes, seeds and NumPy arrays and returns NumPy arrays: kernels `(outputs, inputs)`, those of a
convolution `(outputs, height, width, inputs)`, gates stacked along the first axis in the order that PyTorch stores.
What PyTorch refuses is raised as PyTorch raises it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Arrays = dict[str, np.ndarray]


def _numpy(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()


def dense(inputs: int, outputs: int, seed: int) -> Arrays:
    """A new dense layer: `kernel (outputs, inputs)` and `bias (outputs,)`."""
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    return {"kernel": _numpy(layer.weight), "bias": _numpy(layer.bias)}


def convolution(inputs: int, outputs: int, kernel_size: int, seed: int) -> Arrays:
    """A new square convolution: `kernel (outputs, height, width, inputs)` and `bias (outputs,)`."""
    torch.manual_seed(seed)
    layer = nn.Conv2d(inputs, outputs, kernel_size)
    return {"kernel": _numpy(layer.weight.permute(0, 2, 3, 1)), "bias": _numpy(layer.bias)}


def embedding(inputs: int, outputs: int, seed: int) -> Arrays:
    """A new table of `inputs` vectors: `kernel (inputs, outputs)`."""
    torch.manual_seed(seed)
    return {"kernel": _numpy(nn.Embedding(inputs, outputs).weight)}


def recurrent(kind: str, inputs: int, hidden: int, seed: int, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Arrays:
    """A new recurrent layer (`rnn`, `lstm` or `gru`) and one step of it.

    Args:
        x: `(batch_size, inputs)`. h, c: `(batch_size, hidden)`.

    Returns:
        `input_kernel (gates * hidden, inputs)`, `recurrent_kernel (gates * hidden, hidden)`, one `bias.N` for each bias
        vector, the new state `hidden`, and `cell` where there is one.
    """
    torch.manual_seed(seed)
    layer = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](inputs, hidden)
    h0, c0 = torch.tensor(h)[None], torch.tensor(c)[None]
    _, state = layer(torch.tensor(x)[None], (h0, c0) if kind == "lstm" else h0)
    found = {
        "input_kernel": _numpy(layer.weight_ih_l0),
        "recurrent_kernel": _numpy(layer.weight_hh_l0),
        "bias.0": _numpy(layer.bias_ih_l0),
        "bias.1": _numpy(layer.bias_hh_l0),
    }
    if kind == "lstm":
        return found | {"hidden": _numpy(state[0][0]), "cell": _numpy(state[1][0])}
    return found | {"hidden": _numpy(state[0])}


ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": nn.GELU(),
    "leaky_relu layer": nn.LeakyReLU(),
    "leaky_relu function": F.leaky_relu,
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "silu": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "hard_sigmoid": nn.Hardsigmoid(),
    "softplus": nn.Softplus(),
}


def activation(name: str, x: np.ndarray) -> Arrays:
    """`y` of an activation, the shape of x."""
    return {"y": _numpy(ACTIVATIONS[name](torch.tensor(x)))}


def batch_norm(x: np.ndarray, other: np.ndarray) -> Arrays:
    """One training step of a new batch norm on x `(batch_size, channels)`, then inference on `other`."""
    layer = nn.BatchNorm1d(x.shape[1])
    before = _numpy(layer.running_mean.clone()), _numpy(layer.running_var.clone())
    y = layer(torch.tensor(x))
    layer.eval()
    return {
        "mean_before": before[0],
        "variance_before": before[1],
        "training": _numpy(y),
        "mean": _numpy(layer.running_mean),
        "variance": _numpy(layer.running_var),
        "inference": _numpy(layer(torch.tensor(other))),
    }


def layer_norm(x: np.ndarray) -> Arrays:
    """`y` of a new layer norm over the last axis of x."""
    return {"y": _numpy(nn.LayerNorm(x.shape[-1])(torch.tensor(x)))}


def padded(x: np.ndarray, kernel: np.ndarray, stride: int, by_number: bool) -> Arrays:
    """A convolution with padding `same`, or with the number `kernel_size // 2`.

    Args:
        x: one image `(height, width)`. kernel: `(kernel_size, kernel_size)`.
    """
    size = len(kernel)
    layer = nn.Conv2d(1, 1, size, stride=stride, padding=size // 2 if by_number else "same", bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(kernel)[None, None])
    return {"y": _numpy(layer(torch.tensor(x)[None, None])[0, 0])}


def array(x: np.ndarray) -> Arrays:
    """x handed over as a NumPy array, with no dtype given."""
    return {"y": _numpy(torch.tensor(x))}


def dense_output(x: np.ndarray) -> Arrays:
    """A new dense layer on x `(batch_size, inputs)`, whatever the dtype of x."""
    return {"y": _numpy(nn.Linear(x.shape[1], 4)(torch.tensor(x)))}


def product(a: np.ndarray, b: np.ndarray) -> Arrays:
    """The matrix product on the default device."""
    device = torch.get_default_device() if not torch.cuda.is_available() else torch.device("cuda")
    return {"y": _numpy(torch.tensor(a, device=device) @ torch.tensor(b, device=device))}


def convolved(x: np.ndarray, kernel: np.ndarray) -> Arrays:
    """x `(batch_size, height, width, channels)` with `kernel (outputs, height, width, channels)`, no padding."""
    device = torch.get_default_device() if not torch.cuda.is_available() else torch.device("cuda")
    images, weight = (torch.tensor(value, device=device).permute(0, 3, 1, 2) for value in (x, kernel))
    return {"y": _numpy(F.conv2d(images, weight).permute(0, 2, 3, 1))}


OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p, **rate: torch.optim.SGD(p, **rate),
    "momentum": lambda p, **rate: torch.optim.SGD(p, momentum=0.9, **rate),
    "nesterov": lambda p, **rate: torch.optim.SGD(p, momentum=0.9, nesterov=True, **rate),
    "adam": lambda p, **rate: torch.optim.Adam(p, **rate),
    "adamw": lambda p, **rate: torch.optim.AdamW(p, **rate),
    "rmsprop": lambda p, **rate: torch.optim.RMSprop(p, **rate),
}


def optimiser(name: str, start: np.ndarray, gradients: np.ndarray, rates: np.ndarray | None) -> Arrays:
    """Steps of an optimiser over given gradients, in float64.

    Args:
        start: parameters `(count,)`. gradients: `(steps, count)`.
        rates: the learning rate of every step, or None for the optimiser's own.

    Returns:
        `parameters (steps + 1, count)`.
    """
    parameter = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    rate = {} if rates is None else {"lr": float(rates[0])}
    rule = OPTIMISERS[name]([parameter], **rate)
    found = [_numpy(parameter.clone())]
    for step, gradient in enumerate(gradients):
        if rates is not None:
            rule.param_groups[0]["lr"] = float(rates[step])
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        rule.step()
        found.append(_numpy(parameter.clone()))
    return {"parameters": np.stack(found)}


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> Arrays:
    """`loss` of logits `(batch_size, classes)` and class numbers `(batch_size,)`."""
    return {"loss": _numpy(nn.CrossEntropyLoss()(torch.tensor(logits), torch.tensor(targets)))}


def dropout(x: np.ndarray, rate: float, seed: int) -> Arrays:
    """x in training and in inference."""
    torch.manual_seed(seed)
    layer = nn.Dropout(rate)
    training = _numpy(layer(torch.tensor(x)))
    return {"training": training, "inference": _numpy(layer.eval()(torch.tensor(x)))}


PROBES: Mapping[str, Callable[..., Arrays]] = {
    probe.__name__: probe
    for probe in (
        dense, convolution, embedding, recurrent, activation, batch_norm, layer_norm, padded, array, dense_output,
        product, convolved, optimiser, cross_entropy, dropout,
    )
}  # fmt: skip
