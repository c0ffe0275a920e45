"""How often does the check of agreement accuse a right implementation? `python -m tests.calibration.false_alarms`.

Models are drawn at random (`tests.calibration.draw`). Each is built once by every contender that takes part, then
given new weights and batches, everyday, constant, padded and stress ones, and compared with the reference as
`faceoff agree` does. What is counted is comparisons (one contender, model, dtype, situation and seed, over all its
quantities) and those that disagree. Exit status 1 above one in 10,000.

Contenders that take long to compile take part in a third of the models, drawn by chance too; the others in all.
Every finished model is on the disk at once: the same command goes on where it was stopped, and several processes share
the work by `--part 1/2` and `--part 2/2`. `--again CASE`, with a case as an alarm names it, repeats one comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from faceoff.agreement.check import Expected, blank, check_agreement, ended
from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.agreement.noise import NOISE_RUNS
from faceoff.core.errors import HarnessError, InputError, WorkerError
from faceoff.core.spec import MODEL_KINDS, Contender, Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.contenders import all_contenders
from faceoff.machine.description import describe_machine
from faceoff.pool.workers import Pool
from faceoff.results.agreements import EVERYDAY, Agreement
from faceoff.workloads.task import Task
from tests.calibration.draw import MOST_FLOPS, MOST_STEPS, Drawn, draw, kind_of, task_of
from tests.calibration.pieces import Piece, Pieces, add_options
from tests.conftest import SLOW_TO_COMPILE

SHARE_OF_SLOW = 1 / 3
TASKS = 8
# What compilers keep of a model stays in a worker's memory.
MODELS_PER_WORKER = 12
TIMEOUT_S = 300.0
LARGEST_RATE = 1 / 10_000


def taking_part(rng: np.random.Generator, contenders: Iterable[Contender]) -> list[Contender]:
    """Those that compile quickly, and of the others each with a chance of a third."""
    drawn = {name: rng.random() < SHARE_OF_SLOW for name in SLOW_TO_COMPILE}
    return [contender for contender in contenders if drawn.get(str(contender), True)]


def study(case: Drawn, pool: Pool) -> Piece:
    """All comparisons of one model."""
    begin_s, chosen = time.monotonic(), taking_part(case.generator(1), pool.available)
    comparisons: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for workload in case.workloads:
        out: set[Contender] = set()
        for count, (situation, seed) in enumerate(case.tasks):
            task = task_of(workload, situation, seed)
            expected = expected_of(task, situation, seed)
            for contender in chosen:
                if contender in out:
                    continue
                again = f"{case.name}/{workload.dtype}/{situation}/{seed}/{contender}"
                found = judge(pool, contender, task.workload, expected, again, built=count > 0)
                if found.outcome not in ("ok", "disagrees"):
                    out.add(contender)
                    refused.append({"case": again, "outcome": found.outcome, "reason": found.reason})
                    continue
                comparisons.append(said_of(found, contender, workload.dtype, situation, again))
    return {
        "name": case.name,
        "model": case.workloads[0].model.label,
        "workloads": [workload.name for workload in case.workloads],
        "rejected": case.rejected,
        "comparisons": comparisons,
        "refused": refused,
        "seconds": time.monotonic() - begin_s,
    }


def expected_of(task: Task, situation: str, seed: int) -> Expected:
    """The reference's side; the layers too where `agree` compares them."""
    return Expected(task, seed, keep=False, detail="layers" if situation == EVERYDAY else "whole")


def judge(
    pool: Pool, contender: Contender, workload: Workload, expected: Expected, again: str, built: bool
) -> Agreement:
    """One comparison, as the shipped check makes it."""
    try:
        worker = pool.worker(contender)
    except WorkerError as error:
        return ended(blank(workload, contender, workload.dtype, again), error)
    return check_agreement(
        worker, contender, expected.task, lambda: expected, workload.dtype,
        again=again, busy=nullcontext(), detail=expected.detail, built=built,
    )  # fmt: skip


def said_of(found: Agreement, contender: Contender, dtype: str, situation: str, again: str) -> dict[str, Any]:
    """What a piece keeps of a comparison."""
    worst = found.worst
    units = None if worst is None or worst.problem else worst.noise_units
    said: dict[str, Any] = {
        "contender": str(contender), "dtype": dtype, "situation": situation, "outcome": found.outcome, "units": units,
    }  # fmt: skip
    if found.note:
        said["note"] = found.note
    if found.outcome == "disagrees" and worst is not None:
        said |= {"case": again, "first_difference": found.first_difference, "worst": worst.model_dump()}
    return said


