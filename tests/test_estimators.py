"""scikit-learn's own checks of heads and transforms; a contract for the two that take images."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import class_folders, picture
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import tltool
from tltool import (
    Backbone,
    Ensemble,
    FeatureExtractor,
    FeatureStore,
    TltoolError,
    TransferClassifier,
)
from tltool.backbones.weight_files import save_safetensors
from tltool.data import canvas
from tltool.linear.estimators import (
    FeatureDropout,
    L2PerTap,
    LinearSVMHead,
    LogisticHead,
    PCAWhitening,
    PerTap,
    RidgeHead,
    ShrinkageLDAHead,
    SignedSquareRoot,
    Standardise,
)
from tltool.linear.transforms import l2_normalise

HEADS = (LogisticHead(), LinearSVMHead(), RidgeHead(), ShrinkageLDAHead())
TRANSFORMS = (
    SignedSquareRoot(),
    L2PerTap(),
    Standardise(),
    FeatureDropout(),
    FeatureDropout(method="sampled"),
    PCAWhitening(),
    PerTap(),
)


@parametrize_with_checks([*HEADS, *TRANSFORMS])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_heads_refuse_what_cannot_be():
    X, y = np.eye(4), [0, 1, 0, 1]
    for head in (LogisticHead(C=0), RidgeHead(alpha=-1), ShrinkageLDAHead(shrinkage=1)):
        with pytest.raises(ValueError, match="must be above 0"):
            head.fit(X, y)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        LinearSVMHead(temperature=0).fit(X, y)


def test_transforms_of_taps():
    X = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    np.testing.assert_allclose(L2PerTap((2, 3)).fit_transform(X), l2_normalise(X, (2, 3)))
    each = PerTap(L2PerTap(), (2, 3)).fit_transform(X)
    np.testing.assert_allclose(each, l2_normalise(X, (2, 3)))
    with pytest.raises(TltoolError, match="do not add up to the 5 features"):
        L2PerTap((2, 2)).fit(X)
    assert PCAWhitening(2).fit_transform(X).shape == (20, 2)


def test_sampled_dropout_is_noise_on_training_features_alone():
    X = np.ones((200, 50))
    dropout = FeatureDropout(0.25, "sampled", random_state=0)
    noisy = dropout.fit_transform(X)
    assert set(np.unique(noisy)) == {0.0, 1 / 0.75}
    assert noisy.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(dropout.transform(X), X)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Paths and string labels of three classes, and a store of their own."""
    root = tmp_path_factory.mktemp("estimators")
    class_folders(root / "photos", n=12)
    paths = sorted((root / "photos").rglob("*.png"))
    return [str(p) for p in paths], np.array([p.parent.name for p in paths]), str(root / "store")


@pytest.fixture
def forward_passes(monkeypatch):
    """How many images went through a network."""
    from tltool.features import extraction

    seen = []
    make_engine = extraction.make_engine

    def counting(*given, **named):
        run = make_engine(*given, **named)

        def counted(pixels):
            seen.append(len(pixels))
            return run(pixels)

        counted.lanes = run.lanes
        return counted

    monkeypatch.setattr(extraction, "make_engine", counting)
    return seen


def extractor(store, **given):
    return FeatureExtractor("cifar-resnet20", "stage2,stage3:max", store=store, **given)


def classifier(store, **given):
    return TransferClassifier(backbone="cifar-resnet20", store=store, **given)


