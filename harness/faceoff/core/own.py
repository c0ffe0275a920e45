"""A user's own model as one more family: what has to be known of it where its files are not imported.

The sizes of the four built-in families say everything about them. Of a user's model a `Port` does: inputs, targets,
loss, weights, and where each side keeps those. It is made once, by asking the sides (`faceoff.ports`), and told to
every process that meets the model; a workload holds its name and digest alone.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from faceoff.core.errors import InputError
from faceoff.core.spec import AT, ModelSpec, OwnSpec

OWN_LOSS = "own"
LOSSES = ("cross-entropy", "squared-error", "binary-cross-entropy", OWN_LOSS)


@dataclass(frozen=True)
class Input:
    """One named input of a user's model.

    Args:
        name: as the sides take it.
        shape: of one example, without the batch's axis, which comes first.
        dtype: `float`, in whatever is being computed in, or `int64`, or `mask`: of a dropout, 0 for what it leaves out
            and 1 over the kept share for the rest.
        below: of whole numbers: they are drawn from 0 to this one, exclusive.
        scale: of the others: the standard deviation of what is drawn.
        kept: of a mask: the share that is kept.
    """

    name: str
    shape: Tuple[int, ...]
    dtype: str = "float"
    below: int = 0
    scale: float = 1.0
    kept: float = 1.0

    @property
    def is_float(self) -> bool:
        """Whether it is computed with, and has a gradient."""
        return self.dtype == "float"


@dataclass(frozen=True)
class Targets:
    """What the outputs are held against.

    Args:
        shape: of one example.
        classes: they are class numbers below this; 0: numbers like the outputs.
        scale: of numbers: the standard deviation of what is drawn.
        ignored: instead of a class number: nothing is asked at this place. None: something is asked at all.
    """

    shape: Tuple[int, ...]
    classes: int = 0
    scale: float = 1.0
    ignored: Optional[int] = None


@dataclass(frozen=True)
class Placed:
    """Where a side keeps a weight.

    Args:
        path: its name there.
        axes: the permutation of the canonical axes that makes the side's.
        shape: the side's, where it is not the permuted one.
        block: where it is a part of the side's array: first index and end along every axis of that. The blocks of a
            path fill its array, each element once.
    """

    path: str
    axes: Tuple[int, ...]
    shape: Optional[Tuple[int, ...]] = None
    block: Optional[Tuple[Tuple[int, int], ...]] = None

    def to_side(self, value: np.ndarray) -> np.ndarray:
        """A canonical array as the side has it: its block, if it is one."""
        turned = value.transpose(self.axes)
        # A copy, and one that keeps an array without axes as it is.
        return np.array(turned if self.shape is None else turned.reshape(self.shape), order="C")

    def to_canonical(self, value: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
        """A side's array, the whole of it, in canonical layout, of this shape."""
        if self.block is not None:
            value = value[tuple(slice(begin, end) for begin, end in self.block)]
        turned = value.reshape([shape[axis] for axis in self.axes])
        return np.array(turned.transpose(np.argsort(self.axes) if self.axes else ()), order="C")


