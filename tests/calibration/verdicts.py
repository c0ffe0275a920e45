"""How often are verdicts on speed wrong, and are real differences found? `python -m tests.calibration.verdicts`.

Every contender is compared with itself: from six processes of each, two groups are drawn at random, as many in each as
a run of the default budget has, and measured by the shipped schedule. In one of the groups every timed call may be
slowed down by a known share of its own duration, so the true ratio is known. That gives the rate of false verdicts
(nothing planted), the rate at which planted slowdowns are called slower, and how often the interval holds the true
ratio; on the machine as it is, and with a competing process on one core. As many processes of all contenders would not
fit into memory, so they come in sets. `--add` lets a study grow over several calls. Exit status 1 when a bar is missed,
2 when there is nothing like it to add to.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from faceoff.core.errors import DeviceError, InputError, WorkerError
from faceoff.core.spec import MODEL_KINDS, Contender, Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.contenders import parse_contenders, parse_frameworks
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine.description import describe_machine
from faceoff.machine.processor import usable_cores
from faceoff.pool.devices import parse_device, resolve_device
from faceoff.pool.workers import Pool, Seat
from faceoff.results.file import write_text
from faceoff.speed.budget import BUDGETS
from faceoff.speed.measure import measure, precision_of
from faceoff.speed.rounds import Rounds
from faceoff.speed.statistics import adjusted, verdict
from faceoff.speed.stopping import Question
from faceoff.workloads.presets import choose
from faceoff.workloads.task import Task

PROCESSES = 6
CONTENDERS_OF_A_SET = 3
SLOWDOWNS = (0.0, 0.02, 0.05, 0.10, 0.20)
# How often each is drawn where something is slowed down: most often those that have a bar.
DRAWN = (0.15, 0.35, 0.35, 0.15)
STEPS = ("inference", "training")
LEAST_EQUALS, MOST_FALSE, LEAST_COVERED = 300, 0.05, 0.93
LEAST_FOUND = {0.05: 0.80, 0.10: 0.95}


@contextmanager
def competing(wanted: bool) -> Iterator[None]:
    """Another process that keeps one core busy while the block runs."""
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("fork").Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _spin() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        pass


def sets_of(contenders: Sequence[Contender]) -> list[list[Contender]]:
    """Sets of as many contenders, the last one filled up with the first, so that all runs are alike."""
    size = min(CONTENDERS_OF_A_SET, len(contenders))
    around = [*contenders, *contenders]
    return [around[begin : begin + size] for begin in range(0, len(contenders), size)]


def prepare(pool: Pool, contenders: Sequence[Contender], workload: Workload) -> list[Contender]:
    """Every process of every contender builds and compiles the workload; returns the contenders that could."""
    task = Task.seeded(workload, 0)
    weights, batches = task.cast(workload.dtype)
    ready = []
    for contender in contenders:
        try:
            for number in range(1, PROCESSES + 1):
                with pool.replicate(Seat(contender, number)) as worker:
                    worker.request("build", workload=workload.to_json(), mode=contender.mode, weights=weights)
                    worker.request("load", batches=[batch.to_json() for batch in batches])
                    for step in STEPS:
                        worker.request("first_call", step=step)
            ready.append(contender)
        except WorkerError as error:
            print(f"left out: {error}", file=sys.stderr)
    return ready


def run_once(
    pool: Pool, contenders: Sequence[Contender], step: str, equals: float, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """One run of the schedule: each contender's second group against its first.

    Args:
        pool: of the workers.
        contenders: that were prepared.
        step: that is timed.
        equals: share of the comparisons in which nothing is slowed down.
        rng: draws who is in which group, and what is slowed down.
    """
    standard = BUDGETS["standard"]
    each = min(standard.processes_for(2 * len(contenders)), PROCESSES // 2)
    seats, slowed = [], {}
    for contender in contenders:
        drawn = 1 + rng.permutation(PROCESSES)[: 2 * each]
        slowed[contender] = 0.0 if rng.random() < equals else float(rng.choice(SLOWDOWNS[1:], p=DRAWN))
        for position, number in enumerate(drawn):
            seat = Seat(contender, int(number))
            seats.append(seat)
            with pool.replicate(seat) as worker:
                worker.request("slow_down", share=slowed[contender] if position >= each else 0.0)
    begin_s = time.monotonic()
    group_of = {seat: (seat.contender, int(position % (2 * each) >= each)) for position, seat in enumerate(seats)}
    # Each group against the first of the same contender, named beforehand.
    question = Question(group_of.__getitem__, lambda precision, key: ((key[0], 0), 1))
    measured = measure(pool, seats, step, standard, int(rng.integers(2**31)), lambda share: None, question)
    seconds = time.monotonic() - begin_s
    groups: dict[tuple[Contender, int], list[Rounds]] = {}
    for contender, found in measured.items():
        if not isinstance(found, WorkerError):
            groups[contender, 0], groups[contender, 1] = found[:each], found[each:]
    if not groups:
        return []
    precision = precision_of(groups)
    pairs = [contender for contender in contenders if (contender, 0) in groups]
    ratios = [precision.ratio((contender, 1), (contender, 0)) for contender in pairs]
    return [
        {
            "contender": str(contender),
            "slowdown": slowed[contender],
            "ratio": ratio.ratio,
            "interval": [ratio.low, ratio.high],
            "verdict": verdict((ratio.low, ratio.high), ratio.ratio, p_value),
            "seconds": seconds / len(pairs),
        }
        for contender, ratio, p_value in zip(pairs, ratios, adjusted([r.p_value for r in ratios]), strict=True)
    ]


def count(comparisons: Sequence[dict[str, Any]], condition: str, slowdown: float) -> dict[str, Any]:
    """Verdicts of the comparisons under one condition and one planted slowdown."""
    chosen = [c for c in comparisons if c["condition"] == condition and c["slowdown"] == slowdown]
    words = [c["verdict"] for c in chosen]
    covered = sum(c["interval"][0] <= 1 + slowdown <= c["interval"][1] for c in chosen)
    return {
        "condition": condition,
        "slowdown": slowdown,
        "comparisons": len(chosen),
        **{word: words.count(word) for word in ("slower", "faster", "tie", "unresolved")},
        "covered": covered,
        "median_half_width": float(np.median([np.sqrt(c["interval"][1] / c["interval"][0]) - 1 for c in chosen]))
        if chosen
        else None,
    }


def share(part: int, whole: int) -> str:
    """A share and its exact 95 % interval (Clopper and Pearson)."""
    if not whole:
        return "-"
    low, high = stats.binomtest(part, whole).proportion_ci()
    return f"{100 * part / whole:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def missed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The bars that the counts miss."""
    found = []
    for row in rows:
        name = f"{row['condition']}, {100 * row['slowdown']:.0f} % planted"
        total = row["comparisons"]
        if not total:
            continue
        wrong = row["faster"] + (row["slower"] if row["slowdown"] == 0 else 0)
        if row["slowdown"] == 0 and total < LEAST_EQUALS:
            found.append(f"{name}: {total} comparisons, {LEAST_EQUALS} wanted")
        if row["slowdown"] == 0 and wrong > MOST_FALSE * total:
            found.append(f"{name}: {wrong} of {total} false verdicts")
        if row["slowdown"] > 0 and row["faster"]:
            found.append(f"{name}: {row['faster']} called faster")
        if row["condition"] == "quiet" and row["slower"] < LEAST_FOUND.get(row["slowdown"], 0.0) * total:
            found.append(f"{name}: {row['slower']} of {total} called slower")
        if row["covered"] < LEAST_COVERED * total:
            found.append(f"{name}: the interval holds the true ratio in {row['covered']} of {total}")
    return found