@pytest.mark.parametrize("make", [extractor, classifier], ids=["extractor", "classifier"])
class TestBoth:
    def test_clone_and_parameters(self, photos, make):
        model = make(photos[2])
        copy = clone(model)
        assert copy.get_params() == model.get_params()
        assert copy.set_params(tap="stage3", engine="keras").tap == "stage3"
        assert clone(copy).engine == "keras"
        assert model.tap != "stage3"

    def test_fit_returns_itself_and_changes_no_parameter(self, photos, make):
        paths, labels, store = photos
        model = make(store)
        before = model.get_params()
        assert model.fit(paths, labels) is model
        assert model.get_params() == before

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            ("one.jpg", "as a sequence of paths"),
            (["no_such_file.png"], "Could not read no_such_file.png"),
            (np.zeros((2, 8, 8, 3)), "image 0 is float64 of shape"),
            (np.zeros((2, 8, 8, 4), np.uint8), "expected a path, or uint8 pixels"),
            (np.zeros((8, 8, 3), np.uint8), r"are one image; give a sequence .* images\[None\]"),
            (np.array("a.jpg"), "as a sequence of paths"),
            ([], "There are no images"),
        ],
    )
    def test_what_is_no_image(self, photos, make, images, message):
        model = make(photos[2]).fit(photos[0], photos[1])
        with pytest.raises(TltoolError, match=message):
            model.transform(images) if make is extractor else model.predict(images)

    def test_not_fitted(self, photos, make):
        from sklearn.exceptions import NotFittedError

        model = make(photos[2])
        with pytest.raises(NotFittedError):
            model.transform(photos[0]) if make is extractor else model.predict(photos[0])

    def test_files_that_are_damaged_are_named(self, photos, make, tmp_path):
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        model = make(photos[2]).fit(photos[0], photos[1])
        with pytest.raises(TltoolError, match=r"broken\.png is"):
            model.transform([broken]) if make is extractor else model.predict([broken])


class TestFeatureExtractor:
    def test_features_are_the_backbones(self, photos):
        paths, _, store = photos
        model = extractor(store)
        features = model.fit_transform(paths)
        backbone = tltool.Backbone("cifar-resnet20", taps="stage2,stage3:max")
        pixels = np.stack([canvas(Path(p).read_bytes(), (32, 32)) for p in paths])
        expected = backbone.model.predict(pixels, verbose=0)
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
        assert features.dtype == np.float32
        assert model.widths_ == (32, 64)
        names = model.get_feature_names_out()
        assert (len(names), names[0]) == (96, "stage2_block3_out:avg[0]")

    def test_pixels_and_views(self, photos):
        _, _, store = photos
        pixels = np.stack([picture(seed, (40, 30)) for seed in range(4)])
        ragged = [pixels[0], picture(9, (20, 25)), pixels[1][..., 0]]
        model = extractor(store, views="10").fit(pixels)
        features = model.transform(pixels)
        assert features.shape == (4, 96)
        np.testing.assert_array_equal(model.transform(ragged)[0], features[0])
        shown_once = extractor(store).fit_transform(pixels)
        assert np.abs(shown_once - features).max() > 1e-2

    def test_cross_validation_extracts_once(self, photos, tmp_path, forward_passes):
        paths, labels, _ = photos
        model = make_pipeline(
            extractor(str(tmp_path / "store")), L2PerTap((32, 64)), Standardise(), RidgeHead()
        )
        scores = cross_val_score(model, paths, labels, cv=3)
        assert scores.mean() > 0.6
        grid = GridSearchCV(model, {"ridgehead__alpha": [0.1, 10.0]}, cv=3).fit(paths, labels)
        assert grid.predict(paths[:1]).dtype.kind == "U"
        assert sum(forward_passes) == len(paths)


