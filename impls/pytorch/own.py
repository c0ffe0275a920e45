"""A user's own `nn.Module`: loaded from its file, described, and served as one more family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from faceoff.core.errors import InputError
from faceoff.core.outputs import scored
from faceoff.core.own import Port, port_of
from faceoff.core.side_file import has_loss, load_build, load_loss
from faceoff.core.spec import ModelSpec

from .masks import Dropouts
from .tracing import to_numpy

LEDGER = {"layout": "the user's own module"}
COMPILED = {"forward": "all that its code allows", "gradients, train_step": "likewise, network and loss, both ways"}
FREEZES = False

Loss = Callable[..., torch.Tensor]
WRAPPED = "model."
# Counters of batch norm, which decide nothing while momentum is a number.
IGNORED = "num_batches_tracked"
STATISTICS = {"running_mean": "mean", "running_var": "variance"}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
KINDS: tuple[tuple[Any, str], ...] = (
    (nn.Linear, "linear"), (CONVOLUTIONS, "convolution"), (TRANSPOSED, "transposed convolution"), (NORMS, "norm"),
    (nn.Embedding, "embedding"), (nn.RNNBase, "recurrent"), (nn.MultiheadAttention, "attention"),
)  # fmt: skip
# Of three gates no order is usual.
GRU_GATES = ["r", "z", "n"]


def build_module(file: str) -> nn.Module:
    """The module that `build()` in a user's file returns.

    Raises:
        InputError: the file does not import, has no `build`, or that returns something else.
        UnsupportedError: it needs a module that is not here.
    """
    module = load_build(file, _variant())()
    if not isinstance(module, nn.Module):
        raise InputError("build() returns no module", where=file, got=type(module).__name__, expected="torch.nn.Module")
    return module


def _variant() -> str:
    """What the constants of a file may depend on."""
    return str(torch.get_default_dtype())


class Network(nn.Module):
    """A user's module that takes its inputs by name.

    Args:
        spec: of a port that is known.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        port = port_of(spec)
        side = port.side("pytorch")
        self.model = build_module(side.file)
        self.dropouts = Dropouts(self.model, side.dropouts)
        self._names = [given.name for given in port.inputs if given.name not in side.dropouts]
        self._axes = side.inputs

    def forward(self, **inputs: torch.Tensor) -> Any:
        """The outputs, as the module returns them."""
        turned = {
            name: value.permute(self._axes[name]) if name in self._axes else value for name, value in inputs.items()
        }
        self.dropouts.give(turned)
        return self.model(*(turned[name] for name in self._names))


def weight_map(spec: ModelSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the name in the wrapped module's state dict, and the axes that make PyTorch's array of one."""
    weights = port_of(spec).side("pytorch").weights
    return {name: (f"{WRAPPED}{placed.path}", placed.axes) for name, placed in weights.items()}


def traced_modules(spec: ModelSpec) -> dict[str, str]:
    """None: a user's layers have no canonical names."""
    return {}


def loss_of(port: Port) -> Loss:
    """The mean loss of a network's outputs, as a function of network, inputs and targets."""

    file = port.side("pytorch").file
    ignored = {} if port.targets.ignored is None else {"ignore_index": port.targets.ignored}

    def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.movedim(port.class_axis, -1).flatten(0, -2), targets.flatten(), **ignored)

    named = {
        "cross-entropy": cross_entropy,
        "squared-error": F.mse_loss,
        "binary-cross-entropy": F.binary_cross_entropy_with_logits,
    }
    if port.loss not in named:
        return _own_loss(file)
    function = named[port.loss]

    def loss(network: nn.Module, inputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        return function(scored(network(**inputs), port.output, is_numbers, file), targets)

    return loss


def is_numbers(value: Any) -> bool:
    """Whether it is a tensor of real numbers."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _own_loss(file: str) -> Loss:
    function = load_loss(file, _variant())

    def own(network: nn.Module, inputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        # A policy of mixed precision has the loss in the dtype of the weights.
        dtype = next(network.parameters()).dtype
        outputs = tree_map_only(torch.Tensor, lambda part: part.to(dtype), network(**inputs))
        loss = function(outputs, targets)
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            got = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise InputError(
                "`loss()` returned no single number", where=file, got=got, expected="a tensor without axes"
            )
        return loss

    return own


def model_class() -> type[Any]:
    """What serves a user's own model; it is made of what serves the built-in ones, which imports this module."""
    from .own_model import OwnModel

    return OwnModel


def describe_side(file: str, seed: int) -> dict[str, Any]:
    """What a user's module holds; see `Runtime.open_side`."""
    torch.manual_seed(seed)
    module = build_module(file)
    weights, arrays = [], {}
    trained = {id(value) for value in module.parameters()}
    own_linear = own_linear_layers(module)
    for path, value in module.state_dict(keep_vars=True).items():
        owner, _, part = path.rpartition(".")
        if part == IGNORED:
            continue
        if id(value) not in trained and part not in STATISTICS:
            continue  # A buffer of constants is part of the code.
        layer = module.get_submodule(owner)
        kind = kind_of(layer) or ("linear" if type(layer) in own_linear else "")
        turned = own_linear.get(type(layer), False) and part == "weight"
        weights.append(
            {
                "path": path,
                "layer": kind,
                "part": STATISTICS.get(part, "scale" if kind == "norm" and part == "weight" else part),
                "axes": [1, 0] if turned else axes_of(kind, value),
                "stacked": GRU_GATES if isinstance(layer, nn.GRU) else [],
            }
        )
        arrays[path] = to_numpy(value.float())
    return {"weights": weights, "arrays": arrays, "loss": has_loss(file, _variant())}


def kind_of(module: nn.Module) -> str:
    """What kind of layer a module is; empty where it is none that is known."""
    return next((kind for classes, kind in KINDS if isinstance(module, classes)), "")


def own_linear_layers(module: nn.Module) -> dict[type[nn.Module], bool]:
    """Classes beside PyTorch's own that are linear layers by what they hold, and whether inputs come first there.

    A bias is as long as there are outputs. A square kernel tells nothing, but others of its class do.
    """
    told: dict[type[nn.Module], set[bool | None]] = {}
    for part in module.modules():
        held = dict(part.named_parameters(recurse=False))
        if kind_of(part) or set(held) != {"weight", "bias"} or (held["weight"].ndim, held["bias"].ndim) != (2, 1):
            continue
        (first, last), outputs = held["weight"].shape, len(held["bias"])
        if first != last:
            told.setdefault(type(part), set()).add(outputs == last if outputs in (first, last) else None)
    return {kind: True in turned for kind, turned in told.items() if len(turned) == 1 and None not in turned}


def axes_of(kind: str, value: torch.Tensor) -> list[int]:
    """The permutation of canonical axes that makes PyTorch's: channels come before places here."""
    axes = list(range(value.ndim))
    if kind in ("convolution", "transposed convolution") and value.ndim > 2:
        # Canonical: (outputs, places, inputs), transposed (inputs, places, outputs).
        return [0, axes[-1], *axes[1:-1]]
    return axes
