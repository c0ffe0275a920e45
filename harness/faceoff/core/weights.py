"""The canonical weight layout: names, shapes, gate order; and seeded weights and batches.

Layouts, last axis fastest:

- dense weight `(output_size, input_size)`, bias `(output_size,)`
- convolution weight `(output_channels, kernel_height, kernel_width, input_channels)`
- batch norm `scale`, `bias`, `mean`, `variance`, each `(channels,)`; `mean` and `variance` are running statistics:
  state, not trained; the variance is the biased one
- recurrent `weight_ih` `(num_gates * hidden_size, input_size)`, `weight_hh` `(num_gates * hidden_size, hidden_size)`,
  one `bias` `(num_gates * hidden_size,)`; LSTM gates stacked i, f, g, o

Values that are drawn here are exact in float32, so that every dtype starts from the same numbers.
"""

import zlib
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

import numpy as np

from faceoff.core.errors import InputError
from faceoff.core.own import port_of
from faceoff.core.precision import storage_dtype
from faceoff.core.spec import DenseSpec, ModelSpec, OwnSpec, RecurrentSpec, ResidualSpec, Workload

Shape = Tuple[int, ...]
Weights = Dict[str, np.ndarray]
STATISTICS = ("mean", "variance")
STATES = ("h0", "c0")
# Of the places of a user's targets at which nothing may be asked.
IGNORED_SHARE = 0.25
"""Inputs whose first axis is the layers; a user's own model has none of these names."""


def weight_shapes(spec: ModelSpec) -> Dict[str, Shape]:
    """Canonical names and shapes of all weights and running statistics of `spec`, in forward order."""
    if isinstance(spec, DenseSpec):
        return _dense_shapes(spec)
    if isinstance(spec, ResidualSpec):
        return _residual_shapes(spec)
    if isinstance(spec, RecurrentSpec):
        return _recurrent_shapes(spec)
    if isinstance(spec, OwnSpec):
        return dict(port_of(spec).weights)
    raise InputError("no weight layout for this model", where="model", got=type(spec).__name__)


def _dense_shapes(spec: DenseSpec) -> Dict[str, Shape]:
    shapes: Dict[str, Shape] = {}
    for index in range(spec.num_layers):
        shapes[f"layer.{index}.weight"] = (spec.layer_sizes[index + 1], spec.layer_sizes[index])
        shapes[f"layer.{index}.bias"] = (spec.layer_sizes[index + 1],)
    return shapes


def _residual_shapes(spec: ResidualSpec) -> Dict[str, Shape]:
    shapes: Dict[str, Shape] = {}

    def convolution(name: str, kernel: int, incoming: int, outgoing: int) -> None:
        shapes[f"{name}.weight"] = (outgoing, kernel, kernel, incoming)

    def norm(name: str, channels: int) -> None:
        for part in ("scale", "bias", *STATISTICS):
            shapes[f"{name}.{part}"] = (channels,)

    convolution("stem.conv", 3, spec.channels, spec.stage_widths[0])
    norm("stem.norm", spec.stage_widths[0])
    for name, incoming, outgoing, stride in spec.blocks():
        convolution(f"{name}.conv1", 3, incoming, outgoing)
        norm(f"{name}.norm1", outgoing)
        convolution(f"{name}.conv2", 3, outgoing, outgoing)
        norm(f"{name}.norm2", outgoing)
        if stride != 1 or incoming != outgoing:
            convolution(f"{name}.shortcut.conv", 1, incoming, outgoing)
            norm(f"{name}.shortcut.norm", outgoing)
    shapes["head.weight"] = (spec.output_size, spec.stage_widths[-1])
    shapes["head.bias"] = (spec.output_size,)
    return shapes


def _recurrent_shapes(spec: RecurrentSpec) -> Dict[str, Shape]:
    shapes: Dict[str, Shape] = {}
    rows = spec.num_gates * spec.hidden_size
    for index in range(spec.num_layers):
        shapes[f"layer.{index}.weight_ih"] = (rows, spec.input_size if index == 0 else spec.hidden_size)
        shapes[f"layer.{index}.weight_hh"] = (rows, spec.hidden_size)
        shapes[f"layer.{index}.bias"] = (rows,)
    shapes["head.weight"] = (spec.output_size, spec.hidden_size)
    shapes["head.bias"] = (spec.output_size,)
    return shapes


