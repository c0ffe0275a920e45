"""Does the check find what is wrong in a port of a user's own model? `python -m tests.calibration.port_faults`.

Every mistake of the catalogue is made in a copy of an example's port (`impls/examples`), by an exact edit of a file,
and the shipped check is asked in float64. Found means that it disagrees, or that the weights cannot be mapped and the
error says so; placed, that the first difference, or the error, names the right quantity, weight, gradient or step.

Every finished piece is on the disk at once: the same command goes on where it was stopped, and several processes share
the work by `--part 1/2` and `--part 2/2`. Exit status 1 if a mistake is overlooked, or an example as it is disagrees.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from faceoff.core.errors import HarnessError
from faceoff.machine.description import describe_machine
from tests.calibration.pieces import Piece, Pieces, add_options
from tests.calibration.port_fault import PortFault
from tests.calibration.port_fault_catalogue import FAULTS
from tests.calibration.port_planting import REFUSED, PortPlanter, Verdict

UNHARMED = "as it is"


def pieces_of(faults: Sequence[PortFault]) -> Iterator[tuple[str, PortFault | tuple[str, str, str]]]:
    """Every piece of the study by its name: each example as it is, in each framework and dtype, and each fault.

    Faults of one example take turns with those of others, so that a study that is stopped has seen all.
    """
    by_example: dict[tuple[str, str], list[PortFault]] = {}
    for fault in faults:
        by_example.setdefault((fault.example, fault.framework), []).append(fault)
    for dtype in ("float64", "float32"):
        for example, framework in by_example:
            yield f"{example}, {framework}: {UNHARMED}, {dtype}", (example, framework, dtype)
    for turn in zip_longest(*by_example.values()):
        yield from ((fault.id, fault) for fault in turn if fault is not None)


def piece_of(name: str, verdict: Verdict, fault: PortFault | None) -> Piece:
    """What became of a piece."""
    piece: Piece = {
        "name": name, "outcome": verdict.outcome, "first_difference": verdict.said, "note": verdict.note,
        "noise_units": verdict.units,
    }  # fmt: skip
    if fault is not None:
        found = verdict.outcome in ("disagrees", REFUSED)
        piece |= {
            "example": fault.example, "framework": fault.framework, "kind": fault.kind, "found": found,
            "placed": found and fault.is_placed(verdict.said),
            "names_layer": found and bool(fault.layer) and fault.layer in verdict.said,
        }  # fmt: skip
    return piece


def summarise(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Counts, and what was overlooked or misplaced."""
    planted = [piece for piece in pieces if "kind" in piece]
    kinds = sorted({piece["kind"] for piece in planted})
    return {
        "planted": len(planted),
        "found": sum(piece["found"] for piece in planted),
        "placed": sum(piece["placed"] for piece in planted),
        "naming_the_layer": sum(piece["names_layer"] for piece in planted),
        "kinds": {
            kind: {
                "planted": len(of_kind), "found": sum(piece["found"] for piece in of_kind),
                "placed": sum(piece["placed"] for piece in of_kind),
            }
            for kind in kinds
            if (of_kind := [piece for piece in planted if piece["kind"] == kind])
        },
        "overlooked": [piece["name"] for piece in planted if not piece["found"]],
        "misplaced": [
            {"name": piece["name"], "first_difference": piece["first_difference"]}
            for piece in planted
            if piece["found"] and not piece["placed"]
        ],
        "accused": [piece["name"] for piece in pieces if "kind" not in piece and piece["outcome"] != "ok"],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "reports/port-faults")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of what is planted")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON; to standard output without it")
    asked = parser.parse_args()
    faults = [fault for fault in FAULTS if any(part in fault.id for part in asked.only)]
    if not faults:
        parser.error(f"--only: got {', '.join(asked.only)}, expected part of a name such as {FAULTS[0].id!r}")
    try:
        pieces = Pieces(asked.folder, asked.part, asked.mixed)
    except HarnessError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="faceoff-") as folder, PortPlanter(Path(folder), asked.seed) as planter:
        for name, item in pieces.left(pieces_of(faults), asked.minutes):
            fault = item if isinstance(item, PortFault) else None
            if isinstance(item, PortFault):
                verdict = planter.plant(item)
            else:
                verdict = planter.ask(item[0], framework=item[1], dtype=item[2])
            piece = piece_of(name, verdict, fault)
            pieces.add(piece)
            print(f"{name}: {verdict.outcome}, {verdict.said[:120]}", file=sys.stderr, flush=True)
    names = {name for name, _ in pieces_of(faults)}
    finished = [piece for piece in pieces.all() if piece["name"] in names]
    figures = {**summarise(finished), "left": len(names) - len(finished), "machine": describe_machine()}
    text = json.dumps({**figures, "pieces": finished}, indent=1) + "\n"
    if asked.out is None:
        print(text, end="")
    else:
        asked.out.write_text(text)
    return int(bool(figures["overlooked"] or figures["accused"]))


if __name__ == "__main__":
    sys.exit(main())
