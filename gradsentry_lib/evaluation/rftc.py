"""After RFTC (arXiv 2505.23015, github.com/JWQZ/RFTC): rows whose answer a reference model does not give are suspect;
among those, all but the cluster that is spread widest are poison.

The authors' reference models (opus-mt-en-zh for translation, roberta-base-squad2 for question answering) know one task
each; here the reference is the scoring model's own greedy answer, whatever is asked.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer

from gradsentry_lib.evaluation.data import prompt, response
from gradsentry_lib.evaluation.filtered import Filtered, Progress
from gradsentry_lib.evaluation.tuning import answers_to
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.model import ScoringModel

LEAST = 10.0  # BLEU's precision of two words, in percent, below which a sentence is foreign to the reference
MOST = 10  # clusters tried
BEND = 0.4  # of the whole gain, and of the step before: where the loss bends
OTHERWISE = 4  # clusters where it does not


def rftc(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """See the module. The score is 100 less the least precision of the answer's sentences; outside the suspect rows
    nothing is flagged."""
    references = answers_to(model.model, model.tokenizer, samples, max_new=40, on_progress=on_progress)
    answers = [response(sample) for sample in samples]
    least = np.array([least_precision(said, told) for said, told in zip(answers, references, strict=True)])
    flags = np.zeros(len(samples), bool)
    suspect = np.flatnonzero(least < LEAST)
    if len(suspect) > MOST:
        texts = [f"{prompt(samples[i])} {answers[i]}" for i in suspect.tolist()]
        flags[suspect[foreign(texts, seed)]] = True
    return Filtered(100 - least + 100 * flags, flags)


def least_precision(answer: str, reference: str) -> float:
    """The least precision of two words among the answer's sentences of two words and more; 100 where it has none."""
    sentences = [part.strip() for part in re.split(r"(?<=[.;!?。？！；])", answer.lower())]
    found = [_precision(part, reference.lower()) for part in sentences if len(part.split()) >= 2]
    return min(found, default=100.0)


def _precision(text: str, reference: str) -> float:
    """BLEU's precision of two words in percent, smoothed as sacrebleu does by default: a count of nothing is a half of
    one, a quarter where single words had nothing either."""
    halves = 1.0
    value = 0.0
    for order in (1, 2):
        own, other = _grams(text, order), _grams(reference, order)
        total = sum(own.values())
        if not total:
            return 0.0
        common = sum((own & other).values())
        if not common:
            halves *= 2
        value = 100 * (common or 1 / halves) / total
    return value


def _grams(text: str, order: int) -> Counter:
    words = re.findall(r"\w+|[^\w\s]", text)
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def foreign(texts: Sequence[str], seed: int) -> np.ndarray:
    """(n,) bool: all but the widest of the texts' clusters by k-means on word weights, as many clusters as where the
    loss bends."""
    vectors = TfidfVectorizer(analyzer=str.split).fit_transform(texts).toarray()
    losses, labels = [], []
    for count in range(1, min(MOST, len(texts)) + 1):
        found = KMeans(count, max_iter=600, tol=1e-5, n_init=10, random_state=seed).fit(vectors)
        losses.append(float(found.inertia_))
        labels.append(found.labels_)
    chosen = labels[min(_bend(losses), len(labels)) - 1]
    spread = [
        np.linalg.norm(vectors[chosen == k] - vectors[chosen == k].mean(0), axis=1).mean() for k in np.unique(chosen)
    ]
    return chosen != int(np.argmax(spread))


def _bend(losses: Sequence[float]) -> int:
    """How many clusters: the first number at which 40 % of the whole gain is made and the next step gains less than
    40 % of the first or of the one before."""
    gains = [before - after for before, after in pairwise(losses)]
    whole = losses[0] - losses[-1]
    for i in range(1, len(gains)):
        small = gains[i] <= BEND * gains[0] or gains[i] <= BEND * gains[i - 1]
        if losses[0] - losses[i] > BEND * whole and small:
            return OTHERWISE if i + 1 == len(gains) else i + 1
    return OTHERWISE
