"""The atlas of defaults on the page, in pictures, and read back from its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.core.errors import InputError, ResultFileError
from harness.defaults import Atlas, Effect, Finding, load_atlas
from harness.defaults.atlas import make_row
from harness.report import to_csv, to_markdown, write_charts
from harness.report.defaults import effects_chart, largest_effects
from harness.report.page import render
from harness.result_file import save
from tests.unit import result_samples as samples

HOSTILE = "<script>alert(1)</script>"


def effect(size: float, chance: float | None = None) -> Effect:
    """Of a default, on the loss."""
    return Effect(
        measured_on="the float64 reference", quantity="loss after 20 steps", relative_difference=size, chance=chance
    )


def atlas() -> Atlas:
    """Two words that differ, one of them no more than by chance, and one on which all agree."""
    rows = [
        ("batch norm", "epsilon", ("1e-5", "1e-3"), [effect(0.004), effect(0.08)]),
        ("dense", f"bias {HOSTILE}", ("uniform", "zeros"), [effect(0.006, chance=0.005)]),
        ("dense", "padding", ("none", "none"), [effect(3.0)]),
    ]
    found = []
    for topic, word, (first, second), effects in rows:
        row = make_row(topic, word, {"pytorch": Finding(words=first), "jax": Finding(words=second)})
        found.append(row.model_copy(update={"effects": effects}))
    return Atlas(
        created="2025-03-04T10:20:30+00:00", seed=0, duration_s=65.0,
        frameworks={"pytorch": {"torch": "2.13.0"}, "jax": {"jax": "0.10.2"}},
        outcomes={"pytorch": "ok", "jax": "ok"}, rows=found,
    )  # fmt: skip


def test_the_words_that_differ_are_drawn_by_what_they_are_worth() -> None:
    assert [item[1:] for item in largest_effects(atlas())] == [(0.08, None), (0.006, 0.005)]
    chart = effects_chart(atlas())
    assert chart is not None
    assert chart["height"] == 2 * 24
    assert effects_chart(atlas().model_copy(update={"rows": []})) is None


def test_the_page_has_every_word_and_hostile_ones_stay_text() -> None:
    page = render([("result", samples.empty()), ("defaults.json", atlas())])
    assert "What the defaults do" in page
    assert "2 of 3 words differ" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "8 % on loss after 20 steps" in page
    assert "No result was given" not in render([("defaults.json", atlas())])


def test_what_the_command_wrote_is_read_back_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "defaults.json"
    path.write_text(atlas().model_dump_json(indent=1))
    assert load_atlas(path) == atlas()
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "schema_version": 99}))
    with pytest.raises(ResultFileError, match="another schema"):
        load_atlas(path)
    path.write_text(json.dumps({**document, "rows": [{"topic": 1}]}))
    with pytest.raises(ResultFileError, match=r"defaults\.json: rows\.0"):
        load_atlas(path)
    save(samples.empty(), path)
    assert load_atlas(path) is None
    assert load_atlas(tmp_path / "none.json") is None


def test_the_command_puts_it_on_the_page_and_refuses_it_in_tables(tmp_path: Path) -> None:
    path = tmp_path / "defaults.json"
    path.write_text(atlas().model_dump_json())
    done = CliRunner().invoke(cli, ["report", str(path), "--quiet", "-o", str(tmp_path / "page.html")])
    assert (done.exit_code, done.output) == (0, "")
    assert "What the defaults do" in (tmp_path / "page.html").read_text()
    for table in (to_markdown, to_csv):
        with pytest.raises(InputError, match="no place in"):
            table([("defaults.json", atlas())])
    (picture,) = write_charts([("defaults.json", atlas())], tmp_path, "svg")
    assert picture.name == "defaults.svg"
    assert b"batch norm: epsilon" in picture.read_bytes()
