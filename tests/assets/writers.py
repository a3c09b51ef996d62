"""What the processes of test_many_writers do: scans by three ways, as three kinds of users start them.

Scores come from a stand-in for the model; all else is real. Imports what a scan needs, so that a process forked after
it is warm.
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import dagster as dg
import great_expectations  # noqa: F401  what a scan imports when it comes to it
import scipy.signal
import scipy.stats  # noqa: F401
from upath import UPath

from benchmarks.scale import stand_in
from gradsentry_assets.arrivals import list_landing
from gradsentry_assets.definitions import defs
from gradsentry_assets.partitions import range_tags
from gradsentry_assets.receiving import receive
from gradsentry_lib import cli
from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.pipeline.run import scan
from gradsentry_lib.scoring import model, scorer
from gradsentry_lib.store.paths import Store

OPEN = {"max_flagged": 1.0, "warn_flagged": 1.0, "max_unscored": 1.0, "max_rejected": 1.0}
SIGNED = {"limits_by": "Ada", "limits_reason": "what is tried here is the ledger"}


def work(way: str, sources: list[Path], settings: dict[str, str]) -> None:
    """Scans the sources one after the other; any error ends the process with another code than 0."""
    os.environ.update(settings)
    with (
        patch.object(scorer, "score_samples", stand_in),
        patch.object(model, "load_model", lambda identity, whole: SimpleNamespace(whole=whole)),
    ):
        {"command": by_command, "library": by_library, "dagster": by_dagster}[way](sources)


def by_command(sources: list[Path]) -> None:
    limits = [part for name, value in OPEN.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    for source in sources:
        out = source.with_suffix(f".{os.getpid()}")
        sys.argv = ["gradsentry", "scan", str(source), "--out", str(out), "--policy", "paper", *limits]
        sys.argv += ["--by", SIGNED["limits_by"], "--reason", SIGNED["limits_reason"]]
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                cli.main()
            except SystemExit as ended:
                assert not ended.code, f"{source}: exit code {ended.code}"


def by_library(sources: list[Path]) -> None:
    """With the policy that looks back at what the others have scanned meanwhile."""
    for source in sources:
        assert (
            scan(str(source), decision=DecisionConfig("auto", limits=GateLimits(**OPEN), **SIGNED)).published
            is not None
        )


def by_dagster(sources: list[Path]) -> None:
    """One code location with a history of its own, which takes all its batches in one run."""
    instance, store = dg.DagsterInstance.ephemeral(), Store.default()
    folder, names = UPath(sources[0].parent), {source.name for source in sources}
    landed = [one for one in list_landing(folder).values() if one.name in names]
    batches = [receive(one, folder, store.home, {one.url}, []).batch for one in landed]
    instance.add_dynamic_partitions("batches", batches)
    result = defs.resolve_job_def("scan_batch").execute_in_process(
        instance=instance,
        tags=range_tags(batches[0], batches[-1]),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert result.success
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
