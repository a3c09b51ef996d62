"""What the processes run that are killed. Imports all that a scan needs, so that a process forked after it is warm."""

import os
import signal
import sys
from pathlib import Path

import scipy.signal
import scipy.stats  # noqa: F401
import torch
import transformers.models.llama.modeling_llama  # noqa: F401

import gradsentry_lib.scoring.scorer  # noqa: F401
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import run


def scan_once(source: Path, model: Path, home: Path, last_event: int | None = None) -> None:
    """A scan; killed by SIGKILL, as if from outside, at its `last_event`-th touch of a file."""
    torch.set_num_threads(1)
    if last_event is not None:
        count = 0

        def watch(event: str, _: object) -> None:
            nonlocal count
            if event in ("open", "os.rename", "os.chmod", "os.remove", "os.mkdir"):
                count += 1
                if count == last_event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
    run(source, model, Store(home))
