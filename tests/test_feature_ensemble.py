"""Many classifiers of stored features: what is tried, selected, and saved."""

import json

import keras
import numpy as np
import pytest
from conftest import class_folders

import tltool
from tltool import TltoolError
from tltool.combining import choose_combination
from tltool.data import check_listing, read_listing, split_dataset
from tltool.features import FeatureStore
from tltool.settings import AdaptSettings
from tltool.strategies import feature_ensemble


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Over two taps and twelve views of small pictures."""
    root = tmp_path_factory.mktemp("mixture")
    data = class_folders(root / "photos", n=24, size=(36, 36))
    settings = AdaptSettings(
        strategy="feature-ensemble",
        backbone="cifar-resnet20",
        tap="stage2,stage3:max",
        views="12",
    )
    with FeatureStore(root / "store") as store:
        checked, _ = check_listing(read_listing(data), cache=store)
        dataset, _ = split_dataset(checked, seed=0, test=0.3, val=0.1)
        source = settings.make_source(store)
        strategy = settings.make_strategy()
        strategy.extract(source, dataset)
        yield dataset, source, strategy.fit(source, dataset, seed=0)


def test_every_part_view_and_classifier_is_a_candidate(fitted):
    _, _, fit = fitted
    tried = fit.choices["candidates"]
    assert len(tried) == 3 * 2 * 4  # two parts and both; all views and the whole image
    assert {row["classifier"] for row in tried} == {"lda", "ridge", "logistic-regression", "svm"}
    losses = [row["log_loss"] for row in tried]
    assert losses == sorted(losses)
    assert sum(row["share"] for row in fit.choices["mixture"]) == pytest.approx(1)


def test_no_worse_than_its_best_candidate_on_images_held_out(fitted):
    dataset, _, fit = fitted
    from tltool.linear.linear_head import softmax
    from tltool.metrics import log_losses

    targets = dataset.targets(fit.held_out.examples)
    loss = log_losses(softmax(fit.held_out.scores), targets).mean()
    assert loss <= fit.choices["candidates"][0]["log_loss"] + 0.02


def test_one_pass_gives_what_stored_features_give(fitted, tmp_path):
    """The network is in the model once, however many classifiers there are."""
    dataset, source, fit = fitted
    model = fit.build_model(source)
    size = source.canvas_size
    from tltool.data import canvas

    examples = dataset.of("test")[:5]
    pixels = np.stack([canvas(e.path.read_bytes(), size) for e in examples])
    expected = fit.predict_proba(source, examples)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, atol=1e-4)
    kinds = [type(layer) for layer in layers_of(model)]
    alone = [type(layer) for layer in source.backbone.model.layers]
    assert kinds.count(keras.layers.Conv2D) == alone.count(keras.layers.Conv2D)
    assert kinds.count(keras.layers.Dense) == len(fit.members) + 1


def test_weights_of_images_count_where_members_are_chosen(fitted, monkeypatch):
    """Images that weigh a hundredth have a hundredth of a say, in every figure."""
    dataset, source, equal = fitted
    given = []

    def choose(*arguments, weights, **options):
        given.append(weights)
        return choose_combination(*arguments, weights=weights, **options)

    monkeypatch.setattr(feature_ensemble, "choose_combination", choose)
    strategy = AdaptSettings(strategy="feature-ensemble", backbone="cifar-resnet20").make_strategy()
    examples = dataset.of("train", "val")
    weights = np.where([e.label == dataset.labels[0] for e in examples], 0.01, 1.0)
    found = strategy.fit(source, dataset, seed=0, weights=weights)
    np.testing.assert_allclose(given[0], weights / weights.mean())
    assert found.choices["candidates"] != equal.choices["candidates"]


def layers_of(model):
    """Those of models inside it as well."""
    for layer in model.layers:
        yield from layers_of(layer) if isinstance(layer, keras.Model) else [layer]


def test_a_run_of_it(tmp_path):
    data = class_folders(tmp_path / "photos", n=16, size=(32, 32))
    result = tltool.adapt(
        data,
        strategy="feature-ensemble",
        backbone="cifar-resnet20",
        tap="stage2,stage3",
        views="2",
        out=tmp_path / "run",
        store=tmp_path / "store",
        test=0.3,
    )
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["choices"]["mixture"]
    again = tltool.evaluate(tmp_path / "run", data, split="test")
    for name, interval in result.evaluation.metrics.items():
        assert again.evaluation.metrics[name].value == pytest.approx(interval.value, abs=1e-3)
    photo = next((data / "red").iterdir())
    with pytest.raises(TltoolError, match="is an ensemble, whose classifiers have features"):
        tltool.similar(tmp_path / "run", photo)
    tltool.extract(
        data, tmp_path / "f.npz", backbone="cifar-resnet20", tap="stage2,stage3", views="2"
    )
    with pytest.raises(TltoolError, match="give it images"):
        tltool.predict(tmp_path / "run", tmp_path / "f.npz")


def test_nothing_to_select_by(tmp_path):
    data = class_folders(tmp_path / "photos", n=2, size=(32, 32))
    with pytest.raises(TltoolError, match="nothing to select members by"):
        tltool.adapt(
            data,
            strategy="feature-ensemble",
            backbone="cifar-resnet20",
            tap="stage3",
            views="1",
            test=0.3,
            val=0.0,
            out=tmp_path / "run",
        )