def is_statistic(name: str) -> bool:
    """True for running statistics of batch norm: state that no optimiser moves."""
    return name.rpartition(".")[2] in STATISTICS


def trainable_names(spec: ModelSpec) -> Tuple[str, ...]:
    """Names of the weights that have a gradient, in forward order."""
    return tuple(name for name in weight_shapes(spec) if not is_statistic(name))


def trace_names(spec: ModelSpec, fine: bool = False) -> Tuple[str, ...]:
    """Names of the intermediate values of `Model.trace`, in forward order; the last one is the logits.

    dense: `layer.i`, after its activation. residual: `stem`, every `stage.s.block.b`, `pool`, `head`.
    recurrent: `layer.i`, the hidden states of all time steps `(batch_size, sequence_length, hidden_size)`, and `head`.
    A user's own model has none.

    Args:
        spec: the model.
        fine: of a residual network, what every convolution and every batch norm returns too, each before the stem or
            the block that it is a part of: `stem.conv`, `stage.s.block.b.norm1`, `stage.s.block.b.shortcut.conv`, ...
    """
    if isinstance(spec, DenseSpec):
        return tuple(f"layer.{index}" for index in range(spec.num_layers))
    if isinstance(spec, ResidualSpec):
        owners = ("stem", *(block[0] for block in spec.blocks()))
        if not fine:
            return (*owners, "pool", "head")
        parts = dict.fromkeys(name.rpartition(".")[0] for name in weight_shapes(spec))
        inner = {owner: [part for part in parts if part.startswith(f"{owner}.")] for owner in owners}
        return (*(name for owner in owners for name in (*inner[owner], owner)), "pool", "head")
    if isinstance(spec, OwnSpec):
        return ()
    assert isinstance(spec, RecurrentSpec)
    return (*(f"layer.{index}" for index in range(spec.num_layers)), "head")


def check_weights(spec: ModelSpec, weights: Mapping[str, np.ndarray], where: str = "weights") -> None:
    """Raises InputError unless `weights` has exactly the canonical names and shapes and only finite numbers."""
    shapes = weight_shapes(spec)
    if set(weights) != set(shapes):
        missing, extra = sorted(set(shapes) - set(weights)), sorted(set(weights) - set(shapes))
        raise InputError(
            "weights do not fit the model", where=where, got=f"missing {missing}, unknown {extra}", expected=spec.label
        )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise InputError("wrong shape", where=f"{where}[{name!r}]", got=weights[name].shape, expected=str(shape))
        require_finite(weights[name], f"{where}[{name!r}]")


def require_finite(array: np.ndarray, where: str) -> None:
    """Raises InputError that names the first NaN or infinity in `array`."""
    bad = ~np.isfinite(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            "not a finite number",
            where=f"{where} at {list(index)}",
            got=array[index],
            expected="finite numbers",
            next_step="clean the data",
        )


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def round_to(values: np.ndarray, dtype: str) -> np.ndarray:
    """`values` rounded to `dtype`, to the nearest, ties to even; C-contiguous.

    NumPy lacks bfloat16: its values come, and travel, as float32 whose lower half is empty.

    Args:
        values: any shape; for bfloat16 exact in float32.
        dtype: one of `faceoff.core.precision.DTYPES`.
    """
    if dtype != "bfloat16":
        return np.ascontiguousarray(values, dtype=storage_dtype(dtype)).reshape(np.shape(values))
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isfinite(values), rounded, values).astype(np.float32).reshape(np.shape(values))


def carrier_dtype(dtype: str) -> str:
    """The dtype in which NumPy holds values of `dtype`: float32 for bfloat16, else that of its weights."""
    return "float32" if dtype == "bfloat16" else storage_dtype(dtype)


def _exact_in_float32(values: np.ndarray) -> np.ndarray:
    # In place: a large batch may fit into memory once and not twice.
    values[...] = values.astype(np.float32)
    return values


