"""How often is a right port of a user's own model accused? `python -m tests.calibration.port_false_alarms`.

The examples (`impls/examples`), and the built-in families written as a user would (`tests/calibration/port_models`),
are drawn at random sizes (`tests.calibration.port_draw`). Each is opened and built once by every contender that takes
part, then given new weights and batches, and compared with PyTorch's side as `faceoff agree` does. What is counted is
comparisons (one contender, model, dtype and seed, over all its quantities) and those that disagree. Exit status 1 above
one in 10,000, or where a right port cannot be opened.

Contenders that take long to compile take part in a third of the models. Every finished model is on the disk at once:
the same command goes on where it was stopped, and several processes share the work by `--part 1/2` and `--part 2/2`.
`--again CASE`, with a case as an alarm names it, repeats one comparison.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from faceoff.core.errors import HarnessError, InputError
from faceoff.core.own import Port
from faceoff.core.spec import Contender, Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.contenders import all_contenders
from faceoff.ports.opening import open_port
from faceoff.results.agreements import EVERYDAY, Agreement
from faceoff.run.own_models import References
from faceoff.workloads.task import Task
from tests.calibration.false_alarms import (
    MODELS_PER_WORKER,
    judge,
    open_pool,
    publish,
    said_of,
    taking_part,
    tell,
    tell_progress,
)
from tests.calibration.pieces import Piece, Pieces, add_options
from tests.calibration.port_draw import KINDS, DrawnPort, draw_port, kind_of

FRAMEWORKS = ("pytorch", "tensorflow", "jax")
TASKS = 4


class Study:
    """Opens, builds and compares drawn models. Use it as a context manager.

    Args:
        contenders: who may take part.
        folder: where the models' files and logs go.
        seed: of the initial weights that sides are opened with.
    """

    def __init__(self, contenders: Sequence[Contender], folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._pool = open_pool(contenders, str(folder))
        self._references = References(Configuration(), seed, folder)
        self._ports: dict[str, Port] = {}

    def __enter__(self) -> Study:
        list(self._pool.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._references.close()
        self._pool.close()

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Of the frameworks that run here."""
        return {name: installation.versions for name, installation in self._pool.installations.items()}

    def release(self) -> None:
        """Ends the processes, with what they keep of models that nobody meets again."""
        self._pool.release()
        self._references.close()
        self._references = References(Configuration(), self._seed, self._folder)

    def opened(self, case: DrawnPort) -> Port:
        """The model of a case; raises InputError where its sides cannot be opened or their weights not be paired."""
        if case.name not in self._ports:
            path = case.write(self._folder)
            self._ports = {case.name: open_port(path, self._references.worker, self._seed, notify=lambda line: None)}
        return self._ports[case.name]

    def piece(self, case: DrawnPort) -> Piece:
        """All comparisons of one model."""
        begin_s = time.monotonic()
        comparisons: list[dict[str, Any]] = []
        refused: list[dict[str, str]] = []
        piece: Piece = {
            "name": case.name, "model": case.kind, "constants": dict(case.sizes.constants), "rejected": [],
            "batch_size": case.batch_size, "comparisons": comparisons, "refused": refused,
        }  # fmt: skip
        try:
            port = self.opened(case)
        except InputError as error:
            said = {"case": case.name, "dtype": "", "contender": "", "situation": EVERYDAY, "units": None}
            comparisons.append({**said, "outcome": "disagrees", "first_difference": f"not opened: {error}"})
            return {**piece, "seconds": time.monotonic() - begin_s}
        chosen = [
            contender
            for contender in taking_part(case.generator(1), self._pool.available)
            if contender.framework in port.sides
        ]
        for dtype, optimiser in case.settings:
            workload = Workload(port.spec, case.batch_size, dtype, optimiser=optimiser)
            out: set[Contender] = set()
            for count, seed in enumerate(case.seeds):
                taking = [contender for contender in chosen if contender not in out]
                for contender, found in self._compare(case, workload, seed, taking, built=count > 0):
                    if found.outcome in ("ok", "disagrees"):
                        comparisons.append(said_of(found, contender, dtype, EVERYDAY, found.again))
                    else:
                        out.add(contender)
                        refused.append({"case": found.again, "outcome": found.outcome, "reason": found.reason})
        return {**piece, "seconds": time.monotonic() - begin_s}

    def _compare(
        self, case: DrawnPort, workload: Workload, seed: int, taking: Sequence[Contender], built: bool
    ) -> Iterator[tuple[Contender, Agreement]]:
        task = Task.seeded(workload, seed)
        expected = self._references.expected(task, seed)
        for contender in taking:
            again = f"{case.name}/{workload.dtype}/{seed}/{contender}"
            yield contender, judge(self._pool, contender, task.workload, expected, again, built)

    def again(self, case: DrawnPort, dtype: str, seed: int, contender: Contender) -> Agreement:
        """One comparison, with a model that is built anew."""
        optimiser = dict(case.settings)[dtype]
        workload = Workload(self.opened(case).spec, case.batch_size, dtype, optimiser=optimiser)
        ((_, found),) = self._compare(case, workload, seed, [contender], built=False)
        return found


def repeat(name: str) -> int:
    """One comparison by its name; prints what is found."""
    try:
        draw_seed, number, dtype, seed, contender = name.split("/")
        case, chosen = draw_port(int(draw_seed), int(number), TASKS), Contender.parse(contender)
        dict(case.settings)[dtype], int(seed)
    except (ValueError, KeyError):
        expected = "as an alarm names it, seed/number/dtype/seed/contender"
        raise InputError("no such case", where="again", got=name, expected=expected) from None
    with tempfile.TemporaryDirectory(prefix="faceoff-") as folder, Study([chosen], Path(folder), case.seed) as study:
        found = study.again(case, dtype, int(seed), chosen)
    return tell(found)


def run_pieces(asked: argparse.Namespace, pieces: Pieces, console: Console) -> dict[str, dict[str, str]]:
    """Goes on with what is left; returns the versions of the frameworks."""
    cases = ((f"{asked.seed}/{number}", number) for number in range(asked.models) if kind_of(number) in asked.kinds)
    contenders = [contender for contender in all_contenders() if contender.framework in FRAMEWORKS]
    with tempfile.TemporaryDirectory(prefix="faceoff-") as folder:
        # Compiled code of models that nobody meets again is not kept.
        os.environ["XDG_CACHE_HOME"] = folder
        with Study(contenders, Path(folder), asked.seed) as study:
            for done, (_, number) in enumerate(pieces.left(cases, asked.minutes)):
                if done and done % MODELS_PER_WORKER == 0:
                    study.release()
                piece = study.piece(draw_port(asked.seed, number, asked.tasks))
                pieces.add(piece)
                tell_progress(console, piece)
            return study.versions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "reports/port-false-alarms")
    parser.add_argument("--models", type=int, default=270, help="of the whole study; over 10,000 comparisons")
    parser.add_argument("--tasks", type=int, default=TASKS, help="weights and batches for each model")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="only these examples and families")
    parser.add_argument("--out", type=Path, default=Path("reports/published/port-false-alarms.json"))
    parser.add_argument("--again", metavar="CASE", help="repeat this one comparison and print what it says")
    asked = parser.parse_args()
    try:
        if asked.again:
            return repeat(asked.again)
        pieces = Pieces(asked.folder, asked.part, asked.mixed)
        versions = run_pieces(asked, pieces, Console(stderr=True))
    except HarnessError as error:
        print(f"port_false_alarms: {error}", file=sys.stderr)
        return error.exit_status
    return publish(asked, pieces, versions)


if __name__ == "__main__":
    sys.exit(main())
