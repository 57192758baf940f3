"""A real browser that looks at pages as a user does, and tells what went wrong behind them."""

import os
import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Route

SCREENSHOTS = Path(__file__).resolve().parents[1] / "screenshots"
"""Where pictures of pages are left for people to look at; git ignores it."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_HERE = {"127.0.0.1", "localhost", "::1"}


@dataclass(kw_only=True)
class Visit:
    """One open page, and what it did that it should not."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    """Of this page and of those that it opened: what the console called an error, and exceptions that nobody caught."""
    outside: list[str] = field(default_factory=list)
    """Addresses beyond this machine that the page asked for; none was let through."""

    def picture(self, name: str, **how: Any) -> Path:
        """Keep a screenshot."""
        SCREENSHOTS.mkdir(exist_ok=True)
        file = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=file, **how)
        return file


def _told(line: "ConsoleMessage") -> str:
    """What the console says, and of which address."""
    return f"{line.text} {line.location['url']}"


@contextmanager
def started_browser() -> Iterator["Browser"]:
    """Debian's chromium, without a window; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no browser: install chromium (Debian: apt-get install chromium) or set CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@contextmanager
def visited(browser: "Browser", url: str, *, dark: bool = False, width: int = 1280) -> Iterator[Visit]:
    """Open an address of this machine; fail at the end if the page broke, or reached for anything beyond it.

    A test that expects an error takes it out of ``errors`` itself.
    """
    context = browser.new_context(
        color_scheme="dark" if dark else "light", viewport={"width": width, "height": 900}
    )
    visit = Visit(page=context.new_page())

    def decide(route: "Route") -> None:
        address = urllib.parse.urlsplit(route.request.url)
        if address.scheme in ("data", "blob", "file", "about") or address.hostname in _HERE:
            route.continue_()
        else:
            visit.outside.append(route.request.url)
            route.abort()

    context.route("**/*", decide)
    context.on("weberror", lambda error: visit.errors.append(str(error.error)))
    context.on("console", lambda line: visit.errors.append(_told(line)) if line.type == "error" else None)
    try:
        visit.page.goto(url)
        yield visit
    finally:
        context.close()
    assert visit.outside == []
    assert visit.errors == []
