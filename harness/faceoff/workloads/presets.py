"""Named sets of workloads, each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from faceoff.core.errors import InputError
from faceoff.core.spec import (
    MODEL_KINDS,
    DenseSpec,
    LstmSpec,
    ModelSpec,
    Optimiser,
    RecurrentSpec,
    ResidualSpec,
    RnnSpec,
    require_choice,
)
from faceoff.workloads.situations import SMALL_RATE

SGD = Optimiser()


@dataclass(frozen=True)
class Sized:
    """A model and the batch size it is run with.

    Args:
        model: with its sizes.
        batch_size: of every step.
        optimiser: of training; its kind gives way to one that is asked for.
        stressed: `agree` checks it in the other situations of `faceoff.workloads.situations` too.
    """

    model: ModelSpec
    batch_size: int
    optimiser: Optimiser = SGD
    stressed: bool = False

    @property
    def name(self) -> str:
        """What `--workload` picks by; `faceoff list` shows them."""
        return f"{self.model.label}-b{self.batch_size}"


@dataclass(frozen=True)
class Preset:
    """A named set of models and batch sizes.

    Args:
        description: one line, with the source of the sizes.
        sized: what is run.
        everybody: frameworks that take part on request take part without being named.
    """

    description: str
    sized: tuple[Sized, ...]
    everybody: bool = False


RESNET_20 = ResidualSpec(height=32, width=32, channels=3, stage_widths=(16, 32, 64), blocks_per_stage=3, output_size=10)
# Its stages with one block each instead of three: compiling ResNet-20 in every mode would take most of the main job.
RESNET_8 = replace(RESNET_20, blocks_per_stage=1)


def _deepbench() -> tuple[Sized, ...]:
    """Training and serving sizes of `rnn_problems.h` and `gemm_problems.h`; inputs are as wide as the hidden state."""
    vanilla = [(hidden, 50, batch) for hidden in (1760, 2048, 2560) for batch in (16, 32, 64, 128)]
    lstm = [(hidden, 25, batch) for hidden in (512, 1024, 2048, 4096) for batch in (16, 32, 64, 128)]
    lstm += [(1536, 50, batch) for batch in (8, 16, 32)] + [(256, 150, batch) for batch in (16, 32, 64)]
    serving = [(512, 25), (1024, 25), (2048, 25), (1536, 50), (256, 150)]
    lstm += [(hidden, steps, batch) for hidden, steps in serving for batch in (1, 2, 4)]
    dense = [(hidden, batch) for hidden in (1760, 2048, 2560, 4096) for batch in (16, 32, 64, 128, 7000)]
    return (
        *(Sized(DenseSpec((hidden, hidden)), batch) for hidden, batch in dense),
        *(Sized(RnnSpec(hidden, hidden, 10, steps, activation="relu"), batch) for hidden, steps, batch in vanilla),
        *(Sized(LstmSpec(hidden, hidden, 10, steps), batch) for hidden, steps, batch in lstm),
    )


# DeepBench's own results, milliseconds of a forward pass in float32 on an NVIDIA V100, without the input's product.
PUBLISHED_V100_MS = {
    Sized(LstmSpec(512, 512, 10, 25), 16).name: 1.095,
    Sized(LstmSpec(1024, 1024, 10, 25), 128).name: 3.249,
    Sized(LstmSpec(4096, 4096, 10, 25), 128).name: 31.169,
    Sized(LstmSpec(256, 256, 10, 150), 64).name: 6.700,
    Sized(RnnSpec(1760, 1760, 10, 50, activation="relu"), 16).name: 4.201,
    Sized(RnnSpec(2560, 2560, 10, 50, activation="relu"), 128).name: 7.773,
}


def _products() -> tuple[Sized, ...]:
    """The course slides' product of 4x5 and 5x5, and square ones from where a launch is all to where it is nothing."""
    squares = (64, 128, 256, 512, 1024, 2048, 4096)
    return Sized(DenseSpec((5, 5)), 4), *(Sized(DenseSpec((size, size)), size) for size in squares)


EVERYDAY = (
    Sized(DenseSpec((3072, 512, 512, 10)), 64),
    Sized(RESNET_8, 16),
    Sized(RnnSpec(input_size=64, hidden_size=256, output_size=10, sequence_length=25), 32),
    Sized(LstmSpec(input_size=64, hidden_size=256, output_size=10, sequence_length=25), 32),
)
SMALL = (
    Sized(DenseSpec((12, 16, 8, 5), activation="tanh"), 6),
    Sized(ResidualSpec(8, 8, 2, stage_widths=(8, 16), blocks_per_stage=1, output_size=5), 6),
    Sized(RnnSpec(input_size=5, hidden_size=8, output_size=4, sequence_length=6, num_layers=2), 6),
    Sized(LstmSpec(input_size=5, hidden_size=8, output_size=4, sequence_length=6, num_layers=2, many_to_many=True), 6),
)


def _stressed(model: ModelSpec, batch_size: int, optimiser: str) -> Sized:
    """One that every situation finds built: at this rate large gradients too leave the weights where they are."""
    return Sized(model, batch_size, Optimiser(optimiser, learning_rate=SMALL_RATE), stressed=True)


