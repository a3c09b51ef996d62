"""What was removed from a batch, why, by which model, who put it back; and whether the store still says the truth.

In: a store (its ledger, its files) and a question. Out: answers with their sources, or problems by name. It writes
nothing into the store. It stands above the pipeline, because to check a verdict is to derive it again.

    lookup.py     a sample by its id, a row by its text            diff.py     two decisions of a batch
    facts.py      what the ledger has of a batch                   verify.py   all of the checks, in order
    evidence.py   what a check is given                            check_*.py  one kind of check each
    recompute.py  the steps of a scan once more                    heads.py    one line that proves what came before
    recognise.py  the clean set that an altered file once was
"""
