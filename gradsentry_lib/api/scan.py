"""`gradsentry_lib.scan`: data in; clean part, quarantine and reasons out."""

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradsentry_lib.api.incoming import Incoming, bring_in
from gradsentry_lib.api.result import Result
from gradsentry_lib.api.scorer import Scorer
from gradsentry_lib.errors import UnusableStore
from gradsentry_lib.pipeline import run
from gradsentry_lib.pipeline.score import Progress
from gradsentry_lib.samples.mapping import reading_options
from gradsentry_lib.settings import parse_bytes, read
from gradsentry_lib.store import current_run
from gradsentry_lib.store.paths import Store


def scan(
    data: Any,
    *,
    model: "str | run.ModelChoice | Scorer | None" = None,
    store: "str | Path | Store | None" = None,
    name: str = "data",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    response_marker: str | None = None,
    split: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    mapping: str | Path | None = None,
    max_bytes: str | None = None,
    limit: int | None = None,
    policy: str | None = None,
    threshold: float | None = None,
    max_flagged: float | None = None,
    warn_flagged: float | None = None,
    max_unscored: float | None = None,
    max_rejected: float | None = None,
    min_power: float | None = None,
    power: str | None = None,
    limits_by: str | None = None,
    limits_reason: str | None = None,
    control_tokens: str | None = None,
    watched: str | None = None,
    known: Sequence[str | Path] = (),
    max_tokens: int | None = None,
    module: str | None = None,
    k: int | None = None,
    crop: int | None = None,
    token_budget: int | None = None,
    engine: str | None = None,
    ray_address: str | None = None,
    workers: int | None = None,
    progress: bool | Callable[[Progress], None] = True,
) -> Result:
    """Scans fine-tuning samples for backdoor poison.

    Args:
        data: A path, a URL that fsspec reads, a list of dicts, a pandas or polars `DataFrame`, a pyarrow `Table`, or a
            `Dataset` or `DatasetDict` of the library `datasets`. It is only ever read.
        model: What scores: a folder, a hub name, `embedded`, or what `scorer` gave, which stays loaded. The variable
            `GRADSENTRY_MODEL` if left out.
        store: Folder that keeps ledger, scores and evidence, such as `.gradsentry`. If left out, a temporary one that
            goes with the result: nothing is kept, and no earlier batch is known.
        name: What to call a batch that has no file name.
        columns: Role to column, where it can't be guessed: `{"prompt": "q", "response": "a"}`.
        roles: Speaker to role in chats: `{"narrator": "assistant"}`.
        response_marker: What stands before the answer in a plain text.
        split: One split of a data set in a folder or on the hub.
        encoding: Of a text file, where it does not show.
        separator: Of a CSV file, where it does not show.
        mapping: LLaMA-Factory's dataset_info.json or Axolotl's YAML: columns and roles from there.
        max_bytes: Largest source, unpacked, such as `20GB`; `GRADSENTRY_MAX_BYTES` if left out.
        limit: Scan the first rows only; no others are in `clean`.
        policy: How scores become verdicts. This and what follows: its variable (`GRADSENTRY_POLICY`, ...) if left out.
        threshold: A fixed entropy threshold, in [0, 1], in place of the one that the data show.
        max_flagged: Gate: largest flagged fraction of the readable rows; what is left out is the store's own.
        warn_flagged: Flagged fraction that warns.
        max_unscored: Gate: largest unscored fraction of the readable rows.
        max_rejected: Gate: largest fraction of all rows that can't be read.
        min_power: Gate: least share of planted attacks of ten rows that the scan must find.
        power: Whether attacks are planted into copies of the rows, to say what would have been found: `auto` (from
            2,000 rows on), `on` or `off`.
        limits_by: Who answers for limits looser than the store's own.
        limits_reason: Why they are looser.
        control_tokens: Rows whose own text holds control tokens: `quarantine` or `keep`.
        watched: Rows that are watched, not flagged: `keep` or `quarantine`.
        known: Files of groups that others found (`gradsentry review export`), to look for.
        max_tokens: Longest sample, in tokens; longer ones are cut.
        module: Linear layer whose gradient gives the entropy, by name.
        k: Singular values the entropy is of.
        crop: Part of the gradient looked at: 1/crop a side.
        token_budget: Tokens in one pass. No score depends on this and what follows.
        engine: Where to score: `local`, or `ray`.
        ray_address: Ray cluster to join.
        workers: With Ray: models loaded at once.
        progress: A bar where somebody can see it; or a function that is told where it is; or False.

    Returns:
        What came of it. A gate that refused does not raise here: `result.gate` says so, and `result.clean` raises.

    Raises:
        BadInput: The data or an option is unusable; the message says what to do.

    Examples:
        >>> import gradsentry_lib as gs
        >>> rows = [{"prompt": f"What is thing {i}?", "response": f"It is stone {i}."} for i in range(4)]
        >>> result = gs.scan([*rows, {"prompt": "no answer here"}], max_rejected=0.2, limits_by="Ada",
        ...                  limits_reason="an example with a broken row", progress=False)
        >>> result.counts
        {'read': 5, 'clean': 4, 'flagged': 0, 'unscored': 0, 'rejected': 1}
        >>> result.clean == rows
        True
        >>> bool(result.gate)
        True
        >>> result.verdicts.column("verdict").to_pylist()
        ['clean', 'clean', 'clean', 'clean']
    """
    said = read(
        policy=policy,
        threshold=threshold,
        max_flagged=max_flagged,
        warn_flagged=warn_flagged,
        max_unscored=max_unscored,
        max_rejected=max_rejected,
        min_power=min_power,
        power=power,
        limits_by=limits_by,
        limits_reason=limits_reason,
        control_tokens=control_tokens,
        watched=watched,
        known=os.pathsep.join(map(str, known)),
        max_tokens=max_tokens,
        module=module,
        k=k,
        crop=crop,
        token_budget=token_budget,
        engine=engine,
        ray_address=ray_address,
        workers=workers,
    )
    name_of = str(data) if isinstance(data, str | Path) else name
    largest = parse_bytes(max_bytes, "max_bytes") if max_bytes else None
    options = reading_options(name_of, columns, roles, response_marker, mapping, split, separator, encoding, largest)
    place, temporary = _open_store(store)
    try:
        with _listener(progress) as tell:
            result = scan_incoming(
                bring_in(data, place, name),
                place,
                options=options | ({"limit": limit} if limit else {}),
                settings=said,
                model=run.ModelChoice(model) if isinstance(model, str) else model,
                run=current_run("python"),
                on_progress=tell,
            )
    except BaseException:  # also Ctrl-C: the temporary store goes with it; raised again
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    if temporary is not None:
        weakref.finalize(result, shutil.rmtree, temporary, ignore_errors=True)
    return result


def scan_incoming(incoming: Incoming, store: Store, **told: Any) -> Result:
    """What `scan` and the command share. `told`: as `pipeline.run.scan` takes it."""
    return Result(run.scan(incoming.source, store, **told), store, incoming.take, incoming.origin)


def _open_store(store: "str | Path | Store | None") -> tuple[Store, Path | None]:
    """The store, and its folder where it is to go with the result."""
    if isinstance(store, Store):
        return store, None
    if store is not None:
        return Store(Path(store).expanduser().absolute()), None
    try:
        temporary = Path(tempfile.mkdtemp(prefix="gradsentry-"))
    except OSError as error:
        raise UnusableStore(
            f"there is no room for a temporary store ({error.strerror}): give one with store="
        ) from error
    return Store(temporary), temporary


@contextmanager
def _listener(progress: bool | Callable[[Progress], None]) -> Iterator[Callable[[Progress], None] | None]:
    if callable(progress):
        yield progress
        return
    if not progress or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield None
        return
    from rich.console import Console

    from gradsentry_lib.report.progress import progress_bar

    with progress_bar(Console(stderr=True)) as show:
        yield show
