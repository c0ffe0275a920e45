"""What a planted fault in a port is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.meta.faults.fault import IMPLEMENTATIONS, Edit

EXAMPLES = IMPLEMENTATIONS / "examples"

OUTPUTS = r"outputs$"
"""Of what shows in the forward pass, where no layer is named."""
LOSS = r"loss$"
"""Of what shows in training mode alone."""


def of_gradient(name: str) -> str:
    """What is named where a gradient is the first to differ; `name` begins the weight's."""
    return rf"gradient of (input )?'{name}"


def after_training(name: str) -> str:
    """What is named where something that training leaves is the first to differ."""
    return rf"{name}.* after \d+ training steps$"


@dataclass(frozen=True)
class PortFault:
    """A mistake in one side of an example.

    Args:
        name: what is wrong, in words.
        example: a folder of `impls/examples`.
        kind: of mistake.
        edits: files of that folder, or of the framework's own (`impls/jax/...`), each with the text that stands there
            once and what a mistaken author wrote.
        place: a regular expression of what has to be named as the first difference, or by the error.
        layer: the layer in which the mistake lies: that it is named will do, too.
        optimiser: the kind that training uses.
        framework: of the side.
    """

    name: str
    example: str
    kind: str
    edits: tuple[Edit, ...]
    place: str
    layer: str
    optimiser: str = "sgd"
    framework: str = "jax"

    @property
    def id(self) -> str:
        """Example, framework and name, unique in the catalogue."""
        return f"{self.example}, {self.framework}: {self.name}"

    @property
    def _of_framework(self) -> str:
        """How the names of the framework's own files begin."""
        return f"impls/{self.framework}/"

    def of_framework(self) -> tuple[Edit, ...]:
        """The edits in the framework's folder, by their files there."""
        own = self._of_framework
        return tuple((file.removeprefix(own), *texts) for file, *texts in self.edits if file.startswith(own))

    def plant(self, folder: Path) -> None:
        """Edits a copy of the example; raises AssertionError where a text does not stand there once."""
        for file, there, written in self.edits:
            if not file.startswith(self._of_framework):
                replace_once(folder / file, there, written, self.id)

    def is_placed(self, said: str) -> bool:
        """Whether what was said to differ first, or of an error, names the place."""
        return re.match(self.place, said, re.DOTALL) is not None or bool(self.layer and self.layer in said)


def replace_once(path: Path, there: str, written: str, whose: str) -> None:
    """Replaces what stands in a file exactly once."""
    text = path.read_text()
    assert text.count(there) == 1, f"{path.name} no longer holds {there!r} once: mend {whose!r}"
    path.write_text(text.replace(there, written))


def side_of(framework: str) -> str:
    """The file of a framework's side."""
    return f"{framework}_model.py"


def fault_of_optimiser(name: str, framework: str, rule: str, place: str, there: str, written: str) -> PortFault:
    """A mistake in how a framework's folder sets an optimiser; shown in one example."""
    file = f"impls/{framework}/optimiser.py"
    return PortFault(name, "autoencoder", "optimiser", ((file, there, written),), place, "", rule, framework)


def faults_of(
    example: str, *told: tuple[str, str, str, str, str, str], framework: str = "jax"
) -> tuple[PortFault, ...]:
    """Faults of an example's port, each as name, kind, the text there, the text written, place and layer."""
    return tuple(
        PortFault(name, example, kind, ((side_of(framework), there, written),), place, layer, framework=framework)
        for name, kind, there, written, place, layer in told
    )
