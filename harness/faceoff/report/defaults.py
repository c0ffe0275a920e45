"""The atlas of defaults on the page: what each framework does when nothing is said, and what a difference is worth."""

from __future__ import annotations

import altair as alt

from faceoff.defaults import Atlas, Row
from faceoff.report.charts import Spec, finish
from faceoff.report.text import percent, significant

MOST_EFFECTS = 24
ROW_HEIGHT = 24
LABEL_LENGTH = 48
# An axis of logarithms has no place for less.
LEAST_EFFECT = 1e-9


def largest_effects(atlas: Atlas) -> list[tuple[str, float, float | None]]:
    """The words whose difference is worth most: name, largest relative difference, and what chance alone does to it."""
    found = []
    for row in atlas.rows:
        worth = [effect for effect in row.effects if LEAST_EFFECT < effect.relative_difference < 1 / LEAST_EFFECT]
        if worth and not row.agree:
            largest = max(worth, key=lambda effect: effect.relative_difference)
            found.append((_name(row), largest.relative_difference, largest.chance))
    return sorted(found, key=lambda item: -item[1])[:MOST_EFFECTS]


def _name(row: Row) -> str:
    name = f"{row.topic}: {row.word}"
    return name if len(name) <= LABEL_LENGTH else name[: LABEL_LENGTH - 1] + "…"


def effects_chart(atlas: Atlas) -> Spec | None:
    """How much each default that differs changes what comes out, logarithmic; a cross marks what chance alone does."""
    effects = largest_effects(atlas)
    if not effects:
        return None
    rows = [
        {
            "word": name,
            "effect": float(f"{effect:.4g}"),
            "shown": percent(effect) if effect >= 1e-3 else significant(effect, 2),
            "chance": float(f"{chance:.4g}") if chance is not None and chance > LEAST_EFFECT else None,
        }
        for name, effect, chance in effects
    ]
    scale = alt.Scale(type="log", nice=True)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y(
            "word:N",
            sort=None,
            title=None,
            axis=alt.Axis(ticks=False, domain=False, labelPadding=8, labelLimit=300),
        ),
        tooltip=[alt.Tooltip("word:N"), alt.Tooltip("shown:N", title="difference")],
    )
    x = alt.X(
        "effect:Q",
        title="largest difference over the mean, logarithmic",
        scale=scale,
        # Beside long words the axis may be narrower than its title.
        axis=alt.Axis(tickCount=6, format=".0e", titleAnchor="end", labelFlush=False),
    )
    effect = base.mark_point(filled=True, size=70, opacity=1, color="var(--c1)").encode(x=x)
    chance = (
        base.transform_filter("isValid(datum.chance)")
        .mark_point(shape="cross", size=45, opacity=1, color="var(--c2)", filled=True)
        .encode(x=alt.X("chance:Q", scale=scale))
    )
    return finish(alt.LayerChart(layer=[effect, chance]), ROW_HEIGHT * len(rows))
