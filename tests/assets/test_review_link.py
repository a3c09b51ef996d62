"""What the UI shows of reviewing: the batch's page, and where the newest batches stand."""

from gradsentry_assets.presentation import review_link, review_links
from gradsentry_lib.store.paths import Store
from tests.store import builder


def test_the_newest_batches_and_the_link_to_the_page(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    batch = builder.read_in(store, "alpha")
    builder.decide_and_publish(store, batch, builder.score(store, batch))
    builder.read_in(store, "beta", start=60)
    monkeypatch.setenv("GRADSENTRY_REVIEW_PORT", "9000")
    shown = review_links(batch.batch_key, store)
    assert shown["review"].value == f"http://127.0.0.1:9000/batches/{batch.batch_key}"
    states = {record.data["batch"]: record.data["state"] for record in shown["batches_to_review"].records}
    assert list(states.values()) == ["published", "not scored"]
    assert review_link("a b/../c").value.endswith("/batches/a%20b%2F..%2Fc")