def seeded_weights(spec: ModelSpec, seed: int) -> Weights:
    """Weights that depend only on `spec` and `seed`; each float64, exact in float32.

    Dense and convolution weights are normal with variance 2 / fan-in (He et al. 2015), recurrent ones uniform within
    1 / sqrt(hidden_size). Biases, batch norm and running statistics are drawn too: zeros and ones would hide faults.
    """
    return {
        name: _exact_in_float32(np.asarray(_draw(spec, name, shape, _generator(seed, name))))
        for name, shape in weight_shapes(spec).items()
    }


def _draw_as(initial: np.ndarray, part: str, rng: np.random.Generator) -> np.ndarray:
    """Weights of a user's own model: as its initial ones are spread, in another order; constant ones are moved."""
    if initial.size > 1 and np.ptp(initial) > 0:
        shuffled: np.ndarray = rng.permutation(initial.reshape(-1)).reshape(initial.shape)
        return shuffled
    if part == "variance":
        return rng.uniform(0.5, 1.5, initial.shape)
    return initial + 0.1 * rng.standard_normal(initial.shape)


def _draw(spec: ModelSpec, name: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    part = name.rpartition(".")[2]
    if isinstance(spec, OwnSpec):
        return _draw_as(port_of(spec).initial[name].astype(np.float64), part, rng)
    if part == "variance":
        return rng.uniform(0.5, 1.5, shape)
    if part == "scale":
        return 1 + 0.1 * rng.standard_normal(shape)
    if part == "mean":
        return 0.1 * rng.standard_normal(shape)
    if isinstance(spec, RecurrentSpec) and name.startswith("layer."):
        bound = 1 / np.sqrt(spec.hidden_size)
        return rng.uniform(-bound, bound, shape)
    if part == "bias":
        return 0.1 * rng.standard_normal(shape)
    scale = float(np.sqrt(2 / np.prod(shape[1:])))
    return scale * rng.standard_normal(shape)


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one step, in host memory.

    Args:
        inputs: `x`, and for recurrent models `h0` (and `c0`), floating point.
            x is `(batch_size, input_size)`, `(batch_size, height, width, channels)` or
            `(batch_size, sequence_length, input_size)`; states are `(num_layers, batch_size, hidden_size)`.
        targets: class numbers, int64, `(batch_size,)`, or `(batch_size, sequence_length)` for many-to-many.
    """

    inputs: Dict[str, np.ndarray]
    targets: np.ndarray

    def astype(self, dtype: str) -> "Batch":
        """The same batch with its inputs rounded to `dtype` (see `round_to`)."""
        targets = round_to(self.targets, dtype) if self.targets.dtype.kind == "f" else self.targets
        inputs = {
            name: round_to(value, dtype) if value.dtype.kind == "f" else value for name, value in self.inputs.items()
        }
        return Batch(inputs, targets)

    def pick(self, rows: np.ndarray) -> "Batch":
        """The examples with these numbers."""
        # Initial states have the layers first.
        inputs = {n: value[:, rows] if n in STATES else value[rows] for n, value in self.inputs.items()}
        return Batch(inputs, self.targets[rows])

    def to_json(self) -> Dict[str, Any]:
        """The batch as a message body."""
        return {"inputs": self.inputs, "targets": self.targets}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Batch":
        """Makes the batch that `to_json` wrote."""
        return Batch(dict(data["inputs"]), data["targets"])


def input_shapes(spec: ModelSpec, batch_size: int) -> Dict[str, Shape]:
    """Names and shapes of the inputs of `spec`."""
    if isinstance(spec, DenseSpec):
        return {"x": (batch_size, spec.input_size)}
    if isinstance(spec, ResidualSpec):
        return {"x": (batch_size, spec.height, spec.width, spec.channels)}
    if isinstance(spec, OwnSpec):
        return {given.name: (batch_size, *given.shape) for given in port_of(spec).inputs}
    assert isinstance(spec, RecurrentSpec)
    state = (spec.num_layers, batch_size, spec.hidden_size)
    return {"x": (batch_size, spec.sequence_length, spec.input_size), **dict.fromkeys(spec.state_names, state)}


def target_shape(spec: ModelSpec, batch_size: int) -> Shape:
    """Shape of the class numbers of `spec`."""
    if isinstance(spec, RecurrentSpec) and spec.many_to_many:
        return (batch_size, spec.sequence_length)
    if isinstance(spec, OwnSpec):
        return (batch_size, *port_of(spec).targets.shape)
    return (batch_size,)


def float_inputs(spec: ModelSpec) -> Tuple[str, ...]:
    """Names of the inputs that have a gradient."""
    if isinstance(spec, OwnSpec):
        return tuple(given.name for given in port_of(spec).inputs if given.is_float)
    return tuple(input_shapes(spec, 1))


def classes_of(spec: ModelSpec) -> int:
    """Number of classes; 0 where targets are numbers."""
    if isinstance(spec, OwnSpec):
        return port_of(spec).targets.classes
    classes: int = spec.output_size  # type: ignore[attr-defined]
    return classes


def check_batch(spec: ModelSpec, batch_size: int, batch: Batch, where: str = "batch") -> None:
    """Raises InputError unless `batch` has the shapes of `spec`, finite inputs and targets that are classes."""
    shapes = input_shapes(spec, batch_size)
    if set(batch.inputs) != set(shapes):
        raise InputError("wrong inputs", where=where, got=sorted(batch.inputs), expected=str(sorted(shapes)))
    for name, shape in shapes.items():
        if batch.inputs[name].shape != shape:
            raise InputError("wrong shape", where=f"{where}.{name}", got=batch.inputs[name].shape, expected=str(shape))
        require_finite(batch.inputs[name], f"{where}.{name}")
    targets = batch.targets
    if targets.shape != target_shape(spec, batch_size):
        raise InputError(
            "wrong shape", where=f"{where}.targets", got=targets.shape, expected=str(target_shape(spec, batch_size))
        )
    classes = classes_of(spec)
    if not classes:
        require_finite(targets, f"{where}.targets")
        return
    if isinstance(spec, OwnSpec) and port_of(spec).targets.ignored is not None:
        targets = targets[targets != port_of(spec).targets.ignored]
        if not targets.size:
            raise InputError("nothing but ignored places", where=f"{where}.targets", expected="some class numbers")
    if targets.dtype.kind != "i" or targets.min() < 0 or targets.max() >= classes:
        raise InputError(
            "not class numbers",
            where=f"{where}.targets",
            got=f"{targets.dtype} from {targets.min()} to {targets.max()}",
            expected=f"int64 from 0 to {classes - 1}",
        )


def seeded_batch(workload: Workload, seed: int, index: int = 0) -> Batch:
    """Synthetic batch `index`: standard normal inputs, states of half that size, uniform targets; exact in float32."""
    spec = workload.model
    own = {given.name: given for given in port_of(spec).inputs} if isinstance(spec, OwnSpec) else {}
    inputs: Dict[str, np.ndarray] = {}
    for name, shape in input_shapes(spec, workload.batch_size).items():
        rng = _generator(seed, f"input.{name}.{index}")
        if name in own and own[name].dtype == "mask":
            inputs[name] = _exact_in_float32((rng.random(shape) < own[name].kept) / own[name].kept)
            continue
        if name in own and not own[name].is_float:
            inputs[name] = rng.integers(0, own[name].below, shape, dtype=np.int64)
            continue
        scale = own[name].scale if name in own else 0.5 if name in STATES else 1.0
        inputs[name] = _exact_in_float32(scale * rng.standard_normal(shape))
    rng = _generator(seed, f"targets.{index}")
    shape, classes = target_shape(spec, workload.batch_size), classes_of(spec)
    if classes:
        targets = rng.integers(0, classes, shape, dtype=np.int64)
        ignored = port_of(spec).targets.ignored if isinstance(spec, OwnSpec) else None
        if ignored is not None:
            left_out = rng.random(shape) < IGNORED_SHARE
            # A batch of which nothing is asked has no loss.
            left_out.flat[0] = False
            targets[left_out] = ignored
    else:
        targets = _exact_in_float32(port_of(spec).targets.scale * rng.standard_normal(shape))
    return Batch(inputs, targets).astype(workload.dtype)