class TestTransferClassifier:
    def test_learns_string_labels(self, photos):
        paths, labels, store = photos
        model = classifier(store).fit(paths[::2], labels[::2])
        assert model.classes_.tolist() == ["blue", "green", "red"]
        p = model.predict_proba(paths[1::2])
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
        assert model.score(paths[1::2], labels[1::2]) > 0.7
        assert model.predict(paths[:2]).dtype.kind == "U"
        assert model.choices_["estimate"]["accuracy"] > 0.5

    def test_refitting_forgets(self, photos):
        paths, labels, store = photos
        numbers = np.arange(len(paths)) % 11 % 2 + 5
        model = classifier(store, classifier="lda").fit(paths, labels).fit(paths, numbers)
        assert model.classes_.tolist() == [5, 6]
        assert set(model.predict(paths)) <= {5, 6}

    def test_searches_extract_once(self, photos, tmp_path, forward_passes):
        paths, labels, _ = photos
        model = classifier(str(tmp_path / "store"), transforms="standardise")
        assert cross_val_score(model, paths, labels, cv=3).mean() > 0.6
        grid = GridSearchCV(model, {"classifier": ["lda", "ridge"]}, cv=3).fit(paths, labels)
        assert grid.best_params_["classifier"] in ("lda", "ridge")
        assert make_pipeline(model).fit(paths, labels).score(paths, labels) > 0.8
        assert sum(forward_passes) == len(paths)

    def test_weights_count(self, photos):
        paths, labels, store = photos
        weights = np.where(labels == "red", 0.0, 1.0)
        model = classifier(store, classifier="ridge", transforms="l2")
        model.fit(paths, labels, sample_weight=weights)
        assert "red" not in model.predict(paths)
        equal = model.fit(paths, labels, np.ones(len(paths))).predict_proba(paths)
        np.testing.assert_allclose(
            equal, model.fit(paths, labels).predict_proba(paths), rtol=1e-3, atol=1e-4
        )
        for scale in (1e-4, 1e4):  # none of the weights' scale
            scaled = model.fit(paths, labels, np.full(len(paths), scale)).predict_proba(paths)
            np.testing.assert_allclose(scaled, equal, rtol=1e-3, atol=1e-4)
        for few in (np.zeros(len(paths)), np.where(labels == "red", 1.0, 0.0)):
            with pytest.raises(TltoolError, match="fewer than two classes"):
                model.fit(paths, labels, few)
        for wrong in ([1.0], -np.ones(len(paths)), np.full(len(paths), np.nan)):
            with pytest.raises(TltoolError, match="finite numbers of at least 0"):
                model.fit(paths, labels, wrong)

    def test_one_class_cannot_be_told_apart(self, photos):
        with pytest.raises(TltoolError, match="are of one class"):
            classifier(photos[2]).fit(photos[0][:3], ["a", "a", "a"])

    def test_the_model_is_the_same(self, photos):
        paths, labels, store = photos
        model = classifier(store, views="10", classifier="svm").fit(paths, labels)
        keras_model = model.to_keras()
        pixels = np.stack([canvas(Path(p).read_bytes(), (37, 37)) for p in paths])
        np.testing.assert_allclose(
            keras_model.predict(pixels, verbose=0), model.predict_proba(paths), atol=1e-3
        )

    def test_copies_travel(self, photos):
        """A fitted model can be pickled, copied, and used in another thread."""
        paths, labels, store = photos
        model = classifier(store, classifier="lda").fit(paths, labels)
        expected = model.predict_proba(paths)
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):  # noqa: S301
            np.testing.assert_array_equal(other.predict_proba(paths), expected)
        new = [picture(seed) for seed in range(400, 408)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda image: model.predict_proba([image]), new))
        np.testing.assert_allclose(np.concatenate(found), model.predict_proba(new), atol=1e-5)

    def test_other_weights_than_it_was_fitted_with(self, photos, tmp_path):
        paths, labels, store = photos
        file = tmp_path / "own.safetensors"
        backbone = Backbone("cifar-resnet20")
        save_safetensors(backbone.network, file, {})
        model = classifier(store, classifier="lda", weights=str(file)).fit(paths, labels)
        text = pickle.dumps(model)
        expected = model.predict_proba(paths)
        np.testing.assert_array_equal(pickle.loads(text).predict_proba(paths), expected)  # noqa: S301
        backbone.network.set_weights([w * 1.1 for w in backbone.network.get_weights()])
        save_safetensors(backbone.network, file, {})
        with pytest.raises(TltoolError, match="was fitted with cifar-resnet20, SHA-256"):
            pickle.loads(text).predict_proba(paths)  # noqa: S301
        model.fit(paths, labels).predict_proba(paths)

    def test_what_failed_leaves_no_trace(self, photos):
        from sklearn.exceptions import NotFittedError

        paths, labels, store = photos
        model = classifier(store, classifier="lda")
        with pytest.raises(TltoolError, match="Could not read"):
            model.fit(["missing.png", *paths[1:]], labels)
        with pytest.raises(NotFittedError):
            model.predict(paths)
        before = model.fit(paths, labels).predict(paths)
        with pytest.raises(TltoolError, match="one class"):
            model.fit(paths[:2], ["x", "x"])
        np.testing.assert_array_equal(model.predict(paths), before)

    def test_notes_name_classes_as_the_user_does(self, photos):
        paths, labels, store = photos
        few = np.r_[np.flatnonzero(labels == "red")[:3], np.flatnonzero(labels != "red")]
        model = classifier(store, classifier="lda").fit([paths[i] for i in few], labels[few])
        assert any("'red'" in note for note in model.notes_)

    def test_labels_that_do_not_match(self, photos):
        with pytest.raises(TltoolError, match="36 images and 2 labels"):
            classifier(photos[2]).fit(photos[0], ["a", "b"])


