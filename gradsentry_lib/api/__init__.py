"""GradSentry in anyone's Python: `gradsentry_lib.scan` and `gradsentry_lib.scorer`, re-exported one floor up.

    incoming.py   what came in (path, URL, rows, frame, table, data set) -> a file to scan, and rows of it back
    scan.py       one call: incoming -> the steps of pipeline/ -> Result
    scorer.py     a model that stays loaded from call to call
    result.py     what came of it: clean, quarantine, verdicts, groups, counts, gate, report
    notebook.py   how a notebook shows that

The steps are those of the command and the Dagster assets, so all three come to the same verdicts on the same rows.
"""

from gradsentry_lib.api.result import Gate, Result
from gradsentry_lib.api.scan import scan
from gradsentry_lib.api.scorer import Scorer, scorer

__all__ = ["Gate", "Result", "Scorer", "scan", "scorer"]
