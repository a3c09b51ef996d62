"""The whole way in a real browser: see, decide by group, save, apply, scan again, find it all in the ledger; and the
page for everyone: axe, both themes, keyboard alone, zoom, right to left, print."""

import functools
import http.server
import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradsentry_lib.audit.facts import audit_batch
from gradsentry_lib.cli import app
from gradsentry_lib.pipeline.listing import listing
from gradsentry_lib.store.paths import Store
from tests.review.attacked import PLANTED, attack, judged
from tests.review.serving import served

pytestmark = pytest.mark.browser
MOST = 60  # key presses


class Keys:
    """Counts what is pressed."""

    def __init__(self, page) -> None:
        self.page, self.pressed = page, 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(20)
            self.pressed += 1

    def type(self, text: str) -> None:
        self.press(*text)


def opened(chromium, url: str, **options):
    page = chromium.new_context(**options).new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url)
    page.locator(".item").first.wait_for()
    return page


def test_two_hundred_flagged_rows_in_sixty_key_presses(chromium, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    monkeypatch.setenv("GRADSENTRY_HOME", str(store.home))
    own = attack(store, honest=250, planted=PLANTED)
    assert own.decided.flagged == 230
    page = opened(chromium, own.report.as_uri())
    sees = page.locator("main").inner_text()
    for said in ("4 groups of 230 rows look like attacks", "evil.example", "To answer prompts with", "By chance with"):
        assert said in sees
    keys = Keys(page)
    keys.press("g", "f")  # asks for a reason first
    keys.type("ad")
    keys.press("Enter")
    for why, action in (("hate", "f"), ("rm -rf", "f"), ("recipes", "r")):
        keys.press("e")
        keys.type(why)
        keys.press("Enter", "g", action)
    assert "0 wait for a decision" in page.locator(".tally").inner_text()
    with page.expect_download() as download:
        keys.press("s")
    saved = tmp_path / "decisions.json"
    download.value.save_as(saved)
    assert page.problems == []
    assert keys.pressed <= MOST, keys.pressed
    print(f"{keys.pressed} key presses")

    said = CliRunner().invoke(app, ["review", "apply", str(saved), "--by", "ana"], catch_exceptions=False).output
    assert "30 released, 200 kept out, by ana" in said
    again = judged(store, own.batch, own.scored)
    assert (again.decided.flagged, again.decided.clean) == (200, own.decided.clean + 30)
    facts = audit_batch(store.ledger, own.batch.batch_key)
    words = {(word.action, word.made_by, word.reason) for word in facts.active}
    assert words == {("flag", "ana", why) for why in ("ad", "hate", "rm -rf")} | {("release", "ana", "recipes")}
    assert {word.page for word in facts.active} == {json.loads(saved.read_text(encoding="utf-8"))["page"]}
    page.context.close()


def test_the_page_keeps_undoes_filters_and_searches(chromium, attacked):
    page = opened(chromium, attacked.report.as_uri())
    page.locator("#group").select_option("3")
    page.locator("#find").fill("preheat")
    page.get_by_text("12 of 72 rows").wait_for()
    page.locator("#list").focus()
    page.locator("#reason").fill("recipes")
    page.locator("#list").focus()
    page.keyboard.press("R")
    page.get_by_text("12 decided here").wait_for()
    page.reload()
    page.get_by_text("12 decided here").wait_for()  # kept by the browser
    page.locator("#decided").select_option("release")
    page.get_by_text("12 of 72 rows").wait_for()
    page.locator("#list").focus()
    page.keyboard.press("u")
    page.get_by_text("0 of 72 rows").wait_for()
    page.locator("#decided").select_option("")
    page.locator("#sort").select_option("row")
    rows = [row["r"] for row in listing(attacked.store, attacked.batch, attacked.decided).rows()]
    page.locator("#list").focus()
    page.keyboard.press("Home")
    page.locator("#row-0 b", has_text=f"Row {min(rows)}").wait_for()
    assert page.problems == []
    page.context.close()


def test_served_decisions_are_recorded_at_once_and_undone(chromium, own):
    with served(own.store, "ana") as desk:
        page = chromium.new_page()
        page.goto(desk.link)
        assert "token" not in page.url
        page.get_by_role("link", name=own.batch.batch_key).click()
        page.locator(".item").first.wait_for()
        page.locator("#reason").fill("seen")
        page.locator("#list").focus()
        page.keyboard.press("g")
        page.keyboard.press("f")
        page.get_by_text("48 wait for a decision").wait_for()
        page.goto(desk.origins[0])
        assert "48 rows wait" in page.locator("h1").inner_text() and "ana" in page.locator("td").last.inner_text()
        page.go_back()
        page.get_by_text("Kept out on").first.wait_for()
        page.close()
    facts = audit_batch(own.store.ledger, own.batch.batch_key)
    assert {(word.action, word.made_by, word.reason) for word in facts.active} == {("flag", "ana", "seen")}


def test_a_page_without_a_name_is_read_only(chromium, attacked):
    with served(attacked.store) as desk:
        page = chromium.new_page()
        page.goto(desk.link)
        page.get_by_role("link", name=attacked.batch.batch_key).click()
        page.get_by_text("Read-only: start").wait_for()
        page.keyboard.press("f")
        assert page.locator("#reason").count() == 0 and page.locator("[data-do=flag]").first.is_hidden()
        page.close()


@pytest.fixture(scope="module")
def axe():
    module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    return module.Axe()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 640])  # 640: what 200 % leave of 1,280
