"""Reads and writes result files: pytest-benchmark's JSON schema, with our part under the key `faceoff`.

Files are written whole or not at all. Nothing read from one is trusted: it is parsed as JSON and validated.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest_benchmark
from pydantic import BaseModel, ValidationError, model_validator
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_commit_info

from faceoff.core.errors import InputError, ResultFileError
from faceoff.core.spec import Contender
from faceoff.results.records import SCHEMA_VERSION, CaseResult, Result
from faceoff.system.advice import to_begin
from faceoff.system.texts import cleaned, require_utf8
from faceoff.system.whole_files import is_replaceable, write_whole

KEY = "faceoff"
EMPTY_NEXT_STEP = "make it anew with `faceoff compare`"


class WriteError(InputError):
    """A file that cannot be written.

    Args:
        path: the file.
        error: why.
        next_step: what the reader can do; None for what fits a command that names its output by --out.
    """

    def __init__(self, path: Path, error: OSError, next_step: str | None = None) -> None:
        self.errno = error.errno
        step = next_step or to_begin(error.errno)
        super().__init__("cannot be written", where=str(path), got=error.strerror or str(error), next_step=step)
        self.reason = error


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def require_writable(path: Path, next_step: str | None = None) -> None:
    """Proves before anything takes long that a file can be written; raises InputError as `write_bytes` does."""
    if path.exists() and not is_replaceable(path):
        return  # Nothing may be written into a device or a FIFO but what it is for.
    target = Path(os.path.realpath(path))
    probe = target.with_name(f".{target.name}.probe")
    try:
        write_bytes(probe, b"x" * 4096)
        probe.unlink(missing_ok=True)
    except WriteError as error:
        raise WriteError(path, error.reason, next_step) from None


def make_folder(folder: Path, next_step: str) -> None:
    """Makes a folder that nobody else has; of several that want it at once, one gets it.

    Raises:
        InputError: it is there already, cannot be made, or nothing could name it later.
    """
    require_utf8(folder.absolute(), "folder", "name another")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "cannot be made", where=str(folder), got=error.strerror or str(error), next_step="choose another folder"
        ) from None
    try:
        folder.mkdir()
    except FileExistsError:
        raise InputError("is there already", where=str(folder), next_step=next_step) from None
    except OSError as error:
        raise InputError(
            "cannot be made", where=str(folder), got=error.strerror or str(error), next_step="choose another folder"
        ) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, as `write_whole` does.

    Raises:
        WriteError: the folder is full, read-only, or not a folder.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise WriteError(path, error) from None


def extra_info(case: CaseResult, result: Result) -> dict[str, Any]:
    """What a benchmark entry says of its case: workload, contender, versions, agreement."""
    contender = Contender.parse(case.contender)
    info = next((item for item in result.contenders if item.contender == case.contender), None)
    workload = case.workload
    checks = [
        a
        for a in result.agreements
        if a.is_everyday and a.contender == case.contender and _same_task(a.workload, workload)
    ]
    worst = {a.check: a.worst for a in checks}
    meaning, precision = worst.get("meaning"), worst.get("precision")
    return {
        "contender": case.contender,
        "framework": contender.framework,
        "mode": contender.mode,
        "device": workload.get("device"),
        "dtype": workload.get("dtype"),
        "step": workload.get("step"),
        "workload": workload,
        "versions": info.versions if info else {},
        "threads": result.threads,
        "seed": result.seed,
        "outcome": case.outcome,
        "agrees": case.outcome == "ok",
        "meaning_noise_units": meaning.noise_units if meaning else None,
        "precision_noise_units": precision.noise_units if precision else None,
        "interval_s": list(case.speed.interval_s) if case.speed else None,
        "ledger": case.ledger,
    }


def _same_task(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(first.get(key) == second.get(key) for key in ("model", "batch_size", "device"))


def _benchmark_entry(case: CaseResult, result: Result) -> dict[str, Any]:
    assert case.speed is not None
    stats = Stats()
    for duration_s in case.speed.rounds_s:
        stats.update(duration_s)
    return {
        "group": case.parsed_workload().name,
        "name": case.name,
        "fullname": case.name,
        "params": {"contender": case.contender},
        "param": case.contender,
        "extra_info": extra_info(case, result),
        "options": {"timer": "perf_counter_ns", "warmup": True},
        "stats": {**stats.as_dict(), "data": case.speed.rounds_s, "iterations": case.speed.iterations},
    }


def to_json(result: Result) -> str:
    """The whole result file as strict JSON text: one benchmark entry for each case that was timed and agrees."""
    document = {
        "machine_info": pytest_benchmark_generate_machine_info(),
        "commit_info": get_commit_info(),
        "benchmarks": [_benchmark_entry(case, result) for case in result.cases if case.outcome == "ok" and case.speed],
        "datetime": result.created,
        "version": pytest_benchmark.__version__,
        KEY: _plain(result),
    }
    return json.dumps(_finite(cleaned(document)), indent=1, allow_nan=False, default=str)


def _plain(result: Result) -> Any:
    return json.loads(cleaned(result).model_dump_json())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_plain_json(result: Result) -> str:
    """The part of the result file that `load` reads, without the benchmark entries, which repeat it."""
    return json.dumps(_finite({KEY: cleaned(result).model_dump(mode="json")}), allow_nan=False)


def save(result: Result, path: Path) -> None:
    """Writes the result file; raises InputError."""
    write_text(path, to_json(result))


def load(path: str | Path) -> Result:
    """Reads a result file.

    Raises:
        ResultFileError: it cannot be read, is cut off, is not JSON, is of another schema, or lacks something.
    """
    return parse(read_document(Path(path)), Path(path))


def read_document(path: Path) -> str:
    """What a file holds that should be a result; raises ResultFileError where that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ResultFileError("cannot be read", where=str(path), got=reason, expected="a result file") from None


