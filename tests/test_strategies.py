"""Heads against scikit-learn, folds against their rules, and the contract of every strategy."""

from pathlib import Path

import numpy as np
import pytest
from conftest import class_folders
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tltool import Backbone
from tltool.data import Example, check_listing, read_listing, split_dataset
from tltool.features import FeatureSource, FeatureStore
from tltool.strategies import STRATEGIES
from tltool.strategies.folds import stratified_folds
from tltool.strategies.logistic import fit_logistic, fit_logistic_path
from tltool.strategies.off_the_shelf import _falling


def blobs(n, d, k, seed=0):
    random = np.random.default_rng(seed)
    targets = np.arange(n) % k
    centres = random.normal(0, 1, (k, d))
    scales = random.uniform(0.01, 30, d)
    features = (centres[targets] + random.normal(0, 1.5, (n, d))) * scales + 5
    return features.astype(np.float32), targets


@pytest.mark.parametrize(("n", "d", "k"), [(400, 30, 5), (120, 300, 4), (300, 20, 2)])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_logistic_regression_is_scikit_learns(n, d, k, C):
    features, targets = blobs(n, d, k)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000, tol=1e-10))
    if k == 2:  # one weight vector w instead of -w/2 and w/2, whose squares sum to half of it
        reference[-1].C = 2 * C
    reference.fit(features.astype(np.float64), targets)
    head = fit_logistic(features, targets, k, C)
    new, _ = blobs(200, d, k, seed=1)
    expected = reference.predict_proba(new.astype(np.float64))
    np.testing.assert_allclose(head.predict_proba(new), expected, atol=2e-3)


def test_path_comes_to_the_same_heads():
    features, targets = blobs(300, 40, 4)
    for value, head in zip(
        (0.01, 0.1, 1.0), fit_logistic_path(features, targets, 4, (0.01, 0.1, 1.0)), strict=True
    ):
        direct = fit_logistic(features, targets, 4, value).predict_proba(features)
        np.testing.assert_allclose(head.predict_proba(features), direct, atol=0.02)


def test_constant_features_get_no_weight():
    features, targets = blobs(100, 5, 2)
    features[:, 2] = 7.25
    head = fit_logistic(features, targets, 2, 1.0)
    assert (head.kernel[2] == 0).all()
    assert np.isfinite(head.predict_proba(features)).all()


def test_probabilities_survive_large_scores():
    from tltool.strategies import LinearHead

    head = LinearHead(np.eye(3, dtype=np.float32) * 1e4, np.zeros(3, np.float32))
    p = head.predict_proba(np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(p, np.eye(3), atol=1e-6)


def examples(counts, together=()):
    rows = []
    for label, n in counts.items():
        for i in range(n):
            h = f"{label}{i}".encode()
            group = b"together" if f"{label}{i}" in together else h
            rows.append(Example(Path("x"), h.decode(), label, h, group))
    return rows


class TestFolds:
    def test_every_class_is_spread(self):
        rows = examples({"a": 20, "b": 11})
        folds = stratified_folds(rows, 5, 0)
        for label in "ab":
            counts = np.bincount([f for f, e in zip(folds, rows, strict=True) if e.label == label])
            assert len(counts) == 5
            assert counts.max() - counts.min() <= 1

    def test_groups_stay_together(self):
        rows = examples({"a": 20, "b": 20}, together={"a1", "a7", "b3"})
        folds = stratified_folds(rows, 5, 0)
        assert len({f for f, e in zip(folds, rows, strict=True) if e.group == b"together"}) == 1

    def test_order_does_not_matter(self):
        rows = examples({"a": 20, "b": 11})
        first = dict(zip([e.name for e in rows], stratified_folds(rows, 5, 3), strict=True))
        again = dict(
            zip([e.name for e in rows[::-1]], stratified_folds(rows[::-1], 5, 3), strict=True)
        )
        assert first == again
        other = dict(zip([e.name for e in rows], stratified_folds(rows, 5, 4), strict=True))
        assert first != other

    def test_few_images_make_fewer_folds_or_none(self):
        assert stratified_folds(examples({"a": 20, "b": 4}), 5, 0).max() == 3
        assert stratified_folds(examples({"a": 20, "b": 1}), 5, 0).max() == 2
        assert stratified_folds(examples({"a": 2, "b": 1}), 5, 0).max() == 1
        assert stratified_folds(examples({"a": 1, "b": 1}), 5, 0) is None


def test_falling():
    assert _falling([0.5, 0.7, 0.6, 0.5])
    assert not _falling([0.5, 0.7, 0.7, 0.6])
    assert not _falling([0.7, 0.6])


@pytest.fixture(scope="module")
def fitted_strategies(tmp_path_factory):
    root = tmp_path_factory.mktemp("strategies")
    data, _ = check_listing(read_listing(class_folders(root / "photos", n=15)))
    data, _ = split_dataset(data, seed=0, test=0.3, val=0.1)
    with FeatureStore(root / "store") as store:
        source = FeatureSource(Backbone("cifar-resnet20"), store)
        yield {
            name: (data, strategy().fit(source, data, seed=0))
            for name, strategy in STRATEGIES.items()
        }


@pytest.mark.parametrize("name", STRATEGIES)
class TestContract:
    def test_probabilities(self, fitted_strategies, name):
        data, fitted = fitted_strategies[name]
        probabilities = fitted.predict_proba(data.of("test"))
        assert probabilities.shape == (len(data.of("test")), 3)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        accuracy = np.mean(probabilities.argmax(axis=1) == data.targets(data.of("test")))
        assert accuracy > 0.6  # chance is a third
        assert fitted.labels == data.labels

    def test_model_takes_raw_pixels_and_agrees(self, fitted_strategies, name):
        from tltool.data import canvas

        data, fitted = fitted_strategies[name]
        model = fitted.build_model()
        assert model.input.dtype == "uint8"
        assert model.layers[-1].name == "predictions"
        some = data.of("test")
        pixels = np.stack([canvas(e.path.read_bytes(), (32, 32)) for e in some])
        np.testing.assert_allclose(
            model.predict(pixels, verbose=0), fitted.predict_proba(some), atol=1e-4
        )

    def test_choices_are_json(self, fitted_strategies, name):
        import json

        choices = fitted_strategies[name][1].choices
        assert json.loads(json.dumps(choices)) == choices


def test_off_the_shelf_says_when_it_cannot_cross_validate(tmp_path, caplog):
    data, _ = check_listing(read_listing(class_folders(tmp_path / "photos", n=2)))
    data, _ = split_dataset(data, seed=0, test=0.3, val=0.0)
    with FeatureStore(tmp_path / "store") as store:
        source = FeatureSource(Backbone("cifar-resnet20"), store)
        fitted = STRATEGIES["off-the-shelf"]().fit(source, data, seed=0)
    assert fitted.choices["folds"] == 0
    assert "could not be chosen by cross-validation" in caplog.text
