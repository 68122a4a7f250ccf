"""The page in a real browser: what a reader does with it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def address(reported: Path) -> str:
    """Of a page about a study."""
    return (reported / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page at a desk; fails if it complains or asks for anything but itself."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert [c for c in complaints if c != address and not c.startswith("data:")] == []


def test_nothing_of_a_run_is_executed(page: Any) -> None:
    assert page.title() == "Study study - pex-lightning report"
    page.get_by_text("Which, and why").click()
    assert page.get_by_text("<script>document.title").first.is_visible()


def test_a_click_on_a_name_hides_its_curve_and_another_shows_it(page: Any) -> None:
    figure = page.locator("figure").first
    name = figure.get_by_role("button", name="second")
    curve = figure.locator('g[data-series="1"]').first
    assert curve.is_visible()
    name.click()
    assert not curve.is_visible()
    assert name.get_attribute("aria-pressed") == "false"
    assert figure.locator('g[data-series="0"]').first.is_visible()
    name.press("Enter")
    assert curve.is_visible()


@pytest.mark.parametrize("key", ["", "Enter"])
def test_a_heading_sorts_by_numbers_by_mouse_and_by_key(page: Any, key: str) -> None:
    table = page.locator("table").first
    heading = table.get_by_role("button", name="final")

    def sort() -> list[str]:
        heading.press(key) if key else heading.click()
        return table.locator("tbody th").all_inner_texts()

    assert sort() == ["second", "first"]
    assert sort() == ["first", "second"]
    assert heading.locator("..").get_attribute("aria-sort") == "descending"


def test_hovering_tells_the_value_of_the_nearest_point_that_is_shown(page: Any) -> None:
    figure = page.locator("figure").first
    marks = figure.locator('g[data-series="0"] use')
    marks.last.scroll_into_view_if_needed()
    box = marks.last.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2)
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert tip.inner_text().startswith("first: 91")
    assert "400 environment steps" in tip.inner_text()
    figure.get_by_role("button", name="first").click()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert not tip.is_visible() or "first" not in tip.inner_text()
    page.mouse.move(0, 0)
    assert not tip.is_visible()


def test_a_phone_scrolls_only_downwards(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg') && "
        "e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.outerHTML)"
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_paper_has_everything_unfolded_and_nothing_to_click(page: Any) -> None:
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("nav").is_visible()
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("figure svg").first.is_visible()
    assert len(page.pdf()) > 10_000


def test_a_dark_screen_has_a_dark_page_and_paper_a_white_one(page: Any) -> None:
    def lightness(selector: str, what: str) -> int:
        colour = page.locator(selector).first.evaluate(f"e => getComputedStyle(e).{what}")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    for media, scheme, dark in (
        ("screen", "light", False),
        ("screen", "dark", True),
        ("print", "dark", False),
    ):
        page.emulate_media(media=media, color_scheme=scheme)
        assert (lightness("body", "backgroundColor") < lightness("body", "color")) == dark
        figure = page.locator(".picture svg").first
        assert ("invert" in figure.evaluate("e => getComputedStyle(e).filter")) == dark


def test_without_a_script_everything_is_there_to_read(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("figure .picture svg").first.is_visible()
    assert page.get_by_role("button", name="second").first.is_visible()
    assert page.locator("table").first.is_visible()
    context.close()


def test_links_to_figures_lead_to_files(page: Any, address: str) -> None:
    links = page.locator(".files a").evaluate_all("all => all.map(a => a.href)")
    assert links
    for link in links:
        assert link.startswith(address.removesuffix("report.html"))
        assert Path(link.removeprefix("file://")).is_file()
