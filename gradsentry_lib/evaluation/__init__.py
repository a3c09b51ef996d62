"""How well does a filter work? Attacks on any clean data set, peers behind one interface, measures, fine-tuning.

In: clean rows, an attack and its ratio, filters. Out: figures with intervals. Nothing of a scan depends on it.

rows       the question, context and answer of a row in any format, as text that an attack can rewrite
attacks    every attack with its source: a trigger (triggers.py) and a target (targets.py), at any ratio, by seed
measures   recall, precision, F1, AUC, recall at a false positive rate, equal-length AUC, bootstrap intervals
peers      the other filters, written from their papers, and the trivial ones
harness    one data set, several filters, one line of figures each
bench      filters side by side on a folder of labelled sets; suite.py makes public ones, bench_result.py the JSON
kept       parts of a long run, so that one that is stopped goes on where it stopped
tuning     does the backdoor die: LoRA and full fine-tuning, attack success, exact match, CleanGen
"""
