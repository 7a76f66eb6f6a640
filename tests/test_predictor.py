"""Test-time views: probabilities of several pictures of an image, averaged, for any run."""

import numpy as np
import pytest
from conftest import class_folders
from typer.testing import CliRunner

import tltool
from tltool import Run, TltoolError
from tltool._presets import views
from tltool.backbones.views import fixed_view
from tltool.cli import app
from tltool.data import canvas


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("views") / "photos", n=14, size=(60, 50))


@pytest.fixture(
    scope="module", params=["one view", "two views", "a head of two layers", "many classifiers"]
)
def run(request, data, tmp_path_factory):
    given = {
        "one view": {"strategy": "off-the-shelf", "transforms": "standardise"},
        "two views": {"strategy": "off-the-shelf", "transforms": "sqrt,l2", "views": "2"},
        "a head of two layers": {
            "strategy": "frozen-head",
            "train_views": "1",
            "epochs": 2,
            "views": "12",
        },
        "many classifiers": {"strategy": "feature-ensemble", "views": "12"},
    }[request.param]
    root = tmp_path_factory.mktemp("run")
    given |= {"backbone": "cifar-resnet20", "store": root / "store", "tap": "stage2,stage3"}
    return Run(tltool.adapt(data, out=root / "run", **given).run)


def pictures(photos, shown, size=(32, 32)):
    """Each view of each image, cut out by NumPy: `(n, n_views, *size, 3)`."""
    found = []
    for photo in photos:
        image = photo.read_bytes()
        large, whole = canvas(image, shown.canvas_size(size)), canvas(image, size)
        found.append([fixed_view(large, whole, shown, size, i) for i in range(shown.count)])
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "engine"), [("1", "openvino"), ("2", "keras"), ("10", "openvino")]
)
def test_probabilities_of_views_are_averaged(run, data, name, engine):
    photos, shown = sorted((data / "red").iterdir())[:4], views(name)
    alone = run.predictor("keras", "1")
    cut = pictures(photos, shown)
    each = alone(cut.reshape(-1, 32, 32, 3)).reshape(4, shown.count, -1)
    predictor = run.predictor(engine, name)
    assert predictor.n_views == shown.count
    pixels = np.stack([canvas(p.read_bytes(), predictor.canvas_size) for p in photos])
    np.testing.assert_allclose(predictor(pixels), each.mean(axis=1), atol=1e-4)


def test_one_picture_of_a_run_of_several_views(run, data):
    """A run that averages features over views says of one picture what its head says of that."""
    photos = sorted((data / "blue").iterdir())[:3]
    own = views(str(run.facts["views"]))
    if own.count == 1:
        pixels = np.stack([canvas(p.read_bytes(), (32, 32)) for p in photos])
        np.testing.assert_allclose(
            run.predictor("keras", "1")(pixels), run.model().predict(pixels, verbose=0), atol=1e-5
        )
        return
    # the same picture as every view: a canvas without detail, of which crops and mirrors are alike
    flat = np.full((2, *run.canvas_size, 3), 90, np.uint8)
    flat[1] = 200
    alone = run.predictor("keras", "1")(np.ascontiguousarray(flat[:, :32, :32]))
    np.testing.assert_allclose(run.model().predict(flat, verbose=0), alone, atol=1e-4)


def test_commands(run, data):
    result = tltool.evaluate(run.folder, data, split="test", views="auto")
    assert result.views == "2"  # images of 32 pixels are too small for crops
    told, _ = tltool.predict(run.folder, data / "red", views="10")
    assert len(told) == 14
    shown = CliRunner().invoke(
        app, ["evaluate", str(run.folder), str(data), "--split", "test", "--views", "10"]
    )
    assert shown.exit_code == 0, shown.output
    assert "four corners" in shown.output


@pytest.mark.parametrize(
    ("name", "message"),
    [("augmented-4", "draws views at random"), ("11", "Unknown --views '11'")],
)
def test_wrong_views(run, data, name, message):
    with pytest.raises(TltoolError, match=message):
        tltool.predict(run.folder, data / "red", views=name)


def test_not_of_features(run, data, tmp_path):
    table = tmp_path / "features.npz"
    tltool.extract(data, table, backbone="cifar-resnet20", store=tmp_path / "store")
    with pytest.raises(TltoolError, match="--views 2 is for images"):
        tltool.predict(run.folder, table, views="2")