def parse(text: str, path: Path) -> Result:
    """As `load`, from what a file holds; `path` is for errors."""
    try:
        return _Document.model_validate_json(text).faceoff
    except ValidationError as error:
        # In one go it is twice as fast; step by step it is known what is wrong.
        _refuse_by_steps(text, path)
        raise not_valid(error, f"{path}: ", EMPTY_NEXT_STEP) from None


class _Document(BaseModel):
    """A result file, of which only one part is ours."""

    faceoff: Result

    @model_validator(mode="after")
    def _of_this_schema(self) -> _Document:
        if self.faceoff.schema_version != SCHEMA_VERSION:
            raise ValueError("another schema")
        return self


def _refuse_by_steps(text: str, path: Path) -> None:
    try:
        document = json.loads(text)
    except ValueError as error:
        whole = text.rstrip()
        # Inside a string the error is where that begins.
        ends_early = getattr(error, "pos", 0) >= len(whole) or not whole.endswith("}")
        what = "cut off" if whole.startswith("{") and ends_early else "not JSON"
        raise ResultFileError(what, where=str(path), got=str(error), next_step=EMPTY_NEXT_STEP) from None
    except RecursionError:
        raise ResultFileError("nested too deeply", where=str(path), next_step=EMPTY_NEXT_STEP) from None
    part = document.get(KEY) if isinstance(document, dict) else None
    if not isinstance(part, dict):
        raise ResultFileError(
            "not a result of Face-off", where=str(path), expected=f"a top-level key {KEY!r}", next_step=EMPTY_NEXT_STEP
        )
    if part.get("schema_version") != SCHEMA_VERSION:
        raise ResultFileError(
            "another schema",
            where=str(path),
            got=f"version {part.get('schema_version')!a:.80}",
            expected=f"version {SCHEMA_VERSION}",
            next_step=EMPTY_NEXT_STEP,
        )
    try:
        Result.model_validate(part)
    except ValidationError as error:
        raise not_valid(error, f"{path}: {KEY}.", EMPTY_NEXT_STEP) from None


def not_valid(error: ValidationError, where: str, next_step: str) -> ResultFileError:
    """The first thing that is wrong in a file; `where` goes before its place there."""
    first = error.errors()[0]
    place = where + ".".join(ascii(step).strip("'") for step in first["loc"])[:200]
    return ResultFileError(first["msg"], where=place, got=ascii(first["input"])[:80], next_step=next_step)
