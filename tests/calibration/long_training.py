"""Do all frameworks stay within what rounding explains over 200 steps? `python -m tests.calibration.long_training`.

Every contender that is installed, every model, on real data with every optimiser, in float64 and float32, as
`faceoff agree --training` does. Exit status 1 when one is outside, or when a loss in float64 is more than 1e-8 off,
relative to the reference's. What was found is written after each model, so an interrupted study keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from faceoff import agree
from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.agreement.noise import NOISE_RUNS
from faceoff.core.spec import MODEL_KINDS, Workload
from faceoff.results.records import Result
from faceoff.results.trainings import TrainingRun

LOSS_LIMIT = 1e-8


def compact(run: TrainingRun) -> dict[str, Any]:
    """What is kept of a training run."""
    workload = Workload.from_json(run.workload)
    losses = [loss for loss in run.losses if loss is not None]
    return {
        "task": run.task,
        "optimiser": workload.optimiser.kind,
        "dtype": workload.dtype,
        "contender": run.contender,
        "outcome": run.outcome,
        "reason": run.reason,
        "noise_units": run.noise_units,
        "largest_relative_loss_difference": run.loss_error,
        "last_loss": losses[-1] if losses else None,
        "reference_last_loss": run.reference_losses[-1] if run.reference_losses else None,
        "noise_of_first_loss": run.noise[0] if run.noise else None,
        "noise_of_last_loss": run.noise[-1] if run.noise else None,
        "accuracy": run.accuracy,
        "reference_accuracy": run.reference_accuracy,
        "accuracy_noise": run.accuracy_noise,
    }


def misses(row: dict[str, Any]) -> bool:
    """Whether a run misses the bar; one that could not be made (`missing`) says nothing."""
    if row["outcome"] == "missing":
        return False
    difference = row["largest_relative_loss_difference"]
    return row["outcome"] != "ok" or (row["dtype"] == "float64" and (difference is None or difference > LOSS_LIMIT))


def print_table(rows: list[dict[str, Any]], console: Console) -> None:
    """A line for each task, optimiser and dtype: the worst contender, and how the spread has grown."""
    table = Table("task", "optimiser", "dtype", "runs", "missed", "noise units", "by", "loss", "spread first, last")
    for key in dict.fromkeys((row["task"], row["optimiser"], row["dtype"]) for row in rows):
        own = [row for row in rows if (row["task"], row["optimiser"], row["dtype"]) == key]
        compared = [row for row in own if row["noise_units"] is not None]
        missed = str(sum(map(misses, own)))
        if not compared:
            table.add_row(*key, str(len(own)), missed)
            continue
        worst = max(compared, key=lambda row: row["noise_units"])
        difference = max(row["largest_relative_loss_difference"] for row in compared)
        spread = f"{worst['noise_of_first_loss']:.0e}, {worst['noise_of_last_loss']:.0e}"
        units, by = f"{worst['noise_units']:.2f}", worst["contender"]
        table.add_row(*key, str(len(own)), missed, units, by, f"{difference:.0e}", spread)
    console.print(table)


def describe(results: list[Result], rows: list[dict[str, Any]], steps: int, seconds: float) -> dict[str, Any]:
    """The study as it is written."""
    judged = [row for row in rows if row["noise_units"] is not None]
    exact = [row["largest_relative_loss_difference"] for row in judged if row["dtype"] == "float64"]
    return {
        "steps": steps,
        "runs": len(rows),
        "missed": sum(map(misses, rows)),
        "limit": NOISE_LIMIT,
        "noise_runs": NOISE_RUNS,
        "loss_limit_float64": LOSS_LIMIT,
        "largest_noise_units": max((row["noise_units"] for row in judged), default=None),
        "largest_relative_loss_difference_float64": max(exact, default=None),
        "seed": results[0].seed,
        "threads": results[0].threads,
        "seconds": seconds,
        "versions": {info.contender: info.versions for info in results[0].contenders},
        "machine": results[0].machine,
        "results": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of each contender; models are too small for more")
    parser.add_argument("--models", default=",".join(MODEL_KINDS))
    parser.add_argument("--contenders", default="", help="as for faceoff, all by default")
    parser.add_argument("--out", type=Path, default=Path("reports/published/long-training.json"))
    asked = parser.parse_args()
    console, begin_s = Console(width=140), time.monotonic()
    results: list[Result] = []
    rows: list[dict[str, Any]] = []
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    for model in asked.models.split(","):
        with tempfile.TemporaryDirectory(prefix="faceoff-") as folder:
            contenders = asked.contenders.split(",") if asked.contenders else ()
            result = agree(
                models=[model], preset="small", contenders=contenders, seed=asked.seed, threads=asked.threads,
                out=folder, timeout_s=1800, training=True, training_steps=asked.steps,
            )  # fmt: skip
        results.append(result)
        rows += [compact(run) for run in result.training_runs]
        study = describe(results, rows, asked.steps, time.monotonic() - begin_s)
        asked.out.write_text(json.dumps(study, indent=1) + "\n")
        if result.interrupted:
            break
    print_table(rows, console)
    for row in filter(misses, rows):
        console.print(f"{row['contender']}, {row['task']}, {row['optimiser']}, {row['dtype']}: {row['reason']}")
    print(f"{study['missed']} of {len(rows)} runs miss the bar; written to {asked.out}")
    return int(study["missed"] > 0 or results[-1].interrupted)


if __name__ == "__main__":
    sys.exit(main())
