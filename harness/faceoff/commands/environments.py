"""`faceoff env`: environments of the frameworks, made, listed and removed."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from faceoff.commands.option_types import HomePath


@click.group()
def env() -> None:
    """Environments of the frameworks: where one does not hold them all, or to compare versions in one run."""


@env.command()
@click.argument("name")
@click.option("--with", "wanted", multiple=True, metavar="REQUIREMENT", help="Such as numpy==1.26.*; may be repeated.")
@click.option("--python", default="", help="Interpreter or version, such as 3.10; the one that runs this by default.")
@click.option("--from", "revision", default="", metavar="GIT-REV", help="Use the framework's folder of that time.")
@click.option("--gpu", is_flag=True, help="The build for NVIDIA's GPUs, with the CUDA libraries that it pins.")
@click.option("--dir", "folder", type=HomePath(), help="Where; .venv-NAME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print what is installed as JSON.")
@click.option("--quiet", is_flag=True, help="Say nothing of what pip does.")
def create(
    name: str, wanted: tuple[str, ...], python: str, revision: str, gpu: bool, folder: str | None, as_json: bool,
    quiet: bool,
) -> int:  # fmt: skip
    """Makes an environment and names it in faceoff.toml, for every command to use.

    NAME is a framework, which from then on runs there; or FRAMEWORK@ENVIRONMENT, whose contenders are written
    FRAMEWORK@ENVIRONMENT:MODE and stand beside the usual ones.
    """
    import dataclasses

    from faceoff.frameworks.making import create as make

    place = Path(folder) if folder else None
    made = make(name, place, gpu, quiet or as_json, wanted, python, revision)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(made), indent=1))
    else:
        versions = ", ".join(f"{package} {version}" for package, version in made.versions.items())
        click.echo(f"{name}: {versions or made.reason} for {made.python}; faceoff.toml names it")
    return 0 if made.installed else 3


@env.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_(as_json: bool) -> int:
    """The environments beside the usual ones, and whether each is what it was when it was made."""
    from faceoff.frameworks.environments import list_environments

    states = list_environments()
    if as_json:
        click.echo(json.dumps({label: state._asdict() for label, state in states.items()}, indent=1))
    elif not states:
        click.echo("no environments beside the usual ones; `faceoff env create NAME@ENVIRONMENT` makes one")
    else:
        table = Table("environment", "versions", "interpreter", "state")
        for label, state in states.items():
            versions = ", ".join(f"{package} {version}" for package, version in state.versions.items())
            told = state.problem or (
                f"changed since it was made: {state.changed}" if state.changed else "as it was made"
            )
            table.add_row(label, escape(versions), escape(state.python), escape(told))
        console = Console()
        console.print(table)
        for label, state in states.items():
            if state.problem and state.next_step:
                console.print(f"{label}: {state.next_step}", highlight=False, markup=False, soft_wrap=True)
    return 3 if any(state.problem for state in states.values()) else 0


@env.command()
@click.argument("name")
def remove(name: str) -> int:
    """Takes an environment out of faceoff.toml, and removes the folder that was made for it."""
    from faceoff.frameworks.environments import remove as take_out

    click.echo(take_out(name))
    return 0
