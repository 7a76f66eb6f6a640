"""Labels in doubt, against the confident joint written out as the paper has it."""

import numpy as np
import pytest

from tltool.label_errors import Suspect, suspected_labels


def off_the_diagonal(probabilities, targets):
    """Rows that the confident joint counts away from its diagonal, and the class of each.

    Equations 1 and 2 of Northcutt, Jiang, Chuang, 2021, image by image; and of these the rows
    whose given class is the less probable one.
    """
    n, k = probabilities.shape
    thresholds = {}
    for j in range(k):
        own = [probabilities[i, j] for i in range(n) if targets[i] == j]
        if own:
            thresholds[j] = sum(own) / len(own)
    found = {}
    for i in range(n):
        above = [j for j in thresholds if probabilities[i, j] >= thresholds[j]]
        if above:
            best = max(above, key=lambda j: probabilities[i, j])
            if probabilities[i, best] > probabilities[i, targets[i]]:
                found[i] = best
    return found


def said(seed, n=200, k=5, wrong=0.1):
    """Probabilities of a fair classifier, and labels some of which are wrong."""
    random = np.random.default_rng(seed)
    true = random.integers(0, k, n)
    scores = random.normal(0, 1, (n, k)) + 3 * np.eye(k)[true]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    other = (true + random.integers(1, k, n)) % k
    return probabilities, np.where(random.random(n) < wrong, other, true)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [2, 5, 30])
def test_those_that_the_paper_finds(seed, k):
    probabilities, targets = said(seed, k=k)
    expected = off_the_diagonal(probabilities, targets)
    found = suspected_labels(probabilities, targets)
    assert {one.row: one.suggested for one in found} == expected
    assert len(expected) > 5


def test_what_is_told_of_each():
    """Class 0 is confident from 0.7 on, class 1 from 0.6."""
    probabilities = np.array([[0.9, 0.1], [0.85, 0.15], [0.35, 0.65], [0.4, 0.6], [0.45, 0.55]])
    (found,) = suspected_labels(probabilities, np.array([0, 0, 0, 1, 1]))
    assert (found.row, found.given, found.suggested) == (2, 0, 1)
    assert found.probability == 0.65
    assert found.margin == pytest.approx(0.3)
    assert all(type(value) in (int, float) for value in vars(found).values())  # as JSON has them


def test_the_threshold_is_what_its_own_images_reach():
    """0.55 is enough for a class whose own images reach 0.5, and not where they reach 0.9."""
    doubted = [0.45, 0.55]
    low = np.array([[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], doubted])
    high = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], doubted])
    targets = np.array([0, 1, 1, 0])
    assert [one.row for one in suspected_labels(low, targets)] == [3]
    assert suspected_labels(high, targets) == []


def test_of_several_confident_classes_the_likeliest_is_suggested():
    rows = [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.25, 0.25, 0.5], [0.1, 0.4, 0.5]]
    (found,) = suspected_labels(np.array(rows), np.array([0, 1, 2, 0]))
    assert found == Suspect(3, 0, 2, 0.5, pytest.approx(0.4))


def test_the_likeliest_class_alone_is_not_enough():
    """Class 2 is the likeliest of the last image, but its own images reach more."""
    rows = [[0.6, 0.2, 0.2], [0.35, 0.36, 0.29], [0.1, 0.1, 0.8], [0.2, 0.36, 0.44]]
    (found,) = suspected_labels(np.array(rows), np.array([0, 1, 2, 0]))
    assert (found.row, found.suggested, found.probability) == (3, 1, 0.36)


def test_a_given_class_that_is_more_probable_is_not_doubted():
    """The third image is as confidently of class 1 as its own image, and of class 0 still more."""
    rows = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]
    assert suspected_labels(np.array(rows), np.array([0, 0, 0, 1])) == []


def test_a_class_without_images_is_never_suggested():
    probabilities = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [0.1, 0.4, 0.5], [0.2, 0.7, 0.1]])
    targets = np.array([0, 0, 1, 1])
    found = suspected_labels(probabilities, targets)
    assert {one.row: one.suggested for one in found} == off_the_diagonal(probabilities, targets)
    assert all(one.suggested != 2 for one in found)


def test_images_that_are_as_probable_as_their_mean_are_confident():
    """The mean of several equal numbers may be rounded up."""
    own = 0.1
    assert sum([own] * 3) / 3 > own
    probabilities = np.array([[0.9, 0.1]] * 3 + [[1 - own, own]] * 3 + [[0.05, own]])
    targets = np.array([0, 0, 0, 1, 1, 1, 0])
    assert [one.row for one in suspected_labels(probabilities, targets) if one.given == 0] == [6]


@pytest.mark.parametrize("p", [1.0, 0.0, 0.5])
def test_equal_probabilities_doubt_nothing(p):
    probabilities = np.tile([p, 1 - p], (6, 1))
    targets = np.array([0, 0, 0, 1, 1, 1])
    found = suspected_labels(probabilities, targets)
    doubted = {1.0: {3, 4, 5}, 0.0: {0, 1, 2}, 0.5: set()}[p]
    assert {one.row for one in found} == doubted


def test_the_most_doubtful_come_first():
    probabilities, targets = said(3, n=400, wrong=0.2)
    found = suspected_labels(probabilities, targets)
    margins = [one.margin for one in found]
    assert margins == sorted(margins, reverse=True) and margins[-1] > 0
    for one in found:
        p = probabilities[one.row]
        assert one.given == targets[one.row]
        assert one.probability == p[one.suggested]
        assert one.margin == pytest.approx(p[one.suggested] - p[one.given])


def test_equally_doubtful_ones_come_in_their_own_order():
    probabilities = np.array([[0.2, 0.8], [0.8, 0.2], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
    targets = np.array([0, 1, 0, 0, 1])
    rows = [one.row for one in suspected_labels(probabilities, targets)]
    assert rows == [0, 1, 2]


def test_most_wrong_labels_are_found_and_few_right_ones():
    probabilities, targets = said(0, n=2000)
    random = np.random.default_rng(0)
    true = random.integers(0, 5, 2000)  # as they were drawn
    found = {one.row for one in suspected_labels(probabilities, targets)}
    wrong = set(np.flatnonzero(true != targets).tolist())
    assert len(found & wrong) > 0.65 * len(wrong)
    assert len(found - wrong) < 0.25 * len(found)
