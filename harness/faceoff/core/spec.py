"""What is computed and by whom: models, workloads, contenders, cases. Frozen, and validated when made."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Mapping, Tuple, Type

from faceoff.core.errors import InputError
from faceoff.core.precision import DTYPES, require_precision, storage_dtype

STEPS = ("inference", "gradients", "training")
DEVICES = ("cpu", "gpu")
ACTIVATIONS = ("relu", "tanh")
OPTIMISERS = ("sgd", "momentum", "adam", "adamw")
# Between a framework and one of its environments.
AT = "@"


def require_choice(value: object, choices: Tuple[str, ...], where: str) -> None:
    """Raises InputError unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(
            f"unknown {where.split('.')[-1]}", where=where, got=repr(value), expected="one of " + ", ".join(choices)
        )


def require_size(value: object, where: str) -> None:
    """Raises InputError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError("not a size", where=where, got=repr(value), expected="a whole number of at least 1")


def require_number(value: object, where: str, low: float, high: float) -> None:
    """Raises InputError unless `low <= value <= high`; NaN never passes."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError("out of range", where=where, got=repr(value), expected=f"a number from {low:g} to {high:g}")


@dataclass(frozen=True)
class ModelSpec:
    """Base of the model families; `kind` names the family."""

    kind: ClassVar[str] = ""

    @property
    def label(self) -> str:
        """A short name that holds every size, as used in test ids and tables."""
        raise InputError("a model needs a family", where="model", expected="one of " + ", ".join(MODEL_KINDS))

    def to_json(self) -> Dict[str, Any]:
        """The spec as plain JSON values, with its `kind`."""
        fields = dataclasses.asdict(self).items()
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in fields}}


@dataclass(frozen=True)
class DenseSpec(ModelSpec):
    """Fully connected layers; the activation follows each but the last, whose outputs are logits.

    Args:
        layer_sizes: input size, hidden sizes, output size.
        activation: `relu` or `tanh`.
    """

    layer_sizes: Tuple[int, ...]
    activation: str = "relu"
    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        if not isinstance(self.layer_sizes, tuple) or len(self.layer_sizes) < 2:
            raise InputError(
                "too few layers",
                where="dense.layer_sizes",
                got=repr(self.layer_sizes),
                expected="input and output size at least",
            )
        for size in self.layer_sizes:
            require_size(size, "dense.layer_sizes")
        require_choice(self.activation, ACTIVATIONS, "dense.activation")

    @property
    def label(self) -> str:
        return (
            "dense-" + "-".join(str(size) for size in self.layer_sizes) + ("" if self.activation == "relu" else "-tanh")
        )

    @property
    def num_layers(self) -> int:
        return len(self.layer_sizes) - 1

    @property
    def input_size(self) -> int:
        return self.layer_sizes[0]

    @property
    def output_size(self) -> int:
        return self.layer_sizes[-1]


