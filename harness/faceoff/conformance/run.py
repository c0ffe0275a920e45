"""`faceoff check NAME`: every promise of a framework, asked of real workers, and agreement as far as it declares."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from faceoff.conformance.checks import OF_EACH_MODEL, OF_ONE_MODEL, Broken, Subject, files_in, is_asked, name_of
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender
from faceoff.frameworks.configuration import Configuration, read_configuration
from faceoff.frameworks.manifest import Framework
from faceoff.frameworks.registry import require_framework
from faceoff.pool.workers import Pool
from faceoff.results.records import Result
from faceoff.run.progress import Reporter
from faceoff.workloads.presets import PRESETS

AGREEMENT, OUTSIDE = "agrees with the reference", "writes nothing outside its cache"
# Of progress, in rough seconds.
CHECK_UNITS, AGREEMENT_UNITS = 0.2, 60.0
SHOWN = 5


class Row(BaseModel):
    """One promise of one contender.

    Attributes:
        check: what was asked.
        contender: of whom.
        model: with which model; empty where it is not of one.
        outcome: `ok`; `broken` where a promise is not kept; else how the worker ended.
        reason: one line, empty when ok.
    """

    model_config = ConfigDict(extra="forbid")

    check: str
    contender: str
    model: str = ""
    outcome: str = "ok"
    reason: str = ""
    seconds: float = 0.0


class Conformance(BaseModel):
    """What was found of a framework.

    Attributes:
        framework: its label.
        folder: where it lies.
        versions: distribution to version.
        reason, next_step: why it is not installed, and what installs it; nothing was asked then.
        meaning_checked_in: the widest dtype in which it was held against the reference.
    """

    model_config = ConfigDict(extra="forbid")

    framework: str
    folder: str
    versions: dict[str, str]
    reason: str = ""
    next_step: str = ""
    meaning_checked_in: str = ""
    rows: list[Row] = []

    @property
    def exit_status(self) -> int:
        """0 every promise is kept, 1 one is not, 3 it is not installed."""
        if self.reason:
            return 3
        return int(any(row.outcome != "ok" for row in self.rows))


def check_framework(
    label: str, agree: Callable[..., Result], modes: Sequence[str] = (), agreement: bool = True, quiet: bool = False
) -> Conformance:
    """Asks a framework for everything that its manifest declares, on the CPU.

    Args:
        label: `NAME` or `NAME@ENVIRONMENT`.
        agree: `faceoff.api.agree`.
        modes: only these; all unless given.
        agreement: also hold it against the reference, which takes longest.
        quiet: no progress.

    Raises:
        InputError: there is no such framework or mode.
    """
    framework, configuration = require_framework(label, "check"), read_configuration()
    contenders = [Contender(label, mode) for mode in modes or framework.modes_on("cpu")]
    with _own_home() as home, tempfile.TemporaryDirectory(prefix="faceoff-") as logs:
        before = files_in(home)
        with _pool(contenders, configuration, Path(logs)) as pool:
            installation = pool.installations[label]
            found = Conformance(framework=label, folder=str(framework.folder), versions=installation.versions)
            if not installation.installed:
                update = {"reason": installation.reason, "next_step": installation.next_step}
                return found.model_copy(update=update)
            models = [sized for sized in PRESETS["small"].sized if sized.model.kind in framework.can.models]
            steps = len(contenders) * (len(models) * len(OF_EACH_MODEL) + len(OF_ONE_MODEL)) * CHECK_UNITS
            with Reporter(steps + AGREEMENT_UNITS * agreement, quiet) as reporter:
                list(pool.start())
                for contender in contenders:
                    reporter.stage(str(contender))
                    for number, sized in enumerate(models):
                        subject = Subject(framework, contender, partial(pool.worker, contender), sized)
                        asked = (*OF_EACH_MODEL, *(OF_ONE_MODEL if number == 0 else ()))
                        for check in (check for check in asked if is_asked(check, framework)):
                            model = sized.model.kind if check in OF_EACH_MODEL else ""
                            found.rows.append(_asked(check, subject, model))
                            reporter.advance(CHECK_UNITS, f"{contender}, {model}: {name_of(check)}")
                if agreement:
                    reporter.stage("agreement")
                    dtypes = _dtypes(framework)
                    found.meaning_checked_in = dtypes[0]
                    found.rows += list(_agreements(label, framework, contenders, dtypes, agree, Path(logs)))
                    reporter.advance(AGREEMENT_UNITS)
        left = sorted(files_in(home) - before)
        outside = [name for name in left if not name.startswith("cache/")]
        found.rows.append(Row(check=OUTSIDE, contender=label))
        if outside:
            found.rows[-1].outcome = "broken"
            more = f" and {len(outside) - SHOWN} more" if len(outside) > SHOWN else ""
            found.rows[-1].reason = "in the home folder: " + ", ".join(outside[:SHOWN]) + more
    return found


def _asked(check: Callable[[Subject], None], subject: Subject, model: str) -> Row:
    row, began_s = Row(check=name_of(check), contender=str(subject.contender), model=model), time.monotonic()
    try:
        check(subject)
    except Broken as error:
        row.outcome, row.reason = "broken", str(error)
    except WorkerError as error:
        row.outcome, row.reason = error.outcome, error.what
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # It answered with something of another form, which the next line of the check could not use.
        row.outcome, row.reason = "broken", f"an answer of another form: {type(error).__name__}: {error}"
    row.seconds = time.monotonic() - began_s
    return row


def _dtypes(framework: Framework) -> tuple[str, ...]:
    """What is held against the reference: the widest that is offered, which tells the meaning, first."""
    wide = [dtype for dtype in ("float64", "float32") if dtype in framework.can.dtypes]
    return tuple(wide or [framework.can.widest])


def _agreements(
    label: str,
    framework: Framework,
    contenders: Sequence[Contender],
    dtypes: Sequence[str],
    agree: Callable[..., Result],
    folder: Path,
) -> Iterator[Row]:
    """One row for each contender, model and dtype: the worst of all sizes and situations."""
    began_s = time.monotonic()
    names = [str(contender) for contender in contenders]
    result = agree(
        contenders=names, models=framework.can.models, dtype=dtypes, out=folder / "agreement", threads=1, quiet=True
    )
    rows: dict[tuple[str, str, str], Row] = {}
    for record in result.agreements:
        kind, dtype = record.workload["model"]["kind"], record.workload["dtype"]
        row = rows.setdefault(
            (record.contender, kind, dtype),
            Row(check=f"{AGREEMENT}, {dtype}", contender=record.contender, model=kind),
        )
        if record.outcome not in ("ok", "not_offered") and row.outcome == "ok":
            row.outcome = "broken" if record.outcome == "disagrees" else record.outcome
            row.reason = (record.message or record.reason).splitlines()[0]
    for row in rows.values():
        row.seconds = (time.monotonic() - began_s) / max(1, len(rows))
    yield from rows.values()


def _pool(contenders: Sequence[Contender], configuration: Configuration, logs: Path) -> Pool:
    return Pool(contenders, device="cpu", threads=1, seed=0, log_directory=logs, configuration=configuration)


@contextmanager
def _own_home() -> Iterator[Path]:
    """A home folder of its own for all workers, so that what they leave there is seen; their cache is `cache` there."""
    before = {name: os.environ.get(name) for name in ("HOME", "XDG_CACHE_HOME")}
    with tempfile.TemporaryDirectory(prefix="faceoff-home-") as folder:
        os.environ.update(HOME=folder, XDG_CACHE_HOME=str(Path(folder) / "cache"))
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
