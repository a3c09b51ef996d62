"""Known weaknesses of the pinned packages, where an index of them can be asked."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.conftest import Tried

pytestmark = pytest.mark.soak
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def test_pip_audit_on_the_constraints(tried: Callable[[str], Tried]) -> None:
    if subprocess.run([sys.executable, "-m", "pip_audit", "--version"], capture_output=True).returncode:
        pytest.skip("pip-audit is not installed: pip install pip-audit")
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    ended = subprocess.run([*command, "--format", "json", "--timeout", "20"], capture_output=True, text=True)
    try:
        found = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):
        pytest.skip(f"the index of weaknesses does not answer: {ended.stderr.strip().splitlines()[-1][:200]}")
    known = [package for package in found if "skip_reason" not in package]
    if not known:
        pytest.skip(f"the index of weaknesses does not answer: {found[0]['skip_reason'][:100]}")
    line = tried("pip-audit on the constraints")
    line.times = len(known)
    line.note = f"{len(found) - len(known)} packages are not known there" if len(known) < len(found) else ""
    for package in known:
        for weakness in package.get("vulns", []):
            fixed = ", ".join(weakness["fix_versions"]) or "not mended yet"
            line.check(False, f"{package['name']} {package['version']}: {weakness['id']} ({fixed})")
