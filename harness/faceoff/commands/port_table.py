"""How the weights of a user's own model were paired: a line for each side, and a table of some or of all."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from faceoff.results.ports import PairedModel, PairedWeight

# By their order alone: nothing else told them apart.
GUESSED = "order"
# So many of these are shown of a deep model, unless all are asked for.
SHOWN = 20


def print_ports(console: Console, ports: Sequence[PairedModel], whole: bool) -> None:
    """Prints how the weights of every side were paired with the reference's.

    Args:
        console: where.
        ports: nothing is printed without any.
        whole: a table of every weight; else of the first that are paired by their order alone.
    """
    for port in ports:
        for framework in port.others:
            console.print(port_line(port, framework), markup=False, highlight=False, soft_wrap=True)
        chosen = [weight for weight in port.weights if whole or GUESSED in weight.how.values()]
        shown = chosen if whole or len(chosen) <= SHOWN + 1 else chosen[:SHOWN]
        if shown:
            console.print(_table(port, shown))
        if more := len(chosen) - len(shown):
            console.print(f"and {more} more by order; --trace shows all", markup=False, highlight=False)


def port_line(port: PairedModel, framework: str) -> str:
    """`NAME: all 38 weights of B are paired with A's: 31 by name, 7 by shape`."""
    counted = port.counted(framework)
    how = ", ".join(f"{count} by {reason}" for reason, count in counted.items())
    line = f"{port.model}: all {len(port.weights)} weights of {framework} are paired with {port.reference}'s: {how}"
    if zeros := port.zeros.get(framework):
        line += f"; {len(zeros)} of its arrays stay zero: {', '.join(zeros)}"
    return line


def _table(port: PairedModel, weights: Sequence[PairedWeight]) -> Table:
    table = Table(f"{port.reference} (reference)", "shape", title=f"Weights of {port.model}", title_justify="left")
    for framework in port.others:
        table.add_column(framework)
        table.add_column("by")
    for weight in weights:
        cells = [weight.sides[port.reference], str(weight.shape)]
        for framework in port.others:
            cells += [weight.sides[framework], weight.how[framework]]
        table.add_row(*(Text(cell, "bold" if GUESSED in weight.how.values() else "") for cell in cells))
    return table
