"""View recipes: what they show, on both engines, and that random ones follow from the image."""

import numpy as np
import pytest
from conftest import class_folders, picture
from PIL import Image

from tltool import Backbone, TltoolError
from tltool._presets import (
    recipe,
    recipe_names,
    training_views,
    views,
    views_for,
    views_names,
)
from tltool.backbones.views import random_views, views_model
from tltool.data import check_listing, read_listing
from tltool.features import FeatureSource, FeatureStore
from tltool.settings import AdaptSettings

DETERMINISTIC = ("1", "2", "10", "12")


@pytest.fixture(scope="module")
def backbone():
    return Backbone("cifar-resnet20", taps="stage2,stage3:max")


def reference_views(canvas, name, side):
    """The views of one canvas as NumPy cuts them; None for those that are resized."""
    upright = _upright(canvas, name, side)
    return upright + (_upright(canvas[:, ::-1], name, side) if name != "1" else [])


def _upright(canvas, name, side):
    larger = len(canvas)
    ends = [0, larger - side]
    crops = [canvas[t : t + side, x : x + side] for t in ends for x in ends]
    middle = (larger - side) // 2
    crops.append(canvas[middle : middle + side, middle : middle + side])
    whole = [canvas if larger == side else None]
    return {"1": whole, "2": whole, "10": crops, "12": [*whole, *crops]}[name]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_views_are_cut_as_documented(backbone, name):
    shown = views(name)
    height, width = shown.canvas_size(backbone.input_size)
    assert (height, width) == ((37, 37) if name in ("10", "12") else (32, 32))
    canvases = np.stack([picture(seed, (width, height)) for seed in range(3)])
    found = views_model(backbone.model, shown, (height, width)).predict(canvases, verbose=0)
    assert found.shape == (3, shown.count, 96) == (3, int(name), 96)
    for canvas, features in zip(canvases, found, strict=True):
        expected = reference_views(canvas, name, 32)
        assert len(expected) == shown.count
        for one, pixels in zip(features, expected, strict=True):
            if pixels is not None:
                alone = backbone.model.predict(pixels[None], verbose=0)[0]
                np.testing.assert_allclose(one, alone, rtol=1e-4, atol=1e-4)
    if name == "12":  # the whole canvas, made smaller: close to what Pillow makes of it
        smaller = Image.fromarray(canvases[0]).resize((32, 32), Image.Resampling.BILINEAR)
        alone = backbone.model.predict(np.asarray(smaller)[None], verbose=0)[0]
        assert np.linalg.norm(found[0, 0] - alone) < 0.1 * np.linalg.norm(alone)
        turned = backbone.model.predict(np.asarray(smaller)[None, :, ::-1], verbose=0)[0]
        assert np.linalg.norm(found[0, 6] - turned) < 0.1 * np.linalg.norm(turned)


@pytest.mark.parametrize("pooling", ["grid2", "grid3", "flatten"])
def test_mirror_images_mix_no_left_with_right(tmp_path, pooling):
    """To mirror an image exchanges what stands for its left and its right, and nothing else."""
    backbone = Backbone("cifar-resnet20", taps=f"stage2:{pooling},stage3:max")
    pixels = picture(3, (32, 32))
    with FeatureStore(tmp_path) as store:
        source = FeatureSource(backbone, store, views=views("2"))
        found, mirrored = source.of_canvases(np.stack([pixels, pixels[:, ::-1]]))
    columns = {"grid2": 2, "grid3": 3, "flatten": 16}[pooling]
    found, rest = found[:-64].reshape(columns, columns, 32), found[-64:]
    turned, same = mirrored[:-64].reshape(columns, columns, 32)[:, ::-1], mirrored[-64:]
    np.testing.assert_allclose(turned, found, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(same, rest, rtol=1e-4, atol=1e-4)
    assert np.abs(found - found[:, ::-1]).max() > 0.1


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = class_folders(tmp_path_factory.mktemp("views") / "photos", n=5)
    return check_listing(read_listing(root))[0].examples


@pytest.mark.parametrize("name", [*DETERMINISTIC, "augmented-3"])
def test_engines_agree_on_every_view(backbone, photos, tmp_path, name):
    found = []
    for engine in ("keras", "openvino"):
        with FeatureStore(tmp_path / engine) as store:
            source = FeatureSource(backbone, store, engine, views=views(name))
            found.append(source.each_view(photos))
            mean = source.features(photos)
            assert mean.computed == 0
            np.testing.assert_allclose(mean.values, found[-1].mean(axis=1), rtol=1e-5)
            assert {space["views"] for space in store.info().spaces} == {name}
    assert found[0].shape == (15, views(name).count, 96)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)


