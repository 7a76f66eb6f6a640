"""A head trained on stored features: what it learns from, what it refuses, how it goes on."""

import csv
import json

import numpy as np
import pytest
from conftest import class_folders, histories, killed_in_training

import tltool
from tltool import AdaptSettings, TltoolError, TransferClassifier
from tltool._presets import views
from tltool.backbones import Backbone
from tltool.data import check_listing, read_listing, split_dataset
from tltool.features import FeatureStore
from tltool.strategies import FrozenHead, OffTheShelf
from tltool.training import Batches, Trainer, TrainingPlan

QUICK = {
    "backbone": "cifar-resnet20",
    "strategy": "frozen-head",
    "views": "1",
    "train_views": "1",
    "epochs": 5,
}


@pytest.fixture(scope="module")
def source_of(tmp_path_factory):
    """Makes a source and a split data set of three easy classes."""
    root = tmp_path_factory.mktemp("frozen-head")
    with FeatureStore(root / "store") as store:

        def make(n=12, val=0.2, views="1"):
            data = class_folders(root / f"photos{n}", n=n)
            dataset, _ = check_listing(read_listing(data))
            dataset, _ = split_dataset(dataset, seed=0, test=0.3, val=val)
            settings = AdaptSettings(backbone="cifar-resnet20", views=views)
            return settings.make_source(store, Backbone("cifar-resnet20")), dataset

        yield make


def pictures_seen(monkeypatch):
    """What batches are made from, from now on."""
    seen = []
    made = Batches.__init__

    def watched(self, pictures, *rest):
        seen.append(pictures.values)
        made(self, pictures, *rest)

    monkeypatch.setattr(Batches, "__init__", watched)
    return seen


def test_a_head_needs_a_number_of_views(source_of):
    source, dataset = source_of()
    plan = TrainingPlan(epochs=2, views="auto")
    with pytest.raises(TltoolError, match="say of how many views, such as auto-8"):
        FrozenHead(plan).fit(source, dataset, seed=0)


def test_it_learns_from_what_is_predicted_from_and_from_random_views(source_of, monkeypatch):
    source, dataset = source_of(views="10")
    seen = pictures_seen(monkeypatch)
    plan = TrainingPlan(epochs=3, views="augmented-3")
    fitted = FrozenHead(plan).fit(source, dataset, seed=0)
    (values,) = seen
    some = dataset.of("train")
    drawn = source.showing(views("augmented-3"))
    raw = [source.features(some).values, *drawn.each_view(some).swapaxes(0, 1)]
    flat = np.concatenate(raw)
    deviation = flat.std(axis=0)
    expected = (np.stack(raw, axis=1) - flat.mean(axis=0)) / np.where(deviation, deviation, np.inf)
    assert values.shape == (len(some), 4, 64)
    np.testing.assert_allclose(values, expected, atol=1e-3)
    assert len(fitted.history) == 3


def test_validation_images_are_never_trained_on(source_of, monkeypatch):
    source, dataset = source_of()
    seen = pictures_seen(monkeypatch)
    FrozenHead(TrainingPlan(epochs=2)).fit(source, dataset, seed=0)
    assert [len(values) for values in seen] == [len(dataset.of("train"))]


@pytest.mark.parametrize(
    ("n", "val", "said"),
    [
        (40, 0.0, "were held back to say when to stop"),
        (3, 0.0, "too few images to hold any back for validation"),
    ],
)
def test_without_a_validation_split(source_of, n, val, said):
    source, dataset = source_of(n=n, val=val)
    fitted = FrozenHead(TrainingPlan(epochs=3)).fit(source, dataset, seed=0)
    assert any(said in note for note in fitted.notes)
    if n == 3:
        assert fitted.choices["temperature"] == 1.0
        assert fitted.choices["best_epoch"] == 3


def test_a_batch_larger_than_the_training_set_is_told(source_of):
    source, dataset = source_of()
    fitted = FrozenHead(TrainingPlan(epochs=2, batch_size=500)).fit(source, dataset, seed=0)
    assert any("fewer than the 500 of --batch-size" in note for note in fitted.notes)
    assert fitted.choices["training"]["batch_size"] == len(dataset.of("train"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"epochs": 5},
            "--epochs is for --strategy frozen-head or fine-tune or from-scratch; with",
        ),
        (
            {"strategy": "frozen-head", "classifier": "svm"},
            "--classifier is for --strategy off-the-shelf or feature-ensemble or fine-tune; with",
        ),
        ({"strategy": "frozen"}, "did you mean 'frozen-head'"),
        (
            {"strategy": "off-the-shelf", "recipe": "frozen-head"},
            "--recipe frozen-head is for --strategy frozen-head, not off-the-shelf",
        ),
        ({"strategy": "frozen-head", "units": "5,x"}, "--units must be numbers"),
        ({"strategy": "frozen-head", "budget": "soon"}, "--budget must be a time"),
        ({"strategy": "frozen-head", "budget": "0s"}, "--budget must be a time"),
        ({"strategy": "frozen-head", "epochs": 0}, "--epochs"),
    ],
)
def test_settings_that_cannot_be(given, said):
    with pytest.raises(TltoolError, match=said):
        AdaptSettings(**given)


