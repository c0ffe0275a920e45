"""Does the check hold from one time step to a thousand? `python -m tests.calibration.lengths`.

Vanilla RNN and LSTM of 1, 3, 10, ... 1,000 time steps, other sizes drawn at random, in four dtypes. Every contender is
compared with the reference: none may be accused. And every recurrent fault of the catalogue, each kind once, is planted
at every length: it has to be found. One that is not found has to have no effect: then no number differs from the
unharmed implementation's by more than the smallest normal number of the dtype. Whatever else is overlooked is listed,
with what it changes most in units of rounding noise, as a fault of few units in a coarse dtype is.

Every finished piece is on the disk at once: the same command goes on where it was stopped, and several processes share
the work by `--part 1/2` and `--part 2/2`. Exit status 1 if one is accused, or one is overlooked in float64 or float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from faceoff.agreement.check import Expected
from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.core.errors import HarnessError
from faceoff.core.spec import LstmSpec, Optimiser, RecurrentSpec, RnnSpec, Workload
from faceoff.frameworks.contenders import all_contenders
from faceoff.machine.description import describe_machine
from faceoff.pool.workers import Pool
from faceoff.workloads.situations import EVERYDAY, SITUATIONS
from tests.calibration.draw import log_uniform
from tests.calibration.false_alarms import judge, open_pool
from tests.calibration.pieces import Piece, Pieces, add_options
from tests.calibration.planting import Planted, Planter
from tests.meta.faults.fault import MODELS, Fault
from tests.meta.faults.runner import is_installed
from tests.meta.test_fault_catalogue import FAULTS

LENGTHS = (1, 3, 10, 30, 100, 300, 1000)
DTYPES = ("float64", "float32", "bfloat16", "float16")
# In these a fault that has an effect must be found; a coarse dtype's noise may hide a small one.
JUDGED = ("float64", "float32")
MOST_HIDDEN = 48
# The other frameworks' long sequences take much longer; chance says where one of their faults is planted.
SHARE_OF_OTHERS = 1 / 6


def recurrent_faults() -> list[Fault]:
    """Every recurrent fault, each kind once: PyTorch's where it has it, as its long sequences take least."""
    found: dict[tuple[str, str], Fault] = {}
    for fault in sorted(FAULTS.values(), key=lambda fault: not fault.contender.startswith("pytorch")):
        if isinstance(MODELS[fault.model], RecurrentSpec):
            found.setdefault((fault.model, fault.name), fault)
    return list(found.values())


def sized(model: str, length: int, dtype: str, seed: int, optimiser: str = "sgd") -> tuple[Workload, int]:
    """A model of the catalogue with so many time steps, in other sizes; and the seed of its weights."""
    rng = np.random.default_rng([seed, length, zlib.crc32(f"{model} {dtype}".encode())])
    spec = MODELS[model]
    assert isinstance(spec, (RnnSpec, LstmSpec))
    # Some faults name the fourth unit, or the first three examples.
    inputs, hidden, classes = (log_uniform(rng, 6, MOST_HIDDEN) for _ in range(3))
    spec = replace(spec, input_size=inputs, hidden_size=hidden, output_size=classes, sequence_length=length)
    workload = Workload(spec, log_uniform(rng, 6, 24), dtype=dtype, optimiser=Optimiser(optimiser))
    return workload, int(rng.integers(0, 2**31))


@lru_cache(maxsize=4)
def expected_of(
    model: str, length: int, dtype: str, seed: int, situation: str = EVERYDAY, optimiser: str = "sgd"
) -> Expected:
    """The reference's side, which all faults of a model, situation and optimiser share."""
    workload, weights_seed = sized(model, length, dtype, seed, optimiser)
    return Expected(SITUATIONS[situation].task(workload, weights_seed), weights_seed, keep=False)


