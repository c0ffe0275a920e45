"""Files that are whole or not there, and what a killed process leaves of them.

A file is written beside its place, under a lock that the kernel takes back when the process ends, however it ends. So a
later run knows what nobody is at work on any more, in other containers and on other hosts of a shared folder too.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"
LOCK = "lock"
# Between the making of a file or a folder and its lock.
YOUNG_S = 60.0
# Names of a file that is open already, which has a position of its own.
_OPEN_FILE = re.compile(r"/dev/(stdout|stderr)|(?:/dev|/proc/self)/fd/(\d+)")


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; what was there stays until the new one is complete.

    A symbolic link stays, and the file that it names is written. A device, a FIFO or standard output is written into.

    Raises:
        OSError: it cannot be written.
    """
    if not is_replaceable(path):
        _write_into(path, content)
        return
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError("a symbolic link that leads to itself")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A new file is as readable as any, and one that was there keeps its permissions.
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
    descriptor, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            os.chmod(part, mode)
            os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _write_into(path: Path, content: bytes) -> None:
    match = _OPEN_FILE.fullmatch(str(path.absolute()))
    if match:
        sys.stdout.flush()
        descriptor = os.dup(int(match[2]) if match[2] else {"stdout": 1, "stderr": 2}[match[1]])
    else:
        # Where nobody reads from a FIFO this waits, as a shell's `>` does.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def is_replaceable(path: Path) -> bool:
    """Whether another file may take this path's place: there is none yet, or an ordinary one."""
    if _OPEN_FILE.fullmatch(str(path.absolute())):
        return False
    try:
        kind = path.stat().st_mode
    except OSError:
        return True
    return not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISBLK(kind) or stat.S_ISSOCK(kind))


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def remove_parts(folder: Path) -> list[Path]:
    """Removes what processes that were killed had begun to write into a folder; returns what was removed."""
    removed = []
    for part in folder.glob(f".*{PART}"):
        with suppress(OSError):
            if _is_left(part):
                part.unlink()
                removed.append(part)
    return removed


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for temporary files, removed when the block ends; those that killed processes left go as well.

    One whose lock the block removes (`LOCK`) stays.
    """
    remove_scratch()
    folder = Path(tempfile.mkdtemp(prefix="faceoff-"))
    descriptor = os.open(folder / f"{LOCK}{PART}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.rename(folder / f"{LOCK}{PART}", folder / LOCK)
        yield folder
    finally:
        if (folder / LOCK).exists() or (folder / f"{LOCK}{PART}").exists():
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_scratch() -> list[Path]:
    """Removes the scratch folders of processes that were killed; returns what was removed."""
    removed = []
    for folder in Path(tempfile.gettempdir()).glob("faceoff-*"):
        with suppress(OSError):
            # A folder of somebody else's, or one that is kept, has no lock that could be had.
            if folder.stat().st_uid == os.getuid() and _is_left(folder / LOCK):
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def _is_left(path: Path) -> bool:
    """Whether the process that held this file's lock has ended. Raises OSError where that cannot be known."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        return path.name == LOCK or status.st_size > 0 or time.time() - status.st_mtime > YOUNG_S
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is in such a block for this folder, to read a file of it and write it anew."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Where a file system knows no locks, nothing is lost beside what two at once would lose anyway.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def keep(path: Path, text: str) -> None:
    """Keeps a text between runs, with a checksum; where there is no place for it, nothing is kept."""
    content = text.encode()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(path.parent)
        write_whole(path, b"%08x\n%s" % (zlib.crc32(content), content))


def kept(path: Path) -> str | None:
    """What `keep` kept; None where there is nothing, or what is there is not whole."""
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
        return content.decode() if int(checksum, 16) == zlib.crc32(content) else None
    except (OSError, ValueError):
        return None
