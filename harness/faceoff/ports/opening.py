"""From what a user has written to a `Port`: each side's worker says what it holds, and the weights are paired."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.core.errors import InputError, WorkerError
from faceoff.core.own import OWN_LOSS, Port, PortSide
from faceoff.core.side_file import LOSS_FORM, NEEDS_MODULE
from faceoff.pool.worker import Worker
from faceoff.ports.dropout import with_masks
from faceoff.ports.manifest import PortManifest, read_port
from faceoff.ports.mapping import Mapped, map_sides


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def open_port(
    path: Path, pool_of: Callable[[str], Worker], seed: int, notify: Callable[[str], None] = _to_stderr
) -> Port:
    """Reads a user's model, asks its sides, and pairs their weights.

    Args:
        path: a folder with `port.toml`, or one `.toml` file.
        pool_of: the worker of a framework, started; raises WorkerError where that is missing. Called from threads.
        seed: of the initial weights.
        notify: takes a line for each side that is left out, as its framework is missing here, and for each that was
            paired by order alone.

    Raises:
        InputError: the manifest is wrong, sides cannot be opened (a line each), or weights cannot be paired.
    """
    manifest = read_port(path)
    replies: dict[str, Mapping[str, Any]] = {}
    failures: list[InputError] = []

    def ask(framework: str) -> Mapping[str, Any]:
        reply = pool_of(framework).request("open_side", file=str(manifest.file_of(framework)), seed=seed)
        _check_reply(reply, f"{manifest.path}: sides.{framework}")
        if manifest.loss == OWN_LOSS and not reply.get("loss"):
            raise InputError(
                "no function `loss`", where=str(manifest.file_of(framework)),
                expected=LOSS_FORM, next_step=f"write it, or name another loss in {manifest.path}",
            )  # fmt: skip
        return reply

    # Side by side: each framework takes seconds to import.
    threads = ThreadPoolExecutor(len(manifest.sides))
    asked = {framework: threads.submit(ask, framework) for framework in manifest.sides}
    # Whoever interrupts does not wait for the imports.
    threads.shutdown(wait=False)
    for framework, answer in asked.items():
        try:
            replies[framework] = answer.result()
        except InputError as error:
            failures.append(error)
        except WorkerError as error:
            if error.outcome == "missing" and framework != manifest.reference:
                notify(f"{manifest.path}: sides.{framework}: left out, {_line(error)}")
            else:
                failures.append(_not_opened(manifest, framework, error))
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise InputError("\n".join(str(failure) for failure in failures))
    mapped = map_sides(manifest, replies)
    for framework, how in mapped.how.items():
        if count := sum(reason == "order" for reason in how.values()):
            notify(f"{manifest.path}: sides.{framework}: {count} of {len(how)} weights are paired by their order alone")
    port = _port(path, manifest, mapped, replies)
    return with_masks(port, pool_of, seed, str(manifest.path)) if manifest.dropout else port


def _not_opened(manifest: PortManifest, framework: str, error: WorkerError) -> InputError:
    """Why a side cannot be opened, in one line."""
    reference = framework == manifest.reference
    missing = error.outcome == "missing"
    if missing:
        step = "install it, or name another reference"
    elif error.outcome == "timeout":
        step = f"raise --timeout, or mend {manifest.file_of(framework)}"
    elif error.outcome == "unsupported" and NEEDS_MODULE in error.reason:
        step = f"install it where {framework} runs, or mend the import"
    else:
        step = f"mend {manifest.file_of(framework)}"
    return InputError(
        "the reference's framework is missing" if missing and reference else "this side cannot be opened",
        where=f"{manifest.path}: sides.{framework}",
        got=_line(error),
        next_step=step,
    )


def _line(error: WorkerError) -> str:
    """What a worker said, without its line breaks."""
    return " ".join((error.reason or str(error)).split())


def _check_reply(reply: Mapping[str, Any], where: str) -> None:
    """Raises InputError unless every weight is there once, with its numbers."""
    paths = [told["path"] for told in reply["weights"]]
    if not paths:
        raise InputError(
            "a model without weights", where=where, expected="one with some",
            next_step="let build() return the model itself",
        )  # fmt: skip
    twice = sorted({path for path in paths if paths.count(path) > 1})
    odd = twice or sorted(set(paths) ^ set(reply["arrays"]))
    if odd:
        raise InputError(
            "told twice, or without its numbers", where=where, got=", ".join(odd[:4]),
            expected="each weight once", next_step="this is a fault of the framework's folder",
        )  # fmt: skip
    for path in paths:
        if not np.isfinite(reply["arrays"][path]).all():
            raise InputError(
                "initial weights that are not finite", where=where, got=path, expected="finite numbers",
                next_step="look at how the model is initialised",
            )  # fmt: skip


def _digest(manifest: PortManifest) -> str:
    """Of the manifest and every Python file beside the sides' own: a result says of which state it is."""
    folders = {manifest.file_of(framework).parent for framework in manifest.sides}
    files = sorted({manifest.path, *(file for folder in folders for file in folder.glob("*.py"))})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()[:12]


def _port(path: Path, manifest: PortManifest, mapped: Mapped, replies: Mapping[str, Mapping[str, Any]]) -> Port:
    sides = {
        framework: PortSide(
            str(manifest.file_of(framework)),
            mapped.sides[framework],
            dict(manifest.sides[framework].inputs),
            mapped.zeros[framework],
            dict(manifest.sides[framework].layers),
        )
        for framework in replies
    }
    arrays = {path: np.asarray(array, np.float32) for path, array in replies[manifest.reference]["arrays"].items()}
    found = sides[manifest.reference].to_canonical(arrays, mapped.weights)
    return Port(
        name=manifest.name,
        inputs=manifest.inputs_of_port(),
        targets=manifest.targets_of_port(),
        loss=manifest.loss,
        class_axis=manifest.class_axis,
        output=manifest.output,
        weights=mapped.weights,
        sides=sides,
        reference=manifest.reference,
        path=str(path),
        code=_digest(manifest),
        initial={name: array for name, array in found.items() if array is not None},
        how={framework: how for framework, how in mapped.how.items() if framework != manifest.reference},
    )
