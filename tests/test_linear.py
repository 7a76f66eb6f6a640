"""Linear classifiers and transforms against scikit-learn, and the choice among them."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import LinearSVC

from tltool import TltoolError
from tltool.linear import (
    CLASSIFIERS,
    VALUES,
    Candidate,
    Choice,
    LinearHead,
    Problem,
    check_transforms,
    choose,
    fit_candidate,
)
from tltool.linear.calibration import fit_temperature
from tltool.linear.centred import moments
from tltool.linear.closed import ClosedForms
from tltool.linear.estimators import RidgeHead
from tltool.linear.held_out import SharedBasis, own_basis
from tltool.linear.smooth import SmoothPath
from tltool.linear.spectrum import Spectrum
from tltool.linear.transforms import (
    Transforms,
    dropout_scaling,
    l2_normalise,
    signed_sqrt,
    standardisation,
    whitening,
)
from tltool.linear.tridiagonal import Tridiagonal

SHAPES = [(400, 30, 5), (120, 300, 4), (300, 20, 2), (2000, 300, 6)]


def blobs(n, d, k, seed=0, spread=1.5):
    random = np.random.default_rng(0)
    centres = random.normal(0, 1, (k, d))
    random = np.random.default_rng(seed)
    targets = np.arange(n) % k
    return (centres[targets] + random.normal(0, spread, (n, d))).astype(np.float32), targets


def two_columns(scores):
    """A binary classifier's one score a row as one for each class."""
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


@pytest.fixture(params=SHAPES, ids=str)
def problem(request):
    n, d, k = request.param
    return *blobs(n, d, k), k


@pytest.fixture(params=["equal", "weighted"])
def weights(request, problem):
    n = len(problem[0])
    drawn = np.random.default_rng(0).integers(0, 4, n).astype(float)
    return None if request.param == "equal" else drawn


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_logistic_regression_is_scikit_learns(problem, weights, C):
    features, targets, k = problem
    spectrum = Spectrum(features, weights)
    head = spectrum.head(SmoothPath(spectrum, targets, k, "logistic-regression").finish(C))
    # one weight vector w instead of -w/2 and w/2, whose squares sum to half of it
    reference = LogisticRegression(C=2 * C if k == 2 else C, max_iter=5000, tol=1e-10)
    reference.fit(features.astype(np.float64), targets, weights)
    expected = reference.predict_proba(features.astype(np.float64))
    np.testing.assert_allclose(head.predict_proba(features), expected, atol=1e-3)


@pytest.mark.parametrize("C", [0.001, 0.1])
def test_svm_is_scikit_learns(problem, weights, C):
    features, targets, k = problem
    spectrum = Spectrum(features, weights)
    head = spectrum.head(SmoothPath(spectrum, targets, k, "svm").finish(C))
    # LinearSVC penalises the bias too, unless it is that of a large constant feature
    reference = LinearSVC(C=C, tol=1e-8, max_iter=10**5, intercept_scaling=100, dual=False)
    reference.fit(features.astype(np.float64), targets, weights)
    expected = two_columns(reference.decision_function(features.astype(np.float64)))
    np.testing.assert_allclose(head.scores(features), expected, atol=0.02)


@pytest.mark.parametrize("alpha", [1.0, 100.0])
def test_ridge_is_scikit_learns(problem, weights, alpha):
    features, targets, k = problem
    forms = ClosedForms(features, targets, k, weights)
    head = forms.head(forms.ridge(alpha))
    reference = RidgeClassifier(alpha=alpha).fit(features.astype(np.float64), targets, weights)
    expected = two_columns(reference.decision_function(features.astype(np.float64)))
    np.testing.assert_allclose(head.scores(features), expected, atol=1e-3)


@pytest.mark.parametrize("shrinkage", [0.05, 0.5, 0.95])
def test_lda_is_scikit_learns(problem, shrinkage):
    features, targets, k = problem
    forms = ClosedForms(features, targets, k)
    head = forms.head(forms.lda(shrinkage))
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    reference.fit(features.astype(np.float64), targets)
    expected = reference.predict_log_proba(features.astype(np.float64))
    scores = head.scores(features).astype(np.float64)
    found = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=0.02)


