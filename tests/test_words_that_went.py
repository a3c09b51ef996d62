"""The check that keeps private words out of names."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECK = ROOT / ".ci" / "words.py"


def test_no_name_has_one() -> None:
    done = subprocess.run([sys.executable, str(CHECK)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_name_that_has_one_is_told_with_what_to_say() -> None:
    code = f"import runpy; from pathlib import Path; m = runpy.run_path({str(CHECK)!r}); "
    code += (
        "print(*m['found'](m['ROOT'] / 'gradsentry_lib' / 'new.py', 'def deal(twins, dealer):\\n    lateMates = 1\\n'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "new.py:1: deal: say what the field says for 'deal' (share out, batch)" in done.stdout
    assert "twins" in done.stdout and "lateMates" in done.stdout and "dealer" not in done.stdout
