"""What a scan would have found: attacks planted into copies of the batch's own rows, and searched with it.

In: a batch's samples, scores and clean rows. Out: a certificate, figures with intervals. No copy leaves this room: it
is in no clean file, no count of rows, and no other batch.

    canaries     copies of rows with a trigger and a payload, twelve of each of five kinds
    mixtures     which canaries stand among which rows of the batch, drawn many times, and judged like any batch
    certificate  how many of the planted attacks were found, by kind and number of rows

Nothing here needs torch: who calls scores the canaries (pipeline/power.py).
"""
