"""Other filters for the same job, each written from its paper, behind one interface.

A filter takes samples and a loaded model and returns a score a sample (higher = more suspect) and its own flags. The
papers speak of classifiers; where a method needs a class, all samples of a fine-tuning batch count as one. Which steps
are the papers' and which are not is said in `DIFFERENCES`; a peer with any that matter is called "after-...".
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.stats import median_abs_deviation
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from gradsentry_lib.detection.entropy_threshold import find_threshold
from gradsentry_lib.evaluation import agpd, representations, rftc, robust, tuning
from gradsentry_lib.evaluation.data import prompt, response
from gradsentry_lib.evaluation.filtered import Filter, Filtered, Progress
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.model import ScoringModel
from gradsentry_lib.scoring.scorer import score_samples


def graceful(
    samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None
) -> Filtered:
    """GraCeFul (arXiv 2412.02454): low-frequency lm_head gradients, PCA to 32, two clusters by average cosine distance,
    the smaller one flagged. The score is how much nearer a sample is to the smaller cluster's centre than to the
    larger's."""
    features = representations.low_frequency_gradients(samples, model, on_progress=on_progress)
    reduced = StandardScaler().fit_transform(_principal(features, 32))
    clusters = AgglomerativeClustering(n_clusters=2, metric="cosine", linkage="average").fit_predict(reduced)
    return _smaller_cluster(reduced / np.linalg.norm(reduced, axis=1, keepdims=True), clusters)


def _principal(features: np.ndarray, components: int) -> np.ndarray:
    """(N, components) principal components of (N, M) features with M far above N, through the N x N Gram matrix."""
    centred = features - features.mean(0)
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    keep = min(components, len(features) - 1)
    return vectors[:, ::-1][:, :keep] * np.sqrt(np.maximum(values[::-1][:keep], 0))


def _smaller_cluster(points: np.ndarray, clusters: np.ndarray) -> Filtered:
    """Flags all but the largest cluster; score = distance to the largest cluster's centre less that to the others'."""
    largest = Counter(clusters.tolist()).most_common(1)[0][0]
    flags = clusters != largest
    if not flags.any():
        return Filtered(np.linalg.norm(points - points.mean(0), axis=1), flags)
    to_large = np.linalg.norm(points - points[~flags].mean(0), axis=1)
    to_small = np.linalg.norm(points - points[flags].mean(0), axis=1)
    return Filtered(to_large - to_small, flags)


CUBE_RECIPE = tuning.Recipe(method="lora", epochs=1, rate=2e-5, batch=4)  # GraCeFul's comparison runs it so