def canvas_of(image):
    return np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))


def test_views_by_the_size_of_the_input():
    small, large = (64, 48), (65, 40)
    assert (views_for("auto", small).name, views_for("auto", large).name) == ("2", "10")
    assert views_for("12", small).name == "12"
    assert training_views("auto", small).name == "shifted"
    assert training_views("auto-4", large).name == "augmented-4"
    assert training_views("1", large).count == 1
    assert training_views("augmented", small).drawn == 0
    for wrong in ("2", "10", "auto-", "auto-0", "augmented-1000", "fast"):
        with pytest.raises(TltoolError, match="Unknown --train-views"):
            training_views(wrong, large)


def test_random_views_follow_from_the_content():
    image = Image.fromarray(picture(0, (60, 40)))
    shown = views("augmented-8")
    drawn = random_views(image, shown, (32, 32), b"content")
    assert drawn.shape == (8, 32, 32, 3)
    assert len({view.tobytes() for view in drawn}) == 8
    np.testing.assert_array_equal(drawn, random_views(image, shown, (32, 32), b"content"))
    assert (drawn != random_views(image, shown, (32, 32), b"other")).any()
    few = random_views(image, views("augmented-3"), (32, 32), b"content")
    np.testing.assert_array_equal(few, drawn[:3])
    moved = random_views(image, views("shifted-8"), (32, 32), b"content")
    whole = np.pad(canvas_of(image), [(4, 4), (4, 4), (0, 0)], "reflect")
    cuts = np.lib.stride_tricks.sliding_window_view(whole, (32, 32, 3)).reshape(-1, 32, 32, 3)
    assert all(any((c == v).all() or (c == v[:, ::-1]).all() for c in cuts) for v in moved)
    assert len({view.tobytes() for view in moved}) > 4
    with pytest.raises(ValueError, match="not random"):
        random_views(image, views("1"), (32, 32), b"content")


def test_random_views_are_not_for_prediction(backbone, tmp_path):
    with FeatureStore(tmp_path) as store:
        source = FeatureSource(backbone, store, views=views("augmented-4"))
        assert source.for_prediction().views.name == "10"
        assert source.for_prediction().falls_back
        chosen = FeatureSource(backbone, store, "openvino", views=views("augmented-4"))
        assert not chosen.for_prediction().falls_back
        with pytest.raises(ValueError, match="for_prediction"):
            source.model()


@pytest.mark.parametrize(
    "name",
    [
        "3",
        "",
        "augmented",
        "augmented-0",
        "augmented-1000",
        "augmented-08",
        "1-2",
        "10-",
        "12-typo",
    ],
)
def test_unknown_views(name):
    with pytest.raises(TltoolError, match="known are 1, 2, 10, 12, shifted-k, augmented-k"):
        views(name)


def test_names():
    assert views_names() == ["1", "2", "10", "12", "shifted-k", "augmented-k"]
    assert {"fast", "recommended", "decaf6-svm"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_settings_and_what_is_set_beside_them_wins(name):
    settings = AdaptSettings(recipe=name)
    card = recipe(name)
    assert settings.views == (card.views or "1")
    assert settings.strategy == (card.strategy or "off-the-shelf")
    assert settings.backbone == card.backbone
    if card.strategy is None:
        assert settings.classifier == (card.classifier or "auto")
    assert (settings.tap, settings.transforms) == (card.tap, card.transforms)
    assert AdaptSettings(recipe=name, views="2").views == "2"
    assert card.source


def test_unknown_recipe():
    with pytest.raises(TltoolError, match="did you mean 'recommended'"):
        AdaptSettings(recipe="recomended")
