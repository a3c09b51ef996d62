"""What Dagster loads as this project: the stage, called once, in a code location and an instance of its own."""

import dagster as dg

from gradsentry_assets import history  # Dagster takes one Definitions in a module, so that of pruning stays in its own
from gradsentry_assets.factory import gradsentry_assets

defs = dg.Definitions.merge(
    gradsentry_assets(name="", owners=["team:data-quality"]),
    history.pruning,
    # The steps of a batch follow one another, so they share the run's process: the libraries are imported once.
    # `dg.multiprocess_executor` works as well, and gives each step a process and its memory back.
    dg.Definitions(executor=dg.in_process_executor),
)
