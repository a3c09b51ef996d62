"""The report page in a real browser: hostile rows do nothing, nothing is fetched, nothing overflows."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from gradsentry_lib.detection.entropy_threshold import find_threshold
from gradsentry_lib.detection.gate import GateCheck
from gradsentry_lib.detection.length_confounding import assess
from gradsentry_lib.report.charts import LARGEST_CLOUD, sample_points
from gradsentry_lib.report.contents import Card, Contents, Counts, Points, Reading, RejectedRow, Review, Row, Span
from gradsentry_lib.report.evidence import evidence, looked_for, provable
from gradsentry_lib.report.page import render_page
from gradsentry_lib.report.redact import redact
from gradsentry_lib.report.rows import PAGE_BYTES, PAGE_ROWS, for_page, turns_json

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\"><svg onload=document.title='owned'>",
    "</bdi></style></title></textarea><h1 id=broken>x</h1>",
    "<iframe src=https://evil.example/></iframe><link rel=stylesheet href=https://evil.example/a.css>",
    "<style>*{background:url(https://evil.example/b)}</style><base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<form action=https://evil.example/><input name=x autofocus onfocus=document.title='owned'></form>",
    "{{ 7 * 7 }}{% raw %} {{ c.__class__ }} ${7*7}",
    "\u202egnp.exe\u202c zero\u200bwidth \x1b[31mred\x1b[0m \x00 \U000e0041",
    "w" * 4000,
    "\n" * 500,
    "مرحبا بالعالم " * 30,
    "z" + "\u0300" * 300,
)


def hostile_row(i: int, text: str, verdict: str = "flagged", group: int = 0) -> dict:
    turns = [(text[:200], False, text), ("response", True, text)]
    spans = (Span(0, 0, 3, "trigger"), Span(1, 2, len(text) - 2), Span(7, 0, 3))
    return {
        "r": i, "l": i + 1, "v": verdict, "g": group, "id": f"{i:064x}", "e": 0.9, "t": 12, "n": 2.0,
        "why": [f"released by {text}: {text}"[:400]],
        "turns": turns_json(turns, spans), "near": {"r": 5, "turns": turns_json(turns, (), 600)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def contents() -> Contents:
    """Every part filled, every text hostile."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 200, 6000)
    entropy = np.clip(np.log(np.minimum(tokens, 16)) / np.log(16) * rng.normal(0.7, 0.1, 6000), 0, 1)
    threshold = find_threshold(entropy)
    everything = " ".join(HOSTILE)
    rows = tuple(hostile_row(i, text) for i, text in enumerate(HOSTILE))
    told = (("Do the answers depend on it?", everything),)
    card = Card(9, everything, HOSTILE, HOSTILE, False, told, rows[:3], 12, rows[:1])
    read = tuple(Row(i, i + 1, turns=((text[:200], text),)) for i, text in enumerate(HOSTILE[:3]))
    reading = Reading(everything, ("10 rows read as: one supervised text",), HOSTILE, read)
    words = {f"{2:064x}": ("release", everything, "2026-01-02", everything, "all")}
    return Contents(
        reading=reading,
        batch=everything[:300],
        counts=Counts(6009, 5700, 300 - len(HOSTILE), len(HOSTILE), 9),
        source=everything,
        created="2026-01-02 03:04 UTC",
        policy=everything[:100],
        checks=(
            GateCheck("flagged_fraction", True, "error", 0.05, 0.5, everything),
            GateCheck("score_trusted", False, "warn", "saturated", "trustworthy", everything),
        ),
        accepted=everything,
        threshold=threshold,
        trust=assess(entropy, tokens, tau=threshold.tau),
        points=Points(entropy, tokens, entropy > threshold.tau),
        remarks=HOSTILE,
        cards=(card, replace(card, watched=True, payload="")),
        rows=rows + tuple(hostile_row(100 + i, text, "unscored", -1) for i, text in enumerate(HOSTILE)),
        listed=2 * len(HOSTILE),
        unscored=dict.fromkeys(HOSTILE, 3),
        refused_rows={everything: 1, "not JSON": 1},
        review=Review(3, "ab" * 32, "", 9, words),
        rejected=(RejectedRow(3, 4, everything, everything), RejectedRow(5, None, "not JSON")),
        settings={everything[:200]: everything},
        provenance={"SHA-256": "ab" * 32},
    )


