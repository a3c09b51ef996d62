"""What people decide about flagged rows: decisions from a page into the ledger (decisions.py), all batches and what
waits in them (batches.py), how often people overruled which evidence (stats.py), groups for other teams (export.py),
and the local server that shows all of it (server.py)."""
