"""What is known of Flax's layers: which axes of their weights are which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flax import nnx

from faceoff.core.weights import STATISTICS

NORMS = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.InstanceNorm)
GRU_GATES = ("r", "z", "n")
PARTS = {"kernel": "weight", "embedding": "weight", "var": "variance"}


@dataclass(frozen=True)
class Place:
    """A weight or running statistic of a user's model.

    Args:
        path: its name in the model.
        layer: the kind of the layer that it belongs to; empty where not known.
        part: what it is there.
        axes: the permutation of the canonical axes that makes the model's.
        stacked: the gates that it holds one after the other, where no order of them is usual.
        is_statistic: the model itself moves it, in whatever kind of layer.
    """

    path: str
    layer: str
    part: str
    axes: tuple[int, ...]
    stacked: tuple[str, ...] = ()
    is_statistic: bool = False

    def to_json(self) -> dict[str, Any]:
        """As `Runtime.open_side` tells it."""
        told: dict[str, Any] = {"path": self.path, "layer": self.layer, "part": self.part, "axes": list(self.axes)}
        told["stacked"] = list(self.stacked)
        return {**told, "trained": False} if self.is_statistic else told


def place_of(module: nnx.Module, path: Sequence[Any], name: str, is_statistic: bool) -> Place:
    """Where a module keeps a variable.

    Args:
        module: the whole model.
        path: of the variable in it.
        name: of the path.
        is_statistic: whether the model itself moves it.
    """
    *within, leaf = path
    owners: list[Any] = [module]
    for key in within:
        owners.append(part_of(owners[-1], key))
    owner, rank = owners[-1], part_of(owners[-1], leaf).ndim
    layer, part, axes = kind_of(owner), PARTS.get(str(leaf), str(leaf)), tuple(range(rank))
    if part in STATISTICS and not is_statistic:
        # Nothing else is called like a running statistic.
        part = "weight"
    if leaf == "kernel":
        axes = _kernel_axes(owner, rank)
    stacked: tuple[str, ...] = ()
    cell = next((outer for outer in owners[:-1] if isinstance(outer, nnx.nn.recurrent.RNNCellBase)), None)
    if cell is not None and layer == "linear":
        # Flax calls its products `dense_i` and `dense_h`, or `ii`, `hf` and the like, one for each gate.
        source = str(within[-1]).removeprefix("dense_")[:1]
        layer, part = "recurrent", part + {"i": "_ih", "h": "_hh"}.get(source, "")
        stacked = GRU_GATES if isinstance(cell, nnx.GRUCell) else ()
    return Place(name, layer, part, axes, stacked, is_statistic)


def part_of(owner: Any, key: Any) -> Any:
    """What a module, list or dict has at this place of a path."""
    return getattr(owner, key) if isinstance(key, str) and hasattr(owner, key) else owner[key]


def kind_of(owner: Any) -> str:
    """What kind of layer a module is; empty where it is none that is known."""
    if isinstance(owner, nnx.LinearGeneral):
        return "attention" if len(owner.in_features) + len(owner.out_features) > 2 else "linear"
    if isinstance(owner, NORMS):
        return "norm"
    kinds = {
        nnx.Linear: "linear",
        nnx.Conv: "convolution",
        nnx.ConvTranspose: "transposed convolution",
        nnx.Embed: "embedding",
        nnx.Einsum: "einsum",
        nnx.nn.recurrent.RNNCellBase: "recurrent",
    }
    return next((kind for cls, kind in kinds.items() if isinstance(owner, cls)), "")


def _kernel_axes(owner: Any, rank: int) -> tuple[int, ...]:
    spatial = tuple(range(1, rank - 1))
    if isinstance(owner, nnx.Conv):
        return (*spatial, rank - 1, 0)
    if isinstance(owner, nnx.ConvTranspose):
        return (*spatial, rank - 1, 0) if owner.transpose_kernel else (*spatial, 0, rank - 1)
    if isinstance(owner, nnx.Linear) and rank == 2:
        return (1, 0)
    if isinstance(owner, nnx.LinearGeneral):
        # Canonical: what comes out before what comes in, with as many axes each.
        outputs = len(owner.out_features)
        return (*range(outputs, rank), *range(outputs))
    return tuple(range(rank))