def test_weights_are_repetitions():
    features, targets = blobs(90, 20, 3)
    counts = np.random.default_rng(0).integers(0, 3, 90)
    weighted = Problem(features, targets, 3, weights=counts.astype(float))
    repeated = Problem(np.repeat(features, counts, axis=0), np.repeat(targets, counts), 3)
    for name in CLASSIFIERS:
        candidate = Candidate(name, ("standardise",), VALUES[name][4])
        np.testing.assert_allclose(
            fit_candidate(weighted, candidate).predict_proba(features),
            fit_candidate(repeated, candidate).predict_proba(features),
            atol=1e-5,
        )


@pytest.mark.parametrize("loss", ["logistic-regression", "svm"])
def test_the_way_along_a_path_does_not_matter(loss):
    features, targets = blobs(2500, 300, 6, spread=4.0)
    spectrum = Spectrum(features)
    path = SmoothPath(spectrum, targets, 6, loss)
    for C in VALUES[loss]:
        kernel, bias = path.advance(C)
        rough = spectrum.coordinates @ kernel + bias
        kernel, bias = SmoothPath(spectrum, targets, 6, loss).finish(C)
        fine = spectrum.coordinates @ kernel + bias
        assert np.mean(rough.argmax(axis=1) == fine.argmax(axis=1)) > 0.98


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_without_images_is_never_likely(name):
    features, targets = blobs(1100, 300, 5, spread=4.0)
    for value in VALUES[name]:
        candidate = Candidate(name, ("standardise",), value)
        problem = Problem(features[:100], targets[:100], 6)
        p = fit_candidate(problem, candidate).predict_proba(features[100:])
        assert np.isfinite(p).all()
        assert (p.argmax(axis=1) != 5).all()
        without = fit_candidate(Problem(features[:100], targets[:100], 5), candidate)
        np.testing.assert_array_equal(
            p.argmax(axis=1), without.scores(features[100:]).argmax(axis=1)
        )


@pytest.mark.parametrize("n", [2600, 3000])
def test_a_large_feature_of_noise_hides_nothing(n):
    """Float32 would lose the others among its rounding errors."""
    features, targets = blobs(n, 100, 3, spread=0.5)
    features[:, 0] = np.random.default_rng(1).normal(0, 3e4, n)
    for dtype in (np.float32, np.float64):
        forms = ClosedForms(features.astype(dtype), targets, 3)
        head = forms.head(forms.ridge(1.0))
        assert np.mean(head.scores(features).argmax(axis=1) == targets) > 0.99


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_an_offset_costs_no_digits(offset):
    features, targets = blobs(4000, 100, 3)
    features = features.astype(np.float64) + offset
    found = RidgeHead(1.0).fit(features, targets).decision_function(features)
    expected = RidgeClassifier(1.0).fit(features, targets).decision_function(features)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("r", [1, 2, 3, 40, 300])
