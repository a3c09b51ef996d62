"""Takes the pictures of docs/review.md from the store of `make review`: python -m tests.review.pictures FOLDER"""

import sys
from pathlib import Path

from gradsentry_lib.store.paths import Store
from tests.assets.browser import browser_page
from tests.review.serving import served

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main(home: Path) -> None:
    with served(Store(home), "ana") as desk, browser_page(desk.origins[0], 1300, 820) as shown:
        page = shown.page
        page.goto(desk.link)
        shown.save(IMAGES / "review-index.png")
        page.get_by_role("link", name="waiting-").click()
        page.locator(".item b").first.wait_for()
        page.locator("main").evaluate("main => main.scrollIntoView()")
        shown.save(IMAGES / "review-groups.png")
        page.locator("#bench").evaluate("bench => bench.scrollIntoView()")
        page.locator("#reason").fill("advertises a shop")
        page.locator("#list").focus()
        for key in "jj":
            page.keyboard.press(key)
        shown.save(IMAGES / "review-rows.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
