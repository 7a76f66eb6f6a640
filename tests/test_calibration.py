"""Probabilities that can be believed: how scores are calibrated, what is kept and shown of it."""

import csv
import json

import numpy as np
import pytest
from conftest import class_folders
from typer.testing import CliRunner

import tltool
from tltool import TltoolError
from tltool.cli import app
from tltool.linear import VALUES, Candidate, Problem, fit_candidate, out_of_fold_scores
from tltool.linear.calibration import Calibration, choose_calibration, fit_temperature, fit_vector
from tltool.linear.linear_head import LinearHead, softmax
from tltool.linear.transforms import Classifier
from tltool.metrics import coverage, expected_calibration_error, log_losses, reliability
from tltool.report.confidence import confidence_charts


def drawn(n, k=4, seed=0):
    """Calibrated scores, and targets that follow their softmax."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 2, (n, k))
    odds = softmax(scores).cumsum(axis=1)
    return scores, (random.random((n, 1)) > odds).sum(axis=1).clip(0, k - 1)


def dealt(n):
    """Five folds."""
    return np.arange(n) % 5


FACTORS = np.array([1.5, 1.0, 0.7, 1.2])
OFFSETS = np.array([0.8, -0.5, 0.0, -0.3])


class TestChoice:
    def test_vector_scaling_undoes_what_was_done(self):
        scores, targets = drawn(20_000)
        distorted = (scores - OFFSETS) / FACTORS
        found = fit_vector(distorted, targets, np.ones(20_000), 1.0)
        np.testing.assert_allclose(found.scale, FACTORS, atol=0.08)
        moved = found.offset - found.offset.mean()
        np.testing.assert_allclose(moved, OFFSETS - OFFSETS.mean(), atol=0.06)

    def test_of_few_images_it_stays_near_the_temperature(self):
        scores, targets = drawn(12)
        found = fit_vector(scores, targets, np.ones(12), 2.0)
        assert np.abs(2.0 * found.scale - 1).max() < 0.5

    def test_taken_where_it_shows(self):
        scores, targets = drawn(3_000)
        assert (
            choose_calibration((scores - OFFSETS) / FACTORS, targets, dealt(3_000)).method
            == "vector"
        )

    @pytest.mark.parametrize("n", [5, 20, 100, 1_000])
    def test_a_temperature_where_nothing_more_shows(self, n):
        methods = []
        for seed in range(20):
            scores, targets = drawn(n, seed=seed)
            found = choose_calibration(3.0 * scores, targets, dealt(n))
            methods.append(found.method)
            if found.method == "temperature":
                expected = fit_temperature(3.0 * scores, targets, np.ones(n))
                assert found.temperature == pytest.approx(expected)
        assert methods.count("temperature") >= 18

    def test_what_is_calibrated_stays_unless_a_temperature_shows(self):
        """Then the log loss of what a combination gives is no worse than before."""
        kept = 0
        for seed in range(20):
            scores, targets = drawn(150, seed=seed)
            found = choose_calibration(scores, targets, dealt(150), calibrated=True)
            kept += found.temperature == 1.0
        assert kept >= 12
        scores, targets = drawn(150)
        assert choose_calibration(scores, targets, dealt(150)).temperature != 1.0
        found = choose_calibration(2.0 * scores, targets, dealt(150), calibrated=True)
        assert found.temperature == pytest.approx(
            fit_temperature(2.0 * scores, targets, np.ones(150))
        )
        assert choose_calibration(scores, targets, None, calibrated=True).temperature == 1.0

    def test_vector_scaling_of_what_is_calibrated(self):
        """Taken where it shows, and there it begins with scores as they are."""
        scores, targets = drawn(3_000)
        distorted = (scores - OFFSETS) / FACTORS
        found = choose_calibration(distorted, targets, dealt(3_000), calibrated=True)
        assert found.method == "vector"
        np.testing.assert_allclose(found.scale, FACTORS, atol=0.2)

    def test_weights_are_counted(self):
        """Images that weigh nothing say nothing."""
        scores, targets = drawn(400)
        weights = np.repeat([1.0, 0.0], 200)
        wrong = np.concatenate([targets[:200], (targets[200:] + 1) % 4])
        found = choose_calibration(scores, wrong, dealt(400), weights=weights)
        apart = choose_calibration(scores[:200], targets[:200], dealt(200))
        assert found.temperature == pytest.approx(apart.temperature, rel=0.02)

    def test_nothing_to_tell_by(self):
        found = Calibration.of_temperature(1.0, 3, 0)
        assert (found.method, found.temperature) == ("none", 1.0)
        scores, targets = drawn(3_000)
        assert choose_calibration((scores - OFFSETS) / FACTORS, targets, None).method != "vector"
        assert "no images" in found.in_words()

    def test_undone(self):
        scores, targets = drawn(50)
        found = fit_vector(scores, targets, np.ones(50), 3.0)
        np.testing.assert_allclose(found.undo(found.apply(scores)), scores)
        assert "factors of the classes" in found.in_words()


def test_scaled_heads():
    random = np.random.default_rng(0)
    features = random.normal(size=(6, 5)).astype(np.float32)
    head = LinearHead.of(random.normal(size=(5, 4)), random.normal(size=4))
    expected = head.scores(features) * FACTORS + OFFSETS
    np.testing.assert_allclose(
        head.scaled(FACTORS, OFFSETS).scores(features), expected, rtol=1e-4, atol=1e-5
    )
    whole = Classifier((), None, head).scaled(FACTORS, OFFSETS)
    np.testing.assert_allclose(whole.scores(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chain", [("standardise",), ("sqrt", "l2")])
@pytest.mark.parametrize("name", VALUES)
def test_out_of_fold_scores_are_those_of_fits_without_the_fold(name, chain):
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 90)
    features = random.normal(size=(90, 12)).astype(np.float32)
    features[np.arange(90), targets] += 1.5
    folds = np.arange(90) % 3
    candidate = Candidate(name, chain, VALUES[name][4])
    found = out_of_fold_scores(Problem(features, targets, 3), candidate, folds)
    for fold in range(3):
        out = folds == fold
        known = Problem(features[~out], targets[~out], 3)
        expected = fit_candidate(known, candidate).scores(features[out])
        np.testing.assert_allclose(found[out], expected, rtol=0.05, atol=0.05)


class TestFigures:
    def test_bins_are_those_of_the_calibration_error(self):
        scores, targets = drawn(500)
        probabilities = softmax(1.7 * scores)
        bins = reliability(probabilities, targets)
        assert sum(one.n for one in bins) == 500
        gaps = sum(one.n * abs(one.confidence - one.accuracy.value) for one in bins)
        error = expected_calibration_error(probabilities, targets, np.ones((1, 500)))[0]
        assert gaps / 500 == pytest.approx(error)
        for one in bins:
            assert one.start < one.confidence <= one.end
            assert one.accuracy.low <= one.accuracy.value <= one.accuracy.high

    def test_coverage(self):
        probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.55, 0.45]])
        share, right = coverage(probabilities, np.array([0, 0, 1, 1]), 0.6)
        assert (share, right.value) == (0.75, pytest.approx(2 / 3))
        assert coverage(probabilities, np.array([0, 0, 1, 1]), 0.95) == (0.0, None)

    @pytest.mark.parametrize("n", [1, 3, 400])
    def test_charts_of_any_number_of_images(self, n):
        scores, targets = drawn(n)
        charts = confidence_charts(softmax(scores), targets)
        places = [tuple(map(float, p.split(","))) for p in charts.line.split()]
        assert places and all(0 <= x <= 240 and -0.1 <= y <= 240.1 for x, y in places)
        assert places[-1][0] == 240
        shares = [share for _, share, *_ in charts.rows]
        assert shares == sorted(shares, reverse=True)


@pytest.fixture(scope="module", params=["off-the-shelf", "frozen-head"])
def run(request, tmp_path_factory):
    """A run of each kind on photos that are hard to tell apart."""
    root = tmp_path_factory.mktemp("calibrated")
    data = class_folders(root / "photos", n=30)
    for i, photo in enumerate(sorted(data.rglob("*.png"))):
        if i % 5 == 0:  # some labels are wrong
            other = "red" if photo.parent.name != "red" else "blue"
            photo.rename(data / other / f"moved{i}.png")
    given = {} if request.param == "off-the-shelf" else {"epochs": 3}
    result = tltool.adapt(
        data,
        strategy=request.param,
        backbone="cifar-resnet20",
        out=root / "run",
        store=root / "store",
        val=0.3,
        **given,
    )
    return data, result


def rows_of(path):
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return rows


class TestInARun:
    def test_what_was_held_out_is_kept(self, run):
        """Of images that were learned from or validated by, and of no test image."""
        _, result = run
        split = {row[0]: row[2] for row in rows_of(result.run / "dataset.csv")}
        kept = rows_of(result.run / "held_out.csv")
        splits = {split[row[0]] for row in kept}
        assert splits == ({"train", "val"} if result.strategy == "off-the-shelf" else {"val"})
        assert len(kept) == result.calibration["images"]
        for row in kept:
            assert sum(map(float, row[3:])) == pytest.approx(1, abs=1e-5)

    def test_before_and_after(self, run):
        """Figures of the test images, with the calibration and with it taken back."""
        _, result = run
        facts = json.loads((result.run / "run.json").read_text())["calibration"]
        assert facts == result.calibration
        assert facts["after"]["log_loss"] == result.evaluation.metrics["log_loss"].value
        assert facts["method"] == "temperature"
        tested = tltool.Run(result.run).tested()
        raw = softmax(facts["temperature"] * np.log(np.maximum(tested.probabilities, 1e-12)))
        before = log_losses(raw, tested.targets).mean()
        assert facts["before"]["log_loss"] == pytest.approx(before, rel=1e-3)
        text = dict(result.described)["Calibration"]
        assert text.startswith(f"temperature {facts['temperature']:.3g}")
        assert "before" in text
        assert "Can its confidence be believed?" in (result.run / "report.html").read_text()

    def test_unsure(self, run):
        data, result = run
        photos = sorted((data / "red").iterdir())[:8]
        every, _ = tltool.predict(result.run, photos)
        surest = sorted(one.top[0][1] for one in every)
        middle = (surest[3] + surest[4]) / 2
        told, _ = tltool.predict(result.run, photos, min_confidence=middle)
        assert sum(one.unsure for one in told) == 4
        for one, before in zip(told, every, strict=True):
            assert one.top == before.top
            assert one.unsure == (one.top[0][1] < middle)
            assert one.answer == ("unsure" if one.unsure else one.top[0][0])
            assert (one.as_json()["predicted"] is None) == one.unsure
        given = ["predict", str(result.run), *map(str, photos), "--min-confidence", str(middle)]
        shown = CliRunner().invoke(app, given).output
        assert shown.count("unsure (") == 4
        table = CliRunner().invoke(app, [*given, "--format", "csv"]).output
        assert table.count(",unsure\n") == 4

    @pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
    def test_no_probability(self, run, wrong):
        data, result = run
        with pytest.raises(TltoolError, match="--min-confidence must be a probability"):
            tltool.predict(result.run, data, min_confidence=wrong)
