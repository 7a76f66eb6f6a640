"""Members' probabilities made into one: closed forms, what is chosen, what few images allow."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from tltool import TltoolError
from tltool.combining import BEST, CANDIDATES, Combination, choose_combination, fit_combination
from tltool.linear.linear_head import softmax
from tltool.metrics import log_losses


def members(skills, n=600, k=4, seed=0, shared=0.5):
    """Members of different skill whose mistakes have something in common."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, n)
    common = random.normal(0, shared, (n, k))
    found = []
    for skill in skills:
        scores = common + random.normal(0, 1, (n, k))
        scores[np.arange(n), targets] += skill
        found.append(softmax(1.5 * scores))
    return np.array(found), targets


def dealt(targets):
    """Five folds."""
    return np.arange(len(targets)) % 5


def mean_loss(weights, probabilities, targets):
    mixed = np.einsum("m,mnk->nk", weights, probabilities)
    return log_losses(mixed, targets).mean()


class TestMethods:
    def test_means(self):
        probabilities, targets = members([1.0, 2.0])
        mean = fit_combination("mean", probabilities, targets, dealt(targets))
        np.testing.assert_allclose(mean.combine(probabilities), probabilities.mean(axis=0))
        geometric = fit_combination("geometric-mean", probabilities, targets, dealt(targets))
        expected = np.sqrt(probabilities[0] * probabilities[1])
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(geometric.combine(probabilities), expected)

    def test_weights_have_the_lowest_log_loss(self):
        """As low as a general minimiser finds, but for the image that each counts beforehand."""
        probabilities, targets = members([0.2, 1.0, 2.0, 0.5], n=4000)
        found = fit_combination("weights", probabilities, targets, dealt(targets)).weights

        def loss(free):
            return mean_loss(softmax(free[None])[0], probabilities, targets)

        best = minimize(loss, np.zeros(4), method="BFGS")
        assert found.sum() == pytest.approx(1)
        assert mean_loss(found, probabilities, targets) == pytest.approx(best.fun, abs=1e-3)
        np.testing.assert_allclose(found, softmax(best.x[None])[0], atol=0.03)

    def test_greedy_selection_is_near_the_best_weights(self):
        probabilities, targets = members([0.1, 1.0, 1.2, 2.0, 0.3, 0.2], n=2000)
        greedy = fit_combination("greedy", probabilities, targets, dealt(targets)).weights
        best = fit_combination("weights", probabilities, targets, dealt(targets)).weights
        equal = np.full(6, 1 / 6)
        losses = [mean_loss(w, probabilities, targets) for w in (best, greedy, equal)]
        assert losses[1] == pytest.approx(losses[0], abs=5e-3)
        assert max(losses[:2]) < losses[2]
        assert greedy[3] == greedy.max()
        assert greedy.sum() == pytest.approx(1)

    def test_greedy_selection_by_hand(self):
        """Of two members that are right about different images, both are taken alike."""
        own = np.array([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9]])
        probabilities = np.stack([own, 1 - own], axis=2)
        found = fit_combination("greedy", probabilities, np.zeros(4, int), dealt(np.zeros(4)))
        np.testing.assert_allclose(found.weights, [0.5, 0.5], atol=0.02)
        useless = np.array([[0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1]])
        probabilities = np.stack([useless, 1 - useless], axis=2)
        found = fit_combination("greedy", probabilities, np.zeros(4, int), dealt(np.zeros(4)))
        np.testing.assert_allclose(found.weights, [1.0, 0.0])

    def test_stacking_is_logistic_regression(self):
        """As good as scikit-learn's on the same log probabilities."""
        probabilities, targets = members([0.5, 1.0, 1.5], n=1500)
        unseen, expected = members([0.5, 1.0, 1.5], n=1500, seed=1)
        found = fit_combination("stacking", probabilities, targets, dealt(targets)).combine(unseen)
        x, y = (np.log(p).transpose(1, 0, 2).reshape(1500, -1) for p in (probabilities, unseen))
        peer = LogisticRegression(max_iter=2000).fit(x, targets)
        own, theirs = (log_losses(p, expected).mean() for p in (found, peer.predict_proba(y)))
        assert own < theirs + 0.01

    def test_stacking_mends_a_member_that_confuses_classes(self):
        probabilities, targets = members([2.0, 2.0], n=1000)
        turned = probabilities[:, :, [1, 0, 3, 2]]  # both name the wrong one of each pair
        stacked = fit_combination("stacking", turned, targets, dealt(targets)).combine(turned)
        assert (stacked.argmax(axis=1) == targets).mean() > 0.7
        assert (turned.mean(axis=0).argmax(axis=1) == targets).mean() < 0.2

    @pytest.mark.parametrize("method", [name for name in CANDIDATES if "mean" not in name])
    def test_an_image_that_weighs_six_counts_as_six(self, method):
        probabilities, targets = members([0.8, 1.0, 1.1], n=300)
        counts = np.where(probabilities[0].argmax(axis=1) == targets, 6, 1)
        several = np.repeat(np.arange(300), counts)
        folds = dealt(targets)
        weighed = fit_combination(method, probabilities, targets, folds, counts.astype(float))
        equal = fit_combination(method, probabilities, targets, folds)
        again = fit_combination(method, probabilities[:, several], targets[several], folds[several])
        unseen, _ = members([0.8, 1.0, 1.1], seed=1)
        said = [made.combine(unseen) for made in (weighed, again, equal)]
        np.testing.assert_allclose(said[0], said[1], atol=1e-3)
        assert np.abs(said[2] - said[1]).max() > 0.02


