"""What can the check of agreement see, and what not? `python -m tests.calibration.power`.

Every fault of the catalogue (`tests.meta.faults`) is planted in a copy of the implementation, at random everyday sizes:
its model keeps layers and switches, as its lines need them, and gets other sizes. Found means that the shipped check
disagrees, placed that it also says where. A fault that ends in an error needs no check, and is counted apart. Then the
smallest fault of each kind that has a size is sought by bisection (`tests.calibration.smallest`), in float64 and in
float32, on models that are drawn too.

Every finished piece is on the disk at once: the same command goes on where it was stopped, and several processes share
the work by `--part 1/2` and `--part 2/2`. Exit status 1 below the bars: 99 % found, 95 % placed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from faceoff.agreement.check import Expected
from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.core.errors import HarnessError
from faceoff.core.spec import (
    DenseSpec,
    LstmSpec,
    ModelSpec,
    RecurrentSpec,
    ResidualSpec,
    RnnSpec,
    Workload,
)
from faceoff.machine.description import describe_machine
from faceoff.report.sight import MEASURED
from faceoff.workloads.situations import SITUATIONS
from faceoff.workloads.work import count_work
from tests.calibration.draw import draw, log_uniform
from tests.calibration.pieces import Piece, Pieces, add_options
from tests.calibration.planting import Planter
from tests.calibration.smallest import KINDS, Kind, fits, smallest
from tests.meta.faults.fault import MODELS, Fault
from tests.meta.faults.runner import is_installed
from tests.meta.test_fault_catalogue import FAULTS

MOST_FLOPS = 2e7
# Some faults name the fourth time step or channel, or the first three examples.
FEWEST = 6
LEAST_FOUND, LEAST_PLACED = 0.99, 0.95
# Of one kind the smallest fault is sought on as many models.
MODELS_OF_A_KIND = 4
DTYPES = ("float64", "float32")


def resized(spec: ModelSpec, rng: np.random.Generator) -> ModelSpec:
    """The same layers and switches in other sizes."""

    def size(most: int) -> int:
        return log_uniform(rng, FEWEST, most)

    if isinstance(spec, DenseSpec):
        return replace(spec, layer_sizes=tuple(size(256) for _ in spec.layer_sizes))
    if isinstance(spec, ResidualSpec):
        side, other = size(24), size(24)
        widths = tuple(size(48) for _ in spec.stage_widths)
        return replace(spec, height=side, width=other, stage_widths=widths, output_size=size(48))
    assert isinstance(spec, (RnnSpec, LstmSpec))
    return replace(spec, input_size=size(128), hidden_size=size(128), output_size=size(48), sequence_length=size(100))


def draw_workload(fault: Fault, trial: int, seed: int) -> tuple[Workload, int]:
    """Sizes, batch size and seed of the weights for one planting of a fault."""
    rng = np.random.default_rng([seed, trial, zlib.crc32(fault.id.encode())])
    while True:
        workload = Workload(resized(MODELS[fault.model], rng), log_uniform(rng, FEWEST, 64), optimiser=fault.rule)
        if count_work(workload.replace(step="training")).flops <= MOST_FLOPS:
            return workload, int(rng.integers(0, 2**31))


def plant_one(planter: Planter, fault: Fault, trial: int, seed: int) -> Piece:
    """One planting, as a piece of the study."""
    workload, weights_seed = draw_workload(fault, trial, seed)
    task = SITUATIONS[fault.situation].task(workload, weights_seed)
    # As `agree` does.
    expected = Expected(task, weights_seed, keep=False, detail="layers")
    found, has_effect = planter.plant(fault, expected, fault.dtype)
    return {
        "fault": fault.name,
        "id": fault.id,
        "workload": workload.replace(dtype=fault.dtype, step="training").name,
        "seed": weights_seed,
        "outcome": found.outcome,
        "placed": is_placed(found.first_difference, fault.place),
        "first_difference": found.first_difference,
        "expected_place": fault.place,
        "reason": found.reason,
        "has_effect": has_effect,
    }


def is_placed(found: str, expected: str) -> bool:
    """Whether a place is the expected one; which example or time step it is depends on the sizes."""
    (layer, _, rest), (right, _, right_rest) = found.partition(", "), expected.partition(", ")
    return layer.startswith(right) and _numberless(rest).startswith(_numberless(right_rest))


def _numberless(text: str) -> str:
    return re.sub(r"\d+", "N", text)


def seek_one(kind: Kind, dtype: str, trial: int, seed: int) -> Piece:
    """The smallest fault of a kind on one drawn model, as a piece of the study."""
    number = zlib.crc32(f"{kind.name} {trial}".encode())
    while True:
        case = draw(seed, number % 2**31)
        workload = case.workloads[0]
        if fits(kind, workload.model) and count_work(workload).flops <= MOST_FLOPS and _is_short(workload.model):
            break
        number += 1
    size = smallest(kind, workload, dtype, case.tasks[0][1])
    return {"kind": kind.name, "dtype": dtype, "case": case.name, "model": workload.model.label, "size": size}


def _is_short(spec: ModelSpec) -> bool:
    return not isinstance(spec, RecurrentSpec) or spec.sequence_length * spec.num_layers <= 100


def pieces_of(trials: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every piece by its name; first all faults once."""
    for trial in range(trials):
        for fault in FAULTS.values():
            yield f"fault/{fault.id}/{trial}", (fault, trial)
        for kind in KINDS if trial < MODELS_OF_A_KIND else ():
            for dtype in DTYPES:
                yield f"smallest/{kind.name}/{dtype}/{trial}", (kind, dtype, trial)


