"""The typed atlas of defaults: what each framework was found to do, and what a difference is worth."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from faceoff.core.errors import Outcome, ResultFileError
from faceoff.results.file import not_valid

SCHEMA_VERSION = 1
# An atlas has some 60 kB; a file that is far larger is something else, and not read twice.
MOST_BYTES = 10_000_000


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class Finding(_Record):
    """What one framework does under one word.

    Attributes:
        words: the finding in words, in the same words where two frameworks do the same; for a refusal what the
            framework said, for a missing framework `missing`.
        numbers: what was measured or fitted, by name.
        outcome: `ok`, `unsupported` (the framework refuses what was asked), `disagrees` (what was measured follows no
            known form; the words say so), or how its worker ended.
    """

    words: str
    numbers: dict[str, float] = {}
    outcome: Outcome = "ok"


class Effect(_Record):
    """What happens when only this default is changed.

    Attributes:
        measured_on: the float64 reference and its task, or the unit itself.
        quantity: what was compared, with the number of steps.
        values: the quantity for each framework's default; empty for an array, of which only the difference is told.
        relative_difference: largest minus smallest value over the mean of their sizes; for arrays the largest rms
            difference between two frameworks over the largest rms.
        chance: where weights are drawn, the largest standard error of a framework's mean over its draws, relative to
            that mean; a difference of about that size tells nothing. Null where nothing is drawn.
    """

    measured_on: str
    quantity: str
    values: dict[str, float] = {}
    relative_difference: float
    chance: float | None = None


class Row(_Record):
    """One word under one topic, in every framework."""

    topic: str
    word: str
    findings: dict[str, Finding]
    agree: bool
    effects: list[Effect] = []


class Atlas(_Record):
    """All rows, those that differ first.

    Attributes:
        frameworks: framework to its versions; empty when it is missing.
        outcomes: framework to `ok`, or how its worker ended.
        seed: of the draws, the data and the batches.
        card: name of the GPU that products were measured on too; empty where they were not. All else is of the CPU.
        duration_s: of the whole command, seconds.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    seed: int
    card: str = ""
    duration_s: float
    frameworks: dict[str, dict[str, str]]
    outcomes: dict[str, Outcome]
    rows: list[Row]

    @property
    def exit_status(self) -> int:
        """0 when every framework was measured, 3 when one is missing or its worker ended."""
        return 0 if set(self.outcomes.values()) <= {"ok"} else 3

    def row(self, topic: str, word: str) -> Row:
        """The row of a word; raises KeyError when there is none."""
        for row in self.rows:
            if (row.topic, row.word) == (topic, word):
                return row
        raise KeyError(f"{topic}: {word}")


def load_atlas(path: str | Path) -> Atlas | None:
    """Reads a file that `faceoff defaults --out` has written; None when it holds something else.

    Raises:
        ResultFileError: an atlas of another schema, or one that lacks something.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return parse_atlas(text, Path(path))


def parse_atlas(text: str, path: Path) -> Atlas | None:
    """As `load_atlas`, from what a file holds; `path` is for errors."""
    if len(text) > MOST_BYTES:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not {"frameworks", "rows", "schema_version"} <= document.keys():
        return None
    version, next_step = document["schema_version"], "make it anew with `faceoff defaults --out FILE`"
    if version != SCHEMA_VERSION:
        raise ResultFileError(
            "an atlas of defaults of another schema",
            where=str(path),
            got=f"version {version}",
            expected=f"version {SCHEMA_VERSION}",
            next_step=next_step,
        )
    try:
        return Atlas.model_validate(document)
    except ValidationError as error:
        raise not_valid(error, f"{path}: ", next_step) from None


def make_row(topic: str, word: str, findings: dict[str, Finding]) -> Row:
    """A row that agrees when all frameworks that were measured say the same.

    A refusal is a difference, and so is what was measured and not understood.
    """
    measured = [finding for finding in findings.values() if finding.outcome in ("ok", "unsupported", "disagrees")]
    said = {finding.words if finding.outcome == "ok" else finding.outcome for finding in measured}
    understood = all(finding.outcome != "disagrees" for finding in measured)
    return Row(topic=topic, word=word, findings=findings, agree=understood and len(said) <= 1)
