"""The steps of one scan, shared by the command line and the Dagster assets.

In: a source, a store, a configuration. Out: what was decided and published, and the ledger's records of it.

    ingest.py   source -> samples.parquet, rejected.jsonl
    score.py    samples.parquet -> scores.parquet
    decide.py   scores.parquet -> threshold, verdicts.parquet, the gate's answer
    publish.py  verdicts.parquet -> clean file, quarantine, report (only where the gate is open)

Each step reads files, writes files into the batch's folder of the store (store/paths.py) and records what it did in the
ledger, last: what the ledger has is done. Each is idempotent: run again on the same inputs, it finds its work done or
does it again with the same result.
"""
