"""The further environments of frameworks, as `faceoff.toml` names them: written down, listed, removed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tomlkit
from tomlkit.items import Table

from faceoff.core.errors import HarnessError, InputError
from faceoff.frameworks.configuration import Environment, read_configuration
from faceoff.frameworks.installations import digest_of, find_installation, installed_in
from faceoff.frameworks.registry import CONFIG_FILE, FRAMEWORKS, one_of
from faceoff.results.file import write_text
from faceoff.system.whole_files import alone_in

# In the folder of an environment that was made here: what was installed then. A folder without it is not removed.
FROZEN = "faceoff-installed.txt"
# Of what has changed since, so much is named.
SHOWN = 4


class State(NamedTuple):
    """An environment as it is now.

    Attributes:
        python: its interpreter.
        versions: of the framework's distributions.
        path: another state of the framework's folder; empty for its usual one.
        installed: digest of what is installed now.
        problem: why it cannot be used; empty if it can.
        next_step: what mends it.
        changed: what was installed, removed or replaced since it was made, in words; empty if nothing.
    """

    python: str
    versions: dict[str, str]
    path: str
    installed: str
    problem: str = ""
    next_step: str = ""
    changed: str = ""


def list_environments() -> dict[str, State]:
    """Every environment that `faceoff.toml` names, by its label."""
    configuration = read_configuration()
    states = {}
    for label, told in configuration.environments.items():
        if label in FRAMEWORKS.broken:
            error = FRAMEWORKS.broken[label]
            step = error.next_step or f"faceoff env remove {label}"
            states[label] = State(told.python, {}, told.path, "", str(error), step)
            continue
        framework = FRAMEWORKS[label]
        found = find_installation(framework, configuration)
        now = installed_in(found.python)
        changed = ""
        if told.installed and found.installed and told.installed != digest_of(now):
            changed = describe_changes(_frozen(told), now)
        states[label] = State(
            found.python, found.versions, told.path, digest_of(now), found.reason, found.next_step, changed
        )
    return states


def describe_changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """`numpy 1.26.4 -> 2.0.0, six added, ...`"""
    changes = [
        f"{name} {then[name]} -> {now[name]}" if name in then and name in now
        else f"{name} {'removed' if name in then else 'added'}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]  # fmt: skip
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return ", ".join(changes[:SHOWN]) + more or "the list of what was installed is gone"


def _frozen(told: Environment) -> dict[str, str]:
    try:
        lines = (Path(told.folder) / FROZEN).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return dict(line.split("==", 1) for line in lines if "==" in line)


def remove(label: str) -> str:
    """Takes an environment out of `faceoff.toml`, and removes its folder if it was made by `create`.

    Args:
        label: `NAME@ENVIRONMENT`, or `NAME` for the interpreter that runs `NAME:...`.

    Returns:
        What was done, in words.

    Raises:
        InputError: there is none of that name.
        HarnessError: its folder cannot be removed.
    """
    path = Path(CONFIG_FILE)
    configuration = read_configuration()
    if label in configuration.environments:
        folder = configuration.environments[label].folder
        table, forgotten = "environments", "is forgotten"
    elif label in configuration.interpreters:
        # PYTHON lies in FOLDER/bin.
        folder = str(Path(configuration.interpreters[label]).absolute().parent.parent)
        table, forgotten = "interpreters", "runs by the interpreter that runs Face-off again"
    else:
        known = (*configuration.environments, *configuration.interpreters)
        expected = one_of(known) if known else f"one that {CONFIG_FILE} names; it names none"
        raise InputError("no such environment", where=CONFIG_FILE, got=repr(label), expected=expected)
    made_here = bool(folder) and (Path(folder) / FROZEN).is_file()
    if made_here:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise HarnessError("could not be removed", where=folder, got=error.strerror or str(error)) from None
    with alone_in(path.parent):
        document = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
        # Another call may have taken it out meanwhile.
        document.get(table, {}).pop(label, None)
        if table in document and not document[table]:
            document.pop(table)
        write_text(path, tomlkit.dumps(document))
    FRAMEWORKS.forget()
    left = "" if made_here or not folder else f"; {folder} was not made by `faceoff env create`, and is left"
    return f"{label} {forgotten}" + (f", {folder} is removed" if made_here else left)


def name_environment(label: str, environment: Environment) -> None:
    """Names an environment in `faceoff.toml`; everything else there, comments too, stays."""
    told = tomlkit.table()
    told.update({key: value for key, value in environment.model_dump().items() if value})
    _set("environments", label, told)


def name_interpreter(framework: str, python: str) -> None:
    """Names the interpreter that runs a framework in `faceoff.toml`."""
    _set("interpreters", framework, python)


def name_framework(name: str, folder: Path) -> None:
    """Names the folder of a framework in `faceoff.toml`."""
    place = tomlkit.table()
    place["path"] = str(folder)
    _set("frameworks", name, place)


def _set(table: str, key: str, value: object) -> None:
    path = Path(CONFIG_FILE)
    with alone_in(path.parent):
        document = tomlkit.parse(path.read_text(encoding="utf-8-sig")) if path.exists() else tomlkit.document()
        document.setdefault(table, tomlkit.table(is_super_table=isinstance(value, Table)))[key] = value
        write_text(path, tomlkit.dumps(document))
