"""axe-core finds nothing serious on the page, with everything on it unfolded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.conftest import SCHEMES, Opened, draw_every_chart

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: pip install '.[dev]'")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_serious_problem(open_page: Callable[..., Opened], scheme: str) -> None:
    # Everything that there is on a page, but little of each: axe takes minutes for thousands of table rows.
    page = open_page("compact", scheme=scheme).page
    draw_every_chart(page)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [
        f"{problem['id']}: {problem['help']} ({problem['nodes'][0]['html'][:200]})"
        for problem in found
        if problem["impact"] in ("serious", "critical")
    ]
    assert serious == []
