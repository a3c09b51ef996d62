"""Chat templates rendered where they can do no harm: render_process.py, one process a scoring process.

About a tenth of a millisecond a row beside the rendering itself. A template that runs too long takes its process with
it; the next row gets a new one, and after a few such rows the template is not tried again.
"""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

from gradsentry_lib.scoring.render_process import SECONDS

PATIENCE = 120.0  # seconds without an answer, where processor time alone does not say it
TRIES = 3  # rows at which a template is stopped before it is given up
ENDED = f"it ran for more than {SECONDS:g} s or out of memory, and was stopped"


@dataclass(frozen=True, slots=True)
class Rendered:
    """`generated`: the character ranges that the template marks as the assistant's, none where it has no markers."""

    text: str
    generated: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no rendering, in the template's own words.

    `refused`: it raised. `stopped`: it ran too long or wrote too much. `escape`: it reached outside its sandbox.
    `syntax`: it is no template.
    """

    kind: Literal["refused", "stopped", "escape", "syntax"]
    words: str


@dataclass(frozen=True, slots=True)
class Job:
    """One rendering that is wanted. `prompt`: ends with the opening of the next answer."""

    messages: Sequence[dict[str, Any]]
    prompt: bool = False


class Renderer:
    """A rendering process, started when first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped: Counter[str] = Counter()

    def render(
        self, template: str, variables: dict[str, Any], jobs: Sequence[Job], tools: list[Any] | None = None
    ) -> list[Rendered | Failed]:
        """The renderings, in the order of the jobs; fastest where the first is the longest."""
        if self._stopped[template] >= TRIES:
            return [Failed("stopped", ENDED)] * len(jobs)
        pool = {id(message): message for job in jobs for message in job.messages}  # each is sent once
        places = {name: place for place, name in enumerate(pool)}
        renders = [
            {"messages": [places[id(message)] for message in job.messages], "prompt": job.prompt} for job in jobs
        ]
        told = {"template": template, "variables": variables, "tools": tools, "pool": list(pool.values())}
        line = json.dumps({**told, "renders": renders})
        with self._lock:
            answer = self._ask(line)
        if answer is None:
            self._stopped[template] += 1
            return [Failed("stopped", ENDED)] * len(jobs)
        answers = json.loads(answer)
        first = answers[0].get("text", "") if answers else ""
        return [_read(item, first) for item in answers]

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not sent yet has nowhere to go
                    assert stream is not None
                    stream.close()

    def _ask(self, line: str) -> str | None:
        """The process's answer to a line, None where it died over it."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = _start()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            if _ready(process.stdout) and (answer := process.stdout.readline()).endswith("\n"):
                return answer
        except (BrokenPipeError, ValueError):  # it is gone; or its input was closed
            pass
        self.close()
        return None


def _ready(stream: IO[str]) -> bool:
    waiting = select.poll()
    waiting.register(stream, select.POLLIN)
    return bool(waiting.poll(1000 * PATIENCE))


def _start() -> subprocess.Popen[str]:
    """Without this process's environment: a template has no business with what stands in it."""
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("render_process.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in ("TZ",) if name in os.environ},
        text=True,
        encoding="ascii",
    )


def _read(answer: dict[str, Any], first: str) -> Rendered | Failed:
    if "failed" in answer:
        return Failed(answer["failed"], answer["words"])
    text = first[: answer.get("same", 0)] + answer["text"]
    return Rendered(text, tuple((start, end) for start, end in answer["generated"]))


def renderer() -> Renderer:
    """This process's renderer; a forked one gets its own."""
    return _renderer(os.getpid())


@lru_cache(maxsize=1)
def _renderer(pid: int) -> Renderer:
    made = Renderer()
    atexit.register(made.close)
    return made