def summarise(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Counts, alarms in full, and the largest units by contender and dtype."""
    every = [comparison for piece in pieces for comparison in piece["comparisons"]]
    alarms = [comparison for comparison in every if comparison["outcome"] == "disagrees"]
    largest: dict[str, dict[str, float]] = {}
    bands: Counter[int] = Counter()
    for comparison in every:
        if comparison["units"] is not None:
            by_dtype = largest.setdefault(comparison["contender"], {})
            by_dtype[comparison["dtype"]] = max(by_dtype.get(comparison["dtype"], 0.0), comparison["units"])
            bands[int(np.ceil(comparison["units"]))] += 1
    rejected = [entry for piece in pieces for entry in piece["rejected"]]
    return {
        "comparisons": len(every),
        "models": len(pieces),
        "false_alarms": len(alarms),
        "limit": NOISE_LIMIT,
        "noise_runs": NOISE_RUNS,
        "comparisons_by_contender": _counted(every, "contender"),
        "comparisons_by_dtype": _counted(every, "dtype"),
        "comparisons_by_situation": _counted(every, "situation"),
        "models_by_family": dict(Counter(piece["model"].partition("-")[0] for piece in pieces).most_common()),
        "largest_noise_units": largest,
        "comparisons_by_noise_units_up_to": {str(band): bands[band] for band in sorted(bands)},
        "notes": dict(Counter(kind_of_note(c["note"]) for c in every if "note" in c).most_common()),
        "alarms": alarms,
        "refused": [entry for piece in pieces for entry in piece["refused"]],
        "share_of_models_with": dict.fromkeys(SLOW_TO_COMPILE, SHARE_OF_SLOW),
        "cap": {"flops_of_a_training_step": MOST_FLOPS, "time_steps_over_layers": MOST_STEPS},
        "rejected_above_cap": len(rejected),
        "rejected": rejected,
        "code": _counted(pieces, "code"),
        "seconds": sum(piece["seconds"] for piece in pieces),
        "cases": [piece["name"] for piece in pieces],
    }


def kind_of_note(note: str) -> str:
    """What is to be known of an agreement, without its numbers: those of branch flips, of values out of range, ..."""
    return re.sub(r"\d+", "N", note)


def _counted(records: Iterable[dict[str, Any]], key: str) -> dict[str, int]:
    return dict(Counter(record[key] for record in records).most_common())


def open_pool(contenders: Sequence[Contender], logs: str) -> Pool:
    """Workers of one thread each: the models are too small for more."""
    return Pool(
        contenders, device="cpu", threads=1, seed=0, log_directory=Path(logs), configuration=Configuration(),
        timeout_s=TIMEOUT_S,
    )  # fmt: skip


def tell(found: Agreement) -> int:
    """Prints what one comparison found; 1 if it accuses."""
    worst = found.worst
    figure = "" if worst is None else f", at most {worst.noise_units} units, {worst.name} {worst.problem}"
    print(found.message or f"{found.outcome}{figure} {found.reason}")
    return int(found.outcome == "disagrees")


def tell_progress(console: Console, piece: Piece) -> None:
    """Prints a line on a finished piece."""
    alarms = sum(comparison["outcome"] == "disagrees" for comparison in piece["comparisons"])
    console.print(
        f"{piece['name']} {piece['model']}: {len(piece['comparisons'])} comparisons, {alarms} alarms, "
        f"{len(piece['refused'])} refused, {piece['seconds']:.0f} s",
        highlight=False,
    )


def publish(asked: argparse.Namespace, pieces: Pieces, versions: dict[str, dict[str, str]]) -> int:
    """Writes the figures of all finished pieces, and says the main one; 1 above the largest rate."""
    result = summarise(pieces.all()) | {"seed": asked.seed, "versions": versions, "machine": describe_machine()}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{result['false_alarms']} false alarms in {result['comparisons']} comparisons of {result['models']} models; "
        f"written to {asked.out}"
    )
    return int(result["false_alarms"] > LARGEST_RATE * max(result["comparisons"], 1 / LARGEST_RATE))


def run_pieces(asked: argparse.Namespace, pieces: Pieces, console: Console) -> dict[str, dict[str, str]]:
    """Goes on with what is left; returns the versions of the frameworks."""
    cases = ((f"{asked.seed}/{number}", number) for number in range(asked.models) if kind_of(number) in asked.kinds)
    with tempfile.TemporaryDirectory(prefix="faceoff-") as folder:
        # Compiled code of models that nobody meets again is not kept.
        os.environ["XDG_CACHE_HOME"] = folder
        with threadpool_limits(1), open_pool(all_contenders(), folder) as pool:
            list(pool.start())
            for done, (_, number) in enumerate(pieces.left(cases, asked.minutes)):
                if done and done % MODELS_PER_WORKER == 0:
                    pool.release()
                piece = study(draw(asked.seed, number, asked.tasks), pool)
                pieces.add(piece)
                tell_progress(console, piece)
            return {name: installation.versions for name, installation in pool.installations.items()}


def repeat(case: str) -> int:
    """One comparison by its name, with a model that is built anew; prints what is found."""
    try:
        seed, number, dtype, situation, task_seed, name = case.split("/")
        drawn, contender = draw(int(seed), int(number)), Contender.parse(name)
        workload = next(workload for workload in drawn.workloads if workload.dtype == dtype)
        task = task_of(workload, situation, int(task_seed))
    except (ValueError, KeyError, StopIteration):
        expected = "as an alarm names it, seed/number/dtype/situation/seed/contender"
        raise InputError("no such case", where="again", got=case, expected=expected) from None
    with (
        threadpool_limits(1),
        tempfile.TemporaryDirectory(prefix="faceoff-") as logs,
        open_pool([contender], logs) as pool,
    ):
        list(pool.start())
        found = judge(pool, contender, task.workload, expected_of(task, situation, int(task_seed)), case, built=False)
    return tell(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "reports/false-alarms")
    parser.add_argument("--models", type=int, default=160, help="of the whole study; over 10,000 comparisons")
    parser.add_argument("--tasks", type=int, default=TASKS, help="weights, batches and situations for each model")
    parser.add_argument("--kinds", nargs="+", choices=MODEL_KINDS, default=MODEL_KINDS, help="only these families")
    parser.add_argument("--out", type=Path, default=Path("reports/published/false-alarms.json"))
    parser.add_argument("--again", metavar="CASE", help="repeat this one comparison and print what it says")
    asked = parser.parse_args()
    try:
        if asked.again:
            return repeat(asked.again)
        pieces = Pieces(asked.folder, asked.part, asked.mixed)
        versions = run_pieces(asked, pieces, Console(stderr=True))
    except HarnessError as error:
        print(f"false_alarms: {error}", file=sys.stderr)
        return error.exit_status
    return publish(asked, pieces, versions)


if __name__ == "__main__":
    sys.exit(main())
