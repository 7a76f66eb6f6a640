"""Folds against their rules, and the contract of every strategy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import class_folders

from tltool import Backbone, TltoolError
from tltool._presets import views
from tltool.data import Example, check_listing, read_listing, split_dataset
from tltool.features import FeatureSource, FeatureStore
from tltool.linear import Candidate, Problem, fit_candidate
from tltool.strategies import STRATEGIES, OffTheShelf
from tltool.strategies.examples import split_off
from tltool.strategies.folds import stratified_folds
from tltool.strategies.off_the_shelf import PENALTIES, scores_held_out


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


def test_a_tenth_is_held_back_where_nothing_was_given():
    rows = examples({"a": 40, "b": 11, "c": 4}, together={"a3", "a9"})
    fitting, judging, notes = split_off(rows, 0)
    assert sorted([*fitting, *judging]) == list(range(len(rows)))
    held = [rows[i].label for i in judging]
    assert held.count("b") == 1 and held.count("c") == 0 and 4 <= held.count("a") <= 5
    assert f"{len(judging)} of the images to fit on were held back" in notes[0]
    assert (3 in judging) == (9 in judging)
    assert len(split_off(examples({"a": 4, "b": 4}), 0)[1]) == 0
    given = [*rows, *(replace(e, split="val") for e in examples({"d": 3}))]
    assert split_off(given, 0)[1].tolist() == [55, 56, 57]


@pytest.fixture(scope="module")
def fitted_strategies(tmp_path_factory):
    root = tmp_path_factory.mktemp("strategies")
    data, _ = check_listing(read_listing(class_folders(root / "photos", n=15)))
    data, _ = split_dataset(data, seed=0, test=0.3, val=0.1)
    with FeatureStore(root / "store") as store:
        source = FeatureSource(Backbone("cifar-resnet20"), store)
        yield {
            name: (data, source, strategy().fit(source, data, seed=0))
            for name, strategy in STRATEGIES.items()
        }


@pytest.mark.parametrize("name", STRATEGIES)
class TestContract:
    def test_probabilities(self, fitted_strategies, name):
        data, source, fitted = fitted_strategies[name]
        probabilities = fitted.predict_proba(source, data.of("test"))
        assert probabilities.shape == (len(data.of("test")), 3)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        accuracy = np.mean(probabilities.argmax(axis=1) == data.targets(data.of("test")))
        assert accuracy > 0.6  # chance is a third
        assert fitted.labels == data.labels

    def test_model_takes_raw_pixels_and_agrees(self, fitted_strategies, name):
        from tltool.data import canvas

        data, source, fitted = fitted_strategies[name]
        model = fitted.build_model(source)
        assert model.input.dtype == "uint8"
        assert model.layers[-1].name == "predictions"
        some = data.of("test")
        pixels = np.stack([canvas(e.path.read_bytes(), (32, 32)) for e in some])
        np.testing.assert_allclose(
            model.predict(pixels, verbose=0), fitted.predict_proba(source, some), atol=1e-4
        )

    def test_choices_are_json(self, fitted_strategies, name):
        import json

        choices = fitted_strategies[name][2].choices
        assert json.loads(json.dumps(choices)) == choices


def test_off_the_shelf_says_when_it_cannot_cross_validate(tmp_path, caplog):
    data, _ = check_listing(read_listing(class_folders(tmp_path / "photos", n=2)))
    data, _ = split_dataset(data, seed=0, test=0.3, val=0.0)
    with FeatureStore(tmp_path / "store") as store:
        source = FeatureSource(Backbone("cifar-resnet20"), store)
        fitted = STRATEGIES["off-the-shelf"]().fit(source, data, seed=0)
    assert fitted.choices["folds"] == 0
    assert "nothing could be chosen by cross-validation" in caplog.text


@pytest.fixture(scope="module")
def some_photos(tmp_path_factory):
    """A checked, split data set of three classes, and the store that its features are in."""
    root = tmp_path_factory.mktemp("off-the-shelf")
    data, _ = check_listing(read_listing(class_folders(root / "photos", n=12)))
    data, _ = split_dataset(data, seed=0, test=0.3, val=0.1)
    with FeatureStore(root / "store") as store:
        yield data, store


@pytest.mark.parametrize(
    ("shown", "classifier", "transforms"),
    [
        ("12", "lda", "sqrt,l2"),
        ("10", "ridge", "l2,whiten"),
        ("2", "svm", None),
        ("augmented-3", "logistic-regression", "dropout"),
    ],
)
def test_the_saved_model_does_what_was_evaluated(
    some_photos, tmp_path, shown, classifier, transforms
):
    """Views, steps and head are all in the file, which Keras alone can load."""
    import keras

    from tltool.data import canvas

    data, store = some_photos
    backbone = Backbone("cifar-resnet20", taps="stage2:max,stage3:avg+max")
    source = FeatureSource(backbone, store, views=views(shown))
    fitted = OffTheShelf(classifier, transforms).fit(source, data, seed=0)
    assert fitted.choices["classifier"] == classifier
    fitted.build_model(source).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    size = source.for_prediction().canvas_size
    some = data.of("test")
    pixels = np.stack([canvas(e.path.read_bytes(), size) for e in some])
    np.testing.assert_allclose(
        model.predict(pixels, verbose=0), fitted.predict_proba(source, some), atol=1e-3
    )


def test_fewer_folds_are_said(tmp_path):
    root = class_folders(tmp_path / "photos", n=12)
    for i in range(4, 12):
        (root / "red" / f"{i}.png").unlink()
    data, _ = check_listing(read_listing(root))
    data, _ = split_dataset(data, seed=0, test=0.1, val=0.0)
    with FeatureStore(tmp_path / "store") as store:
        source = FeatureSource(Backbone("cifar-resnet20"), store)
        fitted = OffTheShelf("lda").fit(source, data, seed=0)
    assert fitted.choices["folds"] == 3
    assert any("3 folds instead of 5" in note and "'red'" in note for note in fitted.notes)


def test_features_that_never_vary_are_named(tmp_path, monkeypatch):
    data, _ = check_listing(read_listing(class_folders(tmp_path / "photos", n=6)))
    data, _ = split_dataset(data, seed=0, test=0.2, val=0.0)
    backbone = Backbone("cifar-resnet20", taps="stage2,stage3")
    with FeatureStore(tmp_path / "store") as store:
        source = FeatureSource(backbone, store)
        for dead, expected in ((slice(0, 32), "say nothing: stage2_block3_out:avg."), (..., "")):

            def constant(examples, dead=dead, given=source.features):
                found = given(examples)
                found.values[(slice(None), dead) if dead is not ... else ...] = 0.5
                return found

            monkeypatch.setattr(FeatureSource, "features", lambda _, e, f=constant: f(e))
            if expected:
                assert expected in OffTheShelf("lda").fit(source, data, seed=0).notes[0]
            else:
                with pytest.raises(TltoolError, match=r"stage3_block3_out:avg.*the same for all"):
                    OffTheShelf("lda").fit(source, data, seed=0)
            monkeypatch.undo()


@pytest.mark.parametrize("classifier", ["lda", "logistic-regression"])
def test_scores_of_images_that_a_fit_was_made_without(fitted_strategies, classifier):
    """As fits to all the others say, with what was chosen for all."""
    data, source, _ = fitted_strategies["off-the-shelf"]
    linear = OffTheShelf(classifier, "l2")
    fit = linear.fit(source, data, seed=0)
    examples = data.of("train", "val")
    held = examples[::3]
    found = scores_held_out(source, data, fit, held, seed=0)
    folds = stratified_folds(held, 5, 0)
    values, widths = source.features(examples).values, source.features(examples).widths
    value = fit.choices[PENALTIES[classifier]]
    for fold in np.unique(folds):
        out = {e.hash for e, f in zip(held, folds, strict=True) if f == fold}
        rows = [i for i, e in enumerate(examples) if e.hash not in out]
        problem = Problem(values[rows], data.targets([examples[i] for i in rows]), 3, widths)
        made = fit_candidate(problem, Candidate(classifier, ("l2",), value))
        others = [i for i, e in enumerate(examples) if e.hash in out]
        said = {
            examples[i].hash: s for i, s in zip(others, made.scores(values[others]), strict=False)
        }
        for e, scores in zip(held, found, strict=True):
            if e.hash in out:
                expected = fit.calibration.apply(said[e.hash])
                np.testing.assert_allclose(scores, expected, rtol=2e-2, atol=2e-2)
