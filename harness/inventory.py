"""What `faceoff list` and `faceoff doctor` show."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.core.spec import MODEL_KINDS, SPEC_CLASSES, STEPS
from harness.environments import FRAMEWORKS, TUNED, find_installation, read_configuration
from harness.presets import PRESETS


def take_inventory() -> dict[str, Any]:
    """Frameworks with versions and modes, models, steps and presets, as JSON values. Imports no framework."""
    configuration = read_configuration()
    frameworks = {}
    for framework in FRAMEWORKS.values():
        installation = find_installation(framework, configuration)
        frameworks[framework.name] = {
            "installed": installation.installed,
            "versions": installation.versions,
            "contenders": [f"{framework.name}:{mode}" for mode in (*framework.modes, TUNED)],
            "python": installation.python,
            "reason": installation.reason,
            "next_step": installation.next_step,
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
    }


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
        table.add_row(
            name, versions if entry["installed"] else f"missing: {entry['next_step']}", "\n".join(entry["contenders"])
        )
    console.print(table)
    table = Table("model", "what it is", title="Models", title_justify="left")
    for kind, text in inventory["models"].items():
        table.add_row(kind, text)
    console.print(table)
    table = Table("preset", "what it holds", "workloads", title="Presets", title_justify="left")
    for name, entry in inventory["presets"].items():
        table.add_row(name, entry["description"], "\n".join(entry["workloads"]))
    console.print(table)
    console.print(f"steps: {', '.join(inventory['steps'])}")


def diagnose() -> dict[str, Any]:
    """What each framework can do here, found by starting it on each device, as JSON values."""
    from harness.devices import ask_frameworks
    from harness.machine import describe_machine

    configuration = read_configuration()
    installations = {name: find_installation(framework, configuration) for name, framework in FRAMEWORKS.items()}
    installed = [name for name, installation in installations.items() if installation.installed]
    answers = {device: ask_frameworks(installed, device, configuration) for device in ("cpu", "gpu")}
    frameworks: dict[str, Any] = {}
    for name, installation in installations.items():
        entry: dict[str, Any] = {"python": installation.python, "versions": installation.versions}
        if not installation.installed:
            entry.update(runs=False, reason=installation.reason, next_step=installation.next_step, gpu="")
        else:
            cpu, gpu = answers["cpu"][name], answers["gpu"][name]
            entry.update(runs=not cpu.reason, reason=cpu.reason, next_step="", gpu=gpu.reason or "yes")
        frameworks[name] = entry
    return {"machine": describe_machine(), "frameworks": frameworks}


def print_diagnosis(as_json: bool) -> bool:
    """Prints what `diagnose` finds; true when every framework runs here."""
    diagnosis = diagnose()
    healthy = all(entry["runs"] for entry in diagnosis["frameworks"].values())
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
    table = Table("framework", "runs here", "versions", "GPU")
    for name, entry in diagnosis["frameworks"].items():
        versions = ", ".join(f"{package} {version}" for package, version in entry["versions"].items())
        table.add_row(name, "yes" if entry["runs"] else f"no: {entry['reason']}", versions, entry["gpu"])
    console.print(table)
    for name, entry in diagnosis["frameworks"].items():
        if entry["next_step"]:
            console.print(f"{name}: {entry['next_step']}", highlight=False, markup=False)
    return healthy
