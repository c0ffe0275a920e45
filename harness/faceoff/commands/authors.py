"""For authors: `faceoff new framework`, `faceoff new model` and `faceoff check`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from faceoff.commands.option_types import HomePath, Names


@click.group()
def new() -> None:
    """Begin something of your own."""


@new.command()
@click.argument("name")
@click.option("--dir", "folder", type=HomePath(), help="Where; NAME in the working folder by default.")
def framework(name: str, folder: str | None) -> int:
    """Writes a folder for the framework NAME that runs as it is: dense models in NumPy, to be edited."""
    from faceoff.conformance.drafting import draft

    made = draft(name, Path(folder) if folder else None)
    click.echo(f"{made}: edit it, then `faceoff check {name}`; faceoff.toml names it")
    return 0


@new.command()
@click.argument("folder", metavar="DIR", type=HomePath())
@click.option("--from", "reference", required=True, help="The framework of the model that is ported.")
@click.option("--to", "ports", type=Names(), required=True, help="Those that it is ported to, by commas.")
def model(folder: str, reference: str, ports: tuple[str, ...]) -> int:
    """Writes the folder DIR with a model and its ports that run as they are, to be edited."""
    from faceoff.ports.drafting import draft_model

    for path in draft_model(Path(folder), reference, ports):
        click.echo(path)
    given = folder if "/" in folder else f"./{folder}"
    click.echo(f"edit them, then: faceoff agree --models {shlex.quote(given)}")
    return 0


@click.command()
@click.argument("name")
@click.option(
    "--agreement/--no-agreement", default=True, help="Hold it against the reference too, which takes longest."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def check(name: str, agreement: bool, as_json: bool, quiet: bool) -> int:
    """Does the framework NAME keep what its manifest promises? For whoever writes or changes one.

    Exit status: 0 every promise is kept, 1 one is not, 3 it is not installed.
    """
    from faceoff.api import agree
    from faceoff.conformance.run import check_framework

    found = check_framework(name, agree, agreement=agreement, quiet=quiet)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
        return found.exit_status
    if found.reason:
        click.echo(f"{name} is missing: {found.reason}; {found.next_step}")
        return found.exit_status
    console = Console()
    contenders = list(dict.fromkeys(row.contender for row in found.rows))
    table = Table("promise", *contenders, title=f"{name}, {found.folder}", title_justify="left")
    for promise in dict.fromkeys(row.check for row in found.rows):
        cells = []
        for contender in contenders:
            rows = [row for row in found.rows if (row.check, row.contender) == (promise, contender)]
            bad = [row for row in rows if row.outcome != "ok"]
            told = ", ".join(f"{row.outcome} ({row.model})" if row.model else row.outcome for row in bad)
            cells.append(escape(told) or ("kept" if rows else ""))
        table.add_row(promise, *cells)
    console.print(table)
    for row in found.rows:
        if row.outcome != "ok":
            where = f"{row.contender}, {row.model}" if row.model else row.contender
            console.print(f"{where}: {row.check}: {row.reason}", highlight=False, markup=False, soft_wrap=True)
    if found.meaning_checked_in not in ("", "float64"):
        console.print(f"meaning checked in {found.meaning_checked_in} only: it offers nothing wider", highlight=False)
    broken = sum(row.outcome != "ok" for row in found.rows)
    console.print(f"{len(found.rows) - broken} of {len(found.rows)} promises kept", highlight=False)
    return found.exit_status
