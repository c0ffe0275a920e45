"""What a run is: what was asked for, on which machine, with which versions. Records merge where all of it is equal."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from faceoff.core.errors import InputError
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import digest_of, find_installation, installed_in
from faceoff.frameworks.manifest import FILE, Framework
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.devices import device_name
from faceoff.ports.paths import split
from faceoff.run.options import Options
from faceoff.speed.budget import Budget
from faceoff.system.texts import cleaned

# The kernel keeps a little more or less memory to itself after every boot.
MEMORY_TOLERANCE = 0.01
# Of the differences that forbid to resume, so many are named.
SHOWN = 5


class Identity(BaseModel):
    """Everything that must be equal for a run to be resumed; kept in the first line of its journal.

    Attributes:
        asked: the keywords of `faceoff.run.options.make_options`, filled in.
        workloads: what they meant.
        machine: as in the result.
        versions: of each framework, of NumPy and of Face-off.
        code: digest of the source of models, reference and harness.
    """

    model_config = ConfigDict(extra="forbid")

    command: str
    asked: dict[str, Any]
    workloads: list[dict[str, Any]]
    machine: dict[str, Any]
    versions: dict[str, dict[str, str]]
    code: str


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: was {then.get(name, 'absent')}, is {now.get(name, 'absent')}"
        for name in dict.fromkeys([*then, *now])
        if not _same(name, then.get(name), now.get(name))
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, item in value.items():
        if isinstance(item, dict):
            found += _flat(item, f"{prefix}{key} ")
        elif key == "workloads":
            found += [(f"workload {number}", str(workload)) for number, workload in enumerate(item, 1)]
        else:
            found.append((f"{prefix}{key}".removeprefix("asked "), item))
    return found


def _same(name: str, then: Any, now: Any) -> bool:
    if name == "machine memory_bytes" and isinstance(then, int) and isinstance(now, int):
        return math.isclose(then, now, rel_tol=MEMORY_TOLERANCE)
    return bool(then == now)


def identify(options: Options, machine: Mapping[str, object]) -> Identity:
    """The identity of a run that is about to begin or to go on, on `machine`."""
    versions = {
        name: _versions(FRAMEWORKS[name], options.configuration)
        for name in dict.fromkeys(contender.framework for contender in options.contenders)
    }
    versions["harness"] = {name: importlib.metadata.version(name) for name in ("faceoff", "numpy")}
    identity = Identity(
        command=options.command,
        asked=asked_for(options),
        workloads=[workload.to_json() for workload in options.workloads],
        machine=dict(machine),
        versions=versions,
        code=_source([name for name in versions if name in FRAMEWORKS]),
    )
    return cleaned(identity)


def _versions(framework: Framework, configuration: Configuration) -> dict[str, str]:
    installation = find_installation(framework, configuration)
    if not framework.environment:
        return installation.versions
    # It was made for its versions alone, and those of all that came with them.
    return {**installation.versions, "all that is installed": digest_of(installed_in(installation.python))}


def asked_for(options: Options) -> dict[str, Any]:
    """The keywords of `make_options` that make these options again, as plain JSON values."""
    return {
        # From wherever the run goes on, a path means the same.
        "models": [str(Path(name).resolve()) if name in split(options.models)[1] else name for name in options.models],
        "contenders": [str(contender) for contender in options.contenders],
        "steps": list(options.steps),
        "preset": options.preset,
        "batch_size": list(options.batch_sizes),
        "sequence_length": list(options.sequence_lengths),
        "hidden_size": list(options.hidden_sizes),
        "workload": list(options.names),
        "dtype": list(options.dtypes) if options.command == "agree" else [options.workloads[0].dtype],
        "device": device_name(options.device, options.card),
        "optimiser": options.optimiser.kind if len(options.training_optimisers) == 1 else None,
        "seed": options.seed,
        "threads": options.threads,
        "data": str(options.data.resolve()) if options.data else None,
        "timeout_s": options.timeout_s,
        "budget": options.budget_name or dataclasses.asdict(options.budget),
        "baseline": str(options.baseline) if options.baseline else None,
        "gradient_norms": options.gradient_norms,
        "trace": options.trace,
        "situation": list(options.situations),
        "training": options.training_steps is not None,
        "training_steps": options.training_steps,
    }


def keywords_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords from their JSON form."""
    budget = asked.get("budget")
    if isinstance(budget, dict):
        # JSON has no infinity.
        numbers: dict[str, Any] = {name: math.inf if value is None else float(value) for name, value in budget.items()}
        whole = {field.name for field in dataclasses.fields(Budget) if field.type == "int"}
        budget = Budget(**{name: int(value) if name in whole else value for name, value in numbers.items()})
    return {**asked, "budget": budget}


def require_same(then: Identity, now: Identity, folder: Path) -> None:
    """Raises InputError, which says what differs, unless records of both may stand in one result."""
    refuse_differences(then.model_dump(mode="json"), now.model_dump(mode="json"), str(folder))


def require_same_settings(contender: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """The same for the settings in force in a contender's worker; folders may differ."""

    def kept(settings: Mapping[str, Any]) -> dict[str, str]:
        found = json.loads(json.dumps(settings, default=str))
        return {name: str(value) for name, value in _flat(found) if not str(value).startswith(("/", "~"))}

    refuse_differences(kept(then), kept(now), contender)


def refuse_differences(then: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raises InputError, which names what differs, unless both are equal."""
    found = _differences(dict(_flat(then)), dict(_flat(now)))
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InputError(
            "cannot be resumed: this would be another run",
            where=where,
            got="; ".join(found[:SHOWN]) + more,
            next_step="leave these options out, restore what has changed, or run it anew with another --out",
        )


def _source(frameworks: Sequence[str]) -> str:
    """A digest of the code that decides what a record says, the frameworks' too; how it is shown is left out."""
    package = Path(__file__).resolve().parents[1]
    shown = ("report", "defaults", "commands")
    files = [path for path in sorted(package.rglob("*.py")) if path.relative_to(package).parts[0] not in shown]
    for name in sorted(frameworks):
        folder = FRAMEWORKS[name].folder
        files += [folder / FILE, *sorted(folder.rglob("*.py"))]
        files += sorted(path for shared in FRAMEWORKS[name].shared_folders for path in shared.rglob("*.*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