def _chosen(asked: argparse.Namespace) -> Iterator[tuple[str, tuple[Any, ...]]]:
    return (piece for piece in pieces_of(asked.trials) if piece[0].startswith(asked.only))


def summarise(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Shares found and placed, fault by fault and over all; the smallest fault of each kind."""
    plantings = [piece for piece in pieces if "fault" in piece]
    # At some sizes a fault changes nothing, as padding on one side of a size that is odd.
    without = [piece for piece in plantings if piece["has_effect"] is False]
    judged = [piece for piece in plantings if piece["outcome"] in ("ok", "disagrees") and piece not in without]
    found = [piece for piece in judged if piece["outcome"] == "disagrees"]
    return {
        "limit": NOISE_LIMIT,
        "plantings": len(plantings),
        "without_effect": sorted(piece["name"] for piece in without),
        "ended_in_an_error": len(plantings) - len(judged) - len(without),
        "found": len(found),
        "placed": sum(piece["placed"] for piece in found),
        "share_found": len(found) / len(judged) if judged else None,
        "share_placed": sum(piece["placed"] for piece in found) / len(judged) if judged else None,
        "faults": _by_fault(plantings),
        "overlooked": [piece for piece in judged if piece["outcome"] == "ok"],
        "misplaced": [piece for piece in found if not piece["placed"]],
        "errors": [piece for piece in plantings if piece["outcome"] not in ("ok", "disagrees")],
        "smallest": _smallest_table([piece for piece in pieces if "kind" in piece]),
    }


def _by_fault(plantings: Sequence[Piece]) -> dict[str, dict[str, int]]:
    """By what is wrong, over all frameworks and models."""
    rows: dict[str, dict[str, int]] = defaultdict(lambda: {"planted": 0, "found": 0, "placed": 0, "errors": 0})
    for piece in plantings:
        row = rows[piece["fault"]]
        is_found = piece["outcome"] == "disagrees"
        row["planted"] += 1
        row["found"] += is_found
        row["placed"] += is_found and piece["placed"]
        row["errors"] += piece["outcome"] not in ("ok", "disagrees")
    return {name: rows[name] for name in sorted(rows)}


def _smallest_table(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """A row for each kind and dtype: sizes over the models; None stands for a fault that no size lets show."""
    table = []
    for kind in KINDS:
        for dtype in DTYPES:
            own = [piece for piece in pieces if (piece["kind"], piece["dtype"]) == (kind.name, dtype)]
            sizes = sorted(piece["size"] for piece in own if piece["size"] is not None)
            if own:
                table.append(
                    {
                        "kind": kind.name,
                        "dtype": dtype,
                        "models": len(own),
                        "never_found": len(own) - len(sizes),
                        "median": float(np.median(sizes)) if sizes else None,
                        "least": sizes[0] if sizes else None,
                        "most": sizes[-1] if sizes else None,
                        "cases": [(piece["case"], piece["model"], piece["size"]) for piece in own],
                    }
                )
    return table


def run_pieces(asked: argparse.Namespace, pieces: Pieces, console: Console) -> None:
    """Goes on with what is left."""
    with tempfile.TemporaryDirectory(prefix="faceoff-") as folder, threadpool_limits(1):
        planter = Planter(Path(folder))
        try:
            for name, (what, *rest) in pieces.left(_chosen(asked), asked.minutes):
                if isinstance(what, Kind):
                    piece = seek_one(what, *rest, asked.seed)
                    said = piece["size"]
                elif is_installed(what.contender.partition(":")[0]):
                    piece = plant_one(planter, what, *rest, asked.seed)
                    said = f"{piece['outcome']}, {piece['first_difference']}"
                else:
                    continue
                pieces.add({"name": name, **piece})
                console.print(f"{name}: {said}", highlight=False, markup=False)
        finally:
            planter.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "reports/power")
    parser.add_argument("--trials", type=int, default=MODELS_OF_A_KIND, help="plantings of each fault")
    parser.add_argument("--only", choices=("fault", "smallest"), default="", help="this part of the study")
    parser.add_argument("--out", type=Path, default=Path("reports/published/power.json"))
    asked = parser.parse_args()
    try:
        pieces = Pieces(asked.folder, asked.part, asked.mixed)
        run_pieces(asked, pieces, Console(stderr=True))
    except HarnessError as error:
        print(f"power: {error}", file=sys.stderr)
        return error.exit_status
    result = summarise(pieces.all()) | {"seed": asked.seed, "machine": describe_machine()}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    if result["smallest"]:
        # Pages show it beside what agrees.
        keys = ("kind", "dtype", "models", "never_found", "median", "least", "most")
        rows = [{key: row[key] for key in keys} for row in result["smallest"]]
        MEASURED.write_text(json.dumps(rows, indent=1) + "\n")
    judged = result["plantings"] - result["ended_in_an_error"] - len(result["without_effect"])
    print(f"{result['found']} of {judged} planted faults found, {result['placed']} placed; written to {asked.out}")
    return int(result["found"] < LEAST_FOUND * judged or result["placed"] < LEAST_PLACED * judged)


if __name__ == "__main__":
    sys.exit(main())
