"""`decisions.json`, which a review page writes: checked against the ledger, then recorded as overrides, all or none.

Each decision carries a digest over itself and the page, the file one over all of them: what was edited by hand is
named and refused. (It is no signature: who can compute a digest can make one. It keeps a slip from being recorded.)
A file is outdated as soon as the batch has other verdicts or people's words on it have changed since its page.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from gradsentry_lib.errors import UnusableFile
from gradsentry_lib.files import has_digest
from gradsentry_lib.store import Decision, Ledger, Override, open_ledger, overrides_digest

FORMAT = "gradsentry decisions 1"
LARGEST = 256 << 20  # bytes of a file
NAMED = 5  # of what changed


@dataclass(frozen=True)
class Decided:
    """One decision of a person. `scope`: "all" batches with this text, or this "batch" alone; `what`: what was chosen
    (a row, a group, a filter), for people."""

    action: Literal["release", "flag", "unset"]
    scope: Literal["all", "batch"]
    reason: str
    what: str
    samples: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Decisions:
    """A page's decisions. `decision`: the ledger's number of the verdicts shown; `seq`, `words_digest`: the newest
    record and the words in force then; `page`: the digest of what was shown."""

    format: str
    batch: str
    decision: int
    verdicts_sha256: str
    words_digest: str
    seq: int
    page: str
    decisions: tuple[Decided, ...]
    sha256: str


@dataclass(frozen=True)
class Applied:
    """`recorded`: words that are new in the ledger, 0 where the file was applied before; `released`, `kept_out`: of
    the file. `words_digest`, `seq`: as they are now."""

    batch: str
    recorded: int
    released: int
    kept_out: int
    words_digest: str
    seq: int


def read_decisions(path: Path) -> Decisions:
    """Raises UnusableFile for a file that no page wrote, or that was edited since."""
    try:
        if path.stat().st_size > LARGEST:
            raise UnusableFile(f"{path} is larger than any page's decisions")
        data = path.read_bytes()
    except OSError as error:
        raise UnusableFile(f"{path} can't be read: {error.strerror}") from error
    return parse_decisions(data, str(path))


def parse_decisions(data: bytes, name: str = "decisions.json") -> Decisions:
    try:
        made = TypeAdapter(Decisions).validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise UnusableFile(
            f"{name} is no decisions.json of a review page ({'.'.join(map(str, first['loc'])) or 'file'}: "
            f"{first['msg']}): save it again from the page"
        ) from error
    if made.format != FORMAT:
        raise UnusableFile(f"{name} has the format {made.format!r}, this version reads {FORMAT!r}")
    edited = [n for n, each in enumerate(made.decisions) if each.sha256 != digest_of(made.page, n, each)]
    if edited:
        first_, more = made.decisions[edited[0]], f" and {len(edited) - 1} more" if len(edited) > 1 else ""
        raise UnusableFile(
            f"{name} was edited by hand: decision {edited[0] + 1} ({first_.action} of {len(first_.samples):,} samples, "
            f"{first_.what}){more} is not what the page wrote. Decide on the page again; nothing was recorded"
        )
    if made.sha256 != whole_digest(made):
        raise UnusableFile(
            f"{name} was edited by hand: its decisions, their order or what they are of (batch {made.batch}) are not "
            "what the page wrote. Decide on the page again; nothing was recorded"
        )
    return made


def digest_of(page: str, number: int, each: Decided) -> str:
    return _sha256([page, number, each.action, each.scope, each.reason, each.what, list(each.samples)])


def whole_digest(made: Decisions) -> str:
    digests = [each.sha256 for each in made.decisions]
    return _sha256(
        [made.format, made.batch, made.decision, made.verdicts_sha256, made.words_digest, made.seq, made.page, digests]
    )


def apply(ledger_path: Path, made: Decisions, by: str) -> Applied:
    """Records what was decided under a name, in one block. Raises UnusableFile, with what
    changed, where it is outdated."""
    final = {(_scope(made, each), name): each for each in made.decisions for name in each.samples}
    with open_ledger(ledger_path) as ledger:
        _check_page(ledger, made)
        words = _words(ledger, made, final, by)
        if _known(ledger, made, words):
            words = []
        else:
            _check_current(ledger, made)
            ids = {name: name for _, name in final}
            if strange := set(ids) - set(ledger.present(made.batch, ids)):
                raise UnusableFile(f"batch {made.batch} has no sample {min(strange)[:12]}: nothing was recorded")
            ledger.record_overrides(words)
    with open_ledger(ledger_path, read_only=True) as ledger:
        now, seq = overrides_digest(ledger.active_overrides(made.batch)), ledger.head().seq
    count = {action: sum(each.action == action for each in final.values()) for action in ("release", "flag")}
    return Applied(made.batch, len(words), count["release"], count["flag"], now, seq)


def _scope(made: Decisions, each: Decided) -> str | None:
    return made.batch if each.scope == "batch" else None


def _words(ledger: Ledger, made: Decisions, final: dict[tuple[str | None, str], Decided], by: str) -> list[Override]:
    """The words of the file; to take one back means to say again what was said before it in the same scope."""
    earlier: dict[tuple[str | None, str], list[Override]] = {}
    if any(each.action == "unset" for each in final.values()):
        for word in ledger.find(Override):
            earlier.setdefault((word.batch_key, word.sample_id), []).append(word)
    words = []
    for (scope, name), each in final.items():
        action: Literal["release", "flag", "unset"] = each.action
        before = earlier.get((scope, name), [])
        if action == "unset" and len(before) > 1:
            action = before[-2].action
        words.append(
            Override(sample_id=name, action=action, made_by=by, reason=each.reason, batch_key=scope, page=made.page)
        )
    return words


def _known(ledger: Ledger, made: Decisions, words: Sequence[Override]) -> bool:
    """Whether all of it was recorded already: from the same page, word for word."""
    if any(each.action == "unset" for each in made.decisions):
        return False
    said = {(w.sample_id, w.action, w.reason, w.batch_key) for w in ledger.find(Override, page=made.page)}
    return bool(words) and all((w.sample_id, w.action, w.reason, w.batch_key) in said for w in words)


def _check_page(ledger: Ledger, made: Decisions) -> None:
    """That the page was made from this very ledger."""
    shown = [each for each in ledger.find(Decision, batch_key=made.batch) if each.seq == made.decision]
    if not shown or shown[0].verdicts.sha256 != made.verdicts_sha256:
        raise UnusableFile(
            f"the ledger {ledger.path} has no decision {made.decision} with these verdicts on batch {made.batch}: "
            "the page is of another store, or the file was edited"
        )


def _check_current(ledger: Ledger, made: Decisions) -> None:
    latest = ledger.decision(made.batch)
    if latest.verdicts.sha256 != made.verdicts_sha256:
        raise UnusableFile(
            f"outdated: batch {made.batch} was judged again since the page (decision {latest.seq}, not "
            f"{made.decision}): {_verdicts_changed(ledger, made, latest)}. Open its new page; nothing was recorded"
        )
    if overrides_digest(ledger.active_overrides(made.batch)) != made.words_digest:
        since = [word for word in ledger.find(Override) if word.seq > made.seq]
        since = list(ledger.present(made.batch, {word.sample_id: word for word in since}).values())
        named = "; ".join(
            f"{word.made_by} {'took back' if word.action == 'unset' else word.action + 'd'} {word.sample_id[:12]} on "
            f"{word.recorded_at:%Y-%m-%d %H:%M}: {word.reason}"
            for word in since[:NAMED]
        ).replace("flagd", "flagged")
        more = f"; and {len(since) - NAMED} more" if len(since) > NAMED else ""
        raise UnusableFile(
            f"outdated: people decided on batch {made.batch} since the page ({named or 'a word was changed'}{more}). "
            "Open its new page; nothing was recorded"
        )


def _verdicts_changed(ledger: Ledger, made: Decisions, latest: Decision) -> str:
    shown = ledger.get(Decision, made.decision)
    for each in (shown, latest):
        if not has_digest(each.verdicts.file, each.verdicts.sha256):
            return "the verdict files can't be compared"
    before, after = (
        pq.read_table(each.verdicts.file, columns=["row", "verdict"]).to_pylist() for each in (shown, latest)
    )
    changed = [
        f"row {old['row']} {old['verdict']} -> {new['verdict']}"
        for old, new in zip(before, after, strict=False)
        if old["verdict"] != new["verdict"]
    ]
    more = f" and {len(changed) - NAMED} more rows" if len(changed) > NAMED else ""
    return (", ".join(changed[:NAMED]) + more) if changed else "the same verdicts for other reasons"


def _sha256(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
