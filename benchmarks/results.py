"""A benchmark's own section of RESULTS.md, written by the benchmark: machine, commit, command, tables."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gradsentry_lib.files import write_text

RESULTS = Path(__file__).parent / "RESULTS.md"
ROOT = RESULTS.parent.parent


def section(name: str, title: str, parts: Sequence[str], quick: bool = False) -> None:
    """Writes a section between its marks, in place of what stood there, or at the end. `quick`: a run that is too short
    to stand in the place of a whole one has a section of its own."""
    if quick:
        name, title = f"{name}-quick", f"{title} (quick)"
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    made = f"{begin}## {title}\n\n{circumstances()}\n\n" + "\n\n".join(part.strip() for part in parts) + f"\n{end}"
    text = RESULTS.read_text(encoding="utf-8")
    before, mark, rest = text.partition(begin)
    text = f"{before}{made}{rest.partition(end)[2]}" if mark else f"{text.rstrip()}\n\n{made}"
    write_text(RESULTS, text)


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    """Seconds that the work takes, of the processor or by another clock."""
    start = clock()
    work()
    return clock() - start


def circumstances() -> str:
    """Where, when and how the figures below it were made."""
    import torch

    from gradsentry_lib.scoring.tested import processor

    told = processor("cpu")
    can = [
        flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in told["can"].split()
    ]
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    command = " ".join(["python -m", _module(), *sys.argv[1:]])
    return (
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d} at {_commit()}: {told['name']} ({', '.join(can)}), "
        f"{torch.get_num_threads()} threads, {card}, load {os.getloadavg()[0]:.0f} at "
        f"the end; Python {platform.python_version()}, torch {torch.__version__}."
    )


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lines as Markdown; columns as the first line has them."""
    columns = list(lines[0])
    body = [[_cell(line.get(column)) for column in columns] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *body])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).stem


def _commit() -> str:
    def git(*given: str) -> str:
        return subprocess.run(["git", *given], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    others = ("--", ".", f":(exclude){RESULTS.relative_to(ROOT)}")  # the results of earlier runs change no figure
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no", *others) else ""
    return f"commit {git('rev-parse', '--short=12', 'HEAD') or 'unknown'}{changed}"