def cube(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """CUBE (arXiv 2206.08514), for generation as in GraCeFul's comparison: a model tuned on the suspect data, its
    last hidden states, PCA to 32, UMAP to 2, HDBSCAN; all but the largest cluster is flagged.
    """
    tuned = tuning.fine_tune(model, samples, CUBE_RECIPE, seed, on_progress)
    states = representations.last_states(samples, model, getattr(tuned, tuned.base_model_prefix))
    return cluster_states(states, seed)


def cluster_states(states: np.ndarray, seed: int) -> Filtered:
    """CUBE's second half, on hidden states (N, D).

    UMAP's `n_neighbors` and HDBSCAN's `min_samples` are 100 there, for thousands of rows; here 2.5 % of the rows (at
    least 15 and 5) where that is less, so that a tenth of a small batch can be a cluster.
    """
    from umap import UMAP

    share = round(0.025 * len(states))
    reduced = PCA(min(32, *states.shape), random_state=seed).fit_transform(states)
    near = min(max(15, min(100, share)), len(states) - 1)
    flat = UMAP(n_neighbors=near, min_dist=0, n_components=2, random_state=seed, n_jobs=1).fit_transform(reduced)
    points = StandardScaler().fit_transform(flat)
    clusters = HDBSCAN(min_samples=max(5, min(100, share)), copy=True).fit_predict(points)
    return _smaller_cluster(points, clusters)


def spectral(
    samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None
) -> Filtered:
    """Spectral Signatures (arXiv 1811.00636): squared projection of the centred hidden states on their first singular
    vector; the highest 1.5 * epsilon are flagged, epsilon being the share the defender expects: 0.1 here."""
    states = representations.last_states(samples, model, on_progress=on_progress).astype(np.float64)
    centred = states - states.mean(0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    scores = (centred @ direction) ** 2
    flags = np.zeros(len(scores), dtype=bool)
    flags[np.argsort(-scores, kind="stable")[: round(1.5 * 0.1 * len(scores))]] = True
    return Filtered(scores, flags)


def activation(
    samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None
) -> Filtered:
    """Activation Clustering (arXiv 1811.03728): hidden states, 10 components, k-means with two clusters; the smaller
    is flagged if it holds less than 35 % of the rows."""
    states = representations.last_states(samples, model, on_progress=on_progress)
    reduced = PCA(min(10, *states.shape), random_state=seed).fit_transform(states)
    found = _smaller_cluster(reduced, KMeans(2, n_init=10, random_state=seed).fit_predict(reduced))
    return found if found.flags.mean() < 0.35 else Filtered(found.scores, np.zeros_like(found.flags))


def onion(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """ONION (arXiv 2011.10369): how much the question's perplexity falls without its most suspect word. Made to
    clean words out of single inputs; as a filter of rows it flags what stands three robust deviations out. Only the
    question's first 64 words are tried."""
    scores = np.zeros(len(samples))
    for i, sample in enumerate(samples):
        words = prompt(sample).rsplit("### Question:", 1)[-1].split("### Answer:")[0].split()[:64]
        if len(words) > 1:
            texts = [" ".join(words), *(" ".join(words[:at] + words[at + 1 :]) for at in range(len(words)))]
            perplexity = np.exp(-representations.question_log_likelihoods(texts, model))
            scores[i] = float(np.max(perplexity[0] - perplexity[1:]))
        if on_progress is not None:
            on_progress(1)
    scores = np.sign(scores) * np.log1p(np.abs(scores))  # perplexities differ by orders of magnitude
    middle = np.median(scores)
    return Filtered(scores, scores > middle + 3 * median_abs_deviation(scores, scale="normal"))


def length(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """Nothing but the number of supervised tokens (its logarithm). Flags: the paper's threshold, see `by_valley`."""
    return by_valley(np.log(supervised_tokens(samples, model)))


def supervised_tokens(samples: Sequence[Sample], model: ScoringModel) -> np.ndarray:
    """(N,) int64 supervised tokens of each sample."""
    return np.asarray([encode(sample, model.tokenizer, model.context).supervised for sample in samples])


def nll(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """Nothing but the mean negative log-likelihood of the answer. Flags: the paper's threshold, see `by_valley`."""
    scores = score_samples(samples, model, ScoringConfig(sketch=False), on_progress=on_progress)
    return by_valley(np.asarray([score.nll for score in scores]))


N = 5  # words of an n-gram


def ngram(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """Nothing but text: in how many other answers the answer's commonest 5-gram of words stands (its logarithm); an
    answer of fewer words is one n-gram as a whole. Flags: the paper's threshold, see `by_valley`."""
    grams = [_ngrams(response(sample)) for sample in samples]
    seen = Counter(gram for own in grams for gram in own)
    return by_valley(np.log([max((seen[gram] for gram in own), default=1) for own in grams]))


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return {tuple(words[i : i + N]) for i in range(max(1, len(words) - N + 1))}


def by_valley(scores: np.ndarray) -> Filtered:
    """Scores without a threshold of their own get the paper's, on values scaled to [0, 1]."""
    finite = scores[np.isfinite(scores)]
    spread = float(np.ptp(finite)) if finite.size else 0.0
    scaled = (scores - finite.min()) / spread if spread else np.zeros(len(scores))
    return Filtered(scores, ~(scaled <= find_threshold(scaled).tau))


DIFFERENCES: dict[str, tuple[str, str]] = {  # what is as in the paper or the code, what is not
    "graceful": (
        "As the released code: gradient of the output projection, 2-D DCT, its low eighth, PCA to 32, two "
        "clusters by average cosine distance, the smaller flagged.",
        "The DCT is taken of the gradient's factors, which is the same in exact numbers; each column is "
        "scaled to unit variance after PCA.",
    ),
    "after-cube": (
        "A model tuned on the suspect data (LoRA 4/8, 2e-5, batch 4), last hidden states, PCA to 32, UMAP, "
        "HDBSCAN, all but the largest cluster flagged.",
        "One epoch of tuning (the released configuration: three); UMAP's and HDBSCAN's 100 neighbours become "
        "2.5 % of the rows where that is less.",
    ),
    "after-onion": (
        "The fall of perplexity without one word, by GPT-2 there, by the scoring model here.",
        "Made to clean words out of single inputs; as a filter of rows it flags what stands three deviations "
        "out, on the question's first 64 words.",
    ),
    "after-spectral": (
        "Squared projection on the first singular vector, 1.5 of the expected share removed.",
        "States of the model before tuning, all rows one class; there of the model trained on the poison, "
        "class by class.",
    ),
    "after-activation": (
        "Ten components, k-means with two clusters, the smaller flagged below 35 %.",
        "States and classes as after-spectral; PCA where the paper takes independent components.",
    ),
    "after-spectre": (
        "Robust covariance by fourth moments, quantum entropy scores, 1.5 of the expected share removed, "
        "components chosen of ten, constants as released (alpha 4, tau 0.1, C 10).",
        "States and classes as after-spectral; a tenth is expected where the authors give the true share; at "
        "most a quarter as many components as rows.",
    ),
    "after-demon": (
        "Identity and variation by expectation-maximisation, a mixture of two with the shared covariance, the "
        "likelihood ratio's deviation over classes against e^2.",
        "A batch has no classes: ten clusters of its states stand for them; states reduced to 32; the split "
        "begins along the largest variance, not at random; no clean samples are given.",
    ),
    "after-rftc": (
        "Precision of two words below 10, word weights of question and answer, k-means, the bend of its loss, "
        "all but the widest cluster flagged; as released.",
        "The reference is the scoring model's own greedy answer, there a model made for the task; words are "
        "cut at white space and signs.",
    ),
    "after-agpd": (
        "Yuan et al. 2025: gradient of the label's logit by each layer's output, mean over positions; the least like "
        "its class's reference is the first suspect; anomaly index e^2, else 0.3 in late layers; rounds until ten "
        "stand still; as released in BackdoorBench.",
        "Ten clusters of states for classes, their means for clean samples, the model before tuning; the logits of all "
        "response tokens; a twentieth a round, which the released configuration leaves open.",
    ),
    "CleanGen": (
        "Alpha 20, four tokens drafted, the reference's own choice in place of a suspect token.",
        "The reference is the model before tuning, there another model of the family. A defence of decoding: "
        "beside Table 1 only.",
    ),
}
FORMER = {"cube": "after-cube", "onion": "after-onion", "spectral": "after-spectral", "activation": "after-activation"}

PEERS: dict[str, Filter] = {
    "graceful": graceful,
    "after-cube": cube,
    "after-onion": onion,
    "after-spectral": spectral,
    "after-activation": activation,
    "after-spectre": robust.spectre,
    "after-demon": robust.demon,
    "after-rftc": rftc.rftc,
    "after-agpd": agpd.agpd,
    "length": length,
    "ngram": ngram,
    "nll": nll,
}