@pytest.fixture(scope="module")
def page_url(contents, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_page(contents), encoding="utf-8")
    return path.as_uri()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_hostile_rows_do_nothing_at_any_width(chromium, page_url, width, scheme):
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    requests, messages = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    page.goto(page_url)
    page.wait_for_load_state("networkidle")
    assert requests == [page_url]
    assert messages == []
    assert page.title().endswith("· GradSentry scan") and page.title() != "owned"
    assert page.locator("iframe, link, base, form, img, [onerror], [onload], #broken").count() == 0
    assert page.locator("script").count() == 2  # its data and its own
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        "w => [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > w + 1).length",
        width,
    )
    assert beyond == 0
    for _ in HOSTILE:
        page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.title() != "owned" and messages == []
    page.keyboard.press("Home")
    for _ in range(len(HOSTILE)):
        page.keyboard.press("k")
    assert "<script>document.title='owned'</script>" in page.locator(".detail").inner_text()
    context.close()


@pytest.mark.browser
def test_what_is_hidden_is_seen_and_the_marks_are_told_apart(chromium, page_url):
    page = chromium.new_page()
    page.goto(page_url)
    for _ in range(8):
        page.keyboard.press("j")
    detail = page.locator(".detail")
    assert r"\u202egnp.exe\u202c zero\u200bwidth \x1b[31mred\x1b[0m \x00 \U000e0041" in detail.inner_text()
    assert detail.locator("mark.payload").all_inner_texts() == [r"np.exe\u202c zero\u200bwidth \x1b[31mred\x1b[0m \x00"]
    assert detail.locator("mark.trigger").all_inner_texts() == [r"\u202egn"]
    page.close()


@pytest.mark.browser
def test_the_page_prints(chromium, page_url):
    page = chromium.new_page()
    page.goto(page_url)
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


