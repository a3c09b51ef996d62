"""What people see of a batch: one HTML page that needs no other file, and the threshold's picture.

In: `Contents`, plain facts that the pipeline puts together. Out: HTML and PNG. All text of a data set is hostile and is
escaped here (escape.py), for pages, terminals, logs and Dagster's Markdown alike. Reads no store and no ledger.
"""
