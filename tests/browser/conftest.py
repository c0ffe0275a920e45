"""A headless Chromium, and the sample pages opened in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from faceoff.report import write_page
from tests.unit.defaults.samples import atlas
from tests.unit.pool import device_samples
from tests.unit.results import hostile_samples, samples

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"phone": (360, 740), "desktop": (1600, 900)}
SCHEMES = ("light", "dark")
DAYS = (("2025-01-01", 1.0), ("2025-02-01", 1.5), ("2025-03-01", 1.4))
RESULTS: dict[str, Callable[[], list[tuple[str, Any]]]] = {
    "main": lambda: [("main job", samples.main_job())],
    "troubled": lambda: [("troubled", samples.troubled())],
    "hostile": lambda: [(hostile_samples.HOSTILE[0], hostile_samples.hostile())],
    "several": lambda: [("one", samples.main_job(("jax:jit",), samples.MODELS[:1])), ("two", samples.troubled())],
    "training": lambda: [("training", samples.long_training())],
    "compact": lambda: [("compact", samples.main_job(samples.CONTENDERS[:2], samples.MODELS[2:], layers=1))],
    "history": lambda: [(day, samples.dated(day, slower)) for day, slower in DAYS],
    "defaults": lambda: [("run", samples.empty()), ("defaults.json", atlas())],
    "devices": lambda: [
        ("cpu", device_samples.result("cpu", {1: 1e-4, 8: 8e-4, 64: 6e-3})),
        ("gpu", device_samples.with_card(device_samples.result("gpu", {1: 5e-4, 8: 5e-4, 64: None}))),
    ],
    "empty": lambda: [("empty", samples.empty())],
}


@dataclass
class Opened:
    """A page in the browser, with what it said and asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on the path: install the package chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the file of a sample page, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("pages")

    def file(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            write_page(RESULTS[name](), path)
        return path

    return file


@pytest.fixture
def open_page(browser: Any, files: Callable[[str], Path]) -> Iterator[Callable[..., Opened]]:
    """Opens a sample page at a size and in a colour scheme, and waits until the charts that can be seen are drawn."""
    contexts = []

    def open_it(name: str, size: str = "desktop", scheme: str = "light", **options: Any) -> Opened:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        opened.page.on("dialog", lambda dialog: opened.complaints.append(f"dialog: {dialog.message}"))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(files(name).as_uri())
        if options.get("java_script_enabled", True):
            opened.page.wait_for_function(
                "document.documentElement.dataset.charts === 'drawn' || !document.getElementById('charts')"
            )
        return opened

    yield open_it
    for context in contexts:
        context.close()


def draw_every_chart(page: Any) -> None:
    """Unfolds all that is on the page and has every chart drawn, as before printing."""
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function("[...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg'))")
