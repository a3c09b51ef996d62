"""GradSentry: finds backdoor poison in fine-tuning data before training, by the gradients of each sample.

Rooms, lower floors first (a room imports only rooms below it):

    errors, system_errors, files, settings  what every room may use
    samples/                          rows in and out: readers, layouts, clean and quarantine writers
    detection/                        what the rows' scores mean together: tests, policies, threshold, verdicts, gate
    scoring/                          one forward pass, all signals of a sample
    store/                            the folder of a store and its ledger (DuckDB): records, journal, statements
    report/                           the threshold picture and the HTML page
    pipeline/                         the steps of one scan, shared by the command and the Dagster assets
    audit/                            what was removed, why, by whom; and whether all of it is still so
    review/                           people's decisions on flagged rows: pages served, recorded, counted, shared
    evaluation/                       attacks, peers, measures
    cli/                              the `gradsentry` command
"""

import os

__version__ = "0.3.0"

# Arrow's own allocator keeps most of what it once had: 100 MB over a scan of 100,000 rows, where the system's gives it
# back. Arrow asks for this once, when it is first used.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
