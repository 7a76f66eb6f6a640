"""Scores of features: closed forms, brute force, and the papers' definitions on small examples."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.neighbors import KNeighborsClassifier

from tltool import transferability
from tltool.transferability import h_score, leep, log_evidence, nce, nearest_neighbours


def examples(n=30, d=5, k=3, seed=0):
    random = np.random.default_rng(seed)
    targets = np.arange(n) % k
    return random.normal(size=(k, d))[targets] + random.normal(size=(n, d)), targets


@pytest.mark.parametrize(("n", "d"), [(30, 5), (12, 20)])
def test_log_evidence_is_the_highest_density(n, d):
    """y ~ N(0, F F^T / alpha + 1 / beta): its logarithm, maximised by another optimiser."""
    features, targets = examples(n, d)

    def density(log_precisions, y):
        alpha, beta = np.exp(log_precisions)
        covariance = features @ features.T / alpha + np.eye(n) / beta
        return -stats.multivariate_normal(np.zeros(n), covariance).logpdf(y)

    expected = []
    for c in range(3):
        y = (targets == c).astype(float)
        starts = [(0.0, 0.0), (3.0, 1.0), (5.0, 2.0)]
        fits = [optimize.minimize(density, s, (y,), method="Nelder-Mead") for s in starts]
        expected.append(-min(fit.fun for fit in fits) / n)
    assert log_evidence(features, targets, 3) == pytest.approx(np.mean(expected), abs=1e-4)


def test_log_evidence_of_many_images_does_not_depend_on_empty_features(monkeypatch):
    """Scores are compared, so they are of the same images whatever the number of features."""
    monkeypatch.setattr(transferability, "_MOST_IMAGES", 40)
    features, targets = examples(60)
    wide = np.hstack([features, np.zeros((60, 50))])
    assert log_evidence(wide, targets, 3) == pytest.approx(log_evidence(features, targets, 3))


def test_log_evidence_leaves_out_classes_without_images_and_bears_constants():
    features, targets = examples()
    assert log_evidence(features, targets, 3) == log_evidence(features, targets * 2, 6)
    constant = np.hstack([features, np.zeros((30, 2))])
    assert np.isfinite(log_evidence(constant, targets, 3))


@pytest.mark.parametrize(("n", "d"), [(40, 6), (15, 30)])
def test_h_score_is_the_trace(n, d):
    features, targets = examples(n, d)
    centred = features - features.mean(axis=0)
    s = ledoit_wolf_shrinkage(centred, assume_centered=True)
    covariance = centred.T @ centred / n
    shrunk = (1 - s) * covariance + s * np.trace(covariance) / d * np.eye(d)
    means = np.stack([centred[targets == c].mean(axis=0) for c in range(3)])[targets]
    expected = (1 - s) * np.trace(np.linalg.solve(shrunk, means.T @ means / n))
    assert h_score(features, targets) == pytest.approx(expected, rel=1e-9)


def test_h_score_of_separate_classes_is_their_number_less_one():
    targets = np.repeat(np.arange(4), 200)
    random = np.random.default_rng(0)
    features = 100.0 * np.eye(4)[targets] + random.normal(size=(800, 4))
    assert h_score(features, targets) == pytest.approx(3, abs=0.05)
    assert h_score(random.normal(size=(800, 4)), targets) < 0.05


def test_leep_by_the_papers_three_steps():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    targets = np.array([0, 0, 1])
    joint = np.array([[1.5, 0.5], [0.2, 0.8]]) / 3  # P(y, z)
    given = joint / joint.sum(axis=0)  # P(y | z)
    expected = np.log([p[0] @ given[0], p[1] @ given[0], p[2] @ given[1]]).mean()
    assert leep(p, targets) == pytest.approx(expected)
    assert leep(np.eye(2)[targets], targets) == pytest.approx(0)


def test_nce_is_minus_the_conditional_entropy():
    source = np.array([0, 0, 0, 0, 7, 7])
    targets = np.array([0, 0, 1, 1, 1, 1])
    assert nce(source, targets) == pytest.approx(-4 / 6 * np.log(2))
    assert nce(targets, targets) == 0
    ones = nce(np.zeros(6, int), targets)
    assert ones == pytest.approx(-stats.entropy([2 / 6, 4 / 6]))


def test_nearest_neighbours_as_scikit_learn_finds_them():
    features, targets = examples(60, 8)
    expected = []
    for i in range(60):
        others = np.arange(60) != i
        knn = KNeighborsClassifier(1, metric="cosine").fit(features[others], targets[others])
        expected.append(knn.predict(features[i : i + 1])[0] == targets[i])
    found = nearest_neighbours(features, targets, np.arange(60), k=1)
    np.testing.assert_array_equal(found, expected)


def test_copies_are_no_neighbours():
    features = np.array([[1, 0], [1, 0.01], [0, 1], [0.9, 0.5]])
    targets = np.array([0, 0, 1, 1])
    apart = nearest_neighbours(features, targets, np.arange(4), k=1)
    together = nearest_neighbours(features, targets, np.array([0, 0, 1, 2]), k=1)
    assert apart.tolist() == [True, True, True, False]
    assert together.tolist() == [False, False, True, False]
    alone = nearest_neighbours(features[:2], targets[:2] + 1, np.array([0, 0]), k=5)
    assert not alone.any()  # nothing to go by


def test_most_of_the_nearest_decide():
    features = np.array([[1, 0], [0.99, 0.1], [0.95, 0.3], [0.94, 0.3]])
    targets = np.array([1, 0, 1, 1])
    assert nearest_neighbours(features, targets, np.arange(4), k=3)[0]
    assert not nearest_neighbours(features, targets, np.arange(4), k=1)[0]


def test_features_that_tell_nothing_or_everything():
    """Constant ones, and images that are alike within their class: no crash, no infinities."""
    targets = np.array([0, 0, 0, 1, 1, 1])
    for features in (np.zeros((6, 4)), np.ones((6, 4))):
        assert np.isfinite(log_evidence(features, targets, 2))
        assert h_score(features, targets) == pytest.approx(0, abs=1e-6)
    random = np.random.default_rng(0)
    for d in (3, 40):
        alike = random.normal(size=(2, d))[targets]
        for noise in (0.0, 1e-7):
            features = alike + noise * random.normal(size=alike.shape)
            assert np.isfinite(log_evidence(features, targets, 2))
            assert h_score(features, targets) == pytest.approx(1, abs=0.01)


def test_many_images_are_looked_at_in_part():
    random = np.random.default_rng(0)
    targets = np.arange(24_000) % 3
    features = (random.normal(size=(3, 4))[targets] + random.normal(size=(24_000, 4))).astype("f4")
    part = slice(None, None, 8)
    for score in (h_score, lambda f, t: log_evidence(f, t, 3)):
        assert score(features, targets) == pytest.approx(score(features[part], targets[part]), 0.1)
    hits = nearest_neighbours(features, targets, np.arange(24_000))
    assert hits.shape == (3000,)
    few = nearest_neighbours(features[part], targets[part], np.arange(3000))
    assert hits.mean() == pytest.approx(few.mean(), abs=0.05)
