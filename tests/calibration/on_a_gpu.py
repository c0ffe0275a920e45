"""What is published of a card, run after run in the order of their worth: `python -m tests.calibration.on_a_gpu`.

Agreement in every dtype, the standard comparison, DeepBench's sizes that have a published figure, the CPU beside the
GPU, batches until memory runs out, contenders beside code written by hand, what float32 products are by default, and
contenders compared with themselves. Each has a folder of its own under `--out`. Where `--minutes` end, the one at
work is interrupted; the next call goes on with it, and runs nothing again that is finished. Exit status 0 when all
was run, 3 when something is left.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faceoff.workloads.presets import PUBLISHED_V100_MS

FACEOFF = ("-m", "faceoff")
# What a run ends with that came to its end: all well, disagreements or bars that were missed, cases that did not run.
FINISHED = (0, 1, 3)
# Between the signal and the last word of a run.
GRACE_S = 20.0
BIG_PRODUCT = "dense-4096-4096-b7000"
SWEPT = ("--batch-size", "1,2,4,...", "--models", "residual", "--steps", "inference", "--budget", "quick")


@dataclass(frozen=True)
class Run:
    """One of them.

    Args:
        name: of its folder.
        arguments: of the interpreter; `{device}` and `{folder}` are filled in.
        resumes: its folder holds a journal, from which it goes on.
    """

    name: str
    arguments: tuple[str, ...]
    resumes: bool = True


def bench(name: str, *arguments: str, device: str = "{device}") -> Run:
    return Run(name, (*FACEOFF, "bench", "--device", device, *arguments))


def plan(contenders: Sequence[str]) -> list[Run]:
    """All runs, the most worthwhile first; `contenders` limits those of Face-off's own runs, none means all."""
    only = ("--contenders", ",".join(contenders)) if contenders else ()
    by_hand = ("-m", "tests.benchmarks.handwritten", *contenders, "--device", "{device}", "--passes", "20")
    itself = ("--contenders", *contenders) if contenders else ()
    verdicts = ("-m", "tests.calibration.verdicts", "--device", "{device}", *itself)
    asked = dict.fromkeys(contender.partition(":")[0] for contender in contenders)
    frameworks = ("--frameworks", ",".join(asked)) if asked else ()
    defaults = (*FACEOFF, "defaults", "--device", "{device}", *frameworks, "--out", "{folder}/atlas.json")
    published = ",".join(PUBLISHED_V100_MS)
    return [
        Run("agreement", (*FACEOFF, "agree", "--device", "{device}", "--dtype", "float32,bfloat16,float16", *only)),
        bench("standard", *only),
        bench("product", "--preset", "deepbench", "--workload", BIG_PRODUCT, "--dtype", "bfloat16",
              "--steps", "inference", *only),
        bench("deepbench", "--preset", "deepbench", "--workload", published, "--steps", "inference", *only),
        Run("by-hand", (*by_hand, "--json", "{folder}/result.json"), resumes=False),
        bench("products-gpu", "--preset", "products", "--steps", "inference", *only),
        # Modes that a GPU alone has are unknown on the CPU.
        bench("products-cpu", "--preset", "products", "--steps", "inference", "--budget", "quick", device="cpu"),
        bench("sweep", *SWEPT, *only),
        Run("defaults", defaults, resumes=False),
        bench("standard-bfloat16", "--dtype", "bfloat16", *only),
        Run("verdicts", (*verdicts, "--conditions", "quiet", "--minutes", "5", "--out", "{folder}/verdicts"), False),
    ]  # fmt: skip


def go_on(run: Run, device: str, folder: Path, until_s: float) -> bool:
    """Starts a run or goes on with it; whether it came to its end in time."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [part.format(device=device, folder=folder) for part in run.arguments]
    if run.resumes:
        arguments = [*arguments[:3], "--resume", str(folder)] if begun(folder) else [*arguments, "--out", str(folder)]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=subprocess.STDOUT)
        try:
            status = process.wait(max(0.0, until_s - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            if isinstance(stopped, KeyboardInterrupt):
                raise
            print(f"{run.name}: out of time", flush=True)
            return False
    print(f"{run.name}: ended with status {status}", flush=True)
    if status in FINISHED:
        (folder / "finished").touch()
    return status in FINISHED


def begun(folder: Path) -> bool:
    """Whether a folder holds a journal."""
    return (folder / "journal.jsonl").exists()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="gpu", help="gpu or gpu:N; cpu to try the plan")
    parser.add_argument("--contenders", nargs="*", default=[], help="by default all of the device")
    parser.add_argument("--only", nargs="*", default=[], help="names of runs; by default all, in order")
    parser.add_argument("--minutes", type=float, default=60.0, help="for this call")
    parser.add_argument("--out", type=Path, default=Path("reports/on-a-gpu"))
    asked = parser.parse_args()
    runs = plan(asked.contenders)
    unknown = set(asked.only) - {run.name for run in runs}
    if unknown:
        parser.error(f"--only: got {', '.join(sorted(unknown))}, expected {', '.join(run.name for run in runs)}")
    until_s = time.monotonic() + 60 * asked.minutes
    left = [run for run in runs if not asked.only or run.name in asked.only]
    left = [run for run in left if not (asked.out / run.name / "finished").exists()]
    for run in list(left):
        if time.monotonic() + GRACE_S > until_s:
            break
        if go_on(run, asked.device, asked.out / run.name, until_s - GRACE_S):
            left.remove(run)
    print(f"left: {', '.join(run.name for run in left) or 'nothing'}")
    return 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
