"""Files of training rows, in and out.

In: a file, a folder of shards or a data set's name, and what a user says of it (columns, mapping, encoding). Out:
`Sample`s (turns, who speaks, what is trained on) with row and line, or rejects with the reason; and from the same
source its own rows again, byte for byte, minus those that were removed. Knows nothing of models or verdicts.

    read.py, source.py    opens a source; what it is, row by row
    detect.py, part.py    one file of it: kind, packing (container.py), encoding, shape (json_*.py, csv_dialect.py)
    pieces.py, parse.py   its bytes cut into rows; a row's bytes as columns, or the reason why not (reasons.py)
    row_format.py         the layout of a row by its columns (columns.py, mapping.py), and its turns (row_turns.py,
                          chat.py, pairs.py, text.py)
    sample.py, units.py   what a row is then: turns, who is asked, what is learnt, its id; taken apart for who scores
    table.py, write.py    samples.parquet and rejected.jsonl; the clean set and the quarantine, in the source's format
"""
