"""The command as typed, in the test's own process: a process of its own takes longer than most scans here.

That it runs as one is seen in tests/pipeline/test_scan_command.py and tests/audit/test_audit_command.py.
"""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from gradsentry_lib import cli


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def gradsentry(*arguments: object) -> Done:
    """How it ends, what it prints, what it says of errors. The store is the one that the environment names."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with patch("sys.argv", ["gradsentry", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