# Narrow twins of the everyday models, which show what many terms hide, and branches that those do not reach. The
# optimisers take turns, and two of them have a batch of one.
TWINS = (
    _stressed(SMALL[0].model, 1, "momentum"),
    _stressed(SMALL[1].model, 6, "momentum"),
    _stressed(SMALL[2].model, 6, "adam"),
    _stressed(SMALL[3].model, 6, "adamw"),
    _stressed(RnnSpec(5, 8, 4, 6, many_to_many=True, activation="relu"), 6, "sgd"),
    _stressed(LstmSpec(5, 8, 4, 6, num_layers=2), 1, "momentum"),
)
PRESETS: dict[str, Preset] = {
    "default": Preset(
        "everyday sizes: a dense classifier, ResNet-8 (as He et al. 2016), RNN and LSTM over 25 steps", EVERYDAY
    ),
    "small": Preset(
        "seconds instead of minutes: every feature once (strided projection, two layers, many-to-many)", SMALL
    ),
    "lecture": Preset(
        "sizes of the course slides: flattened 32x32x3 images, 10 classes; 3072 inputs to 10 hidden units",
        (
            Sized(DenseSpec((3072, 10)), 64),
            Sized(RESNET_20, 16),
            Sized(RnnSpec(input_size=3072, hidden_size=10, output_size=10, sequence_length=8), 32),
            Sized(LstmSpec(input_size=3072, hidden_size=10, output_size=10, sequence_length=8, many_to_many=True), 32),
        ),
    ),
    "deepbench": Preset(
        "Baidu's DeepBench: RNN with ReLU, LSTM and dense layers of speech models; hours on a CPU",
        _deepbench(),
    ),
    "products": Preset(
        "matrix products: the slides' 4x5 by 5x5, and square ones of 64 to 4096 rows; to see where a GPU overtakes",
        _products(),
    ),
    "kernels": Preset(
        "matrix products for kernels that are written out: the slides' 4x5 by 5x5, odd sizes, and squares up to 512",
        (
            Sized(DenseSpec((5, 5)), 4),
            Sized(DenseSpec((127, 65)), 33),
            *(Sized(DenseSpec((size, size)), size) for size in (128, 256, 512)),
        ),
        everybody=True,
    ),
    "mlp": Preset(
        "a published benchmark of training loops: 8192 inputs, layers of 64, 8 and 2, batches of 4096",
        (Sized(DenseSpec((8192, 64, 8, 2)), 4096),),
    ),
    "coverage": Preset(
        "what `agree` checks by default: everyday sizes, and small ones in every situation, each optimiser once",
        (*EVERYDAY, *TWINS),
    ),
}


def choose(
    preset: str,
    models: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    sequence_lengths: Sequence[int] = (),
    hidden_sizes: Sequence[int] = (),
    names: Sequence[str] = (),
) -> tuple[Sized, ...]:
    """The models of a preset, perhaps only some families, perhaps in other sizes: every combination of those given.

    Args:
        preset: a name in `PRESETS`.
        models: families to keep, in the preset's order; none means all.
        batch_sizes: each model is run with each of them; none means the preset's own.
        sequence_lengths: of recurrent models, likewise.
        hidden_sizes: of recurrent models, and of all hidden layers of dense ones, likewise.
        names: of these, keep those whose `Sized.name` is given; none means all.

    Raises:
        InputError: a name that is not known, a size below 1, a family that the preset lacks, or a size that no chosen
            model has.
    """
    require_choice(preset, tuple(PRESETS), "preset")
    for model in models:
        require_choice(model, MODEL_KINDS, "models")
    for where, sizes in (
        ("batch-size", batch_sizes),
        ("sequence-length", sequence_lengths),
        ("hidden-size", hidden_sizes),
    ):
        for size in sizes:
            if size < 1:
                raise InputError(f"not a {where}", where=where, got=size, expected="a whole number of at least 1")
    kept = [sized for sized in PRESETS[preset].sized if not models or sized.model.kind in models]
    if not kept:
        raise InputError(
            "no such model in this preset", where="models", got=", ".join(models), expected=f"preset {preset}"
        )
    if sequence_lengths and not any(isinstance(sized.model, RecurrentSpec) for sized in kept):
        raise InputError(
            "no recurrent model", where="sequence-length", got=", ".join(models) or preset, expected="rnn or lstm"
        )
    if hidden_sizes and not any(_resized(sized.model, None, 1) != sized.model for sized in kept):
        raise InputError(
            "no hidden size", where="hidden-size", got=", ".join(models) or preset, expected="rnn, lstm or dense"
        )
    found = [
        replace(sized, model=_resized(sized.model, length, hidden), batch_size=batch)
        for sized in kept
        for hidden in (hidden_sizes or (None,))
        for length in (sequence_lengths or (None,))
        for batch in (batch_sizes or (sized.batch_size,))
    ]
    return named(found, names)


def named(found: Sequence[Sized], names: Sequence[str]) -> tuple[Sized, ...]:
    """Those of these names, or all if there are none, each once; raises InputError on a name that none has."""
    # Models without such a size, and sizes that a preset has several of, come out the same more than once.
    by_name = {sized.name: sized for sized in found}
    for name in names:
        require_choice(name, tuple(by_name), "workload")
    return tuple(by_name[name] for name in dict.fromkeys(names)) or tuple(by_name.values())


def _resized(model: ModelSpec, sequence_length: int | None, hidden_size: int | None) -> ModelSpec:
    if isinstance(model, RecurrentSpec):
        length = sequence_length or model.sequence_length
        return replace(model, sequence_length=length, hidden_size=hidden_size or model.hidden_size)
    if isinstance(model, DenseSpec) and hidden_size:
        hidden = (hidden_size,) * (len(model.layer_sizes) - 2)
        return replace(model, layer_sizes=(model.input_size, *hidden, model.output_size))
    return model
