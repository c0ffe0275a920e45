"""Studies in pieces: each finished piece is on the disk at once, so that a study can be stopped and gone on with.

A folder holds one file of JSON lines for each process that takes part in the study. A piece has a `name`, and stands
there once; a line that was cut off is no piece.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from faceoff.core.errors import InputError

# What decides whether a contender agrees; how a run is timed, kept and shown is left out.
JUDGING = (
    "harness/faceoff/agreement/check.py",
    "harness/faceoff/agreement/comparison.py",
    "harness/faceoff/core",
    "harness/faceoff/agreement/findings.py",
    "harness/faceoff/agreement/flips.py",
    "harness/faceoff/agreement/noise.py",
    "harness/faceoff/agreement/own.py",
    "harness/faceoff/agreement/quantities.py",
    "harness/faceoff/ports",
    "harness/faceoff/reference",
    "harness/faceoff/workloads/situations.py",
    "harness/faceoff/workloads/task.py",
    "harness/faceoff/worker",
    "impls",
    "tests/calibration/draw.py",
    "tests/calibration/port_draw.py",
    "tests/calibration/port_models",
)
Piece = dict[str, Any]
Item = TypeVar("Item")


class Pieces:
    """The finished pieces of a study.

    Args:
        folder: where they are kept; made if need be.
        part: this process is one of several, as `parse_part` returns it.
        mixed: let pieces of other code stand beside those of this one; each says which it is of.

    Raises:
        InputError: the folder holds pieces of other code, whose figures are no part of the same study.
    """

    def __init__(self, folder: Path, part: tuple[int, int] = (1, 1), mixed: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._code = folder, judging_code()
        self._path = folder / f"part-{part[0]}-of-{part[1]}.jsonl"
        self._part = part
        others = {piece["code"] for piece in self.all()} - {self._code}
        if others and not mixed:
            raise InputError(
                "pieces of other code",
                where=str(folder),
                got=", ".join(sorted(others)),
                expected=self._code,
                next_step="give another --folder, or --mixed to keep both",
            )

    def all(self) -> list[Piece]:
        """Every piece that any process has finished, in the order of their names."""
        found = {}
        for path in sorted(self._folder.glob("part-*.jsonl")):
            for line in path.read_text().splitlines():
                try:
                    piece = json.loads(line)
                except ValueError:
                    continue  # It was cut off, and its piece is done again.
                found[piece["name"]] = piece
        return [found[name] for name in sorted(found)]

    def add(self, piece: Piece) -> None:
        """Keeps a finished piece."""
        cut_off = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        with self._path.open("a") as file:
            file.write(("\n" if cut_off else "") + json.dumps({**piece, "code": self._code}) + "\n")

    def left(self, named: Iterable[tuple[str, Item]], minutes: float) -> Iterator[tuple[str, Item]]:
        """What is left for this process, until `minutes` are over; the others take the rest.

        Args:
            named: every piece of the study by its name.
            minutes: how long another one is begun.
        """
        end_s, done = time.monotonic() + 60 * minutes, {piece["name"] for piece in self.all()}
        own, parts = self._part
        for name, item in named:
            if time.monotonic() > end_s:
                return
            # By the name, as every other or every fourth piece may be alike.
            if name not in done and zlib.crc32(name.encode()) % parts == own - 1:
                yield name, item


def add_options(parser: argparse.ArgumentParser, folder: str) -> None:
    """The options of a study in pieces."""
    parser.add_argument("--folder", type=Path, default=Path(folder), help="of the finished pieces; goes on with them")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no piece is begun after them")
    parser.add_argument("--part", type=parse_part, default=(1, 1), metavar="K/N", help="this one of N processes")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--mixed", action="store_true", help="go on although the code has changed since")


def parse_part(text: str) -> tuple[int, int]:
    """`1/2` as part and parts."""
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part such as 1/2")
    return int(part), int(parts)


def judging_code() -> str:
    """A digest of the code that decides what a piece says."""
    root = Path(__file__).resolve().parents[2]
    files = [
        file
        for name in JUDGING
        for file in ([root / name] if name.endswith(".py") else sorted((root / name).rglob("*.py")))
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
