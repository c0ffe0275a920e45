"""How often does the check of agreement accuse a right implementation? `python -m tests.calibration.false_alarms`.

Every contender that is installed, every model, every dtype, at small sizes: each is built once, then given new weights
and batches for each seed and compared with the reference as `faceoff agree` does. What is counted is comparisons (one
contender, model, dtype and seed, over all its quantities) and those that disagree. Exit status 1 above one in 10,000.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from harness.agreement import Expected
from harness.comparison import NOISE_LIMIT, compare_all
from harness.core.errors import WorkerError
from harness.core.precision import DTYPES
from harness.core.spec import (
    OPTIMISERS,
    Contender,
    DenseSpec,
    LstmSpec,
    ModelSpec,
    Optimiser,
    ResidualSpec,
    RnnSpec,
    Workload,
)
from harness.environments import Configuration, all_contenders
from harness.machine import describe_machine
from harness.noise import NOISE_RUNS
from harness.pool import Pool
from harness.quantities import built_quantities, contender_quantities
from harness.task import Task

MODELS: tuple[ModelSpec, ...] = (
    DenseSpec((6, 8, 4)),
    ResidualSpec(4, 4, 2, (8, 16), 1, 3),
    RnnSpec(3, 5, 3, 4),
    LstmSpec(3, 5, 3, 4, many_to_many=True),
)
BATCH_SIZE = 4


def workloads() -> Iterator[Workload]:
    """Every model in every dtype; the optimisers take turns, as each costs a compilation in every contender."""
    for row, model in enumerate(MODELS):
        # TF32 is a precision of GPUs.
        for column, dtype in enumerate(dtype for dtype in DTYPES if dtype != "tf32"):
            kind = OPTIMISERS[(row + column) % len(OPTIMISERS)]
            # In narrow dtypes Adam's default constants round to 0 and 1.
            kind = "momentum" if kind == "adam" and dtype in ("float16", "bfloat16") else kind
            yield Workload(model, BATCH_SIZE, dtype, "cpu", "training", Optimiser(kind))


def study(pool: Pool, seeds: int, console: Console) -> dict[str, Any]:
    """Runs all comparisons; returns counts, false alarms in full, and the largest units by contender and dtype."""
    comparisons, alarms, refused = 0, [], []
    largest: dict[str, dict[str, float]] = {}
    histogram: dict[str, int] = {}
    chosen = list(workloads())
    for workload in track(chosen, "comparing", console=console):
        built: set[Contender] = set()
        for seed in range(seeds):
            task = Task.seeded(workload, seed)
            expected = Expected(task, seed, keep=False)
            noise = expected.noise(workload.dtype)
            for contender in pool.available:
                worker = pool.worker(contender)
                try:
                    if contender in built:
                        worker.request("reset", weights=task.cast(workload.dtype)[0])
                        got = built_quantities(worker, task, workload.dtype)
                    else:
                        got = contender_quantities(worker, task, contender.mode, workload.dtype)
                        built.add(contender)
                except WorkerError as error:
                    refused.append({"contender": str(contender), "workload": workload.name, "reason": str(error)})
                    break
                comparisons += 1
                quantities = compare_all(expected.values(workload.dtype), got, workload.dtype, noise)
                worst = max(quantities, key=lambda q: np.inf if q.noise_units is None else q.noise_units)
                units = np.inf if worst.noise_units is None else worst.noise_units
                by_dtype = largest.setdefault(str(contender), {})
                by_dtype[workload.dtype] = max(by_dtype.get(workload.dtype, 0.0), float(units))
                band = f"{np.ceil(units):.0f}"
                histogram[band] = histogram.get(band, 0) + 1
                if not all(quantity.agrees for quantity in quantities):
                    alarms.append(
                        {"contender": str(contender), "workload": workload.name, "seed": seed, **worst.model_dump()}
                    )
    return {
        "comparisons": comparisons,
        "false_alarms": len(alarms),
        "limit": NOISE_LIMIT,
        "noise_runs": NOISE_RUNS,
        "largest_noise_units": largest,
        "comparisons_by_noise_units_up_to": dict(sorted(histogram.items(), key=lambda item: float(item[0]))),
        "alarms": alarms,
        "refused": refused,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=90, help="90 make over 10,000 comparisons with all frameworks")
    parser.add_argument("--out", type=Path, default=Path("reports/published/false-alarms.json"))
    parser.add_argument("--threads", type=int, default=1, help="of each contender; models are too small for more")
    asked = parser.parse_args()
    console, begin_s = Console(stderr=True), time.monotonic()
    with (
        threadpool_limits(1),
        tempfile.TemporaryDirectory(prefix="faceoff-") as logs,
        Pool(
            all_contenders(), device="cpu", threads=asked.threads, seed=0, log_directory=Path(logs),
            configuration=Configuration(), timeout_s=600,
        ) as pool,
    ):  # fmt: skip
        list(pool.start())
        result = study(pool, asked.seeds, console)
        versions = {name: installation.versions for name, installation in pool.installations.items()}
    result |= {"seeds": asked.seeds, "seconds": time.monotonic() - begin_s, "versions": versions}
    result["machine"] = describe_machine()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['false_alarms']} false alarms in {result['comparisons']} comparisons; written to {asked.out}")
    return int(result["false_alarms"] * 10_000 > max(result["comparisons"], 10_000))


if __name__ == "__main__":
    sys.exit(main())
