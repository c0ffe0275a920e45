"""The page as a whole: words, structure, that nothing in a result can run or reach out, and how it is written."""

from __future__ import annotations

import itertools
import re
import resource
from pathlib import Path

import pytest

from faceoff.core.errors import InputError
from faceoff.report import render, write_page
from faceoff.report.text import clip, duration, moment, printable, significant, time_unit, value_text, with_interval
from faceoff.report.words import identify
from faceoff.results.records import Result
from tests.unit.report import pages as report_pages
from tests.unit.report.html_tree import Element, parse
from tests.unit.report.pages import chart_rows, charts_of, page_of
from tests.unit.results import hostile_samples, samples

MAX_PAGE_BYTES = 5_000_000


@pytest.fixture(name="main_page")
def _main_page() -> Element:
    return report_pages.main_page()


@pytest.fixture(name="hostile_page")
def _hostile_page() -> Element:
    return report_pages.hostile_page()


class TestText:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, "not finite"),
            (float("nan"), "not finite"),
            (float("-inf"), "not finite"),
            (0.0, "0"),
            (1.2345, "1.23"),
            (0.0123, "0.0123"),
            (123456.7, "123,457"),
            (3.14159e-16, "3.14e-16"),
            (-2.5e9, "-2.50e+09"),
        ],
    )
    def test_a_number_has_three_digits_and_none_is_said(self, value: float | None, expected: str) -> None:
        assert significant(value) == expected

    @pytest.mark.parametrize(
        ("figures", "expected"),
        [
            ((1.351, 1.302, 1.409), ("1.35", "[1.30, 1.41]")),
            ((13.5, 13.0, 14.1), ("13.5", "[13.0, 14.1]")),
            ((1.23456, 1.2341, 1.2351), ("1.2346", "[1.2341, 1.2351]")),
            ((2.0, 2.0, 2.0), ("2.00", "[2.00, 2.00]")),
            # Above 1, which a verdict hangs on; but not for what five decimals would show.
            ((1.06, 1.0047, 1.1153), ("1.060", "[1.005, 1.115]")),
            ((1.01, 0.99996, 1.02), ("1.01", "[1.00, 1.02]")),
            ((1.0, float("nan"), 2.0), ("1.00", "[not finite, 2.00]")),
        ],
    )
    def test_a_figure_and_its_interval_share_their_decimals(
        self, figures: tuple[float, float, float], expected: tuple[str, str]
    ) -> None:
        assert with_interval(*figures) == expected

    @pytest.mark.parametrize(("shortest_s", "unit"), [(2.0, "s"), (0.9, "ms"), (1e-3, "ms"), (9e-4, "µs"), (0.0, "ns")])
    def test_the_unit_makes_the_shortest_at_least_one(self, shortest_s: float, unit: str) -> None:
        assert time_unit(shortest_s)[1] == unit

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [
            (0.0412, "41.2 ms"),
            (3.5, "3.50 s"),
            (59.7, "1 min 00 s"),
            (252.4, "4 min 12 s"),
            (3725, "1 h 02 min"),
            (0, "0 s"),
        ],
    )
    def test_a_duration_is_for_people(self, seconds: float, expected: str) -> None:
        assert duration(seconds) == expected

    def test_characters_that_hide_or_reorder_are_written_out(self) -> None:
        assert printable("a\u202eb\u200bc\x1b[0m\ud800\r\nd\te") == "a\\u202eb\\u200bc\\x1b[0m\\ud800\nd\te"

    def test_a_long_text_is_clipped_and_says_so(self) -> None:
        assert clip("x" * 10_000, 5) == "xxxxx… (10,000 characters in all)"

    def test_a_time_loses_its_fraction_and_another_text_stays(self) -> None:
        assert moment("2025-03-04T10:20:30.123456+00:00") == "2025-03-04 10:20:30+00:00"
        assert moment("yesterday") == "yesterday"

    def test_json_values_are_readable(self) -> None:
        assert value_text(8 * 2**30, "memory_bytes") == "8.0 GiB"
        assert [value_text(value) for value in (True, None, [1, 0.5], "x")] == ["yes", "none", "1, 0.5", "x"]


