"""The report page in a real browser: hostile rows do nothing, nothing is fetched, nothing overflows."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from gradsentry_lib.detection.entropy_threshold import find_threshold
from gradsentry_lib.detection.gate import GateCheck
from gradsentry_lib.detection.length_confounding import assess
from gradsentry_lib.report.charts import LARGEST_CLOUD, sample_points
from gradsentry_lib.report.contents import Contents, Counts, EvidenceGroup, Points, Reading, RejectedRow, Row, Span
from gradsentry_lib.report.page import LARGEST_LIST, render_page

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


def hostile_row(i: int, text: str) -> Row:
    return Row(
        row=i,
        line=i + 1,
        sample_id=text[:80],
        reasons=(f"released by {text}: {text}",),
        entropy=0.9,
        supervised_tokens=12,
        nll=2.0,
        turns=((text[:200], text), ("response", text)),
        spans=(Span(1, 2, len(text) - 2), Span(7, 0, 3)),
    )


@pytest.fixture(scope="module")
def contents() -> Contents:
    """Every part filled, every text hostile."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 200, 6000)
    entropy = np.clip(np.log(np.minimum(tokens, 16)) / np.log(16) * rng.normal(0.7, 0.1, 6000), 0, 1)
    threshold = find_threshold(entropy)
    everything = " ".join(HOSTILE)
    rows = tuple(hostile_row(i, text) for i, text in enumerate(HOSTILE))
    group = EvidenceGroup(9, everything, HOSTILE, everything, 1.0, 0.01, 100.0, 1e-200, (1, 2, 3))
    reading = Reading(everything, ("10 rows read as: one supervised text",), HOSTILE, rows[:3])
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
        groups=(group,),
        rows=rows + tuple(replace(rows[0], row=1000 + i) for i in range(LARGEST_LIST)),
        unscored=tuple(replace(row, verdict="unscored", entropy=float("nan")) for row in rows),
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
    assert page.locator("script, iframe, link, base, form, input, img, [onerror], [onload], #broken").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        "w => [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > w + 1).length",
        width,
    )
    assert beyond == 0
    assert "<script>document.title='owned'</script>" in page.locator(".row").first.inner_text()
    context.close()


@pytest.mark.browser
def test_what_is_hidden_is_seen_and_the_span_is_marked(chromium, page_url):
    page = chromium.new_page()
    page.goto(page_url)
    row = page.locator(".row").nth(8)
    assert r"\u202egnp.exe\u202c zero\u200bwidth \x1b[31mred\x1b[0m \x00 \U000e0041" in row.inner_text()
    assert row.locator("mark").all_inner_texts() == [r"np.exe\u202c zero\u200bwidth \x1b[31mred\x1b[0m \x00"]
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
    assert not found.tags & {"script", "iframe", "link", "base", "form", "input", "img", "a", "object", "embed"}
    assert not {name for name in found.attributes if name.startswith("on") or name in {"style", "href", "src"}}
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in text
    assert "url(" not in style and "@import" not in style


def test_the_list_is_limited_and_says_how_many_more():
    rows = tuple(Row(i, turns=(("response", "x"),)) for i in range(LARGEST_LIST + 50))
    text = render_page(Contents("b", Counts(1000, 0, 1000, 0, 0), rows=rows))
    assert text.count('<article class="row">') == LARGEST_LIST
    assert f"{1000 - LARGEST_LIST} more are in <code>quarantine.jsonl</code>" in text


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
    assert "<figure>" not in text and "<article" not in text and "Gate" not in text


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