@dataclass(frozen=True)
class ResidualSpec(ModelSpec):
    """The CIFAR residual network of He et al. 2016, section 4.2, with projection shortcuts (option B).

    A 3x3 stem with batch norm and ReLU, then stages of basic blocks. The first block of every stage but the first
    halves height and width (stride 2) and changes the width by a 1x1 strided projection with batch norm. Then global
    average pooling and one dense layer. Strided 3x3 convolutions pad one pixel on every side.

    Args:
        height, width, channels: of the input images, `(batch_size, height, width, channels)`.
        stage_widths: channels of each stage.
        blocks_per_stage: basic blocks in each stage (He's n; 3 gives ResNet-20).
        output_size: number of classes.
        epsilon: added to the variance in batch norm.
        momentum: share of the new batch in the running statistics: `(1 - momentum) * running + momentum * batch`; the
            batch variance is the biased one (divided by n).
    """

    height: int
    width: int
    channels: int
    stage_widths: Tuple[int, ...] = (16, 32, 64)
    blocks_per_stage: int = 3
    output_size: int = 10
    epsilon: float = 1e-5
    momentum: float = 0.1
    kind: ClassVar[str] = "residual"

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels", "blocks_per_stage", "output_size"):
            require_size(getattr(self, name), f"residual.{name}")
        if not isinstance(self.stage_widths, tuple) or not self.stage_widths:
            raise InputError(
                "no stages", where="residual.stage_widths", got=repr(self.stage_widths), expected="at least one width"
            )
        for size in self.stage_widths:
            require_size(size, "residual.stage_widths")
        require_number(self.epsilon, "residual.epsilon", 1e-12, 1.0)
        require_number(self.momentum, "residual.momentum", 0.0, 1.0)

    @property
    def label(self) -> str:
        depth = 2 * self.blocks_per_stage * len(self.stage_widths) + 2
        return f"residual-{depth}-{self.height}x{self.width}x{self.channels}-w{'-'.join(map(str, self.stage_widths))}"

    def blocks(self) -> Tuple[Tuple[str, int, int, int], ...]:
        """Each basic block in order as `(name, input channels, output channels, stride)`."""
        found = []
        incoming = self.stage_widths[0]
        for stage, outgoing in enumerate(self.stage_widths):
            for block in range(self.blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                found.append((f"stage.{stage}.block.{block}", incoming, outgoing, stride))
                incoming = outgoing
        return tuple(found)


@dataclass(frozen=True)
class RecurrentSpec(ModelSpec):
    """Recurrent layers, then one dense layer on the last hidden state or on all of them. The initial state is an input.

    Args:
        input_size, hidden_size, output_size, num_layers, sequence_length: sizes; every layer has `hidden_size`.
        many_to_many: logits at every time step `(batch_size, sequence_length, output_size)`, or, if false, only after
            the last, `(batch_size, output_size)`.
    """

    input_size: int
    hidden_size: int
    output_size: int
    sequence_length: int
    num_layers: int = 1
    many_to_many: bool = False
    num_gates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size", "output_size", "sequence_length", "num_layers"):
            require_size(getattr(self, name), f"{self.kind}.{name}")
        if not isinstance(self.many_to_many, bool):
            raise InputError(
                "not a yes or no",
                where=f"{self.kind}.many_to_many",
                got=repr(self.many_to_many),
                expected="true or false",
            )

    @property
    def label(self) -> str:
        layers = "" if self.num_layers == 1 else f"-l{self.num_layers}"
        return (
            f"{self.kind}-t{self.sequence_length}-i{self.input_size}-h{self.hidden_size}-o{self.output_size}{layers}"
            + ("-many" if self.many_to_many else "")
        )

    @property
    def state_names(self) -> Tuple[str, ...]:
        """Names of the initial states, each `(num_layers, batch_size, hidden_size)`."""
        return ("h0",)


@dataclass(frozen=True)
class RnnSpec(RecurrentSpec):
    """The vanilla cell, h_t = activation(W_ih x_t + W_hh h_{t-1} + b)."""

    activation: str = "tanh"
    kind: ClassVar[str] = "rnn"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self.activation, ACTIVATIONS, "rnn.activation")

    @property
    def label(self) -> str:
        return super().label + ("" if self.activation == "tanh" else "-relu")


@dataclass(frozen=True)
class LstmSpec(RecurrentSpec):
    """Gates i, f, o = sigmoid, g = tanh; c_t = f * c_{t-1} + i * g; h_t = o * tanh(c_t). Stacked i, f, g, o."""

    kind: ClassVar[str] = "lstm"
    num_gates: ClassVar[int] = 4

    @property
    def state_names(self) -> Tuple[str, ...]:
        return ("h0", "c0")


@dataclass(frozen=True)
class OwnSpec(ModelSpec):
    """A user's own model; `faceoff.core.own` has what else is known of it.

    Args:
        name: of the model.
        digest: of its `Port`.
    """

    name: str
    digest: str
    kind: ClassVar[str] = "own"

    @property
    def label(self) -> str:
        return self.name


_CLASSES: Tuple[Type[ModelSpec], ...] = (DenseSpec, ResidualSpec, RnnSpec, LstmSpec, OwnSpec)
SPEC_CLASSES: Dict[str, Type[ModelSpec]] = {cls.kind: cls for cls in _CLASSES}
MODEL_KINDS = tuple(kind for kind in SPEC_CLASSES if kind != OwnSpec.kind)


def model_from_json(data: Mapping[str, Any]) -> ModelSpec:
    """Makes the spec that `ModelSpec.to_json` wrote; raises InputError on an unknown family or field."""
    kind = data.get("kind")
    require_choice(kind, tuple(SPEC_CLASSES), "model.kind")
    cls = SPEC_CLASSES[str(kind)]
    spec: ModelSpec = _from_json(cls, {k: v for k, v in data.items() if k != "kind"}, str(kind))
    return spec


def _from_json(cls: Any, data: Mapping[str, Any], where: str) -> Any:
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise InputError(
            "unknown field", where=where, got=", ".join(unknown), expected="one of " + ", ".join(sorted(known))
        )
    required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    absent = sorted(required - set(data))
    if absent:
        raise InputError("field missing", where=where, expected=", ".join(absent))
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