class TestChoice:
    def test_members_alike_are_averaged(self):
        """There is nothing to weigh them by, and none is as good alone."""
        probabilities, targets = members([1.2] * 4, n=2000)
        found = choose_combination(probabilities, targets, dealt(targets))
        assert found.chosen.method in ("mean", "geometric-mean", "weights")
        np.testing.assert_allclose(found.chosen.weights, 0.25, atol=0.1)
        assert list(found.table) == list(CANDIDATES)
        assert found.note == ""
        own = (probabilities.argmax(axis=2) == targets).mean(axis=1)
        assert found.nested > own.mean()

    def test_useless_members_are_weighed_down(self):
        probabilities, targets = members([2.0, 0.0, 0.0, 0.0, 0.0], n=500)
        found = choose_combination(
            probabilities, targets, dealt(targets), ["mean", "weights", "greedy"]
        )
        assert found.chosen.method in ("weights", "greedy")
        assert found.chosen.weights[0] > 0.8
        assert found.table["mean"][1] > found.table[found.chosen.method][1]

    def test_a_weak_member_does_no_harm(self):
        """One that has nothing to add is left out, or next to it."""
        probabilities, targets = members([3.0, 0.0], n=2000, shared=0.0)
        unseen, expected = members([3.0, 0.0], n=4000, seed=1, shared=0.0)
        found = choose_combination(probabilities, targets, dealt(targets))
        assert found.chosen.method in (BEST, "weights", "greedy", "stacking")
        right = found.chosen.combine(unseen).argmax(axis=1) == expected
        alone = unseen[0].argmax(axis=1) == expected
        assert right.mean() > alone.mean() - 0.005
        assert found.table["mean"][1] > found.table[BEST][1]

    def test_methods_are_compared_as_they_are_calibrated(self):
        """A mean that is too unsure is no worse for it: its own temperature mends that."""
        probabilities, targets = members([1.5, 1.5], n=2000)
        blunt = softmax(0.25 * np.log(probabilities))
        table = choose_combination(blunt, targets, dealt(targets)).table
        mean = np.log(blunt.mean(axis=0))
        scales = 1.0 / np.linspace(0.1, 1.0, 200)
        losses = [log_losses(softmax(mean * scale), targets).mean() for scale in scales]
        assert table["mean"][1] == pytest.approx(min(losses), abs=2e-3)
        assert min(losses) < losses[-1] - 0.1

    def test_the_table_is_of_images_held_out(self):
        """On noise no method is better than guessing, however many weights it has."""
        random = np.random.default_rng(0)
        probabilities = softmax(random.normal(0, 1, (8 * 200, 4))).reshape(8, 200, 4)
        found = choose_combination(probabilities, random.integers(0, 4, 200), np.arange(200) % 5)
        assert all(accuracy < 0.36 for accuracy, _ in found.table.values())
        assert found.nested < 0.36

    def test_one_method_is_taken_as_it_is(self):
        probabilities, targets = members([1.0, 2.0], n=100)
        found = choose_combination(probabilities, targets, dealt(targets), ["greedy"])
        assert (found.chosen.method, found.nested) == ("greedy", None)

    def test_too_few_images(self):
        """They tell nothing of weights, which is said."""
        probabilities, targets = members([1.0, 2.0, 0.1], n=12)
        found = choose_combination(probabilities, targets, dealt(targets))
        assert found.chosen == Combination("mean", found.chosen.weights)
        np.testing.assert_allclose(found.chosen.weights, 1 / 3)
        assert found.note.startswith("12 images that no member was fitted on are too few")

    def test_the_same_again(self):
        probabilities, targets = members([1.0, 2.0, 0.1], n=200)
        methods = ("mean", "weights", "greedy")
        one, two = (
            choose_combination(probabilities, targets, dealt(targets), methods, seed=3)
            for _ in range(2)
        )
        assert one.table == two.table
        np.testing.assert_array_equal(one.chosen.weights, two.chosen.weights)

    def test_unknown_method(self):
        probabilities, targets = members([1.0, 2.0])
        with pytest.raises(TltoolError, match="did you mean 'greedy'"):
            choose_combination(probabilities, targets, dealt(targets), ["gredy"])


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_few_folds_are_enough_for_every_method(folds):
    """What nesting leaves of them are fewer still."""
    probabilities, targets = members([1.0, 2.0], n=60)
    found = choose_combination(probabilities, targets, np.arange(60) % folds)
    assert set(found.table) == set(CANDIDATES)
    assert np.isfinite(found.scores).all()
    assert (found.nested is None) == (folds == 2)
