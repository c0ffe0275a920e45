"""The folder that a run writes to: made, claimed, and never one that another run needs."""

from __future__ import annotations

import errno
import itertools
import stat
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from faceoff.core.errors import InputError
from faceoff.system.advice import to_begin, to_go_on
from faceoff.system.texts import require_utf8

JOURNAL_NAME, RESULT_NAME, PAGE_NAME = "journal.jsonl", "result.json", "page.html"


def prepare_folder(out: str | Path | None, resume: str = "") -> Path:
    """Makes the output folder and proves that it can be written to, before anything is measured; raises InputError.

    Args:
        out: where; None means a new folder under `reports/`.
        resume: the command that goes on with a run that is there, if one is to be.
    """
    if out:
        require_utf8(out, "--out", "rename it, or reach it by a link")
    else:
        # A link to it would be followed.
        require_utf8(Path.cwd(), "working folder", "rename it, or name another by --out")
    folder = Path(out) if out else Path("reports") / datetime.now().strftime("run-%Y%m%d-%H%M%S")
    try:
        if not out:
            folder = _claim(folder)
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe") as probe:
            probe.write(b"x" * 4096)
        for name in (JOURNAL_NAME, RESULT_NAME, PAGE_NAME):
            _require_place(folder / name)
    except OSError as error:
        raise InputError(
            "cannot be written",
            where=str(error.filename or folder),
            got=error.strerror or str(error),
            next_step=to_go_on(error.errno, resume) if resume else to_begin(error.errno),
        ) from None
    return folder


def _require_place(path: Path) -> None:
    """Raises OSError where no file can be: the run would find out at its end, or wait for a reader for ever."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "a folder is there", str(path))
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "neither a file nor a device is there", str(path))


def _claim(folder: Path) -> Path:
    """Makes a folder that nobody else has, other hosts included: one of this name, or of this name with a number."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([folder.name], (f"{folder.name}-{number}" for number in itertools.count(2)))
    while True:
        own = folder.with_name(next(names))
        # Making a folder succeeds for one process alone, on file systems that several hosts share too.
        with suppress(FileExistsError):
            own.mkdir()
            return own
