"""The one declared test: is there a part of the prompt that changes the answers' gradients, given all else that the
prompt says, and does the untouched model see no reason for it?

What goes in: prompts, answers, span sketches and costs of a batch's rows, and their sample ids. What comes out:
triggers with the rows that they mark, flagged or watched, every one with the figures that decided it. Data flows one
way:

    prompts     -> a prompt as words and traits                             (prompts.py)
    features    -> runs of words and traits of several prompts              (features.py)
    similarity  -> how alike the answers' gradients are: four kernels       (similarity.py)
    statistics  -> the distance of a feature's carriers, for many at once   (statistics.py)
    candidates  -> the few features that this can't dismiss                 (candidates.py, groups.py, left.py)
    trigger     -> their clauses, which each pay for themselves             (trigger.py)
    second look -> a trigger against rows that could have carried it        (second_look.py)
      chance    -> how likely a row is to carry it, from the rest           (chance.py, regression.py)
      tails     -> honest p-values of small groups                          (tails.py, walks.py, loops.py)
      members   -> which carriers behave unlike rows that could have        (members.py)
    ways        -> which way to tell a trigger is taken                     (ways.py)
    same answers -> labels that others get as often: none of its doing      (same_answers.py)
    reason      -> what the model says to the same answers under other prompts (reason.py, asked.py)
    search      -> all of it, in order                                      (search.py)

Around it stands what makes a decision of scores: policies (`auto` is this test, in conditional.py; `paper` is
entropy_threshold.py with length_confounding.py), verdict, gate. Nothing here needs torch. The room reads samples and
sketches, and knows nothing of ledger or reports.
"""
