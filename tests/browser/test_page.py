"""The page in a real browser: it draws its charts, asks for nothing, and fits the screen in every colour scheme."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceoff import load
from faceoff.report import write_page
from tests.browser.conftest import RESULTS, SCHEMES, SIZES, Opened, draw_every_chart
from tests.unit.report.test_many import many
from tests.unit.results import samples

ROOT = Path(__file__).resolve().parents[2]

NUM_CHARTS = {"main": 50, "troubled": 49, "several": 62, "history": 38, "defaults": 1, "devices": 10, "empty": 0}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [name for name in RESULTS if name != "compact"])
def test_the_page_complains_of_nothing_asks_for_nothing_fits_and_draws_every_chart(
    open_page: Callable[..., Opened], name: str, size: str
) -> None:
    opened = open_page(name, size)
    assert [url for url in opened.requests if not url.startswith("data:")] == [opened.page.url]
    assert_it_fits(opened.page, size)
    if name in NUM_CHARTS:
        draw_every_chart(opened.page)
        assert_every_chart_is_inside_its_box(opened.page, NUM_CHARTS[name])
        assert_it_fits(opened.page, size)
    assert opened.complaints == []


def assert_it_fits(page: Any, size: str) -> None:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert widths(page) == [SIZES[size][0]] * 2, scheme


def widths(page: Any) -> list[int]:
    """Of all that is on the page, and of the window."""
    found: list[int] = page.evaluate(
        "[Math.max(document.documentElement.scrollWidth, document.body.scrollWidth), window.innerWidth]"
    )
    return found


def assert_every_chart_is_inside_its_box(page: Any, count: int) -> None:
    charts = page.evaluate(
        """[...document.querySelectorAll('.chart')].map(chart => {
            const drawn = chart.querySelectorAll('svg');
            const marks = chart.querySelectorAll('.mark-symbol path, .mark-rect path, .mark-line path');
            const box = chart.getBoundingClientRect(), svg = drawn[0].getBoundingClientRect();
            const numbers = [...chart.querySelectorAll('.role-axis-label text')];
            const end = Math.max(...numbers.map(number => number.getBoundingClientRect().right));
            return [drawn.length, marks.length, svg.width, svg.height, box.right - svg.right, svg.right - end];
        })"""
    )
    assert len(charts) == count
    for drawn, marks, width, height, room, room_of_numbers in charts:
        assert drawn == 1
        assert marks > 0
        assert width > 200
        assert height > 50
        assert room >= -0.5
        assert room_of_numbers >= -0.5


def test_a_chart_is_drawn_when_it_comes_near_the_window_and_before_printing(open_page: Callable[..., Opened]) -> None:
    opened = open_page("main")
    page = opened.page
    for chart in ("#r1-s0", "#r1-s7"):
        assert page.locator("#r1-s7 svg").count() == 0
        show(page, chart)
    assert page.locator(".chart svg").count() < NUM_CHARTS["main"]
    visible = page.evaluate("[...document.querySelectorAll('.chart')].filter(c => c.checkVisibility()).length")
    page.pdf()
    page.wait_for_function(f"document.querySelectorAll('.chart svg').length === {visible}")
    assert opened.complaints == []


def show(page: Any, chart: str) -> None:
    """Scrolls to a chart, so that it is drawn."""
    page.locator(chart).scroll_into_view_if_needed()
    page.locator(f"{chart} svg").wait_for(state="visible")


@pytest.mark.parametrize("medium", ["screen", "print"])
def test_marks_stand_out_from_the_page_in_both_schemes_and_on_paper(
    open_page: Callable[..., Opened], medium: str
) -> None:
    page = open_page("main", scheme="dark").page
    show(page, "#r1-s0")
    backgrounds = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme, media=medium)
        fills, text, background = page.evaluate(
            """[[...document.querySelectorAll('#r1-s0 .mark-symbol path')].map(mark => getComputedStyle(mark).fill),
                getComputedStyle(document.querySelector('#r1-s0 .role-axis-label text')).fill,
                getComputedStyle(document.querySelector('#r1-s0 svg')).backgroundColor]"""
        )
        assert len(fills) == len(set(fills)) == len(samples.CONTENDERS)
        assert min(contrast(fill, background) for fill in fills) >= 3
        assert contrast(text, background) >= 4.5
        backgrounds.append(luminance(background))
    if medium == "print":
        assert backgrounds == [1.0, 1.0]
    else:
        assert backgrounds[0] == 1.0
        assert backgrounds[1] < 0.05


def luminance(colour: str) -> float:
    """Relative luminance of an opaque `rgb(...)` colour, from 0 to 1 (WCAG 2.2)."""
    channels = [int(value) / 255 for value in re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour).groups()]  # type: ignore[union-attr]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, from 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read_on_its_background(open_page: Callable[..., Opened], scheme: str) -> None:
    pairs = open_page("troubled", scheme=scheme).page.evaluate(
        """[...document.querySelectorAll('h2, h3, p, a, li, th, td, .badge, summary, dt, figcaption')]
            .filter(element => element.checkVisibility())
            .map(element => {
                let behind = element;
                while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
                return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor, element.textContent];
            })"""
    )
    assert len(pairs) > 100
    for text, background, content in pairs:
        assert contrast(text, background) >= 4.5, (text, background, content[:60])


def test_a_chart_follows_the_width_of_the_window(open_page: Callable[..., Opened]) -> None:
    page = open_page("main").page
    show(page, "#r1-s0")
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("document.querySelector('#r1-s0 svg').getBoundingClientRect().width < 380")
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_a_link_of_the_matrix_opens_the_details(open_page: Callable[..., Opened]) -> None:
    page = open_page("main").page
    link = page.locator(".matrix tbody a").first
    target = page.locator(link.get_attribute("href"))
    assert not target.is_visible()
    link.click()
    target.wait_for(state="visible")
    assert target.locator("tbody tr").count() == 15


def test_a_link_of_the_trainings_opens_one_and_draws_its_charts(open_page: Callable[..., Opened]) -> None:
    opened = open_page("training")
    page = opened.page
    assert page.locator("#r1-training .chart svg").count() == 0
    page.locator("#r1-training tbody a").nth(3).click()
    page.locator("#r1-n3 svg").wait_for(state="visible")
    page.locator("#r1-l3 svg").wait_for(state="visible")
    assert page.locator("#r1-training .chart svg").count() == 2
    assert page.evaluate("document.querySelector('#r1-n3 svg').getBoundingClientRect().width > 200")
    assert opened.complaints == []


def test_every_link_box_and_button_is_reached_by_the_keyboard(open_page: Callable[..., Opened]) -> None:
    page = open_page("several").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    wanted = page.evaluate(
        """[...document.querySelectorAll('a, button, summary, .scroll, pre')].filter(e => e.checkVisibility()).length"""
    )
    reached = page.evaluate(
        """[...document.querySelectorAll('a, button, summary, .scroll, pre')]
            .filter(e => e.checkVisibility()).filter(e => { e.focus(); return document.activeElement === e; }).length"""
    )
    assert reached == wanted > 50


def test_a_saved_drawing_stands_alone(open_page: Callable[..., Opened], tmp_path: Path) -> None:
    opened = open_page("main")
    show(opened.page, "#r1-s0")
    with opened.page.expect_download() as download:
        opened.page.locator("#r1-s0").locator("xpath=..").get_by_role("button", name="Save as SVG").click()
    download.value.save_as(tmp_path / "chart.svg")
    drawing = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert download.value.suggested_filename == "faceoff-r1-s0.svg"
    assert drawing.startswith("<svg")
    assert "pytorch:eager" in drawing
    assert "var(--" not in drawing
    assert all(url.startswith(("file:", "blob:", "data:")) for url in opened.requests)


def test_without_scripts_the_figures_are_still_there(open_page: Callable[..., Opened]) -> None:
    page = open_page("main", java_script_enabled=False).page
    assert page.locator("noscript").is_visible()
    assert page.locator("#r1-speed-7 .pair tbody tr").count() == len(samples.CONTENDERS)
    assert page.locator(".chart svg").count() == 0


def test_the_embedded_result_is_given_back_as_it_was(open_page: Callable[..., Opened], tmp_path: Path) -> None:
    opened = open_page("main")
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="Download this result").click()
    download.value.save_as(tmp_path / "result.json")
    assert load(tmp_path / "result.json") == samples.main_job()
    assert opened.complaints == []


def test_the_source_of_each_framework_stands_next_to_the_others(open_page: Callable[..., Opened]) -> None:
    page = open_page("main").page
    group = page.locator("#r1-source details").filter(has_text="LSTM").first
    group.locator("summary").click()
    titles = [title.split(" ")[0] for title in group.locator("h4").all_text_contents()]
    assert titles == ["pytorch", "tensorflow", "jax", "reference"]
    boxes = [box.bounding_box() for box in group.locator(".sources > div").all()]
    assert boxes[0]["y"] == boxes[1]["y"] == boxes[2]["y"]
    shown = group.locator("pre").first.text_content()
    assert shown.strip() == (ROOT / "impls" / "pytorch" / "lstm.py").read_text(encoding="utf-8").strip()


def test_ten_thousand_cases_are_shown_at_once(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page([("many", many(10_000 // len(samples.CONTENDERS) + 1, samples.CONTENDERS))], path)
    page = browser.new_page()
    page.goto(path.as_uri())
    page.get_by_role("status").get_by_text("best").wait_for()
    assert page.locator("#r1-speed .overview tbody tr").count() == 10_000 // len(samples.CONTENDERS) + 1
    page.close()


def test_the_reader_picks_what_ratios_are_taken_to(open_page: Callable[..., Opened]) -> None:
    page = open_page("main").page
    rows = page.locator("#r1-speed-0 tr[data-contender]")
    recorded = rows.all_inner_texts()
    assert "baseline" in recorded[0]
    picked = rows.nth(2).get_attribute("data-contender")
    page.locator("#r1-speed .against select").select_option(label=picked)
    changed = rows.all_inner_texts()
    assert [index for index, text in enumerate(changed) if "baseline" in text] == [2]
    ratio = float(rows.nth(0).locator(".ratio").inner_text().split()[0])
    times = [float(rows.nth(index).locator("td").first.inner_text()) for index in (0, 2)]
    assert ratio == pytest.approx(times[0] / times[1], rel=0.02)
    assert "faster" in changed[0]
    assert "--baseline" in page.locator("#r1-speed .against").inner_text()
    page.locator("#r1-speed .against select").select_option("")
    assert rows.all_inner_texts() == recorded
