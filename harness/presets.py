"""Named sets of workloads, each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.errors import InputError
from harness.core.spec import MODEL_KINDS, DenseSpec, LstmSpec, ModelSpec, ResidualSpec, RnnSpec, require_choice


@dataclass(frozen=True)
class Sized:
    """A model and the batch size it is run with."""

    model: ModelSpec
    batch_size: int


@dataclass(frozen=True)
class Preset:
    """A named set of models and batch sizes.

    Args:
        description: one line, with the source of the sizes.
        sized: what is run.
    """

    description: str
    sized: tuple[Sized, ...]


RESNET_20 = ResidualSpec(height=32, width=32, channels=3, stage_widths=(16, 32, 64), blocks_per_stage=3, output_size=10)
# Its stages with one block each instead of three: compiling ResNet-20 in every mode would take most of the main job.
RESNET_8 = replace(RESNET_20, blocks_per_stage=1)

PRESETS: dict[str, Preset] = {
    "default": Preset(
        "everyday sizes: a dense classifier, ResNet-8 (as He et al. 2016), RNN and LSTM over 25 steps",
        (
            Sized(DenseSpec((3072, 512, 512, 10)), 64),
            Sized(RESNET_8, 16),
            Sized(RnnSpec(input_size=64, hidden_size=256, output_size=10, sequence_length=25), 32),
            Sized(LstmSpec(input_size=64, hidden_size=256, output_size=10, sequence_length=25), 32),
        ),
    ),
    "small": Preset(
        "seconds instead of minutes: every feature once (strided projection, two layers, many-to-many)",
        (
            Sized(DenseSpec((12, 16, 8, 5), activation="tanh"), 6),
            Sized(ResidualSpec(8, 8, 2, stage_widths=(8, 16), blocks_per_stage=1, output_size=5), 6),
            Sized(RnnSpec(input_size=5, hidden_size=8, output_size=4, sequence_length=6, num_layers=2), 6),
            Sized(
                LstmSpec(
                    input_size=5, hidden_size=8, output_size=4, sequence_length=6, num_layers=2, many_to_many=True
                ),
                6,
            ),
        ),
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
}


def choose(preset: str, models: Sequence[str] = (), batch_sizes: Sequence[int] = ()) -> tuple[Sized, ...]:
    """The models of a preset, perhaps only some families, perhaps with other batch sizes.

    Args:
        preset: a name in `PRESETS`.
        models: families to keep, in the preset's order; none means all.
        batch_sizes: each model is run with each of them; none means the preset's own.

    Raises:
        InputError: a name that is not known, a batch size below 1, or a family that the preset lacks.
    """
    require_choice(preset, tuple(PRESETS), "preset")
    for model in models:
        require_choice(model, MODEL_KINDS, "models")
    for size in batch_sizes:
        if size < 1:
            raise InputError("not a batch size", where="batch-size", got=size, expected="a whole number of at least 1")
    kept = [sized for sized in PRESETS[preset].sized if not models or sized.model.kind in models]
    if not kept:
        raise InputError(
            "no such model in this preset", where="models", got=", ".join(models), expected=f"preset {preset}"
        )
    return tuple(Sized(sized.model, size) for sized in kept for size in (batch_sizes or (sized.batch_size,)))
