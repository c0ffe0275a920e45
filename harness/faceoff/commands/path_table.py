"""What `faceoff agree --trace` prints: one line for each check, and the way of its quantities as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from faceoff.core.own import family_of
from faceoff.core.spec import Workload
from faceoff.report.text import significant
from faceoff.results.agreements import Agreement, PathPoint


def print_paths(console: Console, agreements: list[Agreement]) -> None:
    """Prints the path of every check that has one, each under its line."""
    for agreement in agreements:
        if agreement.path:
            console.print(path_line(agreement), markup=False, highlight=False, soft_wrap=True)
            if agreement.layers:
                console.print(f"  {agreement.layers}", markup=False, highlight=False, soft_wrap=True)
            console.print(_path_table(agreement))


def path_line(agreement: Agreement) -> str:
    """`framework:mode, lstm b6, float32: agrees, at most 1.68 units: momentum of ...`, or where it differs first."""
    workload = Workload.from_json(agreement.workload)
    model = family_of(workload.model)
    head = f"{agreement.contender}, {model} b{workload.batch_size}, {workload.dtype}"
    head += "" if agreement.is_everyday else f", {agreement.situation}"
    first = next((point for point in agreement.path if point.first), None)
    if first is not None:
        return f"{head}: DISAGREES, first at {agreement.first_difference or first.name}"
    worst = max(agreement.path, key=lambda point: point.noise_units or 0.0)
    return f"{head}: agrees, at most {significant(worst.noise_units, 2)} units: {worst.name}"


def _path_table(agreement: Agreement) -> Table:
    table = Table("", "in the order of computation")
    table.add_column("noise units", justify="right")
    fed = any(point.fed_agrees is not None for point in agreement.path)
    if fed:
        table.add_column("fed with the reference's", justify="right")
    for point in agreement.path:
        style = "bold red" if point.first else "red" if not point.agrees else ""
        mark = "first" if point.first else "" if point.agrees else "differs"
        cells = [Text(text, style) for text in (mark, point.name, _figure(point))]
        table.add_row(*cells, *([_fed(point)] if fed else []))
    return table


def _figure(point: PathPoint) -> str:
    return point.problem or significant(point.noise_units, 2)


def _fed(point: PathPoint) -> Text:
    if point.fed_agrees is None:
        return Text("")
    units = "not finite" if point.fed_units is None else significant(point.fed_units, 2)
    return Text(units, "" if point.fed_agrees else "bold red")
