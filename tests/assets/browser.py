"""A headless Chromium before the Dagster UI."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

WAIT = 60_000  # ms


@dataclass(frozen=True)
class Page:
    """A page of the UI; every expectation waits until it is met."""

    page: Any
    base: str

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)

    def sees(self, *texts: str) -> None:
        for text in texts:
            self.page.get_by_text(text).locator("visible=true").first.wait_for(timeout=WAIT)

    def title(self) -> str:
        return self.page.title()

    def shows_picture(self) -> bool:
        """Opens the first Markdown entry and looks for a picture that was really decoded."""
        self.page.get_by_text("Show Markdown").first.click(timeout=WAIT)
        picture = self.page.locator("img[src^='data:image/png']").first
        picture.wait_for(state="visible", timeout=WAIT)
        return bool(picture.evaluate("image => image.naturalWidth > 300"))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)


def chromium_path() -> str | None:
    """The system's Chromium; None for Playwright's own."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browser_page(base: str, width: int = 1400, height: int = 900) -> Iterator[Page]:
    """Skips the test where there is no Chromium."""
    from playwright.sync_api import Error, sync_playwright

    found = chromium_path()
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        try:
            browser = playwright.chromium.launch(executable_path=found, args=options)
        except Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield Page(browser.new_page(viewport={"width": width, "height": height}), base)
        browser.close()
