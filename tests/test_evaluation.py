"""Figures against scikit-learn and closed forms; intervals against what they promise."""

import numpy as np
import pytest
from sklearn import metrics as reference

from tltool.evaluation import evaluate_predictions, majority_class, wilson_interval
from tltool.metrics import METRICS, expected_calibration_error


def predictions(n=300, k=5, seed=0, skill=1.5):
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, n)
    scores = random.normal(0, 1, (n, k))
    scores[np.arange(n), targets] += skill
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), targets


def test_figures_are_scikit_learns():
    probabilities, targets = predictions()
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": reference.accuracy_score(targets, predicted),
        "mean_class_accuracy": reference.balanced_accuracy_score(targets, predicted),
        "macro_f1": reference.f1_score(targets, predicted, average="macro"),
        "log_loss": reference.log_loss(targets, probabilities),
    }
    for name, value in expected.items():
        assert METRICS[name](probabilities, targets, np.ones((1, 300)))[0] == pytest.approx(
            value, abs=1e-6
        )


@pytest.mark.parametrize("name", METRICS)
def test_weights_are_repetitions(name):
    probabilities, targets = predictions(40)
    counts = np.random.default_rng(1).integers(0, 4, 40)
    weighted = METRICS[name](probabilities, targets, counts[None].astype(float))[0]
    rows = np.repeat(np.arange(40), counts)
    repeated = METRICS[name](probabilities[rows], targets[rows], np.ones((1, len(rows))))[0]
    assert weighted == pytest.approx(repeated, abs=1e-6)


def test_calibration_error_in_closed_form():
    """Ten images at 0.9 of which 6 are right, ten at 0.6 of which 6 are right: 0.15."""
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    targets = np.array([0] * 6 + [1] * 4 + [0] * 6 + [1] * 4)
    error = expected_calibration_error(probabilities, targets, np.ones((1, 20)))
    assert error[0] == pytest.approx(0.15)


def test_absent_classes_do_not_count():
    probabilities = np.eye(4)[[0, 1, 1, 0]]
    result = evaluate_predictions(probabilities, np.array([0, 1, 1, 1]), majority=1)
    assert result.metrics["mean_class_accuracy"].value == pytest.approx((1 + 2 / 3) / 2)
    assert result.confusion.sum() == 4
    assert result.confusion[1, 0] == 1


def test_wilson_interval():
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81 of 263, and 0 of 20."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_intervals_are_seeded_and_hold_the_value():
    probabilities, targets = predictions()
    first = evaluate_predictions(probabilities, targets, majority=0, seed=1)
    again = evaluate_predictions(probabilities, targets, majority=0, seed=1)
    other = evaluate_predictions(probabilities, targets, majority=0, seed=2)
    assert first.metrics == again.metrics != other.metrics
    for interval in first.metrics.values():
        assert interval.low <= interval.value <= interval.high
    assert list(first.metrics) == list(METRICS)


@pytest.mark.parametrize("name", ["mean_class_accuracy", "log_loss"])
def test_intervals_cover_the_truth(name):
    """Of 60 small test sets, about 95 % of the intervals must hold a very large set's figure."""
    truth = METRICS[name](*predictions(200_000, seed=99), np.ones((1, 200_000)))[0]
    held = 0
    for seed in range(60):
        interval = evaluate_predictions(*predictions(200, seed=seed), majority=0).metrics[name]
        held += interval.low <= truth <= interval.high
    assert held >= 51


def test_baselines():
    probabilities, targets = predictions()
    result = evaluate_predictions(probabilities, targets, majority=2)
    assert result.baselines == {"majority_class": np.mean(targets == 2), "chance": 0.2}
    assert majority_class([2, 2, 0, 1, 1], 3) == 1
