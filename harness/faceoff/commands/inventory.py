"""What `faceoff list` and `faceoff doctor` show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from faceoff.core.spec import MODEL_KINDS, SPEC_CLASSES, STEPS, Contender
from faceoff.core.tuning import TUNED
from faceoff.frameworks.configuration import read_configuration
from faceoff.frameworks.installations import Installation, find_installation
from faceoff.frameworks.manifest import Framework
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine.cards import find_cards
from faceoff.machine.processor import describe_quota
from faceoff.pool.needs import find_lack
from faceoff.workloads.presets import PRESETS
from faceoff.workloads.situations import SITUATIONS

LIBRARIES = {
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "built_for_cuda": "built for CUDA",
    "built_for_cudnn": "built for cuDNN",
}


def take_inventory() -> dict[str, Any]:
    """Frameworks with versions and modes, models, steps and presets, as JSON values. Imports no framework."""
    configuration = read_configuration()
    frameworks = {}
    for label, framework in FRAMEWORKS.items():
        installation = find_installation(framework, configuration)
        frameworks[label] = {
            "installed": installation.installed,
            "versions": installation.versions,
            "contenders": [f"{label}:{mode}" for mode in (*framework.modes, TUNED)],
            "only_on": {f"{label}:{n}": m.devices[0] for n, m in framework.modes.items() if len(m.devices) == 1},
            "python": installation.python,
            "reason": installation.reason,
            "next_step": installation.next_step,
            "lacks": _lacks(framework, installation),
            "without": {f"{label}:{n}": m.library for n, m in framework.modes.items() if m.lacks_library},
            "on_request": framework.on_request,
        }
    return {
        "frameworks": frameworks,
        "models": {kind: (SPEC_CLASSES[kind].__doc__ or "").splitlines()[0] for kind in MODEL_KINDS},
        "steps": list(STEPS),
        "presets": {
            name: {
                "description": preset.description,
                "workloads": [sized.name for sized in preset.sized],
            }
            for name, preset in PRESETS.items()
        },
        "situations": {
            name: {"description": situation.what, "finds": situation.finds} for name, situation in SITUATIONS.items()
        },
    }


def _lacks(framework: Framework, installation: Installation) -> dict[str, str]:
    """What modes of a framework that is installed lack beside it on the CPU, by contender, with the way to it."""
    modes = framework.modes_on("cpu") if installation.installed else ()
    found = {}
    for contender in (Contender(framework.label, mode) for mode in modes):
        if lack := find_lack(contender, "cpu", installation.python, installation.versions):
            found[str(contender)] = f"{lack.reason}; {lack.next_step}"
    return found


def print_inventory(as_json: bool) -> None:
    """Prints what `take_inventory` finds."""
    inventory = take_inventory()
    if as_json:
        click.echo(json.dumps(inventory, indent=1))
        return
    console = Console()
    table = Table("framework", "version", "contenders", title="Frameworks", title_justify="left")
    for name, entry in inventory["frameworks"].items():
        versions = ", ".join(f"{package} {version}" for package, version in entry["versions"].items())
        only = entry["only_on"]
        lines = [
            contender
            + (f" ({only[contender]} only)" if contender in only else "")
            + (" (missing)" if contender in entry["lacks"] else "")
            + (f" (without {entry['without'][contender]})" if contender in entry["without"] else "")
            for contender in entry["contenders"]
        ]
        told = versions if entry["installed"] else f"missing: {entry['next_step']}"
        table.add_row(name + (" (on request)" if entry["on_request"] else ""), escape(told), "\n".join(lines))
    console.print(table)
    _print_lacks(console, inventory["frameworks"])
    table = Table("model", "what it is", title="Models", title_justify="left")
    for kind, text in inventory["models"].items():
        table.add_row(kind, escape(text))
    console.print(table)
    table = Table("preset", "what it holds", "workloads", title="Presets", title_justify="left")
    for name, entry in inventory["presets"].items():
        table.add_row(name, escape(entry["description"]), "\n".join(entry["workloads"]))
    console.print(table)
    table = Table("situation", "what it is", "what it is there to find", title="Situations", title_justify="left")
    for name, entry in inventory["situations"].items():
        table.add_row(name, escape(entry["description"]), escape(entry["finds"]))
    console.print(table)
    console.print(f"steps: {', '.join(inventory['steps'])}")


def _print_lacks(console: Console, frameworks: Mapping[str, Any]) -> None:
    for entry in frameworks.values():
        for contender, lack in entry["lacks"].items():
            text = f"{contender} missing: {lack}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)


def diagnose() -> dict[str, Any]:
    """What each framework can do here, found by starting it on each device, as JSON values."""
    from faceoff.machine.description import describe_machine
    from faceoff.pool.devices import ask_frameworks

    configuration = read_configuration()
    cards, no_card = find_cards()
    installations = {name: find_installation(framework, configuration) for name, framework in FRAMEWORKS.items()}
    installed = [name for name, installation in installations.items() if installation.installed]
    answers = {device: ask_frameworks(installed, device, configuration) for device in ("cpu", "gpu")}
    frameworks: dict[str, Any] = {}
    for name, installation in installations.items():
        entry: dict[str, Any] = {"python": installation.python, "versions": installation.versions}
        entry["lacks"] = _lacks(FRAMEWORKS[name], installation)
        entry["on_request"] = FRAMEWORKS[name].on_request
        if not installation.installed:
            entry.update(runs=False, reason=installation.reason, next_step=installation.next_step, gpu="")
        else:
            cpu, gpu = answers["cpu"][name], answers["gpu"][name]
            # On the processor, unless it is for cards alone.
            asked = cpu if FRAMEWORKS[name].modes_on("cpu") else gpu
            entry.update(runs=not asked.reason, reason=asked.reason, next_step=asked.install)
            entry["gpu"] = gpu.reason or _seen(gpu.settings)
            if gpu.reason and not cards:
                # Why there is none is said once, and no framework knows it better.
                entry["gpu"] = "none"
            if gpu.reason and any(cards) and not asked.install:
                entry["next_step"] = f"faceoff env create {FRAMEWORKS[name].name} --gpu"
        frameworks[name] = entry
    return {
        "machine": describe_machine(),
        "cards": [card.model_dump() if card else None for card in cards],
        "no_card": no_card,
        "frameworks": frameworks,
    }


def _seen(settings: Mapping[str, Any]) -> str:
    """Which GPU a framework sees, with which libraries, as far as it tells."""
    libraries = [f"{label} {settings[key]}" for key, label in LIBRARIES.items() if settings.get(key)]
    device = settings.get("device")
    seen = ", ".join(device) if isinstance(device, list) else str(device)
    return f"yes: {seen}" + (f" ({', '.join(libraries)})" if libraries else "")


def _told(card: Mapping[str, Any] | None) -> str:
    """What the driver says of a card, as far as it tells."""
    if card is None:
        return "the driver cannot open it"
    parts = [card["name"] + (f", {card['memory_bytes'] / 2**30:.0f} GiB" if card["memory_bytes"] else "")]
    parts += [f"driver {card['driver']}"] if card["driver"] else []
    parts += [f"up to CUDA {card['cuda_driver']}"] if card["cuda_driver"] else []
    return ", ".join(parts)


def print_diagnosis(as_json: bool) -> bool:
    """Prints what `diagnose` finds; true when every framework that need not be named runs here in all its modes."""
    diagnosis = diagnose()
    wanted = [entry for entry in diagnosis["frameworks"].values() if not entry["on_request"]]
    healthy = all(entry["runs"] and not entry["lacks"] for entry in wanted)
    if as_json:
        click.echo(json.dumps(diagnosis, indent=1))
        return healthy
    console = Console()
    machine = diagnosis["machine"]
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['operating_system']}, Python {machine['python']}",
        highlight=False,
        markup=False,
    )
    if quota := describe_quota():
        console.print(quota, highlight=False, markup=False)
    for number, card in enumerate(diagnosis["cards"]):
        console.print(f"gpu:{number}: {_told(card)}", highlight=False, markup=False)
    if diagnosis["no_card"]:
        console.print(f"no GPU: {diagnosis['no_card']}", highlight=False, markup=False)
    table = Table("framework", "runs here", "versions", "GPU")
    for name, entry in diagnosis["frameworks"].items():
        versions = ", ".join(f"{package} {version}" for package, version in entry["versions"].items())
        runs = "yes" if entry["runs"] else f"no: {entry['reason']}"
        if entry["runs"] and entry["lacks"]:
            runs = "yes, but for " + ", ".join(entry["lacks"])
        shown = name + (" (on request)" if entry["on_request"] else "")
        table.add_row(shown, escape(runs), versions, escape(entry["gpu"]))
    console.print(table)
    _print_lacks(console, diagnosis["frameworks"])
    for name, entry in diagnosis["frameworks"].items():
        if entry["next_step"]:
            console.print(f"{name}: {entry['next_step']}", highlight=False, markup=False, soft_wrap=True)
    return healthy
