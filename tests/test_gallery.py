"""Features handed out to files, and images found by likeness."""

import json
import shlex
import shutil

import numpy as np
import pytest
from conftest import class_folders, features_run, picture, save
from PIL import Image
from typer.testing import CliRunner

import tltool
from tltool import TltoolError
from tltool.cli import app
from tltool.feature_tables import read_features


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """Photos with a copy, a contradiction and a damaged file, a run on them, and their store."""
    root = tmp_path_factory.mktemp("gallery")
    photos = class_folders(root / "photos", n=14)
    shutil.copy(photos / "red" / "1.png", photos / "red" / "copy.png")
    shutil.copy(photos / "green" / "2.png", photos / "blue" / "contradiction.png")
    (photos / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    features_run(
        photos,
        root / "run",
        views="2",
        transforms="sqrt,l2",
        tap="stage2,stage3",
        store=root / "store",
        test=0.2,
    )
    return photos, root / "run", root / "store"


GIVEN = {"backbone": "cifar-resnet20", "views": "2", "tap": "stage2,stage3"}


class TestExtract:
    def test_a_row_for_each_readable_file(self, adapted, tmp_path):
        photos, _, store = adapted
        done = tltool.extract(photos, tmp_path / "f.npz", store=store, **GIVEN)
        table = read_features(tmp_path / "f.npz")
        assert done.n_images == len(table.files) == 3 * 14 + 2
        assert {"red/copy.png", "blue/contradiction.png"} <= set(table.files)
        assert [bad.file for bad in done.bad_files] == ["red/broken.png"]
        assert done.taps == {"stage2_block3_out:avg": 32, "stage3_block3_out:avg": 64}
        same = [table.files.index(name) for name in ("red/1.png", "red/copy.png")]
        for values in table.arrays.values():
            np.testing.assert_array_equal(values[same[0]], values[same[1]])
        assert len(set(table.hashes)) == 3 * 14

    def test_given_splits_are_told(self, tmp_path):
        for split in ("train", "test"):
            class_folders(tmp_path / "data" / split, n=3, start=50 if split == "test" else 0)
        tltool.extract(
            tmp_path / "data",
            tmp_path / "f.parquet",
            backbone="cifar-resnet20",
            store=tmp_path / "store",
        )
        table = read_features(tmp_path / "f.parquet")
        assert sorted(set(table.splits)) == ["test", "train"]
        assert len(table.files) == 18

    @pytest.mark.parametrize(
        ("out", "message"),
        [("f.txt", "expected one of .parquet, .npz, .csv"), ("no/f.npz", "does not exist")],
    )
    def test_names_that_cannot_be(self, adapted, tmp_path, out, message):
        with pytest.raises(TltoolError, match=message):
            tltool.extract(adapted[0], tmp_path / out, backbone="cifar-resnet20")

    def test_command(self, adapted, tmp_path):
        photos, _, store = adapted
        out = tmp_path / "f.csv"
        given = [str(photos), "--out", str(out), "--store", str(store), "--json"]
        done = CliRunner().invoke(app, ["extract", *given, "--backbone", "cifar-resnet20"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["n_images"] == 44
        assert out.is_file()


def follow(refused, photos, run, store, path):
    """Do what the message says, and predict from what comes of it."""
    options = shlex.split(str(refused).partition("--out FILE ")[2])
    given = ["extract", str(photos), "--out", str(path), "--store", str(store), *options]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert len(tltool.predict(run, path)[0]) > 10


class TestPredictFromFeatures:
    @pytest.mark.parametrize("ending", ["npz", "csv", "parquet"])
    def test_the_same_as_from_images(self, adapted, tmp_path, ending):
        photos, run, store = adapted
        path = tmp_path / f"f.{ending}"
        tltool.extract(photos, path, store=store, **GIVEN)
        by_features, bad = tltool.predict(run, path)
        assert not bad
        known = {p.file: p.top for p in by_features}
        by_image, _ = tltool.predict(run, [photos / "red" / "3.png", photos / "blue" / "5.png"])
        for one in by_image:
            (name,) = (file for file in known if one.file.endswith(file))
            assert known[name][0][0] == one.top[0][0]
            assert known[name][0][1] == pytest.approx(one.top[0][1], abs=1e-3)

    @pytest.mark.parametrize("other", [{"views": "1"}, {"tap": "stage3"}, {"input_size": "40"}])
    def test_features_of_something_else_are_refused(self, adapted, tmp_path, other):
        photos, run, store = adapted
        tltool.extract(photos, tmp_path / "f.npz", store=store, **(GIVEN | other))
        with pytest.raises(TltoolError, match="extract them with: tltool extract DATA") as refused:
            tltool.predict(run, tmp_path / "f.npz")
        follow(refused.value, photos, run, store, tmp_path / "g.npz")

    def test_features_of_a_run_on_random_views(self, adapted, tmp_path):
        """Those that it predicts by follow from the image, and the refusal says which."""
        photos, _, store = adapted
        run = tmp_path / "run"
        given = {"backbone": "cifar-resnet20", "views": "augmented-2", "classifier": "lda"}
        tltool.adapt(photos, strategy="off-the-shelf", out=run, store=store, **given)
        del given["classifier"]
        tltool.extract(photos, tmp_path / "f.npz", store=store, **given)
        with pytest.raises(TltoolError, match="--views 10") as refused:
            tltool.predict(run, tmp_path / "f.npz")
        follow(refused.value, photos, run, store, tmp_path / "g.npz")
        shown = CliRunner().invoke(app, ["store", "info", "--store", str(store)]).stdout
        (row,) = (line.split() for line in shown.splitlines() if "augmented-2" in line)
        assert row[row.index("augmented-2") + 1] == "32x32"

    def test_another_backbone_is_named(self, adapted, tmp_path):
        photos, run, _ = adapted
        tltool.extract(
            photos,
            tmp_path / "f.npz",
            backbone="cifar-resnet32",
            weights="none",
            store=tmp_path / "store",
        )
        with pytest.raises(TltoolError, match="holds features of cifar-resnet32"):
            tltool.predict(run, tmp_path / "f.npz")


class TestSimilar:
    def test_an_image_is_most_like_itself(self, adapted, tmp_path):
        photos, run, store = adapted
        sheet = tmp_path / "sheet.html"
        image = photos / "green" / "4.png"
        found = tltool.similar(run, image, n=5, out=sheet, store=store)
        assert len(found.neighbours) == 5
        assert found.features == f"those that the last layer of {run} is given"
        first = found.neighbours[0]
        assert (first.file, first.label) == ("green/4.png", "green")
        assert first.distance == pytest.approx(0, abs=1e-5)
        distances = [one.distance for one in found.neighbours]
        assert distances == sorted(distances)
        page = sheet.read_text()
        assert page.count("data:image/jpeg") == 6
        assert "http:" not in page and "https:" not in page

    def test_distances_are_cosines_of_what_the_head_sees(self, adapted, tmp_path):
        photos, run, store = adapted
        image = save(tmp_path / "new.png", picture(77, hue=1))
        found = tltool.similar(run, image, n=100, out=tmp_path / "s.png", store=store)
        loaded = tltool.Run(run)
        from tltool.data import canvas

        files = [image, *(photos / one.file for one in found.neighbours)]
        pixels = np.stack([canvas(f.read_bytes(), loaded.canvas_size) for f in files])
        features = loaded.predictor().features(pixels)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        expected = 1 - features[1:] @ features[0]
        np.testing.assert_allclose([n.distance for n in found.neighbours], expected, atol=1e-4)
        with Image.open(tmp_path / "s.png") as sheet:
            assert sheet.width > 500

    def test_a_store_is_searched_too(self, adapted, tmp_path):
        photos = adapted[0]
        own = tmp_path / "store"
        tltool.extract(photos, tmp_path / "f.npz", backbone="cifar-resnet20", store=own)
        image = photos / "red" / "1.png"
        found = tltool.similar(own, image, n=3, out=tmp_path / "s.html")
        table = read_features(tmp_path / "f.npz")
        assert found.neighbours[0].file == table.hashes[table.files.index("red/1.png")]
        assert found.searched == 42
        new = save(tmp_path / "new.png", picture(999))
        twice = [tltool.similar(own, new, out=tmp_path / "s.html") for _ in range(2)]
        assert twice[0] == twice[1] and twice[0].searched == 42

    def test_a_store_is_searched_for_what_was_used_last(self, adapted, tmp_path):
        photos, own = adapted[0], tmp_path / "store"
        given = [{"tap": tap, "backbone": "cifar-resnet20"} for tap in ("stage1", "stage2")]
        for settings in (*given, given[0]):
            tltool.extract(photos, tmp_path / "f.npz", store=own, **settings)
        table = read_features(tmp_path / "f.npz")
        found = tltool.similar(own, photos / "red" / "1.png", n=2, out=tmp_path / "s.html")
        features = table.arrays["stage1_block3_out:avg"]
        one, other = (features[table.hashes.index(n.file)] for n in found.neighbours)
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert found.neighbours[1].distance == pytest.approx(1 - cosine, abs=1e-5)

    @pytest.mark.parametrize(
        ("image", "message"),
        [("missing.png", "No such file"), ("text.png", "expected an image")],
    )
    def test_what_is_no_image(self, adapted, tmp_path, image, message):
        _, run, store = adapted
        (tmp_path / "text.png").write_text("no picture")
        with pytest.raises(TltoolError, match=message):
            tltool.similar(run, tmp_path / image, store=store, out=tmp_path / "s.html")

    def test_a_folder_of_neither(self, adapted, tmp_path):
        photos, _, _ = adapted
        with pytest.raises(TltoolError, match="photos is neither a run nor a feature store"):
            tltool.similar(photos, photos / "red" / "1.png", out=tmp_path / "s.html")

    def test_features_that_are_gone(self, adapted, tmp_path):
        photos, run, store = adapted
        image, sheet = photos / "red" / "1.png", tmp_path / "s.html"
        with pytest.raises(TltoolError, match="There is no feature store"):
            tltool.similar(run, image, store=tmp_path / "empty", out=sheet)
        tltool.FeatureStore(tmp_path / "empty").close()
        again = tltool.similar(run, image, store=tmp_path / "empty", out=sheet)
        stored = tltool.similar(run, image, store=store, out=sheet)
        assert [n.file for n in again.neighbours] == [n.file for n in stored.neighbours]
        for one, other in zip(again.neighbours, stored.neighbours, strict=True):
            assert one.distance == pytest.approx(other.distance, abs=1e-5)

    def test_images_that_are_gone(self, adapted, tmp_path):
        photos, run, _ = adapted
        moved = shutil.copytree(run, tmp_path / "run")
        facts = json.loads((moved / "run.json").read_text())
        facts["settings"]["data"] = facts["images_in"] = str(tmp_path / "gone")
        (moved / "run.json").write_text(json.dumps(facts))
        tltool.FeatureStore(tmp_path / "empty").close()
        given = {"store": tmp_path / "empty", "out": tmp_path / "s.html"}
        with pytest.raises(TltoolError, match="put the images back where they were"):
            tltool.similar(moved, photos / "red" / "1.png", **given)

    def test_command(self, adapted, tmp_path, monkeypatch):
        photos, run, store = adapted
        monkeypatch.chdir(tmp_path)
        given = [str(run), str(photos / "red" / "2.png"), "--store", str(store), "--n", "4"]
        done = CliRunner().invoke(app, ["similar", *given])
        assert done.exit_code == 0, done.output
        assert "red/2.png" in done.stdout
        assert (tmp_path / "similar-2.html").is_file()
        wrong = CliRunner().invoke(app, ["similar", *given, "--out", "sheet.gif"])
        assert wrong.exit_code == 1
        assert ".png or an .html" in wrong.output