class TestIdentities:
    def test_names_that_look_alike_when_clipped_stay_apart(self) -> None:
        names = ["x" * 50 + "1", "x" * 50 + "2", "a\nb", "a b", ""]
        result = samples.empty(contenders=[samples.missing(name) for name in names])
        labels = [identity.label for identity in identify([result]).values()]
        assert len(set(labels)) == len(names)
        assert max(len(label) for label in labels) < 40

    def test_a_contender_looks_the_same_in_every_chart_and_legend(self, main_page: Element) -> None:
        colours: dict[str, set[str]] = {}
        for spec in charts_of(main_page).values():
            for layer in spec.get("layer", []):
                scale = layer["encoding"].get("color", {}).get("scale")
                if isinstance(scale, dict):
                    for label, colour in zip(scale["domain"], scale["range"], strict=True):
                        colours.setdefault(label, set()).add(colour)
        for who in main_page.all("span", "who"):
            colours[who.text].add(who.all("svg")[0].attributes["style"].removeprefix("color:"))
        assert set(colours) == set(samples.CONTENDERS)
        assert all(len(found) == 1 for found in colours.values())
        assert len(set.union(*colours.values())) == len(samples.CONTENDERS)


class TestPage:
    @pytest.mark.parametrize(
        "result",
        [samples.empty(), samples.empty(contenders=[samples.missing(name) for name in samples.CONTENDERS])],
        ids=["empty", "all-missing"],
    )
    def test_a_result_without_figures_still_says_something_true(self, result: Result) -> None:
        page = page_of(result)
        assert page.all("p", "headline")[0].text == "– Agreement with the reference was not checked in this run."
        assert "No speed was measured in this run." in page.by_id("r1-answer").text
        for part in ("agreement", "speed", "cold", "training", "norms", "ledger"):
            assert page.by_id(f"r1-{part}").all("p")[0].text.startswith("No ")
        assert len(page.all("table")) == (1 if result.contenders else 0)
        assert "agree with" not in page.text

    def test_no_result_at_all_is_said(self) -> None:
        assert parse(render([])).all("p", "headline")[0].text == "– No result was given, so there is nothing to show."

    def test_several_results_follow_one_another_under_their_names(self) -> None:
        single = samples.main_job(("jax:jit",), samples.MODELS[:1])
        page = parse(render([("before", single), ("after", samples.empty())]))
        assert [heading.text for heading in page.all("h2")] == ["before", "after"]
        links = page.all("header")[0].all("a")
        assert [(a.attributes["href"], a.text) for a in links] == [("#r1", "before"), ("#r2", "after")]

    @pytest.mark.parametrize("page_name", ["main_page", "troubled_page", "hostile_page"])
    def test_ids_are_unique_and_links_lead_somewhere(self, page_name: str) -> None:
        page: Element = getattr(report_pages, page_name)()
        ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
        assert len(ids) == len(set(ids))
        targets = {a.attributes["href"].removeprefix("#") for a in page.all("a")}
        assert targets <= set(ids)
        assert set(charts_of(page)) == {chart.attributes["id"] for chart in page.all("div", "chart")}

    def test_every_chart_has_a_label_and_a_table_beside_it(self, main_page: Element) -> None:
        assert len(main_page.all("div", "chart")) == 8 + 8 + 8 + 8 + 4 + 4 + 8 + 2
        for article in main_page.all("article"):
            assert article.all("table")
            assert all(chart.attributes["aria-label"] for chart in article.all("div", "chart"))

    def test_headings_descend_by_one_level(self, main_page: Element) -> None:
        levels = [int(e.tag[1]) for e in main_page.walk() if re.fullmatch(r"h[1-6]", e.tag)]
        assert levels[0] == 1
        assert all(below - above <= 1 for above, below in itertools.pairwise(levels))

    def test_tables_that_scroll_can_be_reached_by_the_keyboard(self, main_page: Element) -> None:
        boxes = main_page.all("div", "scroll")
        assert sum(len(box.all("table")) for box in boxes) == len(main_page.all("table"))
        assert all(box.attributes["tabindex"] == "0" and box.attributes["aria-label"] for box in boxes)

    def test_nothing_on_the_page_refers_to_another_place(self, main_page: Element) -> None:
        for element in main_page.walk():
            for name, value in element.attributes.items():
                if name in ("src", "href", "srcset", "action", "data", "poster"):
                    assert value.startswith(("#", "data:")), (element.tag, name, value)
        (icon,) = [link for link in main_page.all("link") if link.attributes["rel"] == "icon"]
        assert icon.attributes["href"].startswith("data:"), "a browser asks for /favicon.ico unless the page brings one"
        css = main_page.all("style")[0].raw_text
        assert "url(" not in css
        assert "@import" not in css

    def test_the_page_of_the_main_job_stays_small(self) -> None:
        # 35 layers: about as many quantities for every model as ResNet-20 has.
        page = render([("main job", samples.main_job(layers=35))])
        assert len(page.encode()) < MAX_PAGE_BYTES

    def test_numbers_that_are_not_finite_leave_the_embedded_data_readable(self) -> None:
        result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:1])
        speed = result.cases[0].speed
        assert speed is not None
        speed.time_s, speed.interval_s = float("nan"), (float("nan"), float("inf"))
        result.cold_starts[0].first_call_s = float("inf")
        result.training_runs[0].losses[3] = float("nan")
        result.training_runs[1].noise[0] = float("inf")
        page = page_of(result)
        # json.loads would take NaN, which a browser does not.
        assert not re.search(r"\b(NaN|Infinity)\b", page.by_id("charts").raw_text)
        assert "pytorch:eager not compared: ✓ no time" in " ".join(page.by_id("r1-speed-0").all("table")[0].rows()[-1])
        assert "loss not finite at 1 step, first at step 3" in page.by_id("r1-training").text