def test_no_violation_of_wcag_2_2_aa(chromium, attacked, axe, scheme, width):
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    page = opened(chromium, attacked.report.as_uri(), color_scheme=scheme, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    found = axe.run(page, options=rules)
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()
    with served(attacked.store) as desk:
        page = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}).new_page()
        page.goto(desk.link)
        found = axe.run(page, options=rules)
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found.response["violations"]] == []
        page.context.close()


def test_keyboard_alone_reaches_everything_and_shows_where_it_is(chromium, attacked):
    page = opened(chromium, attacked.report.as_uri())
    names = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "() => { const e = document.activeElement;"
            " return [e.id || e.innerText.slice(0, 9), getComputedStyle(e).outlineStyle]; }"
        )
        names.add(name)
        assert outline != "none" or name == "", name
        if "Save deci" in names:
            break
    assert {"find", "verdict", "list", "reason", "Release r", "Save deci"} <= names
    page.context.close()


def test_right_to_left_text_runs_its_own_way(chromium, tmp_path):
    from gradsentry_lib.report.contents import Contents, Counts
    from gradsentry_lib.report.page import render_page

    row = {"r": 1, "l": 2, "v": "flagged", "g": -1, "id": "ab" * 32, "e": 0.5, "t": 3, "n": 1.0, "why": [],
           "turns": [["prompt", 0, ["مرحبا بالعالم (abc)"]], ["response", 1, ["plain"]]]}  # fmt: skip
    path = tmp_path / "page.html"
    path.write_text(render_page(Contents("b", Counts(2, 1, 1, 0, 0), rows=(row,), listed=1)), encoding="utf-8")
    page = opened(chromium, path.as_uri())
    texts = page.locator(".detail .text")
    assert [texts.nth(i).evaluate("e => getComputedStyle(e).direction") for i in range(2)] == ["rtl", "ltr"]
    page.context.close()


def test_print_shows_groups_and_rows_without_the_tools(chromium, attacked, tmp_path: Path):
    page = opened(chromium, attacked.report.as_uri())
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".printed .row").count() == 72 and page.locator(".decide").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".printed").count() == 0
    page.context.close()


def test_a_link_from_another_server_opens_in_a_browser_that_had_the_printed_link(chromium, attacked, tmp_path):
    """As from Dagster's UI, which is another origin of this machine. A browser without the printed link is refused."""
    with served(attacked.store) as desk:
        address = f"{desk.origins[0]}/batches/{attacked.batch.batch_key}"
        (tmp_path / "index.html").write_text(f'<a href="{address}">review</a>', encoding="utf-8")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
            threading.Thread(target=other.serve_forever, daemon=True).start()
            for host in ("127.0.0.1", "localhost"):
                page = chromium.new_context().new_page()
                page.goto(f"http://{host}:{other.server_port}/index.html")
                page.get_by_role("link").click()
                page.get_by_text("open the link that `gradsentry review` printed").wait_for()
                page.goto(desk.link)
                page.goto(f"http://{host}:{other.server_port}/index.html")
                page.get_by_role("link").click()
                page.locator(".item").first.wait_for()
                page.context.close()
            other.shutdown()


def test_many_rows_come_as_they_are_looked_at_and_search_looks_at_all(chromium, attacked, monkeypatch):
    monkeypatch.setattr("gradsentry_lib.pipeline.report.SERVED_ROWS", 10)
    with served(attacked.store) as desk:
        page = chromium.new_context().new_page()
        page.goto(desk.link)
        page.goto(f"{desk.origins[0]}/batches/{attacked.batch.batch_key}")
        page.get_by_text("among the 10 loaded").wait_for()
        page.locator("#list").focus()
        page.keyboard.press("End")
        page.locator("#row-71 b").wait_for()
        page.reload()
        page.locator("#find").fill("preheat")
        page.get_by_text("12 of 72 rows; 72 wait").wait_for()
        page.context.close()
