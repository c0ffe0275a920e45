"""The atlas of defaults on the page, in pictures, and read back from its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from faceoff.commands.cli import cli
from faceoff.core.errors import InputError, ResultFileError
from faceoff.defaults import load_atlas
from faceoff.report import to_csv, to_markdown, write_charts
from faceoff.report.defaults import effects_chart, largest_effects
from faceoff.report.page import render
from faceoff.results.file import save
from tests.unit.defaults.samples import HOSTILE, atlas
from tests.unit.results import samples


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
