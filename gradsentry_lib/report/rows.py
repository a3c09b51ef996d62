"""A row as the page takes it: plain JSON, its text made visible and cut into plain and marked pieces.

    r, l       number in the source and line      v, w   verdict; 1 where watched
    g          group (position of its card), -1   id     sample id
    e, t, n    entropy, supervised tokens, NLL    why    reasons
    new        1 where the last reviewed batch of the same source did not have it
    turns      [role, 1 where judged, pieces]     near   {r, turns} of the nearest clean row

A piece is a text, or ["p" or "t", text] for a mark of the payload or the trigger, or a number of characters left out.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from gradsentry_lib.report.contents import Span
from gradsentry_lib.report.escape import clip, visible
from gradsentry_lib.report.excerpt import Piece, pieces, whole

TURNS = 12  # of a chat that are listed; those with marks always
LONGEST = 20_000  # characters of one turn in the file of rows
PAGE_ROWS = 2_000
SERVED_ROWS = 400  # of a page that can ask for more
PAGE_BYTES = 4_200_000  # of rows in one page
ROLES = ("system", "developer", "user", "assistant", "tool", "context", "prompt", "instruction", "input", "response",
         "rejected", "text", "")  # fmt: skip
Row = Mapping[str, Any]


def turns_json(turns: Sequence[tuple[str, bool, str]], spans: Sequence[Span], longest: int = LONGEST) -> list[Any]:
    """turns: (role, judged, text). A text of more than `longest` characters is shown in part."""
    out: list[Any] = []
    marked = {span.turn for span in spans}
    edge = TURNS // 2
    skipped = 0
    for number, (role, judged, text) in enumerate(turns):
        if edge <= number < len(turns) - edge and number not in marked:
            skipped += 1
            continue
        if skipped:
            out.append(["", 0, [f"… {skipped} more turns …"]])
            skipped = 0
        own = [span for span in spans if span.turn == number]
        cut = whole(text, own) if len(text) <= longest else pieces(text, own)
        out.append([visible(clip(role, 40)), int(judged), pieces_json(cut)])
    return out


def pieces_json(cut: Iterable[Piece]) -> list[Any]:
    made: list[Any] = []
    for piece in cut:
        if piece.kind == "cut":
            made.append(piece.characters)
        else:
            text = visible(piece.text)
            made.append([piece.mark[0], text] if piece.kind == "mark" else text)
    return made


def shortened(row: Row) -> Row:
    """The row with the parts of its texts that are worth showing."""
    return {**row, "turns": [[role, judged, _shorter(cut)] for role, judged, cut in row["turns"]]}


def _shorter(cut: Sequence[Any]) -> list[Any]:
    if any(isinstance(piece, int) for piece in cut):
        return list(cut)
    text, spans = "", []
    for piece in cut:
        said = piece if isinstance(piece, str) else piece[1]
        if not isinstance(piece, str):
            spans.append(Span(0, len(text), len(text) + len(said), {"p": "payload", "t": "trigger"}[piece[0]]))
        text += said
    return pieces_json(pieces(text, spans))


def for_page(rows: Iterable[Row], most: int = PAGE_ROWS) -> list[Row]:
    """As many rows as a page takes, at most `most`, whole if they fit and in part if not."""
    first = list(islice(rows, most))
    if sum(map(_size, first)) > PAGE_BYTES:
        first = [shortened(row) for row in first]
    kept, total = [], 0
    for row in first:
        total += _size(row)
        if total > PAGE_BYTES:
            break
        kept.append(row)
    return kept


def _size(row: Row) -> int:
    return len(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def redacted(row: Row) -> Row:
    """The row without its text: of each piece its length and the beginning of its digest. Reasons name no words."""
    turns = [[_role(role), judged, [_hidden(piece) for piece in cut]] for role, judged, cut in row["turns"]]
    made = {**row, "turns": turns}
    made["why"] = [hidden(reason) for reason in row.get("why", ())]
    if row.get("near"):
        made["near"] = redacted(row["near"])
    return made


def _role(role: str) -> str:
    """A chat may call its roles anything."""
    return role if role in ROLES else hidden(role)


def _hidden(piece: Any) -> Any:
    if isinstance(piece, int):
        return piece
    return hidden(piece) if isinstance(piece, str) else [piece[0], hidden(piece[1])]


def hidden(text: str) -> str:
    """What stands for a text in pages that leave the house."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return f"[{len(text)} characters, SHA-256 {digest}]" if text else ""
