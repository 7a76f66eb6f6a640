"""Models made into one: the same answers, and nothing computed twice."""

import keras
import numpy as np
import pytest
from conftest import lively
from PIL import Image

from tltool._presets import views
from tltool.backbones import Backbone
from tltool.combining import Combination
from tltool.linear import LinearHead
from tltool.linear.calibration import Calibration
from tltool.linear.linear_head import softmax
from tltool.merging import Merger, combined_model, on_views

CLASSES = 4


def classifier(backbone, seed):
    """A random head on a network."""
    random = np.random.default_rng(seed)
    width = backbone.output_shape[1]
    return LinearHead.of(
        random.normal(0, 0.5, (width, CLASSES)), random.normal(0, 0.5, CLASSES)
    ).on(backbone)


def pixels(size, n=3):
    return np.random.default_rng(0).integers(0, 256, (n, *size, 3)).astype(np.uint8)


def as_pillow(canvases, size):
    return np.stack(
        [
            np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BILINEAR))
            for c in canvases
        ]
    )


def said(models, shown):
    """What members say, each of the canvas at its own size."""
    found = []
    for model in models:
        size = model.input_shape[1:3]
        found.append(model.predict(as_pillow(shown, size), verbose=0))
    return np.array(found)


def convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


@pytest.fixture(scope="module")
def backbone():
    return Backbone("cifar-resnet20")


@pytest.fixture(scope="module")
def pair(backbone):
    """Two heads on different depths of one network."""
    deep = Backbone("cifar-resnet20", taps="stage2,stage3:max")
    return [classifier(backbone.model, 0), classifier(deep.model, 1)]


@pytest.fixture(scope="module")
def stranger():
    """Another network, with a larger canvas."""
    network = Backbone("lenet5", "none", input_size=None)
    lively(network.network)
    return classifier(network.model, 2)


@pytest.mark.parametrize("method", ["mean", "geometric-mean"])
def test_says_what_its_members_say_together(pair, stranger, method, tmp_path):
    members = [*pair, stranger]
    weights = np.array([0.5, 0.2, 0.3])
    scale, offset = np.array([2.0, 1.0, 0.5, 1.5]), np.array([0.1, 0.0, -0.2, 0.3])
    calibration = Calibration("vector", scale, offset, 10)
    size = max(m.input_shape[1:3] for m in members)
    combination = Combination(method, weights)
    model = combined_model(members, combination, calibration, size)
    shown = pixels(size)
    expected = softmax(calibration.apply(combination.scores(said(members, shown))))
    np.testing.assert_allclose(model.predict(shown, verbose=0), expected, atol=2e-5)
    model.save(tmp_path / "one.keras")
    again = keras.saving.load_model(tmp_path / "one.keras")
    np.testing.assert_array_equal(again.predict(shown, verbose=0), model.predict(shown, verbose=0))


def test_stacking_is_a_layer(pair):
    random = np.random.default_rng(0)
    head = LinearHead.of(random.normal(size=(2 * CLASSES, CLASSES)), random.normal(size=CLASSES))
    combination = Combination("stacking", np.full(2, 0.5), head)
    model = combined_model(pair, combination, Calibration.of_temperature(2.0, CLASSES, 5), (32, 32))
    shown = pixels((32, 32))
    expected = softmax(combination.scores(said(pair, shown)) / 2.0)
    np.testing.assert_allclose(model.predict(shown, verbose=0), expected, atol=1e-5)


def test_what_members_share_runs_once(backbone, pair):
    model = combined_model(
        pair,
        Combination("mean", np.full(2, 0.5)),
        Calibration.of_temperature(1.0, CLASSES, 5),
        (32, 32),
    )
    assert len(convolutions(model)) == len(convolutions(backbone.model))
    names = [operation.name for operation in model.operations]
    assert len(set(names)) == len(names)
    assert sum("rescal" in name or "preprocessing" in name for name in names) == 1


def test_a_shared_stem_runs_once_below_what_differs(backbone):
    """As after two fine-tunings of the last stage."""
    tuned = keras.models.clone_model(backbone.model)
    tuned.set_weights(backbone.model.get_weights())
    last = convolutions(tuned)[-1]
    last.set_weights([w + 0.1 for w in last.get_weights()])
    members = [classifier(backbone.model, 0), classifier(tuned, 0)]
    merger = Merger((32, 32))
    outputs = [merger.add(m, f"m{i}_") for i, m in enumerate(members)]
    model = keras.Model(merger.canvas, outputs)
    assert len(convolutions(model)) == len(convolutions(backbone.model)) + 1
    shown = pixels((32, 32))
    for found, expected in zip(model.predict(shown, verbose=0), said(members, shown), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_members_that_weigh_nothing_are_left_out(pair, stranger):
    model = combined_model(
        [*pair, stranger],
        Combination("greedy", np.array([0.0, 1.0, 0.0])),
        Calibration.of_temperature(1.0, CLASSES, 5),
        (32, 32),
    )
    shown = pixels((32, 32))
    np.testing.assert_allclose(
        model.predict(shown, verbose=0), pair[1].predict(shown, verbose=0), atol=1e-6
    )
    assert model.count_params() < pair[1].count_params() + 100


@pytest.mark.parametrize("canvas", [(32, 32), (64, 48), (28, 50)])
def test_a_smaller_member_sees_the_canvas_as_pillow_resizes_it(backbone, canvas):
    """To a level of a pixel, which rounding may move."""
    merger = Merger(canvas)
    image = keras.Input((32, 32, 3), dtype="uint8")
    same = keras.Model(image, keras.ops.cast(image, "float32"))
    model = keras.Model(merger.canvas, merger.add(same, "m_"))
    shown = pixels(canvas)
    apart = np.abs(model.predict(shown, verbose=0) - as_pillow(shown, (32, 32)))
    assert apart.max() <= 1
    assert apart.mean() < 0.02


def test_views_are_averaged_in_probability(pair):
    two = views("2")
    model = on_views(pair[0], two, (32, 32))
    shown = pixels((32, 32))
    expected = (
        pair[0].predict(shown, verbose=0) + pair[0].predict(shown[:, :, ::-1], verbose=0)
    ) / 2
    np.testing.assert_allclose(model.predict(shown, verbose=0), expected, atol=1e-5)
