"""What a planted fault in a port is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.meta.faults.fault import IMPLEMENTATIONS, Edit

EXAMPLES = IMPLEMENTATIONS / "examples"
SIDE = "jax_model.py"
FRAMEWORK = "impls/jax/"


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
    """

    name: str
    example: str
    kind: str
    edits: tuple[Edit, ...]
    place: str
    layer: str
    optimiser: str = "sgd"

    @property
    def id(self) -> str:
        """Example and name, unique in the catalogue."""
        return f"{self.example}: {self.name}"

    def of_framework(self) -> tuple[Edit, ...]:
        """The edits in the framework's folder, by their files there."""
        return tuple((f.removeprefix(FRAMEWORK), *texts) for f, *texts in self.edits if f.startswith(FRAMEWORK))

    def plant(self, folder: Path) -> None:
        """Edits a copy of the example; raises AssertionError where a text does not stand there once."""
        for file, there, written in self.edits:
            if not file.startswith(FRAMEWORK):
                replace_once(folder / file, there, written, self.id)

    def is_placed(self, said: str) -> bool:
        """Whether what was said to differ first, or of an error, names the place."""
        return re.match(self.place, said, re.DOTALL) is not None or bool(self.layer and self.layer in said)


def replace_once(path: Path, there: str, written: str, whose: str) -> None:
    """Replaces what stands in a file exactly once."""
    text = path.read_text()
    assert text.count(there) == 1, f"{path.name} no longer holds {there!r} once: mend {whose!r}"
    path.write_text(text.replace(there, written))


def faults_of(example: str, *told: tuple[str, str, str, str, str, str]) -> tuple[PortFault, ...]:
    """Faults of an example's port, each as name, kind, the text there, the text written, place and layer."""
    return tuple(
        PortFault(name, example, kind, ((SIDE, there, written),), place, layer)
        for name, kind, there, written, place, layer in told
    )