class TestHostileText:
    def test_it_adds_no_element_and_no_handler(self, hostile_page: Element, main_page: Element) -> None:
        assert {e.tag for e in hostile_page.walk()} <= {e.tag for e in main_page.walk()} | {"pre"}
        assert len(hostile_page.all("script")) == len(main_page.all("script")) == 7
        for element in hostile_page.walk():
            assert not [name for name in element.attributes if name.startswith("on")]
            assert not element.attributes.get("href", "#").startswith("javascript:")

    def test_it_is_shown_as_text(self, hostile_page: Element) -> None:
        script, image, bidi, _ = hostile_samples.HOSTILE
        assert hostile_page.all("h2")[0].text == script
        assert hostile_page.all("p", "command")[0].text == image
        facts = dict(
            zip([t.text for t in hostile_page.all("dt")], [d.text for d in hostile_page.all("dd")], strict=True)
        )
        assert facts["processor"] == bidi.replace("\u202e", "\\u202e").replace("\u202c", "\\u202c")
        assert facts[script] == image
        logs = [log.all("pre")[0].text for log in hostile_page.all("table", "cases")[0].all("details", "log")]
        assert logs == [image, "\\x1b[31m\\ud800" + image]
        assert hostile_page.all("table", "matrix")[0].rows()[2][0] == script

    def test_it_cannot_end_the_data_of_the_charts(self, hostile_page: Element) -> None:
        raw = hostile_page.by_id("charts").raw_text
        assert not re.search(r"[<>&\u2028\u2029]", raw)
        labels = {
            row["contender"]
            for name, spec in charts_of(hostile_page).items()
            if "-s" in name
            for row in chart_rows(spec)
        }
        assert hostile_samples.HOSTILE[0] in labels

    def test_no_direction_override_is_left(self) -> None:
        page = render([("x\u202ey", hostile_samples.hostile())])
        body = page.split("<script", 1)[0]
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", body)
        assert "x\\u202ey" in body

    def test_a_name_of_ten_thousand_characters_stays_short_and_readable(self, hostile_page: Element) -> None:
        assert max(len(who.text) for who in hostile_page.all("span", "who")) < 40

    def test_the_page_can_be_written_as_utf8(self, tmp_path: Path) -> None:
        write_page([("\ud800", hostile_samples.hostile())], tmp_path / "page.html")
        assert parse((tmp_path / "page.html").read_text(encoding="utf-8")).all("h2")[0].text == "\\ud800"


class TestWriting:
    def test_the_folder_is_made_and_the_page_is_readable_by_others(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "page.html"
        write_page([("x", samples.empty())], path)
        other = tmp_path / "other.txt"
        other.write_text("x")
        assert path.stat().st_mode == other.stat().st_mode
        assert parse(path.read_text(encoding="utf-8")).all("h2")[0].text == "x"

    def test_a_full_disk_leaves_the_old_page_and_no_other_file(self, tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.write_text("old")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(InputError, match="File too large"):
                write_page([("x", samples.empty())], path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_path_that_cannot_be_replaced_leaves_no_other_file(self, tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.mkdir()
        with pytest.raises(InputError, match="Is a directory"):
            write_page([("x", samples.empty())], path)
        assert list(tmp_path.iterdir()) == [path]
