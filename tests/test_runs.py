"""The run folder: written whole, read anywhere, and in agreement with itself."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import class_folders, features_run, picture, save

import tltool
from tltool import Run, TltoolError
from tltool.data import canvas
from tltool.run_features import RunImages
from tltool.runs import RunWriter

FILES = {
    "model.keras",
    "labels.json",
    "run.json",
    "predictions.csv",
    "dataset.csv",
    "held_out.csv",
    "report.html",
    "model_card.md",
}


def rows_of(run):
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_every_file_is_there_and_nothing_else(finished_run):
    _, result = finished_run
    maps = {"maps.npz"} if result.evaluation.metrics["accuracy"].value < 1 else set()
    assert {p.name for p in result.run.iterdir()} == FILES | maps
    facts = json.loads((result.run / "run.json").read_text())
    assert facts["state"] == "finished"
    assert facts["format"] == 1
    assert json.loads((result.run / "labels.json").read_text()) == ["blue", "green", "red"]
    for name in ("settings", "versions", "weights", "metrics", "seconds", "choices", "splits"):
        assert facts[name]


def test_predictions_hold_every_test_image(finished_run):
    _, result = finished_run
    header, *rows = rows_of(result.run)
    assert header[:3] == ["file", "true", "predicted"]
    assert len(header) == 3 + 3
    assert len(rows) == result.n_test
    for row in rows:
        p = np.array(row[3:], float)
        assert p.sum() == pytest.approx(1, abs=1e-5)
        assert row[2] == ["blue", "green", "red"][p.argmax()]
    accuracy = np.mean([r[1] == r[2] for r in rows])
    assert accuracy == pytest.approx(result.evaluation.metrics["accuracy"].value)


def test_splits_share_no_image(finished_run):
    _, result = finished_run
    with (result.run / "dataset.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_split = {s: {r["sha256"] for r in rows if r["split"] == s} for s in ("train", "val", "test")}
    assert not by_split["train"] & by_split["test"]
    assert len(rows) == 60
    assert result.n_train == len(by_split["train"]) + len(by_split["val"])
    assert result.n_val == len(by_split["val"])


@pytest.mark.parametrize(("engine", "tolerance"), [("openvino", 1e-5), ("keras", 1e-4)])
def test_predict_agrees_with_the_run(finished_run, engine, tolerance):
    data, result = finished_run
    header, *rows = rows_of(result.run)
    predictions, bad = tltool.predict(
        result.run, [data / row[0] for row in rows], top_k=3, engine=engine
    )
    assert bad == []
    labels = [name.removeprefix("probability of ") for name in header[3:]]
    for row, prediction in zip(rows, predictions, strict=True):
        assert prediction.top[0][0] == row[2]
        expected = dict(zip(labels, map(float, row[3:]), strict=True))
        for label, p in prediction.top:
            assert p == pytest.approx(expected[label], abs=tolerance)


def test_bfloat16_run_predicts_in_bfloat16(photos, tmp_path):
    result = features_run(
        photos, tmp_path / "run", precision="bfloat16", store=tmp_path / "store", test=0.2
    )
    _, *rows = rows_of(result.run)
    predictions, _ = tltool.predict(result.run, [photos / row[0] for row in rows], top_k=1)
    for row, prediction in zip(rows, predictions, strict=True):
        assert prediction.top[0][1] == pytest.approx(max(map(float, row[3:])), abs=1e-5)


def test_model_loads_with_keras_alone(finished_run, tmp_path):
    data, result = finished_run
    _, first, *_ = rows_of(result.run)
    pixels = canvas((data / first[0]).read_bytes(), (32, 32))
    np.save(tmp_path / "pixels.npy", pixels[None])
    code = (
        "import sys, numpy as np\n"
        "sys.modules['tltool'] = None\n"
        "import keras\n"
        f"model = keras.saving.load_model({str(result.run / 'model.keras')!r})\n"
        f"p = model.predict(np.load({str(tmp_path / 'pixels.npy')!r}), verbose=0)\n"
        "print(','.join(f'{x:.7f}' for x in p[0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got = np.array(done.stdout.split()[-1].split(","), float)
    np.testing.assert_allclose(got, np.array(first[3:], float), atol=1e-4)


def test_copied_run_evaluates_to_the_same_figures(finished_run, tmp_path, monkeypatch):
    data, result = finished_run
    copy = shutil.copytree(result.run, tmp_path / "elsewhere")
    monkeypatch.setenv("TLTOOL_CACHE", str(tmp_path / "cache"))
    again = tltool.evaluate(copy, data, split="test", store=tmp_path / "store")
    assert again.n_test == result.n_test
    for name, interval in result.evaluation.metrics.items():
        assert again.evaluation.metrics[name].value == pytest.approx(interval.value, abs=1e-4)
    ours, theirs = result.as_json(), again.as_json()
    assert set(ours) == set(theirs)
    assert set(ours["metrics"]) == set(theirs["metrics"])


def test_second_prediction_loads_no_tensorflow(finished_run):
    data, result = finished_run
    photo = next(data.rglob("*.png"))
    tltool.predict(result.run, [photo])
    code = (
        "import sys, tltool\n"
        f"tltool.predict({str(result.run)!r}, [{str(photo)!r}])\n"
        "assert not {'tensorflow', 'keras', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_evaluate_says_when_images_were_fitted_on(finished_run, caplog):
    data, result = finished_run
    everything = tltool.evaluate(result.run, data)
    assert everything.n_test == 60
    assert f"{result.n_train} of these 60 images" in caplog.text


def test_evaluate_scores_the_test_folder_where_there_is_one(finished_run, tmp_path):
    _, result = finished_run
    class_folders(tmp_path / "train", n=2, start=300)
    class_folders(tmp_path / "test", n=3, start=400)
    assert tltool.evaluate(result.run, tmp_path).n_test == 9
    assert tltool.evaluate(result.run, tmp_path, split="train").n_test == 6
    assert tltool.evaluate(result.run, tmp_path, split="all").n_test == 15
    with pytest.raises(TltoolError, match="no image of split 'val'"):
        tltool.evaluate(result.run, tmp_path, split="val")


def test_evaluate_refuses_unknown_classes(finished_run, tmp_path):
    _, result = finished_run
    class_folders(tmp_path / "d", ("blue", "gren"), n=2)
    with pytest.raises(TltoolError, match="'gren'.*did you mean 'green'"):
        tltool.evaluate(result.run, tmp_path / "d")


def test_same_seed_same_run(finished_run, tmp_path):
    data, result = finished_run
    again = features_run(data, tmp_path / "run", store=tmp_path / "store")
    assert again.evaluation.metrics == result.evaluation.metrics
    assert rows_of(again.run) == rows_of(result.run)


def test_warm_store_computes_nothing(finished_run, tmp_path, monkeypatch):
    from tltool.features import extraction

    data, result = finished_run
    monkeypatch.setattr(extraction, "make_engine", lambda *a, **k: pytest.fail("a forward pass"))
    features_run(data, tmp_path / "run", store=result.run.parent / "store", test=0.25, seed=4)


class TestExistingFolder:
    def write(self, folder, settings=None, state="running"):
        writer = RunWriter(folder, settings or {"a": 1})
        if state == "finished":
            writer.finish()

    def test_finished_run_is_kept_unless_forced(self, tmp_path):
        self.write(tmp_path, state="finished")
        with pytest.raises(TltoolError, match="add --force"):
            RunWriter(tmp_path, {"a": 1})
        RunWriter(tmp_path, {"a": 1}, force=True)

    def test_unfinished_run_goes_on_with_the_same_settings(self, tmp_path):
        self.write(tmp_path)
        RunWriter(tmp_path, {"a": 1})
        with pytest.raises(TltoolError, match="unfinished run with other settings"):
            RunWriter(tmp_path, {"a": 2})
        assert RunWriter.can_continue(tmp_path, {"a": 1})
        assert not RunWriter.can_continue(tmp_path, {"a": 2})

    def test_foreign_folder_is_never_touched(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("x")
        for force in (False, True):
            with pytest.raises(TltoolError, match="is not a run"):
                RunWriter(tmp_path, {}, force=force)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
        with pytest.raises(TltoolError, match="is a file"):
            RunWriter(tmp_path / "thesis.txt", {})


class TestLoading:
    @pytest.fixture
    def copy(self, finished_run, tmp_path):
        return shutil.copytree(finished_run[1].run, tmp_path / "copy")

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda p: shutil.rmtree(p), "does not exist"),
            (lambda p: (p / "run.json").unlink(), "is not a run"),
            (lambda p: (p / "run.json").write_text("{"), "cannot be read"),
            (lambda p: (p / "run.json").write_text("[]"), "not a run's description"),
            (lambda p: (p / "run.json").write_text('{"format": 7}'), "made by a newer tltool"),
            (
                lambda p: (p / "run.json").write_text('{"format": 1, "state": "running"}'),
                "not finished",
            ),
            (lambda p: (p / "labels.json").unlink(), "is a damaged run"),
            (lambda p: (p / "model.keras").unlink(), "has no model.keras"),
        ],
    )
    def test_what_is_no_run(self, copy, damage, message):
        damage(copy)
        with pytest.raises(TltoolError, match=message):
            Run(copy)

    def test_damaged_model(self, copy):
        (copy / "model.keras").write_bytes(b"no zip")
        with pytest.raises(TltoolError, match="cannot be loaded"):
            Run(copy).predictor("keras")


def test_bad_images_among_photos_are_named(finished_run, tmp_path):
    _, result = finished_run
    good = save(tmp_path / "good.png", picture(1))
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"<html>")
    predictions, failures = tltool.predict(result.run, [tmp_path])
    assert [p.file for p in predictions] == [str(good)]
    assert [(f.file, f.reason) for f in failures] == [(str(bad), "is an HTML page, not an image")]
    assert len(tltool.predict(result.run, [good], top_k=99)[0][0].top) == 3


def test_default_backbone_without_weights_is_the_embedded_one(
    photos, tmp_path, monkeypatch, caplog
):
    from tltool.backbones import weights

    def download(preset):
        raise OSError("offline")

    monkeypatch.setattr(weights, "_download", download)
    monkeypatch.chdir(tmp_path)
    given = {"strategy": "off-the-shelf", "store": tmp_path / "store"}
    result = tltool.adapt(photos, **given)
    assert result.backbone == "cifar-resnet20"
    assert "about 32 pixels" in caplog.text
    assert result.run.parts == ("runs", "photos-cifar-resnet20")
    assert tltool.adapt(photos, **given).run.name == "photos-cifar-resnet20-2"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet5"}, "did you mean 'resnet50'"),
        ({"strategy": "fine-tun"}, "Unknown --strategy"),
        ({"sed": 1}, "no setting 'sed': did you mean 'seed'"),
        ({"seed": -1}, "--seed"),
        ({"weights": "last_epoch.h5"}, "--weights last_epoch.h5 needs --backbone"),
        ({"tap": "imagenet"}, "--tap imagenet needs --backbone"),
        ({"recipe": "decaf6-svm"}, "--recipe decaf6-svm needs .*: one of alexnet, vgg16, vgg19"),
        ({"precision": "float16"}, "Unknown --precision"),
        ({"engine": "tensorrt"}, "Unknown --engine"),
    ],
)
def test_wrong_settings(photos, tmp_path, settings, message):
    with pytest.raises(TltoolError, match=message):
        tltool.adapt(photos, out=tmp_path / "run", store=tmp_path / "s", **settings)
    assert not (tmp_path / "run").exists()


def test_forced_run_that_fails_keeps_the_old_one(finished_run, tmp_path):
    data, result = finished_run
    copy = shutil.copytree(result.run, tmp_path / "copy")
    shutil.copytree(data, tmp_path / "photos")
    for photo in (tmp_path / "photos" / "red").iterdir():
        photo.write_bytes(b"")
    with pytest.raises(TltoolError, match="cannot be used"):
        tltool.adapt(
            tmp_path / "photos",
            backbone="cifar-resnet20",
            out=copy,
            store=tmp_path / "s",
            force=True,
        )
    assert Run(copy).labels == result.labels


def test_evaluate_finds_the_test_images_that_the_run_drew_from_train(tmp_path):
    class_folders(tmp_path / "data" / "train", n=14)
    result = features_run(tmp_path / "data", tmp_path / "run", store=tmp_path / "s", test=0.2)
    again = tltool.evaluate(result.run, tmp_path / "data", store=tmp_path / "s")
    assert again.n_test == result.n_test
    train = tltool.evaluate(result.run, tmp_path / "data", split="train", store=tmp_path / "s")
    assert train.n_test == result.n_train - result.n_val


def test_check_says_what_adapt_would_refuse(photos, tmp_path):
    save(photos / "rare" / "0.png", picture(99_999))
    report = tltool.check(photos, store=tmp_path / "s")
    assert any("tltool adapt would refuse this: Class 'rare'" in note for note in report.notes)


def test_findings_are_told(photos, tmp_path):
    (photos / "red" / "notes.txt").write_text("x")
    shutil.copy(photos / "red" / "0.png", photos / "blue" / "copy.png")
    result = features_run(photos, tmp_path / "run", store=tmp_path / "s", test=0.2)
    told = " ".join(result.notes)
    assert "1 .txt" in told
    assert "blue/copy.png = red/0.png" in told


def test_report_command_names_the_columns(photos, tmp_path):
    rows = "".join(f"{c}/{i}.png,{c}\n" for c in ("red", "blue") for i in range(12))
    (photos / "d.csv").write_text("picture,kind of\n" + rows)
    result = features_run(
        photos / "d.csv",
        tmp_path / "run",
        store=tmp_path / "s",
        image_column="picture",
        label_column="kind of",
        test=0.2,
    )
    text = (result.run / "report.html").read_text()
    assert "--image-column picture --label-column &#39;kind of&#39;" in text


def test_pipe_is_refused_not_waited_for(finished_run, tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.jpg")
    predictions, bad = tltool.predict(finished_run[1].run, tmp_path / "pipe.jpg")
    assert predictions == []
    assert [b.reason for b in bad] == ["is neither a file nor a folder"]


def test_empty_path_is_not_the_current_folder(finished_run):
    with pytest.raises(TltoolError, match="path is empty"):
        tltool.predict(finished_run[1].run, [""])
    with pytest.raises(TltoolError, match="path is empty"):
        tltool.adapt("", backbone="cifar-resnet20")


def test_cache_that_cannot_be_written_is_done_without(finished_run, tmp_path, monkeypatch):
    data, result = finished_run
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TLTOOL_CACHE", str(tmp_path / "file"))
    predictions, _ = tltool.predict(result.run, next(data.rglob("*.png")))
    assert len(predictions) == 1


def test_evaluate_counts_the_images_of_its_own_data(finished_run, tmp_path):
    class_folders(tmp_path / "d", n=4, start=700)
    result = tltool.evaluate(finished_run[1].run, tmp_path / "d", store=tmp_path / "s")
    assert (result.n_images, result.n_test, result.warnings) == (12, 12, ())


def test_default_backbone_says_which_weights_are_missing(photos, tmp_path, monkeypatch):
    from tltool import settings
    from tltool.backbones import WeightsMissingError

    def only_mobilenet(name, *arguments, **layers):
        if name == "resnet50":
            raise WeightsMissingError("none")
        return name

    monkeypatch.setattr(settings, "Backbone", only_mobilenet)
    warnings = []
    assert settings.AdaptSettings().make_backbone(warnings) == "mobilenet-0.25"
    assert "weights of resnet50 could not be had, so mobilenet-0.25" in warnings[0]


def test_demo_writes_to_no_foreign_folder(finished_run, tmp_path):
    from tltool.demo import run_demo

    data, result = finished_run
    with pytest.raises(TltoolError, match="other than a demonstration"):
        run_demo(data)
    shutil.copytree(result.run, tmp_path / "run")
    with pytest.raises(TltoolError, match="other than a demonstration"):
        run_demo(tmp_path)
    assert not (tmp_path / "digits").exists()


def test_a_run_that_is_replaced_leaves_no_table_behind(tmp_path):
    data = class_folders(tmp_path / "photos", n=8, size=(32, 32))
    features_run(data, tmp_path / "run", store=tmp_path / "s")
    (tmp_path / "run" / "history.csv").write_text("epoch\n1\n")
    features_run(data, tmp_path / "run", store=tmp_path / "s", force=True)
    assert not (tmp_path / "run" / "history.csv").exists()
    assert (tmp_path / "run" / "held_out.csv").exists()


def test_its_images_are_found_from_any_folder(tmp_path, monkeypatch):
    """Not others of the same names, where DATA was named from the folder beside."""
    for i, name in enumerate(("one", "two")):
        class_folders(tmp_path / name / "photos", n=8, start=50 * i)
    monkeypatch.chdir(tmp_path / "one")
    features_run("photos", tmp_path / "run", store=tmp_path / "store")
    monkeypatch.chdir(tmp_path / "two")
    run = Run(tmp_path / "run")
    assert RunImages.of(run).folder == tmp_path / "one" / "photos"
    run.add({"images_in": "photos/"})  # as older runs have it
    assert RunImages.of(Run(tmp_path / "run")).folder == tmp_path / "one" / "photos"
