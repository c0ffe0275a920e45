"""What a planted fault is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, Optimiser
from faceoff.workloads.presets import PRESETS

IMPLEMENTATIONS = Path(__file__).resolve().parents[3] / "impls"
BATCH_SIZE = 6

MODELS: dict[str, ModelSpec] = {
    **{sized.model.kind: sized.model for sized in PRESETS["small"].sized},
    "dense-relu": DenseSpec((12, 16, 8, 5)),
    "lstm-last": LstmSpec(input_size=5, hidden_size=8, output_size=4, sequence_length=6, num_layers=2),
}
"""The models of the small preset, and those of the same sizes without which some lines would never run."""


Edit = tuple[str, str, str]
"""A file, the text that stands there once, and what a mistaken author wrote instead."""


@dataclass(frozen=True)
class Fault:
    """A mistake in one framework's implementation.

    Args:
        name: what is wrong, in words.
        contender: whose implementation, in which mode.
        model: a key of `MODELS`.
        edits: the lines as the mistaken author wrote them.
        place: how `first_difference` has to begin.
        optimiser: the kind that training uses.
        dtype: in which the fault shows; `float32` means that it shows in no wider one.
        situation: the weights and inputs that let it show: a key of `faceoff.workloads.situations.SITUATIONS`.
    """

    name: str
    contender: str
    model: str
    edits: tuple[Edit, ...]
    place: str
    optimiser: str = "sgd"
    dtype: Literal["float64", "float32"] = "float64"
    situation: str = "everyday"

    @property
    def id(self) -> str:
        """The name with framework and model, unique in the catalogue."""
        return f"{self.contender.partition(':')[0]} {self.model}: {self.name}"

    @property
    def rule(self) -> Optimiser:
        return Optimiser(self.optimiser)

    def plant(self, folder: Path) -> None:
        """Edits the copy of the framework's implementation in `folder`."""
        for file, there, written in self.edits:
            path = folder / file
            text = path.read_text()
            assert text.count(there) == 1, f"{path.name} no longer holds {there!r} once: mend {self.id!r}"
            path.write_text(text.replace(there, written))


def in_optimiser(there: str, written: str) -> tuple[Edit, ...]:
    """One edit of `optimiser.py`."""
    return (("optimiser.py", there, written),)


def in_runtime(there: str, written: str) -> tuple[Edit, ...]:
    """One edit of `runtime.py`."""
    return (("runtime.py", there, written),)