@dataclass(frozen=True)
class PortSide:
    """One implementation of a user's model.

    Args:
        file: its Python file, absolute.
        weights: canonical name to where it is kept.
        inputs: the permutation of axes, the batch's included, in which it takes an input that is not as given.
        zeros: paths that are in no canonical weight: they are zero, and stay so, untrained (a second bias that is added
            to the first).
        layers: the reference's layers and this side's that are the same, by path, where the user says so. An empty path
            means none.
        dropouts: paths of the dropout layers that are given masks, by the names of these inputs.
    """

    file: str
    weights: Dict[str, Placed]
    inputs: Dict[str, Tuple[int, ...]] = field(default_factory=dict)
    zeros: Tuple[str, ...] = ()
    layers: Dict[str, str] = field(default_factory=dict)
    dropouts: Dict[str, str] = field(default_factory=dict)

    def to_side(self, values: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Canonical arrays as the side has them, by path, put together where several share one; without `zeros`."""
        found: Dict[str, np.ndarray] = {}
        for path, names in self._names_by_path().items():
            first = self.weights[names[0]]
            if first.block is None:
                found[path] = first.to_side(values[names[0]])
                continue
            blocks = {name: self.weights[name].block or () for name in names}
            ends = np.array(list(blocks.values()))[:, :, 1].max(axis=0)
            whole = np.empty(tuple(int(end) for end in ends), values[names[0]].dtype)
            for name, block in blocks.items():
                whole[tuple(slice(begin, end) for begin, end in block)] = self.weights[name].to_side(values[name])
            found[path] = whole
        return found

    def to_canonical(
        self, arrays: Mapping[str, Optional[np.ndarray]], shapes: Mapping[str, Tuple[int, ...]]
    ) -> Dict[str, Optional[np.ndarray]]:
        """The side's arrays by path in canonical layout, by name in the canonical order.

        Args:
            arrays: of some or all paths; None (a gradient that is not there) stays None.
            shapes: canonical ones, `Port.weights`.
        """
        found: Dict[str, Optional[np.ndarray]] = {}
        for name, shape in shapes.items():
            placed = self.weights[name]
            if placed.path in arrays:
                value = arrays[placed.path]
                found[name] = None if value is None else placed.to_canonical(value, shape)
        return found

    def _names_by_path(self) -> Dict[str, List[str]]:
        found: Dict[str, List[str]] = {}
        for name, placed in self.weights.items():
            found.setdefault(placed.path, []).append(name)
        return found


@dataclass(frozen=True)
class Port:
    """A user's model and all its sides.

    Args:
        name: of the model.
        inputs, targets: of a batch.
        loss: one of `LOSSES`, the mean over everything but the classes. `own` is the function `loss` in each side's
            file.
        class_axis: of the outputs, for a cross-entropy.
        output: of several outputs, the one that a loss with a name is of; see `faceoff.core.outputs`.
        weights: canonical names and shapes, in the reference's order. Running statistics, and they alone, are called
            `mean` or `variance` after the last dot.
        sides: by framework, or by `framework@name` where that has several.
        reference: the key of the side that counts as right.
        path: what the user named it by.
        code: digest of the files of all sides.
        initial: the reference's own weights, from which others are drawn; kept by the parent alone.
        how: by framework, but for the reference's, canonical name to what it was found by: `rule`, `name`, `shape` or
            `order`; kept by the parent alone.
        flops: operations of one call for one example, by step, as the reference's framework counts them; empty where
            it does not. Kept by the parent alone.
    """

    name: str
    inputs: Tuple[Input, ...]
    targets: Targets
    loss: str
    class_axis: int
    weights: Dict[str, Tuple[int, ...]]
    sides: Dict[str, PortSide]
    reference: str
    path: str = ""
    code: str = ""
    initial: Dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    how: Dict[str, Dict[str, str]] = field(default_factory=dict, compare=False, repr=False)
    flops: Dict[str, int] = field(default_factory=dict, compare=False)
    output: str = ""

    @property
    def digest(self) -> str:
        """Of all but the numbers, and the words by which the user named it this time."""
        told = {name: value for name, value in self.to_json().items() if name != "path"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def spec(self) -> OwnSpec:
        """The model of its workloads; the port is known to this process from now on."""
        learn(self)
        return OwnSpec(self.name, self.digest)

    def key_of(self, framework: str) -> str:
        """Which side a framework, or an environment of one, runs; empty if none."""
        return next((key for key in (framework, framework.partition(AT)[0]) if key in self.sides), "")

    def side(self, framework: str) -> PortSide:
        """The side that a framework, or an environment of one, runs; raises InputError."""
        key = self.key_of(framework)
        if not key:
            sides = ", ".join(sorted(self.sides))
            raise InputError("no side in this framework", where=self.name, got=framework, expected=sides)
        return self.sides[key]

    def seen_by(self, framework: str) -> "Port":
        """As the processes of an environment see it, which know themselves by the name of their framework alone."""
        own, name = self.key_of(framework), framework.partition(AT)[0]
        if own in ("", name):
            return self
        # Under a name that nobody has.
        others = {f"{key}{AT}" if key == name else key: side for key, side in self.sides.items()}
        reference = name if own == self.reference else f"{name}{AT}" if self.reference == name else self.reference
        return replace(self, sides={**others, name: self.sides[own]}, reference=reference)

    def layers_of(self, framework: str) -> Set[str]:
        """Paths of the layers of a side that hold weights or are named by the user."""
        side = self.side(framework)
        told = {path for path in side.layers.values() if path}
        if self.key_of(framework) == self.reference:
            told |= {path for other in self.sides.values() for path in other.layers}
        return told | {path for placed in side.weights.values() for path in _owners(placed.path)}

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values, without the numbers."""
        return {
            "name": self.name,
            "inputs": [[i.name, list(i.shape), i.dtype, i.below, i.scale, i.kept] for i in self.inputs],
            "targets": [list(self.targets.shape), self.targets.classes, self.targets.scale, self.targets.ignored],
            "loss": self.loss,
            "class_axis": self.class_axis,
            "output": self.output,
            "weights": [[name, list(shape)] for name, shape in self.weights.items()],
            "sides": {
                framework: {
                    "file": side.file,
                    "weights": {n: _placed_to_json(p) for n, p in side.weights.items()},
                    "inputs": {name: list(axes) for name, axes in side.inputs.items()},
                    "zeros": list(side.zeros),
                    "layers": dict(side.layers),
                    "dropouts": dict(side.dropouts),
                }
                for framework, side in self.sides.items()
            },
            "reference": self.reference,
            "path": self.path,
            "code": self.code,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Port":
        """Makes the port that `to_json` wrote."""
        shape, *targets = data["targets"]
        return Port(
            name=data["name"],
            inputs=tuple(Input(name, tuple(shape), *told) for name, shape, *told in data["inputs"]),
            targets=Targets(tuple(shape), *targets),
            loss=data["loss"],
            class_axis=data["class_axis"],
            output=data["output"],
            weights={name: tuple(shape) for name, shape in data["weights"]},
            sides={
                framework: PortSide(
                    side["file"],
                    {n: _placed_from_json(placed) for n, placed in side["weights"].items()},
                    {name: tuple(axes) for name, axes in side["inputs"].items()},
                    tuple(side["zeros"]),
                    dict(side["layers"]),
                    dict(side.get("dropouts", {})),
                )
                for framework, side in data["sides"].items()
            },
            reference=data["reference"],
            path=data["path"],
            code=data["code"],
        )


def _owners(path: str) -> List[str]:
    """`a.b.c`: `a` and `a.b`; the same with slashes."""
    return [path[: found.start()] for found in re.finditer(r"[./]", path)]


def _placed_to_json(placed: Placed) -> List[Any]:
    shape = None if placed.shape is None else list(placed.shape)
    block = None if placed.block is None else [list(ends) for ends in placed.block]
    return [placed.path, list(placed.axes), shape, block]


def _placed_from_json(data: Sequence[Any]) -> Placed:
    path, axes, shape, block = data
    return Placed(
        path,
        tuple(axes),
        None if shape is None else tuple(shape),
        None if block is None else tuple((begin, end) for begin, end in block),
    )


def family_of(spec: ModelSpec) -> str:
    """What a model is called where its sizes do not matter: its kind, or the name of a user's own."""
    return spec.name if isinstance(spec, OwnSpec) else spec.kind


_KNOWN: Dict[str, Port] = {}


def port_of(spec: ModelSpec) -> Port:
    """What is known of a user's model; raises InputError where its sides were not asked in this process."""
    assert isinstance(spec, OwnSpec)
    if spec.digest not in _KNOWN:
        raise InputError("a model that is not known here", where="model", got=spec.name, next_step="name its folder")
    return _KNOWN[spec.digest]


def learn(port: Port, digest: str = "") -> None:
    """Makes a port known to this process, by its own digest unless another is told."""
    _KNOWN[digest or port.digest] = port