class Tags(HTMLParser):
    """Which tags and attributes the text has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_text_has_no_active_tag_and_a_strict_policy(contents):
    text = render_page(contents)
    found = Tags(text)
    assert not found.tags & {"iframe", "link", "base", "form", "input", "img", "a", "object", "embed"}
    assert text.count("<script") == 2
    assert not {name for name in found.attributes if name.startswith("on") or name in {"style", "href", "src"}}
    style, script = (re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S)[1] for tag in ("style", "script"))
    digests = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    assert f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; base-uri" in text
    assert "form-action 'none'; require-trusted-types-for 'script'" in text and "connect-src" not in text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", script)
    assert "url(" not in style and "@import" not in style


@pytest.mark.slow
def test_a_page_takes_2000_rows_or_4_mb_and_says_how_many_there_are():
    small = [hostile_row(i, "text") for i in range(PAGE_ROWS + 50)]
    assert for_page(small) == small[:PAGE_ROWS]
    long = [hostile_row(i, "long " * 600) for i in range(PAGE_ROWS)]
    taken = for_page(long)
    assert len(json.dumps(taken, ensure_ascii=False)) < 1.2 * PAGE_BYTES and len(taken) > 800
    assert any(isinstance(piece, int) for piece in taken[0]["turns"][0][2])  # how much was left out
    text = render_page(Contents("b", Counts(9000, 0, 9000, 0, 0), rows=tuple(small[:PAGE_ROWS]), listed=9000))
    assert "shows the first 2,000 of 9,000" in text and "gradsentry review" in text


def test_a_redacted_page_holds_no_text_and_keeps_lengths_and_marks():
    secret = Card(3, "send it to evil", ("cf mn",), ("other",), False, (), (hostile_row(1, "my secret text"),), 4)
    row = hostile_row(1, "my secret text")
    plain = Contents("b", Counts(9, 5, 4, 0, 0), cards=(secret,), rows=(row,), remarks=("evil 1",), source="/evil/x")
    plain = replace(plain, accepted="evil boss", unscored={"evil 2": 1}, rejected=(RejectedRow(1, 2, "evil", "evil"),))
    assert "my secret text" in render_page(plain) and "send it to evil" in render_page(plain)
    text = render_page(redact(plain))
    for said in ("secret", "evil", "cf mn"):
        assert said not in text.partition("<script>")[0], said
    assert "[3 characters, SHA-256 " in text and '["t","[3 characters' in text


def test_the_entropy_leads_only_where_it_decides():
    entropy = np.linspace(0.1, 0.9, 200)
    points = Points(entropy, np.full(200, 20), entropy > 0.8)
    shown = {"points": points, "threshold": find_threshold(entropy)}
    rows = (hostile_row(1, "text"),)
    paper = render_page(Contents("b", Counts(200, 160, 40, 0, 0), policy="paper", rows=rows, **shown))
    auto = render_page(Contents("b", Counts(200, 160, 40, 0, 0), policy="auto", rows=rows, **shown))
    assert paper.index("Distribution and threshold") < paper.index("Rows to look at")
    assert auto.index("Rows to look at") < auto.index("decides nothing under the policy auto")
    assert "<details" in auto[: auto.index("Distribution and threshold")]


def test_nothing_flagged_says_what_could_have_been_found():
    text = render_page(
        Contents("b", Counts(900, 900, 0, 0, 0), policy="auto", looked_for=looked_for("auto", 900, 0.001))
    )
    assert "Nothing removed" in text and "What the scan could have found" in text
    assert "at least 3 rows with the same trigger" in text and "probability of at most 0.001" in text
    assert provable(9, 0.001) == 0 and provable(30, 0.001) > provable(900, 0.001)


@pytest.mark.parametrize(
    ("counts", "headline"),
    [
        (Counts(10, 10, 0, 0, 0), "Nothing removed"),
        (Counts(10, 6, 1, 2, 1), "3 of 9 readable rows removed"),
        (Counts(0, 0, 0, 0, 0), "Nothing removed"),
    ],
)
def test_only_the_counts_are_needed(counts, headline):
    text = render_page(Contents("batch", counts))
    assert headline in text
    drawn = text.partition("<script>")[0]
    assert "<figure>" not in drawn and "<article" not in drawn and "Gate" not in drawn


def test_a_refused_batch_says_so_until_a_person_accepts_it():
    failed = GateCheck("flagged_fraction", False, "error", 0.8, 0.5, "80.0% are flagged, limit 50.0%")
    refused = Contents("batch", Counts(10, 2, 8, 0, 0), checks=(failed,))
    text = render_page(refused)
    assert "Refused: nothing was published as clean" in text and "80.0% are flagged, limit 50.0%" in text
    accepted = render_page(replace(refused, accepted="ann: looked at all eight"))
    assert "Refused" not in accepted and "ann: looked at all eight" in accepted and "8 of 10 readable" in accepted


def test_a_confounded_batch_warns_beside_its_scatter():
    tokens = np.repeat([3, 4, 5, 20, 21, 22], 30)
    entropy = np.where(tokens > 10, 0.9, 0.3) + np.linspace(0, 0.05, tokens.size)
    trust = assess(entropy, tokens, tau=0.6)
    assert trust.verdict == "length-confounded"
    points = Points(entropy, tokens, entropy > 0.6)
    text = render_page(Contents("b", Counts(180, 90, 90, 0, 0), trust=trust, points=points))
    caption = re.search(r"<figcaption>(.*?)</figcaption>", text, re.S)[1]
    assert "it parts long answers from short ones" in caption


def test_a_large_cloud_is_sampled_and_keeps_the_removed_rows():
    n = 200_000
    removed = np.zeros(n, bool)
    removed[:: n // 100] = True
    shown = sample_points(Points(np.full(n, 0.5), np.full(n, 9), removed))
    assert shown.size == LARGEST_CLOUD and np.array_equal(shown, np.unique(shown))
    assert np.count_nonzero(removed[shown]) == np.count_nonzero(removed)
    flooded = sample_points(Points(np.full(n, 0.5), np.full(n, 9), ~removed))
    assert flooded.size == LARGEST_CLOUD and np.count_nonzero(removed[flooded]) == np.count_nonzero(removed)


def test_unscored_rows_and_odd_lengths_do_not_break_the_charts():
    entropy = np.array([np.nan, np.inf, 0.5, -1.0, 2.0])
    points = Points(entropy, np.array([0, 5, 0, 100_000, 1]), np.array([True, True, False, False, True]))
    text = render_page(Contents("b", Counts(5, 2, 1, 2, 0), points=points, threshold=find_threshold(entropy)))
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.S))
    assert drawings.count("<svg") == 3 and not re.search(r"\b(nan|inf)\b", drawings)
    assert drawings.count("h0") == 3  # one dot a scored row


def test_evidence_says_of_a_reason_what_the_verdict_made_of_it() -> None:
    figures = {"statistic": "span", "carriers": 9, "log10_p": -9.0, "level": 1e-3, "features": 300, "auc": 0.3}

    def said(**told: object) -> str:
        return dict(evidence({**figures, "reason": 0.21, **told}, 9, 0.09))["Does the model see a reason for it?"]

    assert said().startswith("Yes: ") and said(enough=0.09, beside=False).startswith("Yes: ")
    assert said(enough=0.27).startswith("No: ") and "begins at 27%" in said(enough=0.27)
    assert said(enough=0.09, beside=True).startswith("No: ")