@dataclass(frozen=True)
class Optimiser:
    """An optimiser with every constant set.

    sgd: w -= learning_rate * g.  momentum: v = momentum * v + g; w -= learning_rate * v.
    adam: Kingma and Ba 2015, algorithm 1, epsilon added to the bias-corrected root.
    adamw: the same after w -= learning_rate * weight_decay * w for every trained weight (Loshchilov and Hutter 2019).
    """

    kind: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    @property
    def state_names(self) -> Tuple[str, ...]:
        """What it holds for every trained weight: v, or the two moments; an array of the weight's shape each."""
        return {"sgd": (), "momentum": ("momentum",)}.get(self.kind, ("first moment", "second moment"))

    def __post_init__(self) -> None:
        require_choice(self.kind, OPTIMISERS, "optimiser.kind")
        require_number(self.learning_rate, "optimiser.learning_rate", 0.0, 10.0)
        for name in ("momentum", "beta1", "beta2", "weight_decay"):
            require_number(getattr(self, name), f"optimiser.{name}", 0.0, 0.999999)
        require_number(self.epsilon, "optimiser.epsilon", 1e-16, 1.0)


@dataclass(frozen=True)
class Workload:
    """Model, sizes, batch size, dtype, device and step.

    The loss of `gradients` and `training` is the mean softmax cross-entropy over all examples (and time steps), or that
    of a user's own model.
    """

    model: ModelSpec
    batch_size: int
    dtype: str = "float32"
    device: str = "cpu"
    step: str = "inference"
    optimiser: Optimiser = Optimiser()

    def __post_init__(self) -> None:
        if not isinstance(self.model, tuple(SPEC_CLASSES.values())):
            raise InputError(
                "not a model", where="workload.model", got=repr(self.model), expected="one of " + ", ".join(MODEL_KINDS)
            )
        require_size(self.batch_size, "workload.batch_size")
        require_choice(self.dtype, DTYPES, "workload.dtype")
        require_choice(self.device, DEVICES, "workload.device")
        require_choice(self.step, STEPS, "workload.step")
        require_precision(self.dtype, self.device, self.optimiser.kind, self.optimiser.epsilon, self.optimiser.beta2)

    @property
    def storage_dtype(self) -> str:
        """The dtype of weights and inputs."""
        return storage_dtype(self.dtype)

    @property
    def name(self) -> str:
        """A name that is unique within a run, such as `lstm-t50-i64-h256-o10-b32-float32-cpu-training-sgd`."""
        optimiser = f"-{self.optimiser.kind}" if self.step == "training" else ""
        return f"{self.model.label}-b{self.batch_size}-{self.dtype}-{self.device}-{self.step}{optimiser}"

    def replace(self, **changes: Any) -> "Workload":
        """The same workload with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> Dict[str, Any]:
        """The workload as plain JSON values."""
        return {
            "model": self.model.to_json(),
            "batch_size": self.batch_size,
            "dtype": self.dtype,
            "device": self.device,
            "step": self.step,
            "optimiser": dataclasses.asdict(self.optimiser),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Workload":
        """Makes the workload that `to_json` wrote; raises InputError on unknown or missing fields."""
        fields = dict(data)
        if "model" in fields:
            fields["model"] = model_from_json(fields["model"])
        if "optimiser" in fields:
            fields["optimiser"] = _from_json(Optimiser, fields["optimiser"], "optimiser")
        workload: "Workload" = _from_json(Workload, fields, "workload")
        return workload


@dataclass(frozen=True)
class Contender:
    """A framework in a mode, written `framework:mode`.

    Args:
        framework: its name, with `@` and an environment where that is not its usual one.
        mode: how it executes.
    """

    framework: str
    mode: str

    def __str__(self) -> str:
        return f"{self.framework}:{self.mode}"

    @staticmethod
    def parse(text: str) -> "Contender":
        """Reads `framework:mode`; whether both exist is for `faceoff.frameworks.contenders` to say."""
        framework, colon, mode = text.partition(":")
        if not (framework and colon and mode):
            raise InputError("not a contender", where="contender", got=repr(text), expected="framework:mode")
        return Contender(framework, mode)


@dataclass(frozen=True)
class Case:
    """One workload run by one contender."""

    workload: Workload
    contender: Contender

    @property
    def name(self) -> str:
        return f"{self.workload.name}[{self.contender}]"