def test_stores_are_shared(tmp_path):
    from tltool.features import shared_store

    assert shared_store(tmp_path) is shared_store(str(tmp_path))
    assert isinstance(shared_store(tmp_path), FeatureStore)


def ensemble(store, voting="soft", weights=None, **given):
    members = [
        ("deep", classifier(store, classifier="lda", transforms="l2")),
        ("low", classifier(store, classifier="ridge", transforms="l2", tap="stage1")),
    ]
    return Ensemble(members, voting=voting, weights=weights)


class TestEnsemble:
    def test_soft_votes_are_scikit_learns(self, photos):
        """As `VotingClassifier` has them, of members that are fitted already."""
        paths, labels, store = photos
        found = ensemble(store, weights=[3, 1]).fit(paths, labels)
        said = [member.predict_proba(paths) for member in found.estimators_]
        expected = np.average(said, axis=0, weights=[3, 1])
        np.testing.assert_allclose(found.predict_proba(paths), expected, atol=1e-6)
        assert (found.predict(paths) == found.classes_[expected.argmax(axis=1)]).all()
        np.testing.assert_allclose(found.weights_, [0.75, 0.25])
        assert set(found.named_estimators_) == {"deep", "low"}

    def test_hard_votes_are_shares(self, photos):
        paths, labels, store = photos
        found = ensemble(store, "hard").fit(paths, labels)
        votes = [member.predict(paths) for member in found.estimators_]
        for row, *named in zip(found.predict_proba(paths), *votes, strict=True):
            for label, share in zip(found.classes_, row, strict=True):
                assert share == pytest.approx(named.count(label) / 2)
        with pytest.raises(TltoolError, match="A model gives probabilities"):
            found.to_keras()

    @pytest.mark.parametrize("voting", ["auto", "greedy", "stacking", "geometric-mean"])
    def test_the_keras_model_agrees(self, photos, voting):
        paths, labels, store = photos
        found = ensemble(store, voting).fit(paths, labels)
        pixels = np.stack([canvas(Path(p).read_bytes(), (32, 32)) for p in paths[::5]])
        model = found.to_keras()
        np.testing.assert_allclose(
            model.predict(pixels, verbose=0), found.predict_proba(paths[::5]), atol=1e-4
        )

    def test_labels_of_any_type_and_cross_validation(self, photos):
        paths, labels, store = photos
        numbers = np.unique(labels, return_inverse=True)[1] * 10
        found = ensemble(store, "auto").fit(paths, numbers)
        assert set(found.predict(paths)) <= {0, 10, 20}
        scores = cross_val_score(ensemble(store), paths, labels, cv=3)
        assert len(scores) == 3

    def test_parameters_of_members(self, photos):
        model = ensemble(photos[2])
        assert model.get_params()["low__tap"] == "stage1"
        model.set_params(low__tap="stage2", voting="hard")
        assert dict(model.estimators)["low"].tap == "stage2"
        other = classifier(photos[2])
        model.set_params(deep=other)
        assert dict(model.estimators)["deep"] is other
        copy = clone(model)
        assert copy.get_params()["low__tap"] == "stage2"
        assert dict(copy.estimators)["low"] is not dict(model.estimators)["low"]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"voting": "loud"}, "Unknown voting 'loud'"),
            ({"weights": [1]}, "weights must be 2 finite numbers"),
            ({"weights": [-1, 2]}, "weights must be 2 finite numbers"),
            ({"weights": ["x", "y"]}, "weights must be 2 finite numbers"),
            ({"voting": "greedy", "weights": [1, 1]}, "fits the weights; leave weights out"),
        ],
    )
    def test_refused(self, photos, given, said):
        paths, labels, store = photos
        with pytest.raises(TltoolError, match=said):
            ensemble(store).set_params(**given).fit(paths, labels)

    def test_refused_members(self, photos):
        paths, labels, store = photos
        one = classifier(store)
        for members, said in (
            ([("a", one)], "two members or more"),
            ([("a", one), ("a", one)], "cannot be called so"),
            ([("a__b", one), ("a", one)], "cannot be called so"),
            ([("a", one), ("b", 5)], "expected a TransferClassifier"),
        ):
            with pytest.raises(TltoolError, match=said):
                Ensemble(members).fit(paths, labels)
        for members in (one, [one, one], "ab", None):
            with pytest.raises(TltoolError, match="estimators must be pairs"):
                Ensemble(members).fit(paths, labels)
