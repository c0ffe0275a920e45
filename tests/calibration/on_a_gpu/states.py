"""What has become of each part, in a file that is written anew whenever something has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.calibration.on_a_gpu.plan import Part

NAME = "parts.json"
State = Literal["left", "running", "out of time", "interrupted", "failed", "finished"]


@dataclass
class Call:
    """One start of a part.

    Args:
        began: date and time.
        took_s: until it had ended, in seconds; None while it runs, and where nobody was left to write it down.
        status: its exit status; None likewise. Negative: the signal that ended it.
    """

    began: str
    took_s: float | None = None
    status: int | None = None


@dataclass
class PartState:
    """What has become of a part.

    Args:
        name, limit_s: of the part.
        state: in a word. `running` in a file that nobody writes any more: the machine went.
        calls: its starts, the earliest first.
    """

    name: str
    limit_s: float
    state: State = "left"
    calls: list[Call] = field(default_factory=list)


class States:
    """Those of all parts of a plan.

    Args:
        path: of the file; what it says of an earlier call is taken over.
        parts: of the plan.
    """

    def __init__(self, path: Path, parts: Sequence[Part]) -> None:
        self._path = path
        earlier = _read(path)
        self._of = {part.name: earlier.get(part.name, PartState(part.name, part.limit_s)) for part in parts}

    def __getitem__(self, part: Part) -> PartState:
        return self._of[part.name]

    def write(self) -> None:
        """Writes the file; whoever reads it sees all of it or the one before."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"parts": [asdict(state) for state in self._of.values()]}, indent=1)
        part = self._path.with_name(f".{self._path.name}.part")
        part.write_text(text + "\n")
        part.replace(self._path)

    def unfinished(self) -> list[str]:
        """The names of all parts that have not come to their end, in order."""
        return [state.name for state in self._of.values() if state.state != "finished"]


def _read(path: Path) -> dict[str, PartState]:
    if not path.exists():
        return {}
    found: list[dict[str, Any]] = json.loads(path.read_text())["parts"]
    return {
        entry["name"]: PartState(**{**entry, "calls": [Call(**call) for call in entry["calls"]]}) for entry in found
    }