def test_recipes_and_what_is_set_beside_them():
    settings = AdaptSettings(strategy="frozen-head")
    assert settings == AdaptSettings(**vars(settings))
    assert settings.views == "auto" and settings.classifier is None
    assert settings.make_strategy().plan.views == "auto-8"
    assert settings.make_strategy().plan.units == (512,)
    given = AdaptSettings(recipe="frozen-head", units="none", views="2", budget="2m")
    assert given.strategy == "frozen-head" and given.views == "2"
    assert given.make_strategy().plan.units == ()
    assert given.make_strategy().budget == 120.0
    random = AdaptSettings(strategy="frozen-head", views="augmented-3")
    assert (random.views, random.train_views) == ("10", "augmented-3")
    assert random.make_strategy().plan.views == "augmented-3"
    mixed = AdaptSettings(strategy="frozen-head", recipe="recommended", units="64,32")
    assert mixed.tap == AdaptSettings(recipe="recommended").tap and mixed.views == "12"
    assert mixed.make_strategy().plan.units == (64, 32)


def test_a_run_of_it(tmp_path):
    data = class_folders(tmp_path / "photos", n=20)
    result = tltool.adapt(data, out=tmp_path / "run", store=tmp_path / "store", **QUICK)
    assert result.strategy == "frozen-head"
    assert dict(result.described)["Head"] == "512 units, linear"
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert all(float(row["val_loss"]) > 0 for row in rows)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "512 units" in page
    # loss and accuracy of training and validation, and accuracy by coverage
    assert page.count("<polyline") == 5
    again = tltool.evaluate(tmp_path / "run", data, split="test")
    assert again.evaluation.metrics["log_loss"].value == pytest.approx(
        result.evaluation.metrics["log_loss"].value, rel=1e-3
    )
    photo, table = data / "red" / "0.png", tmp_path / "features.npz"
    sheet = tmp_path / "sheet.html"
    found = tltool.similar(tmp_path / "run", photo, store=tmp_path / "store", out=sheet)
    assert found.neighbours[0].distance < 1e-4
    tltool.extract(data, table, backbone="cifar-resnet20", views="1", store=tmp_path / "store")
    by_table = {p.file: p.top for p in tltool.predict(tmp_path / "run", [table])[0]}
    (by_image,), _ = tltool.predict(tmp_path / "run", [photo])
    of_table = dict(by_table["red/0.png"])
    assert of_table == pytest.approx(dict(by_image.top), abs=1e-4)
    model = tltool.Run(tmp_path / "run").model()
    assert model.layers[-1].name == "predictions"
    with pytest.raises(TltoolError, match="finished; there is nothing to go on with"):
        tltool.resume(tmp_path / "run")


def test_what_cannot_be_resumed(tmp_path):
    with pytest.raises(TltoolError, match="does not exist"):
        tltool.resume(tmp_path / "gone")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TltoolError, match="is not a run"):
        tltool.resume(tmp_path / "folder")
    facts = {"format": 1, "state": "running"}
    (tmp_path / "folder" / "run.json").write_text(json.dumps(facts))
    with pytest.raises(TltoolError, match="give the command that began it again"):
        tltool.resume(tmp_path / "folder")
    (tmp_path / "folder" / "run.json").write_text(json.dumps(facts | {"begun": {"data": "x"}}))
    with pytest.raises(TltoolError, match="damaged run"):
        tltool.resume(tmp_path / "folder")


def test_killed_and_resumed_it_ends_where_an_unbroken_run_does(tmp_path):
    data = class_folders(tmp_path / "photos", n=20)
    settings = QUICK | {"epochs": 300, "patience": 0, "units": "16"}
    tltool.adapt(data, out=tmp_path / "whole", store=tmp_path / "store", **settings)
    killed_in_training(data, tmp_path / "broken", tmp_path / "store", settings, 0.3)
    tltool.resume(tmp_path / "broken")
    for name in ("predictions.csv", "labels.json"):
        whole, broken = ((tmp_path / run / name).read_bytes() for run in ("whole", "broken"))
        assert whole == broken
    whole, broken = histories(tmp_path / "whole", tmp_path / "broken")
    assert whole == broken
    assert not (tmp_path / "broken" / "training.safetensors").exists()


