"""GradSentry: finds backdoor poison in fine-tuning data before training, by the gradients of each sample.

Rooms, lower floors first (a room imports only rooms below it):

    errors, trouble, files, settings  what every room may use
    samples/                          rows in and out: readers, formats, clean and quarantine writers
    filtering/                        what scores mean together: threshold, trust, coherence, evidence, policy, verdict
    ledger/                           DuckDB: batches, scans, gates, verdicts, overrides; audit and attestation
    report/                           the threshold picture and the HTML page
    scoring/                          one forward pass, all signals of a sample
    scan/                             the steps of one scan, shared by the CLI and the Dagster assets
    evaluation/                       attacks, peers, measures
    cli/                              the `gradsentry` command
"""

import os

__version__ = "0.3.0"

# Arrow's own allocator keeps most of what it once had: 100 MB over a scan of 100,000 rows, where the system's gives it
# back. Arrow asks for this once, when it is first used.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
