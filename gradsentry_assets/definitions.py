"""What Dagster loads as this project: the stage, called once, in a code location and an instance of its own."""

import dagster as dg

from gradsentry_assets.factory import gradsentry_assets
from gradsentry_assets.history import pruning

defs = dg.Definitions.merge(
    gradsentry_assets(name="", owners=["team:data-quality"]),
    pruning,
    # The steps of a batch follow one another, so they share the run's process: the libraries are imported once.
    # `dg.multiprocess_executor` works as well, and gives each step a process and its memory back.
    dg.Definitions(executor=dg.in_process_executor),
)
