"""Files of training rows, in and out.

In: a file, a folder of shards or a data set's name, and what a user says of it (columns, mapping, encoding). Out:
`Sample`s (turns, who speaks, what is trained on) with row and line, or rejects with the reason; and from the same
source its own rows again, byte for byte, minus those that were removed. Knows nothing of models or verdicts.

    read.py      opens a source                        source.py, part.py, parts.py   its files and pieces
    detect.py    what kind of file it is               row_format.py, mapping.py      the layout of a row
    sample.py    what a row is: turns, id              chat.py, pairs.py, text.py     layouts that need more
    table.py     samples.parquet and rejected.jsonl    write.py                       clean set and quarantine
"""