def interrupt(monkeypatch, after):
    """Ctrl-C in the middle of training, once so many steps are done."""
    step, count = Trainer.step, 0

    def interrupted(self, *given):
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(Trainer, "step", interrupted)


def test_force_begins_anew(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "photos", n=20)
    given = QUICK | {"out": tmp_path / "run", "store": tmp_path / "store"}
    with monkeypatch.context() as patched:
        interrupt(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            tltool.adapt(data, **given)
    assert (tmp_path / "run" / "training.safetensors").exists()
    with pytest.raises(TltoolError, match="unfinished run with other settings"):
        tltool.adapt(data, **(given | {"units": "7"}))
    result = tltool.adapt(data, **(given | {"units": "7"}), force=True)
    assert dict(result.described)["Head"] == "7 units, linear"


def test_other_validation_images_make_another_training(tmp_path, monkeypatch):
    for split, n, start in (("train", 12, 0), ("val", 5, 100), ("test", 5, 200)):
        class_folders(tmp_path / "photos" / split, n=n, start=start)
    given = QUICK | {"out": tmp_path / "run", "store": tmp_path / "store"}
    with monkeypatch.context() as patched:
        interrupt(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            tltool.adapt(tmp_path / "photos", **given)
    (tmp_path / "photos" / "val" / "red" / "0.png").unlink()
    with pytest.raises(TltoolError, match="other images or settings; give the command that began"):
        tltool.resume(tmp_path / "run")


def test_images_that_were_moved_are_named_to_go_on(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "photos", n=12)
    given = QUICK | {"store": tmp_path / "store"}
    whole = tltool.adapt(data, out=tmp_path / "whole", **given)
    with monkeypatch.context() as patched:
        interrupt(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            tltool.adapt(data, out=tmp_path / "run", **given)
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(TltoolError, match="are no longer at .*photos; say where .* --data"):
        tltool.resume(tmp_path / "run")
    with monkeypatch.context() as patched:  # once more, which has to know them under both names
        interrupt(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            tltool.resume(tmp_path / "run", data=tmp_path / "elsewhere")
    result = tltool.resume(tmp_path / "run")
    assert result.evaluation.metrics == whole.evaluation.metrics


REFUSED = [
    {"strategy": "frozen-head", "augment": "erasing"},
    {"strategy": "frozen-head", "train_views": "augmented"},
    {"strategy": "fine-tune", "unfreeze": "nonsense"},
    {"strategy": "fine-tune", "unfreeze": "all", "cache": "on"},
]


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_refused_leaves_nothing_in_the_way(tmp_path, given):
    """A folder of other settings would refuse the corrected command."""
    data = class_folders(tmp_path / "photos", n=12, size=(32, 32))
    common = {"backbone": "cifar-resnet20", "store": tmp_path / "store", "out": tmp_path / "run"}
    with pytest.raises(TltoolError) as said:
        tltool.adapt(data, **common, **given)
    assert "known:" not in str(said.value)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").write_text("mine")
    with pytest.raises(TltoolError, match="is not a run"):
        tltool.adapt(data, **common, **given)
    assert (tmp_path / "run" / "note.txt").read_text() == "mine"


def test_off_the_shelf_runs_go_on_too(tmp_path, monkeypatch):
    data = class_folders(tmp_path / "photos", n=12)
    given = {"backbone": "cifar-resnet20", "recipe": "fast", "store": tmp_path / "store"}
    whole = tltool.adapt(data, out=tmp_path / "whole", **given)

    def interrupted(*rest, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(OffTheShelf, "fit", interrupted)
        patched.chdir(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            tltool.adapt("photos", out="broken", **given)
    assert tltool.resume(tmp_path / "broken").evaluation.metrics == whole.evaluation.metrics


def test_as_an_estimator(tmp_path):
    data = class_folders(tmp_path / "photos", n=12)
    paths = sorted(data.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    model = TransferClassifier(
        **{k: v for k, v in QUICK.items() if k != "epochs"}, epochs=30, store=tmp_path / "store"
    )
    model.fit(paths, labels)
    assert np.mean(model.predict(paths) == np.array(labels)) > 0.8
    assert model.choices_["training"]["epochs"] == 30
