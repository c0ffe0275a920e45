"""The journal of a run: `journal.jsonl` in its output folder, one line for each finished unit of work.

The first line says what the run is (`faceoff.run.identity`). Lines are only ever appended, and each is on the disk
before the run goes on, so a run that is killed loses nothing that was finished. Each line carries a checksum. A last
line that was cut off is dropped; damage anywhere else is an error, as nothing tells what it would lose.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import re
import shlex
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from faceoff.core.errors import InputError, ResultFileError
from faceoff.results.records import Records, Result
from faceoff.results.types import Seconds
from faceoff.run.identity import Identity, require_same
from faceoff.run.out_folder import JOURNAL_NAME
from faceoff.system.advice import to_begin, to_go_on
from faceoff.system.texts import cleaned

NAME = JOURNAL_NAME
SCHEMA_VERSION = 2
# The unit of work that says what each contender is.
START = "start"
_LINE = re.compile(rb'\{"crc32":"([0-9a-f]{8})","entry":(\{.*\})\}', re.DOTALL)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Begin(_Entry):
    """The first line: which run this is, and when it began."""

    kind: Literal["run"] = "run"
    schema_version: int = SCHEMA_VERSION
    created: str
    command_line: str
    identity: Identity


class Unit(Records):
    """A finished unit of work: all that it added to the result.

    Attributes:
        key: unique within the run.
        elapsed_s: time the run had taken by then, without the time it lay dead.
    """

    kind: Literal["unit"] = "unit"
    key: str
    elapsed_s: Seconds


class Mark(_Entry):
    """The run was resumed here, or its result was written here."""

    kind: Literal["resumed", "ended"]


# The lists of a result that units add to.
LISTS = tuple(Records.model_fields)


@dataclass
class Contents:
    """What a journal holds.

    Args:
        begin: its first line.
        units: by key, in the order in which they were finished.
        resumed: how often the run was resumed so far.
        ended: its result was written.
        notices: what was dropped, in words.
        whole_bytes: where its last whole line ends.
    """

    begin: Begin
    units: dict[str, Unit] = field(default_factory=dict)
    resumed: int = 0
    ended: bool = False
    notices: list[str] = field(default_factory=list)
    whole_bytes: int = 0


def read(path: Path) -> Contents:
    """Reads a journal.

    Raises:
        ResultFileError: there is none, its first line is not whole, it is of another schema, or a line other than the
            last is damaged; the error names the line.
    """
    try:
        lines = io.BytesIO(path.read_bytes()).readlines()
    except OSError as error:
        raise ResultFileError(
            "cannot be read", where=str(path), got=error.strerror, expected="the journal of a run"
        ) from None
    contents: Contents | None = None
    position = 0
    for number, line in enumerate(lines, 1):
        entry = _parse(line)
        if entry is None:
            if number < len(lines):
                raise _damage(path, number, "damaged: its checksum does not fit")
            if contents is not None:
                contents.notices.append(f"{path}, line {number}: cut off; this unit of work is done again")
            break
        position += len(line)
        if contents is None:
            contents = Contents(_validate_begin(path, entry), whole_bytes=position)
            continue
        contents.whole_bytes = position
        _take(contents, entry, path, number)
    if contents is None:
        raise ResultFileError(
            "holds no run: its first line is not whole", where=str(path), next_step="nothing was finished; run it anew"
        )
    return contents


def _parse(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None when it is not whole."""
    match = _LINE.fullmatch(line[:-1]) if line.endswith(b"\n") else None
    if match is None or int(match[1], 16) != zlib.crc32(match[2]):
        return None
    try:
        entry: dict[str, Any] = json.loads(match[2])
        if b"\\ud" in match[2]:
            # Half a letter is no text, and could be written to no result.
            json.dumps(entry, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return entry


def _validate_begin(path: Path, entry: dict[str, Any]) -> Begin:
    if entry.get("kind") != "run":
        raise _damage(path, 1, f"should say what the run is, but is {entry.get('kind')!r}")
    if entry.get("schema_version") != SCHEMA_VERSION:
        raise ResultFileError(
            "another schema",
            where=f"{path}, line 1",
            got=f"version {entry.get('schema_version')}",
            expected=f"version {SCHEMA_VERSION}",
            next_step="run it anew with another --out",
        )
    try:
        return Begin.model_validate(entry)
    except ValidationError as error:
        raise _damage(path, 1, _first(error)) from None


def _take(contents: Contents, entry: dict[str, Any], path: Path, number: int) -> None:
    try:
        if entry.get("kind") in ("resumed", "ended"):
            mark = Mark.model_validate(entry)
            contents.resumed += mark.kind == "resumed"
            contents.ended = mark.kind == "ended"
            return
        unit = Unit.model_validate(entry)
    except ValidationError as error:
        raise _damage(path, number, _first(error)) from None
    contents.ended = False
    if unit.key in contents.units:
        contents.notices.append(f"{path}, line {number}: {unit.key} stands here again; the first one counts")
        return
    contents.units[unit.key] = unit


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"


def _damage(path: Path, number: int, what: str) -> ResultFileError:
    return ResultFileError(
        what,
        where=f"{path}, line {number}",
        next_step="remove this line to do its unit of work again" if number > 1 else "run it anew with another --out",
    )


class Journal:
    """The journal of the run in progress, open for appending and locked. A context manager.

    Args:
        folder: output folder of the run.
        begin: its first line, where the journal is new.
        resume: go on with the one that is there; else one that holds finished work is refused.

    Raises:
        InputError: it cannot be written, another run writes it, it holds another unfinished run, or what it holds
            cannot be merged with what would be run now.
    """

    def __init__(self, folder: Path, begin: Begin, *, resume: bool) -> None:
        self.path = folder / NAME
        self._command = resume_command(begin.identity.command, folder)
        self._begin_s, self._size = time.monotonic(), 0
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._cannot_write(error, begun=resume) from None
        try:
            self._lock()
            self.contents = self._go_on(begin) if resume else self._start_anew(begin)
        except BaseException:
            os.close(self._file)
            raise
        self._earlier_s = max((unit.elapsed_s for unit in self.contents.units.values()), default=0.0)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    @property
    def elapsed_s(self) -> float:
        """Time that this run has taken, earlier parts included."""
        return self._earlier_s + time.monotonic() - self._begin_s

    def take_over(self, keys: Sequence[str], result: Result) -> None:
        """Adds to `result` what is finished already of these units, in their order."""
        for key in keys:
            unit = self.contents.units.get(key)
            for name in LISTS if unit else ():
                getattr(result, name).extend(getattr(unit, name))

    @contextmanager
    def unit(self, key: str, result: Result) -> Iterator[None]:
        """Keeps what the block adds to `result`, if it comes to its end.

        Raises:
            InputError: the journal cannot be written; the lines that are there stay whole.
        """
        before = {name: len(getattr(result, name)) for name in LISTS}
        yield
        added = {name: cleaned(getattr(result, name)[length:]) for name, length in before.items()}
        self._append(Unit(key=key, elapsed_s=self.elapsed_s, **added))

    def end(self) -> None:
        """Notes that the result is written, so that another run may use the folder."""
        self._append(Mark(kind="ended"))

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "another run writes here", where=str(self.path), next_step="wait for its end, or choose another --out"
            ) from None

    def _start_anew(self, begin: Begin) -> Contents:
        if os.fstat(self._file).st_size:
            self._require_nothing_to_lose()
            os.ftruncate(self._file, 0)
        self._append(begin)
        with suppress(OSError):  # Where a folder cannot be synchronised, its entry is as safe as it gets.
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return Contents(begin)

    def _require_nothing_to_lose(self) -> None:
        if len(io.BytesIO(self.path.read_bytes()).readlines()) <= 1:
            return
        contents = read(self.path)
        if contents.units and not contents.ended:
            raise InputError(
                f"holds an unfinished run with {len(contents.units)} units of work",
                where=str(self.path),
                next_step=f"go on with `{resume_command(contents.begin.identity.command, self.path.parent)}`, "
                "or choose another --out",
            )

    def _go_on(self, begin: Begin) -> Contents:
        contents = read(self.path)
        require_same(contents.begin.identity, begin.identity, self.path.parent)
        self._size = contents.whole_bytes
        os.ftruncate(self._file, self._size)
        if not contents.ended:
            contents.resumed += 1
            self._append(Mark(kind="resumed"))
        return contents

    def _append(self, entry: BaseModel) -> None:
        line = to_line(entry)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            self._cut()
            raise self._cannot_write(error) from None
        except BaseException:
            self._cut()
            raise
        self._size += len(line)

    def _cut(self) -> None:
        """Takes back a line that was not written to its end."""
        with suppress(OSError):
            os.ftruncate(self._file, self._size)

    def _cannot_write(self, error: OSError, begun: bool = True) -> InputError:
        step = to_go_on(error.errno, self._command) if begun else to_begin(error.errno)
        return InputError("cannot be written", where=str(self.path), got=error.strerror or str(error), next_step=step)


def resume_command(command: str, folder: Path) -> str:
    """The command that goes on with the run in `folder`, which `faceoff COMMAND` began."""
    return shlex.join(["faceoff", command, "--resume", str(folder)])


def to_line(entry: BaseModel) -> bytes:
    """A line of the journal, with its end."""
    text = json.dumps(_strict(entry.model_dump(mode="json")), allow_nan=False, separators=(",", ":"), default=str)
    content = text.encode()
    return b'{"crc32":"%08x","entry":%s}\n' % (zlib.crc32(content), content)


def _strict(value: Any) -> Any:
    """Numbers that are not finite as words, which are read as numbers again: unlike in a result file, none is lost."""
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
