"""GradSentry: finds backdoor poison in fine-tuning data before training, by the gradients of each sample.

    import gradsentry_lib as gs

    result = gs.scan("samples.jsonl")       # or a URL, a list of dicts, a frame, a table, a data set
    result.gate, result.counts, result.clean, result.quarantine, result.report()

What is public is named in `__all__`; it is loaded when it is first asked for.

Rooms, lower floors first (a room imports only rooms below it):

    errors, system_errors, files, settings  what every room may use
    samples/                          rows in and out: readers, layouts, clean and quarantine writers
    windows                           the bytes of a sample's span sketches: scoring writes them, detection reads them
    detection/                        what the rows' scores mean together: tests, policies, threshold, verdicts, gate
    power/                            what a scan would have found: attacks planted into copies of rows
    scoring/                          one forward pass, all signals of a sample
    store/                            the folder of a store and its ledger (DuckDB): records, journal, statements
    report/                           the threshold picture and the HTML page
    pipeline/                         the steps of one scan, shared by the command and the Dagster assets
    audit/                            what was removed, why, by whom; and whether all of it is still so
    review/                           people's decisions on flagged rows: pages served, recorded, counted, shared
    evaluation/                       attacks, peers, measures
    api/                              `scan`, `scorer`: all of it in anyone's Python
    cli/                              the `gradsentry` command
"""

import importlib
import os
from typing import Any

__version__ = "0.4.0"

# Arrow's own allocator keeps most of what it once had: 100 MB over a scan of 100,000 rows, where the system's gives it
# back. Arrow asks for this once, when it is first used.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

_HOMES = {
    **dict.fromkeys(("Gate", "Result", "Scorer", "scan", "scorer"), "gradsentry_lib.api"),
    **dict.fromkeys(("BadInput", "GateFailed", "GradSentryError"), "gradsentry_lib.errors"),
}
__all__ = ["BadInput", "Gate", "GateFailed", "GradSentryError", "Result", "Scorer", "__version__", "scan", "scorer"]


def __getattr__(name: str) -> Any:
    """The public names, from where they are made: who only asks for the version imports nothing else."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
