"""The regression of the chances, beside scikit-learn's; and that a scan does without scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from gradsentry_lib.detection.distributions import area_under_curve
from gradsentry_lib.detection.regression import calibrated, cross_fitted, stratified
from gradsentry_lib.detection.word_counts import weighed

UNTHOUGHT = """
import sys, numpy as np
from gradsentry_lib.detection.chance import chances
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.word_counts import WordCounts
rows = [["a", "b", "cf"][: 2 + (i % 7 == 0)] + [f"w{i % 5}"] for i in range(60)]
assert chances(WordCounts.of(rows), np.arange(0, 60, 7), [("cf",)], DetectionConfig())
print(*{name.partition(".")[0] for name in sys.modules} & {"sklearn", "pandas"}, "scipy.stats" in sys.modules)
"""


@pytest.mark.parametrize("carriers", [3, 12, 60])
def test_log_odds_and_chances_are_scikit_learns(carriers: int) -> None:
    rng = np.random.default_rng(carriers)
    share = 1 / np.arange(1, 81)
    counts = csr_matrix(rng.multinomial(9, share / share.sum(), 240).astype(float))
    x = np.zeros(240)
    x[rng.choice(240, carriers, replace=False)] = 1
    z = weighed(counts)
    np.testing.assert_allclose(z.toarray(), TfidfTransformer(sublinear_tf=True).fit_transform(counts).toarray())
    folds = min(5, carriers)
    model = LogisticRegression(
        C=3.0, class_weight="balanced", solver="liblinear", random_state=0, tol=1e-9, max_iter=9999
    )
    expected = cross_val_predict(model, z, x, cv=folds, method="decision_function")
    found = cross_fitted(z, x, folds, 3.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert area_under_curve(x, found.round(4)) == pytest.approx(roc_auc_score(x, found.round(4)))
    plain = LogisticRegression(C=1e3, solver="liblinear", random_state=0, tol=1e-9, max_iter=9999)
    expected = plain.fit(found[:, None], x).predict_proba(found[:, None])[:, 1]
    np.testing.assert_allclose(calibrated(found, x), expected, atol=1e-4)


def test_folds_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for folds in (3, 5):
        x = (rng.random(101) < 0.2).astype(float)
        fold = stratified(x, folds)
        for number, (_, held) in enumerate(StratifiedKFold(folds).split(x, x)):
            assert (np.flatnonzero(fold == number) == held).all()


def test_scores_that_part_the_rows_end() -> None:
    x = np.repeat([0.0, 1.0], 30)
    p = calibrated(np.where(x > 0, 7.0, -7.0), x)
    assert (p[x > 0] > 0.99).all() and (p[x == 0] < 0.01).all()


def test_rows_without_words_weigh_nothing() -> None:
    assert weighed(csr_matrix((3, 4))).nnz == 0


def test_chances_need_no_scikit_learn() -> None:
    said = subprocess.run([sys.executable, "-c", UNTHOUGHT], capture_output=True, text=True)
    assert said.stdout.split() == ["False"], said.stderr
