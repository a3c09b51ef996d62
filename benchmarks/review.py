"""How fast the report page opens, in a real Chromium: python -m benchmarks.review [--write]

1,000 flagged rows from a file; 50,000 from a file (the first 2,000) and served by `gradsentry review`. Measured from
the navigation's start until the first rows are drawn and the page answers a key.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import section, table
from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.pipeline.decide import DecisionConfig, decide
from gradsentry_lib.pipeline.ingest import ingest
from gradsentry_lib.pipeline.publish import write_refusal
from gradsentry_lib.pipeline.score import Scored
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.scoring.score import BATCH_SCORE_SCHEMA
from gradsentry_lib.store import file_ref
from gradsentry_lib.store.paths import Store
from tests.review.attacked import RUN, score
from tests.review.serving import served

TRIES = 5
WORDS = 45  # of a prompt; an answer has twice as many
ABOUT = (
    "Headless Chromium, medians of five openings, from the navigation's start until the rows are drawn and a key is "
    "answered. Asked: under 1 s and 5 MB; the last line under 3 s."
)


def refused(store: Store, rows: int) -> Path:
    """A batch of which so many rows are flagged, and its page."""
    draw = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(3000)])
    path = store.landing / f"rows{rows}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows + rows // 10):
            said = draw.choice(words, 3 * WORDS)
            file.write(json.dumps({"prompt": " ".join(said[:WORDS]), "response": " ".join(said[WORDS:])}) + "\n")
    batch = ingest(open_source(str(path)), store, RUN)
    scored = score(store, batch, [b""] * batch.readable)
    scores = store.scores(batch.batch_key, "planted")
    table = pq.read_table(scores)
    entropy = np.where(np.arange(batch.readable) < rows, 0.9, 0.3)
    position = table.schema.get_field_index("entropy")
    pq.write_table(table.set_column(position, "entropy", pa.array(entropy)).cast(BATCH_SCORE_SCHEMA), scores)
    scored = Scored(**{**vars(scored), "scores_sha256": file_ref(scores).sha256})
    decided = decide(batch, scored, store, RUN, DecisionConfig("paper", ThresholdConfig(fixed=0.5)))
    started = time.perf_counter()
    page = write_refusal(batch, decided, store, RUN)
    print(f"{rows:,} flagged rows: page written in {time.perf_counter() - started:.1f} s")
    return page


def opening(context, url: str) -> tuple[float, float]:
    """(seconds until the rows are there and a key is answered, seconds to scroll to the end of the list)."""
    page = context.new_page()
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator("#row-0 b").wait_for()
    page.keyboard.press("j")
    page.locator("#row-1[aria-selected=true]").wait_for()
    opened = time.perf_counter() - started
    started = time.perf_counter()
    page.locator("#list").evaluate("list => { list.scrollTop = list.scrollHeight; }")
    last = page.locator(".item").last
    last.locator("b").wait_for()
    scrolled = time.perf_counter() - started
    page.close()
    return opened, scrolled


def main() -> None:
    from playwright.sync_api import sync_playwright

    from tests.assets.browser import chromium_path

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store = Store(Path(folder) / "store")
        small, large = refused(store, 1_000), refused(store, 50_000)
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        with served(store) as desk:
            context.new_page().goto(desk.link)
            links = {
                "1,000 flagged rows, file": (small.as_uri(), small.stat().st_size),
                "50,000 flagged rows, file: the first 2,000": (large.as_uri(), large.stat().st_size),
                "50,000 flagged rows, served": (f"{desk.origins[0]}/batches/{large.parents[2].name}", 0),
            }
            lines = []
            for name, (link, size) in links.items():
                opened, scrolled = zip(*(opening(context, link) for _ in range(TRIES)), strict=True)
                told = f"{size / 1e6:.1f} MB" if size else "rows as needed"
                line = {"page": name, "size": told, "opens, s": statistics.median(opened)}
                lines.append(line | {"scrolls to the end, s": statistics.median(scrolled)})
        browser.close()
    print(table(lines))
    if "--write" in sys.argv:
        section("review", "The report page, by the command", [ABOUT, table(lines)])


if __name__ == "__main__":
    main()