def pieces_of(seed: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every piece by its name: one length and dtype after the other."""
    faults = recurrent_faults()
    for length in LENGTHS:
        for dtype in DTYPES:
            for model in ("rnn", "lstm", "lstm-last"):
                yield f"right/{model}/{length}/{dtype}", (model, length, dtype)
                for fault in faults:
                    if fault.model == model and _takes_part(fault, length, dtype):
                        yield f"fault/{fault.id}/{length}/{dtype}", (fault, length, dtype)


def _takes_part(fault: Fault, length: int, dtype: str) -> bool:
    rng = np.random.default_rng(zlib.crc32(f"{fault.id} {length} {dtype}".encode()))
    return fault.contender.startswith("pytorch") or rng.random() < SHARE_OF_OTHERS


def compare_right(pool: Pool, model: str, length: int, dtype: str, seed: int) -> Piece:
    """All contenders on one model."""
    expected, found = expected_of(model, length, dtype, seed), []
    workload = expected.task.workload
    for contender in pool.available:
        said = judge(pool, contender, workload, expected, f"{workload.name} {contender}", built=False)
        units = said.worst.noise_units if said.worst else None
        found.append({"contender": str(contender), "outcome": said.outcome, "units": units, "message": said.message})
    return {"workload": workload.name, "comparisons": found}


def piece_of(planted: Planted) -> Piece:
    """One planting, as a piece of the study."""
    found = planted.agreement
    return {
        "outcome": found.outcome,
        "first_difference": found.first_difference,
        "reason": found.reason,
        "units": found.worst.noise_units if found.worst else None,
        "has_effect": planted.has_effect,
    }


def run_pieces(asked: argparse.Namespace, pieces: Pieces, console: Console) -> None:
    """Goes on with what is left."""
    with tempfile.TemporaryDirectory(prefix="faceoff-") as folder, threadpool_limits(1):
        os.environ["XDG_CACHE_HOME"] = folder
        planter = Planter(Path(folder))
        with open_pool(all_contenders(), folder) as pool:
            list(pool.start())
            try:
                for name, (what, length, dtype) in pieces.left(pieces_of(asked.seed), asked.minutes):
                    if isinstance(what, str):
                        piece = compare_right(pool, what, length, dtype, asked.seed)
                        said = f"{sum(c['outcome'] == 'disagrees' for c in piece['comparisons'])} alarms"
                        pool.release()
                    elif is_installed(what.contender.partition(":")[0]):
                        expected = expected_of(what.model, length, dtype, asked.seed, what.situation, what.optimiser)
                        piece = piece_of(planter.plant(what, expected, dtype))
                        said = f"{piece['outcome']} {piece['first_difference']}"
                    else:
                        continue
                    pieces.add({"name": name, "length": length, "dtype": dtype, **piece})
                    console.print(f"{name}: {said}", highlight=False, markup=False)
            finally:
                planter.close()


def summarise(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Alarms and overlooked faults in full, counts by length and dtype."""
    comparisons = [c for piece in pieces for c in piece.get("comparisons", ())]
    plantings = [piece for piece in pieces if "comparisons" not in piece]
    table = []
    for length in LENGTHS:
        for dtype in DTYPES:
            own = [piece for piece in plantings if (piece["length"], piece["dtype"]) == (length, dtype)]
            if own:
                table.append({"length": length, "dtype": dtype, **_counted(own)})
    return {
        "limit": NOISE_LIMIT,
        "comparisons": len(comparisons),
        "alarms": [c for c in comparisons if c["outcome"] == "disagrees"],
        "refused": [c for c in comparisons if c["outcome"] not in ("ok", "disagrees")],
        "largest_noise_units": max((c["units"] for c in comparisons if c["units"] is not None), default=None),
        "plantings": _counted(plantings),
        "by_length_and_dtype": table,
        "overlooked": [piece for piece in plantings if piece["has_effect"]],
        "without_effect": sorted(piece["name"] for piece in plantings if piece["has_effect"] is False),
        "errors": [piece for piece in plantings if piece["outcome"] not in ("ok", "disagrees")],
    }


def _counted(plantings: Sequence[Piece]) -> dict[str, int]:
    return {
        "planted": len(plantings),
        "found": sum(piece["outcome"] == "disagrees" for piece in plantings),
        "without_effect": sum(piece["has_effect"] is False for piece in plantings),
        "overlooked": sum(piece["has_effect"] is True for piece in plantings),
        "errors": sum(piece["outcome"] not in ("ok", "disagrees") for piece in plantings),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "reports/lengths")
    parser.add_argument("--out", type=Path, default=Path("reports/published/lengths.json"))
    asked = parser.parse_args()
    try:
        pieces = Pieces(asked.folder, asked.part, asked.mixed)
        run_pieces(asked, pieces, Console(stderr=True))
    except HarnessError as error:
        print(f"lengths: {error}", file=sys.stderr)
        return error.exit_status
    result = summarise(pieces.all()) | {"seed": asked.seed, "machine": describe_machine()}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    counts = result["plantings"]
    print(
        f"{len(result['alarms'])} false alarms in {result['comparisons']} comparisons; {counts['found']} of "
        f"{counts['planted']} planted faults found, {counts['without_effect']} without effect, "
        f"{counts['overlooked']} overlooked; written to {asked.out}"
    )
    missed = [piece for piece in result["overlooked"] if piece["dtype"] in JUDGED]
    return int(bool(result["alarms"] or missed))


if __name__ == "__main__":
    sys.exit(main())
