"""All that is to be published of a card, in the order of its worth: `python -m tests.calibration.on_a_gpu`.

`prepare` fetches, into a folder that git ignores, the packages that another machine lacks; `noise` adds what agreement
is judged by, so that it need not be computed there. `run` does one part after the other there, each within its time
limit: `doctor`, agreement, the standard comparison, products with the kernels that are written out, DeepBench's sizes,
batches until memory runs out, contenders beside code written by hand, contenders compared with themselves, and what
else there is time for. Whatever is finished is written at once. Where `--minutes` end, the part at work is interrupted;
the next call goes on with it, and runs nothing again that is finished.

    python -m tests.calibration.on_a_gpu prepare --python 3.12 --folder build/card
    python3.12 -m tests.calibration.on_a_gpu noise --folder build/card    # with the other machine's NumPy
    python3.12 -m tests.calibration.on_a_gpu run --from build/card --work /tmp/card --out found --minutes 9

Exit status of `run`: 0 when all was run, 3 when something is left, 2 for bad usage, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.calibration.on_a_gpu.carried import NotPreparedError, make_importable
from tests.calibration.on_a_gpu.packing import MIB
from tests.calibration.on_a_gpu.plan import plan
from tests.calibration.on_a_gpu.running import ROOT
from tests.calibration.on_a_gpu.schedule import Schedule

LIMIT_MIB = 60.0
# To be carried there again beside all else.
CACHE_MIB = 10.0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; bad usage ends the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.calibration.on_a_gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="fetch what another machine lacks")
    prepare.add_argument("--python", default="3.12", help="version there")
    prepare.add_argument("--folder", type=Path, default=Path("build/card"))
    prepare.add_argument("--there", nargs="*", default=["numpy", "scipy", "scikit-learn"], help="what it has")
    prepare.add_argument("--also", nargs="*", default=["pyopencl", "optax"], help="of the frameworks' packages")
    prepare.add_argument("--limit-mib", type=float, default=LIMIT_MIB, help="of the folder and the project's files")
    noise = commands.add_parser("noise", help="compute beforehand, into that folder, what agreement is judged by")
    noise.add_argument("--folder", type=Path, default=Path("build/card"))
    noise.add_argument("--minutes", type=float, default=60.0, help="for this call; the next one goes on")
    noise.add_argument("--device", default="gpu")
    noise.add_argument("--limit-mib", type=float, default=LIMIT_MIB, help="as of `prepare`")
    run = commands.add_parser("run", help="run the parts")
    run.add_argument("--from", dest="prepared", type=Path, metavar="FOLDER", help="that `prepare` filled")
    run.add_argument("--out", type=Path, default=Path("reports/on-a-gpu"))
    run.add_argument(
        "--work", type=Path, help="where the parts' folders are to be, not --out; that then gets few files, packed"
    )
    run.add_argument("--before", type=Path, metavar="FOLDER", help="the --out of an earlier call, to go on with")
    run.add_argument("--caches", type=Path, metavar="FOLDER", help="the same, for its compiled code alone")
    run.add_argument("--cache-mib", type=float, default=CACHE_MIB, help="of compiled code, packed into --out")
    run.add_argument("--minutes", type=float, default=60.0, help="for this call")
    run.add_argument("--device", default="", help="gpu or gpu:N; in a rehearsal cpu")
    run.add_argument("--only", nargs="*", default=[], metavar="PART", help="by default all, in order")
    run.add_argument("--rehearse", action="store_true", help="small sizes, on the processor, with the same limits")
    asked = parser.parse_args(arguments)
    if asked.command == "run":
        known = [part.name for part in plan()]
        if unknown := [name for name in asked.only if name not in known]:
            run.error(f"--only: got {', '.join(unknown)}, expected some of {', '.join(known)}")
        if not asked.minutes > 0:
            run.error(f"--minutes: got {asked.minutes:g}, expected more than 0")
        asked.device = asked.device or ("cpu" if asked.rehearse else "gpu")
    return asked


def main(arguments: list[str] | None = None) -> int:
    asked = parse(arguments)
    # So that whoever ends this ends the part too, and has what is finished.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if asked.command == "prepare":
            from tests.calibration.on_a_gpu.preparing import prepare

            limit = int(asked.limit_mib * MIB)
            print(prepare(asked.python, asked.folder, asked.there, asked.also, limit))
            return 0
        if asked.command == "noise":
            with tempfile.TemporaryDirectory(prefix="packages-") as site:
                make_importable(asked.folder, Path(site))
                sys.path[:0] = [site, str(ROOT / "harness")]
                from tests.calibration.on_a_gpu.noise import compute

                print(compute(plan(), asked, int(asked.limit_mib * MIB)))
            return 0
        return Schedule(asked, plan(asked.rehearse)).run()
    except NotPreparedError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
