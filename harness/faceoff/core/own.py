"""A user's own model as one more family: what has to be known of it where its files are not imported.

The sizes of the four built-in families say everything about them. Of a user's model a `Port` does: inputs, targets,
loss, weights, and where each side keeps those. It is made once, by asking the sides (`faceoff.ports`), and told to
every process that meets the model; a workload holds its name and digest alone.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from faceoff.core.errors import InputError
from faceoff.core.spec import ModelSpec, OwnSpec

LOSSES = ("cross-entropy", "squared-error", "binary-cross-entropy")


@dataclass(frozen=True)
class Input:
    """One named input of a user's model.

    Args:
        name: as the sides take it.
        shape: of one example, without the batch's axis, which comes first.
        dtype: `float`, in whatever is being computed in, or `int64`.
        below: of whole numbers: they are drawn from 0 to this one, exclusive.
        scale: of the others: the standard deviation of what is drawn.
    """

    name: str
    shape: Tuple[int, ...]
    dtype: str = "float"
    below: int = 0
    scale: float = 1.0

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
    """

    shape: Tuple[int, ...]
    classes: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class Placed:
    """Where a side keeps a weight.

    Args:
        path: its name there.
        axes: the permutation of the canonical axes that makes the side's.
        shape: the side's, where it is not the permuted one.
    """

    path: str
    axes: Tuple[int, ...]
    shape: Optional[Tuple[int, ...]] = None

    def to_side(self, value: np.ndarray) -> np.ndarray:
        """A canonical array as the side has it."""
        turned = value.transpose(self.axes)
        # `ascontiguousarray` would give a scalar an axis.
        return np.array(turned if self.shape is None else turned.reshape(self.shape), order="C")

    def to_canonical(self, value: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
        """A side's array in canonical layout, of this shape."""
        turned = value.reshape([shape[axis] for axis in self.axes])
        return np.array(turned.transpose(np.argsort(self.axes) if self.axes else ()), order="C")


@dataclass(frozen=True)
class PortSide:
    """One implementation of a user's model.

    Args:
        file: its Python file, absolute.
        weights: canonical name to where it is kept.
        inputs: the permutation of axes, the batch's included, in which it takes an input that is not as given.
    """

    file: str
    weights: Dict[str, Placed]
    inputs: Dict[str, Tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """A user's model and all its sides.

    Args:
        name: of the model.
        inputs, targets: of a batch.
        loss: one of `LOSSES`, the mean over everything but the classes.
        class_axis: of the outputs, for a cross-entropy.
        weights: canonical names and shapes, in the reference's order. Running statistics, and they alone, are called
            `mean` or `variance` after the last dot.
        sides: by framework.
        reference: the framework of the side that counts as right.
        path: what the user named it by.
        code: digest of the files of all sides.
        initial: the reference's own weights, from which others are drawn; kept by the parent alone.
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

    @property
    def digest(self) -> str:
        """Of all but the numbers."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def spec(self) -> OwnSpec:
        """The model of its workloads; the port is known to this process from now on."""
        spec = OwnSpec(self.name, self.digest)
        _KNOWN[spec.digest] = self
        return spec

    def side(self, framework: str) -> PortSide:
        """The side of a framework; raises InputError."""
        if framework not in self.sides:
            sides = ", ".join(sorted(self.sides))
            raise InputError("no side in this framework", where=self.name, got=framework, expected=sides)
        return self.sides[framework]

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values, without the numbers."""
        return {
            "name": self.name,
            "inputs": [[i.name, list(i.shape), i.dtype, i.below, i.scale] for i in self.inputs],
            "targets": [list(self.targets.shape), self.targets.classes, self.targets.scale],
            "loss": self.loss,
            "class_axis": self.class_axis,
            "weights": [[name, list(shape)] for name, shape in self.weights.items()],
            "sides": {
                framework: {
                    "file": side.file,
                    "weights": {n: [p.path, list(p.axes), p.shape and list(p.shape)] for n, p in side.weights.items()},
                    "inputs": {name: list(axes) for name, axes in side.inputs.items()},
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
        shape, classes, scale = data["targets"]
        return Port(
            name=data["name"],
            inputs=tuple(Input(n, tuple(s), dtype, below, scale) for n, s, dtype, below, scale in data["inputs"]),
            targets=Targets(tuple(shape), classes, scale),
            loss=data["loss"],
            class_axis=data["class_axis"],
            weights={name: tuple(shape) for name, shape in data["weights"]},
            sides={
                framework: PortSide(
                    side["file"],
                    {
                        n: Placed(path, tuple(axes), own and tuple(own))
                        for n, (path, axes, own) in side["weights"].items()
                    },
                    {name: tuple(axes) for name, axes in side["inputs"].items()},
                )
                for framework, side in data["sides"].items()
            },
            reference=data["reference"],
            path=data["path"],
            code=data["code"],
        )


_KNOWN: Dict[str, Port] = {}


def port_of(spec: ModelSpec) -> Port:
    """What is known of a user's model; raises InputError where its sides were not asked in this process."""
    assert isinstance(spec, OwnSpec)
    if spec.digest not in _KNOWN:
        raise InputError("a model that is not known here", where="model", got=spec.name, next_step="name its folder")
    return _KNOWN[spec.digest]


def learn(port: Port) -> None:
    """Makes a port known to this process."""
    _KNOWN[port.digest] = port
