"""Options of a run that goes on: what its journal says was asked for, and nothing that contradicts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceoff.core.errors import InputError
from faceoff.run.identity import asked_for, keywords_of, refuse_differences
from faceoff.run.journal import NAME, read, resume_command
from faceoff.run.options import Options, make_options
from faceoff.run.out_folder import prepare_folder


def resumed_options(command: str, folder: Path, given: Mapping[str, Any]) -> Options:
    """The options of the run in `folder`.

    Args:
        command: `compare`, `agree` or `bench`; the one that the run was started with.
        folder: with its journal.
        given: keywords of `make_options` that the caller gave as well. They may only say the same, but for `quiet`.

    Raises:
        InputError: no journal that can be read, another command, or a keyword that contradicts it.
    """
    identity = read(folder / NAME).begin.identity
    if command != identity.command:
        raise InputError(
            "another command",
            where=str(folder),
            got=command,
            expected=identity.command,
            next_step=f"use `{resume_command(identity.command, folder)}`",
        )
    out = given.get("out")
    if out is not None and Path(out).resolve() != folder.resolve():
        raise InputError(
            "contradicts --resume", where="out", got=str(out), expected=str(folder), next_step="leave --out away"
        )
    prepare_folder(folder, resume_command(command, folder))
    try:
        options = make_options(command, **{**keywords_of(identity.asked), **given, "out": folder})
    except TypeError as error:
        raise InputError("options that are not known", where=f"{folder / NAME}, line 1", got=str(error)) from None
    refuse_differences(identity.asked, asked_for(options), str(folder))
    return dataclasses.replace(options, resume=True)
