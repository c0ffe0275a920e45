"""The atlas as a table for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from faceoff.defaults.atlas import Atlas, Effect, Row


def effect_words(effect: Effect) -> str:
    """One line: what differs by how much, on what."""
    values = ""
    if effect.values:
        values = " (" + ", ".join(f"{name} {value:.3g}" for name, value in effect.values.items()) + ")"
    chance = "" if effect.chance is None else f" (chance: {_share(effect.chance)})"
    return f"{_share(effect.relative_difference)}{chance} on {effect.quantity}{values}; {effect.measured_on}"


def _share(relative: float) -> str:
    if relative < 1e-4:
        return f"{relative:.1e}"
    return f"{100 * relative:.2g} %" if relative < 0.995 else f"{100 * relative:.0f} %"


def row_effects(row: Row) -> str:
    """The effects of a row, one a line; of a row that agrees, that there is nothing to measure."""
    if row.effects:
        return "\n".join(effect_words(effect) for effect in row.effects)
    return "" if row.agree else "not measured"


def print_atlas(atlas: Atlas) -> None:
    """Prints all rows on standard output, those that differ first."""
    console = Console()
    titles = [f"{name}\n{', '.join(f'{p} {v}' for p, v in versions.items())}" for name, versions in
              atlas.frameworks.items()]  # fmt: skip
    table = Table("topic", "word", *titles, "effect when only this changes", show_lines=True)
    for row in atlas.rows:
        said = [row.findings[name].words if name in row.findings else "" for name in atlas.frameworks]
        style = "dim" if row.agree else ""
        table.add_row(row.topic, escape(row.word), *map(escape, said), escape(row_effects(row)), style=style)
    console.print(table)
    differing = sum(not row.agree for row in atlas.rows)
    measured = ", ".join(name for name, outcome in atlas.outcomes.items() if outcome == "ok") or "no framework"
    where = f"CPU, products on {atlas.card} too" if atlas.card else "CPU"
    console.print(
        f"{differing} of {len(atlas.rows)} defaults differ ({measured}; {where}; {atlas.duration_s:.0f} s)",
        highlight=False,
    )