def test_a_tridiagonal_form_solves_for_any_penalty(r, dtype):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(r, r // 2 + 1))
    matrix, columns = (inputs @ inputs.T).astype(dtype), random.normal(size=(r, 4)).astype(dtype)
    form = Tridiagonal(matrix.copy())
    assert form.trace == pytest.approx(np.trace(matrix), rel=1e-5)
    turned = form.turn(columns)
    tolerance = 1e-10 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(
        form.turn_back(form.times(turned)), matrix @ columns, atol=tolerance * np.abs(matrix).max()
    )
    for penalty in (0.1, 10.0):
        found = form.turn_back(form.solve(penalty, turned))
        expected = np.linalg.solve(matrix.astype(np.float64) + penalty * np.eye(r), columns)
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
        assert found.dtype == dtype
    assert np.isfinite(form.solve(0.0, turned)).all()


def test_moments_are_numpys():
    features = np.random.default_rng(0).normal(1e3, 1, (700, 300)).astype(np.float32)
    features[:, 0] = 7.7
    features[:, 1] = 0.0
    weights = np.random.default_rng(1).uniform(0.5, 2, 700)
    mean, deviation = moments(features, weights)
    exact = features.astype(np.float64)
    np.testing.assert_allclose(mean, np.average(exact, axis=0, weights=weights), rtol=1e-12)
    variance = np.average((exact - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(deviation, np.sqrt(variance), rtol=1e-9, atol=1e-12)
    assert deviation[1] == 0 and deviation[0] < 1e-12
    np.testing.assert_allclose(moments(features)[1], exact.std(axis=0), rtol=1e-9, atol=1e-12)


def test_probabilities_survive_large_scores():
    head = LinearHead(np.eye(3, dtype=np.float32) * 1e4, np.zeros(3, np.float32))
    p = head.predict_proba(np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(p, np.eye(3), atol=1e-6)


class TestTransforms:
    features = np.random.default_rng(0).normal(1, 3, (50, 8)).astype(np.float32)

    def test_square_root_keeps_signs(self):
        roots = signed_sqrt(np.array([[-4.0, 0.0, 9.0]], np.float32))
        np.testing.assert_array_equal(roots, [[-2, 0, 3]])

    def test_length_one_for_each_tap(self):
        found = l2_normalise(self.features, (3, 5))
        expected = np.hstack([normalize(self.features[:, :3]), normalize(self.features[:, 3:])])
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert not l2_normalise(np.zeros((2, 3), np.float32)).any()

    def test_standardisation_is_scikit_learns(self):
        found = standardisation(self.features).apply(self.features)
        np.testing.assert_allclose(found, StandardScaler().fit_transform(self.features), atol=1e-4)

    def test_constant_features_get_no_weight(self):
        features = self.features.copy()
        features[:, 2] = 7.25
        step = standardisation(features)
        assert step.scale[2] == 0
        assert not step.apply(features + 1)[:, 2].any()

    def test_whitening_is_principal_components(self):
        found = whitening(self.features, components=3).apply(self.features)
        expected = PCA(3, whiten=True).fit_transform(self.features) * np.sqrt(50 / 49)
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)

    def test_marginalised_dropout_is_the_mean_over_masks(self):
        """The variance that dropout adds to a score is the squared length of scaled weights."""
        random = np.random.default_rng(0)
        weights = random.normal(size=8)
        rate = 0.3
        masks = (random.random((4000, 1, 8)) >= rate) / (1 - rate)
        scores = (self.features * masks) @ weights
        added = scores.var(axis=0).mean()
        scale = dropout_scaling(self.features, rate=rate).scale
        assert added == pytest.approx(np.sum((weights / scale) ** 2), rel=0.05)

    @pytest.mark.parametrize(
        "names",
        [(), ("sqrt", "l2"), ("l2", "standardise"), ("dropout", "whiten"), ("sqrt", "dropout")],
        ids=str,
    )
    def test_folding_changes_nothing(self, names):
        transforms = Transforms(names, (3, 5))
        known = transforms.fit(self.features)
        np.testing.assert_allclose(transforms.apply(self.features), known, atol=1e-5)
        assert known.var(axis=0).mean() == pytest.approx(1, rel=1e-3)
        head = LinearHead(
            np.random.default_rng(1).normal(size=(known.shape[1], 3)).astype(np.float32),
            np.array([1, 2, 3], np.float32),
        )
        folded = transforms.classifier(head)
        np.testing.assert_allclose(
            folded.scores(self.features), head.scores(known), rtol=1e-3, atol=1e-3
        )

    def test_orders_that_cannot_be(self):
        assert check_transforms("sqrt, l2") == ("sqrt", "l2")
        assert check_transforms("none") == ()
        with pytest.raises(TltoolError, match="such as sqrt,standardise"):
            check_transforms("standardise,sqrt")
        with pytest.raises(TltoolError, match="did you mean 'standardise'"):
            check_transforms("standardize")
        with pytest.raises(TltoolError, match="twice"):
            check_transforms("l2,l2")


class TestChoice:
    n_classes = 4
    features, targets = blobs(120, 40, 4, spread=4.0)
    folds = np.arange(120) // 4 % 5
    chains = (("standardise",), ("l2",))

    @property
    def problem(self):
        return Problem(self.features, self.targets, self.n_classes)

    def test_figures_are_those_of_plain_cross_validation(self):
        choice = choose(self.problem, self.folds, ("lda", "ridge"), self.chains, nested=False)
        assert len(choice.table) == 2 * (len(VALUES["lda"]) + len(VALUES["ridge"]))
        for scored in choice.table[::3]:
            hits = []
            for fold in range(5):
                out = self.folds == fold
                known = Problem(self.features[~out], self.targets[~out], self.n_classes)
                scores = fit_candidate(known, scored.candidate).scores(self.features[out])
                hits += list(scores.argmax(axis=1) == self.targets[out])
            assert scored.accuracy == pytest.approx(np.mean(hits))
        assert choice.nested is None
        assert choice.chosen == max(choice.table, key=lambda s: (s.accuracy, -s.log_loss))

    def test_nested_choice_never_sees_the_fold_it_is_judged_on(self):
        choice = choose(self.problem, self.folds, ("lda", "ridge"), self.chains)
        for fold in range(5):
            out = self.folds == fold
            known = Problem(self.features[~out], self.targets[~out], self.n_classes)
            others = np.unique(self.folds[~out], return_inverse=True)[1]
            inner = choose(known, others, ("lda", "ridge"), self.chains, nested=False)
            head = fit_candidate(known, inner.chosen.candidate)
            right = head.scores(self.features[out]).argmax(axis=1) == self.targets[out]
            np.testing.assert_array_equal(choice.nested_hits[out], right)
        assert choice.nested == pytest.approx(choice.nested_hits.mean())

    def test_noise_is_not_flattered(self):
        """Among many candidates the best looks better than chance on noise; nested it does not."""
        flattered, honest = [], []
        for seed in range(6):
            random = np.random.default_rng(seed)
            noise = random.normal(size=(200, 30)).astype(np.float32)
            targets = random.permutation(np.arange(200) % 2)
            problem = Problem(noise, targets, 2)
            choice = choose(problem, np.arange(200) % 5, ("lda", "ridge"), self.chains)
            flattered.append(choice.chosen.accuracy)
            honest.append(choice.nested)
        assert np.mean(flattered) > np.mean(honest) + 0.02
        assert abs(np.mean(honest) - 0.5) < 0.05

    def test_stepwise_classifiers_are_tried_where_ridge_does_best(self):
        choice = choose(self.problem, self.folds, CLASSIFIERS, self.chains)
        ridge = [s for s in choice.table if s.candidate.classifier == "ridge"]
        scout = max(ridge, key=lambda s: (s.accuracy, -s.log_loss)).candidate.transforms
        tried = {s.candidate.transforms for s in choice.table if s.candidate.classifier == "svm"}
        assert tried == {scout}
        alone = choose(self.problem, self.folds, ("svm",), self.chains)
        assert {s.candidate.classifier for s in alone.table} == {"svm"}
        assert {s.candidate.transforms for s in alone.table} == {scout}

    def test_copies_are_fitted_on_and_features_judged_by(self):
        random = np.random.default_rng(1)
        copies = self.features[:, None] + random.normal(1, 2, (120, 3, 40)).astype(np.float32)
        problem = Problem(self.features, self.targets, self.n_classes, copies=copies)
        choice = choose(problem, self.folds, CLASSIFIERS, self.chains, nested=False)
        for scored in choice.table[::4]:
            if scored.candidate.classifier == "logistic-regression":
                continue  # its search stops early, and a hit or two may differ
            hits = []
            for fold in range(5):
                out = self.folds == fold
                stacked = copies[~out].reshape(-1, 40)
                targets = np.repeat(self.targets[~out], 3)
                third = np.full(len(targets), 1 / 3)
                known = Problem(stacked, targets, self.n_classes, weights=third)
                scores = fit_candidate(known, scored.candidate).scores(self.features[out])
                hits += list(scores.argmax(axis=1) == self.targets[out])
            assert scored.accuracy == pytest.approx(np.mean(hits), abs=0.02)

    def test_copies_weigh_as_much_as_one_image(self):
        copies = np.stack([self.features] * 4, axis=1)
        fourfold = Problem(self.features, self.targets, self.n_classes, copies=copies)
        for name in CLASSIFIERS:
            candidate = Candidate(name, ("standardise",), VALUES[name][3])
            np.testing.assert_allclose(
                fit_candidate(fourfold, candidate).scores(self.features),
                fit_candidate(self.problem, candidate).scores(self.features),
                rtol=1e-3,
                atol=1e-3,
            )

    @pytest.mark.parametrize("classifier", CLASSIFIERS)
    def test_classes_of_a_fold_tell_nothing_of_the_choice_judged_there(self, classifier):
        """Where they are exchanged, exactly the other images are right."""
        features, targets = blobs(120, 40, 2, spread=6.0)
        one = choose(Problem(features, targets, 2), self.folds, (classifier,), self.chains)
        out = self.folds == 3
        exchanged = np.where(out, 1 - targets, targets)
        other = choose(Problem(features, exchanged, 2), self.folds, (classifier,), self.chains)
        np.testing.assert_array_equal(one.nested_hits[out], ~other.nested_hits[out])

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("chain", [("l2",), ("sqrt", "l2"), ()])
    def test_a_shared_basis_gives_the_fits_of_each_fold(self, chain, weighted):
        random = np.random.default_rng(2)
        weights = random.uniform(0.2, 2.0, 120) if weighted else None
        problem = Problem(self.features, self.targets, self.n_classes, (15, 25), weights)
        shared = SharedBasis(problem, chain)
        for fold in range(2):
            out = frozenset((fold,))
            split = own_basis(problem, chain, self.folds, out)
            other = shared.split(self.folds, out)
            assert other.design.scatter.sum() == pytest.approx(split.design.scatter.sum(), rel=1e-6)
            for name in ("logistic-regression", "svm"):
                C = VALUES[name][4]
                scores = []
                for one in (split, other):
                    path = SmoothPath(one.design, one.targets, self.n_classes, name)
                    kernel, bias = path.finish(C)
                    scores.append(one.judged.coordinates @ kernel + bias)
                np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-5)

    def test_steps_that_learn_share_no_basis(self):
        with pytest.raises(ValueError, match="learns"):
            SharedBasis(self.problem, ("standardise",))

    def test_two_folds_leave_nothing_to_nest(self):
        choice = choose(self.problem, self.folds % 2, ("lda",), self.chains)
        assert choice.nested is None


class TestExpected:
    """What all images would bring, from the error with one and with two folds held out."""

    @pytest.mark.parametrize("steepness", [0.0, 0.3, 0.9])
    def test_power_laws_are_followed(self, steepness):
        errors = {share: 0.1 * share**-steepness for share in (0.6, 0.8, 1.0)}
        choice = Choice(None, (), 1 - errors[0.8], None, 1 - errors[0.6], 5)
        assert choice.expected == pytest.approx(1 - errors[1.0])

    def test_bounds(self):
        assert Choice(None, (), 0.9, None, 0.95, 5).expected == 0.9
        assert Choice(None, (), 1.0, None, 0.9, 5).expected == 1.0
        assert Choice(None, (), 0.9, None, 0.1, 5).expected == pytest.approx(1 - 0.1 * 0.8)
        assert Choice(None, (), None, None, None, 2).expected is None


def test_temperature_calibrates():
    random = np.random.default_rng(0)
    scores = random.normal(0, 2, (20000, 5))
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    targets = (p.cumsum(axis=1) > random.random((20000, 1))).argmax(axis=1)
    found = fit_temperature(3.0 * scores, targets, np.ones(20000))
    assert found == pytest.approx(3.0, rel=0.05)
    easy = np.eye(4)[np.arange(40) % 4]
    p = np.exp(easy / fit_temperature(easy, np.arange(40) % 4, np.ones(40)))
    assert 0.9 < (p / p.sum(axis=1, keepdims=True)).max() < 0.9999
