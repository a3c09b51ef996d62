"""The steps of a run follow one another, so they share its process: PyTorch is imported once."""

import dagster as dg

defs = dg.Definitions(executor=dg.in_process_executor)