def earlier(path: Path, like: dict[str, Any]) -> dict[str, Any]:
    """The study so far, if it was made with the same budget, versions and machine. Raises InputError."""
    try:
        study: dict[str, Any] = json.loads(path.read_text())
        study["comparisons"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError("no study to add to", where=str(path), got=str(error)) from None
    for name, value in like.items():
        if study.get(name) != value:
            raise InputError(
                f"another {name}", where=str(path), got=str(study.get(name)), expected=str(value),
                next_step="a study of its own: --out with another name",
            )  # fmt: skip
    return study


def tabulate(rows: Sequence[dict[str, Any]]) -> Table:
    columns = (
        "machine",
        "planted",
        "comparisons",
        "slower",
        "faster",
        "tie",
        "unresolved",
        "interval holds",
        "± median",
    )
    table = Table(*columns, title="Verdicts of contenders on themselves, share [95 % interval]", title_justify="left")
    for row in rows:
        total = row["comparisons"]
        table.add_row(
            row["condition"],
            f"{100 * row['slowdown']:.0f} %",
            str(total),
            *(share(row[word], total) for word in ("slower", "faster", "tie", "unresolved", "covered")),
            "-" if row["median_half_width"] is None else f"{100 * row['median_half_width']:.1f} %",
        )
    return table


def summary(study: dict[str, Any]) -> str:
    """How many comparisons there were, what one took, and which bars were missed."""
    outcome = "; ".join(study["missed"]) or "every bar is met"
    return f"{len(study['comparisons'])} comparisons, {study['seconds_per_comparison']:.1f} s each; {outcome}"


def write(study: dict[str, Any], out: Path) -> None:
    """Counts the comparisons of a study, and keeps it as JSON and as a page."""
    comparisons = study["comparisons"]
    conditions = list(dict.fromkeys(c["condition"] for c in comparisons))
    study["rows"] = [count(comparisons, condition, slowdown) for condition in conditions for slowdown in SLOWDOWNS]
    study["missed"] = missed(study["rows"])
    study["seconds_per_comparison"] = sum(c["seconds"] for c in comparisons) / max(1, len(comparisons))
    page = Console(record=True, width=150, file=io.StringIO())
    page.print(tabulate(study["rows"]))
    page.print(summary(study))
    write_text(out.with_suffix(".json"), json.dumps(study, indent=1) + "\n")
    write_text(out.with_suffix(".html"), page.export_html())


def study_set(
    study: dict[str, Any], contenders: Sequence[Contender], asked: argparse.Namespace, minutes: float
) -> None:
    """Adds comparisons of a set of contenders to the study, and writes it after each model.

    Args:
        study: that grows.
        contenders: of the set.
        asked: of the command line.
        minutes: of measuring.
    """
    rng = np.random.default_rng(asked.seed)
    sized = choose("default", asked.models)
    with (
        tempfile.TemporaryDirectory(prefix="faceoff-") as logs,
        Pool(
            contenders, device=asked.device[0], number_of_card=asked.device[1], threads=usable_cores(), seed=0,
            log_directory=Path(logs), configuration=Configuration(), timeout_s=600,
        ) as pool,
    ):  # fmt: skip
        for item in sized:
            workload = Workload(item.model, item.batch_size, device=asked.device[0], step="training")
            names = ", ".join(str(contender) for contender in contenders)
            print(f"{item.model.kind}: building {names}", file=sys.stderr, flush=True)
            ready = prepare(pool, contenders, workload)
            for condition, equals in zip(asked.conditions, itertools.cycle(asked.equals), strict=False):
                print(f"{item.model.kind}, {condition}: measuring", file=sys.stderr, flush=True)
                until_s = time.monotonic() + 60 * minutes / len(sized) / len(asked.conditions)
                runs = 0
                with competing(condition == "loaded"):
                    while ready and time.monotonic() < until_s:
                        step = STEPS[runs % len(STEPS)]
                        found = run_once(pool, ready, step, equals, rng)
                        study["comparisons"] += [
                            {**c, "condition": condition, "workload": workload.replace(step=step).name} for c in found
                        ]
                        runs += 1
                        if len(found) < len(ready):
                            # Of whoever died the new process holds no model.
                            ready = prepare(pool, contenders, workload)
                print(f"{item.model.kind}, {condition}: {runs} runs", file=sys.stderr, flush=True)
                write(study, asked.out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="auto, cpu, gpu or gpu:N")
    parser.add_argument("--contenders", nargs="*", default=[], help="in sets of three; by default all of the device")
    parser.add_argument("--models", nargs="*", default=list(MODEL_KINDS))
    parser.add_argument("--minutes", type=float, default=60.0, help="of measuring, shared by models and conditions")
    parser.add_argument("--conditions", nargs="+", default=["quiet", "loaded"], choices=["quiet", "loaded"])
    parser.add_argument(
        "--equals", type=float, nargs="+", default=[0.5],
        help="share of comparisons with nothing slowed down, one for all or one for each of the conditions",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=None, help="of the drawing; by default another one in every call")
    parser.add_argument("--add", action="store_true", help="to the comparisons that --out holds already")
    parser.add_argument("--out", type=Path, default=Path("reports/published/calibration"))
    asked = parser.parse_args()
    if not all(0 <= share <= 1 for share in asked.equals) or len(asked.equals) not in (1, len(asked.conditions)):
        parser.error(f"--equals: got {asked.equals}, expected a share from 0 to 1 for all conditions or for each")
    made_with: dict[str, Any] = {
        "budget": asdict(BUDGETS["standard"]),
        "versions": {name: find_installation(f, Configuration()).versions for name, f in FRAMEWORKS.items()},
    }
    try:
        kind, card = parse_device(asked.device)
        kind, _ = resolve_device(kind, card, parse_frameworks(asked.contenders), Configuration())
        asked.device = kind, card
        made_with["machine"] = describe_machine(kind, card)
        sets = sets_of(parse_contenders(asked.contenders, device=kind))
        old = earlier(asked.out.with_suffix(".json"), made_with) if asked.add else {"comparisons": []}
    except (InputError, DeviceError) as error:
        parser.error(str(error))
    study = {**made_with, "comparisons": old["comparisons"]}
    for contenders in sets:
        study_set(study, contenders, asked, asked.minutes / len(sets))
    console = Console(width=150)
    console.print(tabulate(study["rows"]))
    console.print(summary(study))
    return int(bool(study["missed"]))


if __name__ == "__main__":
    sys.exit(main())
