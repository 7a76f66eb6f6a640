"""Evidence, advice and race on small images: what they are measured on, and what they refuse."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import class_folders, picture, save
from sklearn.base import clone
from typer.testing import CliRunner

import tltool
from tltool import TltoolError, domain
from tltool import race as race_module
from tltool.advice import Lap
from tltool.advising import settle
from tltool.backbones import Backbone
from tltool.cli import app
from tltool.data import canvas, check_listing, read_listing, split_dataset
from tltool.evidence import _tap_evidence, probed_taps
from tltool.features import FeatureSource, FeatureStore
from tltool.linear import Problem
from tltool.linear.linear_head import softmax
from tltool.linear.probing import Probe, probe
from tltool.race import race
from tltool.settings import AdaptSettings
from tltool.strategies import STRATEGIES
from tltool.strategies.folds import stratified_folds
from tltool.transferability import leep, nce

EMBEDDED = {"backbone": "cifar-resnet20"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("advice") / "photos", n=24)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def advice(data, store):
    return tltool.advise(data, store=store, target=0.99, **EMBEDDED)


def split(data, store):
    checked, _ = check_listing(read_listing(data), cache=store)
    return split_dataset(checked, seed=0, test=0.2, val=0.1)[0]


def test_evidence_is_that_of_images_to_learn_from(data, store, advice):
    with FeatureStore(store) as kept:
        dataset = split(data, kept)
        n = len(dataset.of("train", "val"))
        found = advice.evidence
        assert found.size.images == n < 72
        assert found.size.classes == 3
        assert found.size.smallest_class <= n / 3
        # a linear probe by hand: the same folds, the same images, the better of two transforms
        source = FeatureSource(Backbone("cifar-resnet20"), kept)
        examples = dataset.of("train", "val")
        features = source.features(examples)
    assert features.computed == 0
    problem = Problem(features.values, dataset.targets(examples), 3, features.widths)
    folds = [stratified_folds(examples, 5, seed) for seed in range(6)]
    tried = [probe(problem, folds, chain) for chain in (("standardise",), ("sqrt", "l2"))]
    best = min(tried, key=lambda one: one.losses[-1].mean())
    assert found.probe.accuracy.value == best.accuracy
    assert found.probe.accuracy.low < found.probe.accuracy.value <= found.probe.accuracy.high
    assert found.similarity.measured_with == "cifar-resnet20"
    assert set(found.similarity.by_block) == {"stem", "stage1", "stage2", "stage3"}
    assert len(advice.reasons) == 3
    assert [t.tap for t in found.taps] == ["avgpool", "stage2", "stage1"]


def test_pixels_are_told_without_a_network(data, store, advice):
    """By the averages of 8x8 cells of what the network is given."""
    with FeatureStore(store) as kept:
        dataset = split(data, kept)
    examples = dataset.of("train", "val")
    cells = [
        canvas(e.path.read_bytes(), (32, 32)).reshape(8, 4, 8, 4, 3).mean((1, 3)) for e in examples
    ]
    features = np.array(cells, np.float32).reshape(len(cells), -1)
    problem = Problem(features, dataset.targets(examples), 3)
    folds = [stratified_folds(examples, 5, seed) for seed in range(6)]
    expected = probe(problem, folds, ("standardise",)).accuracy
    assert advice.evidence.pixels.accuracy.value == pytest.approx(expected, abs=0.02)


def test_leep_and_nce_are_of_the_classes_of_the_source(data, store, advice):
    """By the network's own logits, taken another way."""
    with FeatureStore(store) as kept:
        dataset = split(data, kept)
        examples = dataset.of("train", "val")
        source = FeatureSource(Backbone("cifar-resnet20", taps="logits"), kept)
        told = softmax(source.features(examples).values)
    targets = dataset.targets(examples)
    for tap in advice.evidence.taps:
        assert tap.leep == pytest.approx(leep(told, targets))
        assert tap.nce == pytest.approx(nce(told.argmax(axis=1), targets))


def test_every_tap_in_one_pass(data, tmp_path, monkeypatch):
    """Blocks, the own tap and the classes of the source: no image goes through twice."""
    passes = []
    extract = FeatureSource._extract

    def counted(self, examples, spaces):
        passes.append(len(examples))
        return extract(self, examples, spaces)

    monkeypatch.setattr(FeatureSource, "_extract", counted)
    found = tltool.advise(data, store=tmp_path, tap="stage2:max", **EMBEDDED)
    assert passes == [found.evidence.size.images]


def test_test_images_are_not_looked_at(data, store, advice, tmp_path):
    """Their pixels are replaced; all that is told stays as it was."""
    with FeatureStore(store) as kept:
        dataset = split(data, kept)
    other = tmp_path / "photos"
    for e in dataset.examples:
        target = other / e.split / e.label / e.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(e.path.read_bytes())
    for number, path in enumerate(sorted((other / "test").rglob("*.png"))):
        save(path, 255 - picture(900 + number))
    again = tltool.advise(other, store=store, target=0.99, **EMBEDDED)
    assert again.evidence.size == advice.evidence.size
    assert again.evidence.similarity == advice.evidence.similarity
    for mine, other in zip(again.evidence.taps, advice.evidence.taps, strict=True):
        assert mine.accuracy == other.accuracy
        assert mine.neighbours == other.neighbours
        for score in ("log_evidence", "h_score", "leep", "nce"):
            assert getattr(mine, score) == pytest.approx(getattr(other, score))
    assert again.evidence.curve == advice.evidence.curve
    assert again.more.keys() == advice.more.keys()
    for times, expected in again.more.items():
        assert expected.value == pytest.approx(advice.more[times].value)


def test_a_probe_with_fewer_images_is_nested_and_no_better():
    random = np.random.default_rng(0)
    targets = np.arange(400) % 4
    features = random.normal(size=(4, 20))[targets] + 2.0 * random.normal(size=(400, 20))
    problem = Problem(features.astype(np.float32), targets, 4)
    folds = np.arange(400) // 4 % 5
    found = probe(problem, [folds], ("standardise",), (0.05, 0.2, 1.0))
    np.testing.assert_allclose(found.sizes, [16, 64, 320])
    shares = found.hits.mean(axis=1)
    assert shares[0] < shares[1] < shares[2] == found.accuracy
    alone = probe(problem, [folds], ("standardise",))
    np.testing.assert_array_equal(alone.hits[-1], found.hits[-1])


def test_the_same_advice_again_from_the_store(data, store, advice):
    again = tltool.advise(data, store=store, target=0.99, **EMBEDDED)
    assert again.evidence.taps == advice.evidence.taps
    assert again.more == advice.more


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar-resnet20", ["stage3", "stage2", "stage1"]),
        ("mobilenet-0.25", ["block13", "block10", "block6", "block3"]),
    ],
)
def test_taps_are_spread_over_the_depth(name, expected):
    assert probed_taps(Backbone(name, "none")) == expected


def test_another_network_tells_where_the_backbone_does_not(data, store, monkeypatch):
    """One without batch normalisation does not remember its source."""
    monkeypatch.setattr(domain, "_proxy", lambda backbone: Backbone("cifar-resnet20"))
    plain = Backbone("cifar-resnet20")
    monkeypatch.setattr(domain, "_remembers", lambda backbone: backbone is not plain)
    with FeatureStore(store / "other") as kept:
        examples = split(data, kept).of("train")
        found = domain.measured_distance(FeatureSource(plain, kept), examples)
        assert found.backbone == "cifar-resnet20"
        again = domain.measured_distance(FeatureSource(plain, kept), examples)
        assert again == found
        monkeypatch.setattr(domain, "_proxy", lambda backbone: None)
        assert domain.measured_distance(FeatureSource(plain, kept), examples[:9]) is None


def test_no_proxy_for_another_source():
    assert domain._proxy(Backbone("cifar-resnet20")) is None


def test_backbones_are_ranked_and_those_without_weights_named(data, store, caplog):
    given = {"backbones": "vgg16,inception-v3,cifar-resnet20", "input_size": "48"}
    found = tltool.advise(data, store=store, **given)
    assert "inception-v3 takes images from 75" in found.skipped["inception-v3"]
    assert found.settings["input_size"] == "48"
    assert [one.backbone for one in found.ranking] == ["cifar-resnet20"]
    assert "vgg16" in found.skipped
    assert "vgg16 was left out" in caplog.text
    with FeatureStore(store) as kept:
        settings = AdaptSettings(strategy="off-the-shelf")
        chosen, told = settle(settings, kept, split(data, kept), any_backbone=True)
    assert chosen.backbone == "cifar-resnet20"
    assert chosen.strategy == "off-the-shelf"
    assert [one.strategy for one in told.forecasts] == ["off-the-shelf"]


def test_near_duplicates_make_no_interval_narrower():
    """Each image four times: four times the rows, and no surer."""
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], 20)
    features = random.normal(size=(40, 8)).astype(np.float32) + targets[:, None]
    hits = (np.arange(40) % 5 > 0).astype(float)
    widths = []
    for times in (1, 4):
        x, y, right = (np.repeat(a, times, axis=0) for a in (features, targets, hits))
        found = Probe(np.array([len(y)]), right[None], np.zeros((1, len(y))))
        groups = np.repeat(np.arange(40), times)
        accuracy = _tap_evidence("t", Problem(x, y, 2, (8,)), found, groups, None).accuracy
        assert accuracy.value == 0.8
        widths.append(accuracy.high - accuracy.low)
    assert widths[0] == widths[1]


def test_a_race_on_images_held_out(data, store, advice):
    """Two strategies as they are; the test images take no part."""
    two = [one for one in advice.forecasts if one.strategy in ("off-the-shelf", "frozen-head")]
    settings = AdaptSettings(strategy="auto", **EMBEDDED)
    with FeatureStore(store) as kept:
        dataset = split(data, kept)
        source = settings.make_source(kept)
        found = race(replace(advice, forecasts=tuple(two)), settings, source, dataset, 120).race
    assert [lap.strategy for lap in found.laps[:2]] == ["off-the-shelf", "frozen-head"]
    assert len(found.laps) == 6
    images = [lap.images for lap in found.laps]
    assert images == sorted(images)
    assert images[-1] + found.judged == len(dataset.of("train", "val"))
    assert found.held  # red, green and blue: neither does better


@pytest.fixture
def staged(data, store, advice, monkeypatch):
    """A race whose laps are told beforehand: shares of images that are right."""

    def run(shares, budget=60.0):
        started = []

        def lap(strategy, advice, settings, source, dataset, left):
            started.append((strategy, len(dataset.of("train"))))
            if shares[strategy] is None:
                raise TltoolError("diverged")
            n = len(dataset.of("test"))
            hits = np.arange(n) < round(shares[strategy] * n)
            return race_module._Judged(Lap(strategy, started[-1][1], hits.mean(), 0.0), hits)

        monkeypatch.setattr(race_module, "_lap", lap)
        settings = AdaptSettings(strategy="auto", **EMBEDDED)
        with FeatureStore(store) as kept:
            return race(advice, settings, None, split(data, kept), budget), started

    return run


ADVISED = "off-the-shelf"


def test_the_better_half_goes_on(staged, advice):
    assert advice.strategy == ADVISED
    shares = {ADVISED: 0.9, "frozen-head": 0.8, "fine-tune": 0.5, "from-scratch": 0.2}
    raced, started = staged(shares)
    found = raced.race
    assert len({name for name, _ in started[:4]}) == 4
    assert {name for name, _ in started[4:]} == {ADVISED, "frozen-head"}
    assert (found.winner, found.held) == (ADVISED, True)
    assert found.said.startswith("The advice held: off-the-shelf won, 9")


def test_a_strategy_that_fails_is_out_of_the_race(staged, caplog):
    shares = {ADVISED: 0.9, "frozen-head": 0.8, "from-scratch": 0.2}
    raced, started = staged(shares | {"fine-tune": None})
    assert (raced.race.winner, raced.race.held) == (ADVISED, True)
    assert [name for name, _ in started].count("fine-tune") == 1
    assert "fine-tune is out of the race: diverged" in caplog.text
    raced, _ = staged(shares | {"fine-tune": 0.3, ADVISED: None})
    assert raced.race is None
    assert f"{ADVISED} could not be run to the end" in raced.notes[-1]


def test_an_advice_that_does_not_hold(staged):
    """What was advised goes on to the end, however it does."""
    shares = {ADVISED: 0.1, "frozen-head": 0.3, "fine-tune": 0.9, "from-scratch": 0.8}
    raced, started = staged(shares)
    assert (raced.race.winner, raced.race.held) == ("fine-tune", False)
    assert "points ahead of off-the-shelf" in raced.race.said
    assert {name for name, _ in started[4:7]} == {"fine-tune", "from-scratch", ADVISED}


def test_chance_is_no_reason_to_doubt_it(staged):
    n = 13
    shares = {ADVISED: 10 / n, "frozen-head": 0.1, "fine-tune": 11 / n, "from-scratch": 0.2}
    raced, _ = staged(shares)
    assert (raced.race.winner, raced.race.held) == ("fine-tune", True)
    assert "within what chance makes" in raced.race.said


def test_of_equals_the_advice_has_won(staged):
    raced, _ = staged(dict.fromkeys(STRATEGIES, 0.5))
    assert (raced.race.winner, raced.race.held) == (ADVISED, True)
    assert "points ahead" not in raced.race.said


def test_a_race_that_ends_early_says_what_its_judgement_rests_on(staged, monkeypatch):
    ticks = iter([0.0, *(1.0,) * 5, 1e9])
    monkeypatch.setattr(race_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    raced, started = staged(dict.fromkeys(STRATEGIES, 0.5))
    learned = {n for _, n in started[:4]}
    assert f"after learning from {max(learned)} of " in raced.race.said


def test_a_race_that_runs_out_of_time_leaves_the_advice(staged, advice, monkeypatch):
    raced, started = staged(dict.fromkeys(STRATEGIES, 0.5), budget=0.0)
    assert started == []
    assert raced.race is None
    assert raced.strategy == advice.strategy
    assert "no time for the advised strategy and another one" in raced.notes[-1]
    # time for two and a half of four: those two are compared
    ticks = iter([0.0, 1.0, 2.0, 1e9])
    monkeypatch.setattr(race_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    raced, started = staged(dict.fromkeys(STRATEGIES, 0.5))
    assert len(started) == 2
    assert len(raced.race.laps) == 2
    assert raced.race.held


def test_too_few_images_for_a_race(tmp_path):
    class_folders(tmp_path / "data" / "train", n=3)
    class_folders(tmp_path / "data" / "test", n=2, start=50)
    given = {"verify": True, "budget": "60s", "val": 0.0} | EMBEDDED
    found = tltool.advise(tmp_path / "data", store=tmp_path / "store", **given)
    assert found.race is None
    assert "too few images to hold some out" in found.notes[-1]


def test_a_race_needs_a_time():
    with pytest.raises(TltoolError, match="--budget must be a time"):
        tltool.advise("nowhere", verify=True, budget="soon")


class TestBadInput:
    def refused(self, data, tmp_path, **settings):
        with pytest.raises(TltoolError) as caught:
            tltool.advise(data, store=tmp_path / "store", **EMBEDDED | settings)
        text = str(caught.value)
        assert "\n" not in text
        return text

    def test_one_class(self, tmp_path):
        data = class_folders(tmp_path / "one", classes=("red",))
        assert "class" in self.refused(data, tmp_path)

    def test_fewer_than_two_images_a_class(self, tmp_path):
        class_folders(tmp_path / "data" / "train", n=1)
        class_folders(tmp_path / "data" / "test", n=1, start=50)
        assert "two images each" in self.refused(tmp_path / "data", tmp_path, val=0.0)

    def test_few_images_have_no_curve(self, tmp_path):
        class_folders(tmp_path / "data" / "train", n=3)
        class_folders(tmp_path / "data" / "test", n=2, start=50)
        found = tltool.advise(
            tmp_path / "data", store=tmp_path / "store", val=0.0, target=0.9, **EMBEDDED
        )
        assert found.evidence.curve is None
        assert found.more[10].high == 1.0
        assert any("too few for a learning curve" in note for note in found.notes)

    @pytest.mark.parametrize("target", [0.0, 1.0, 90.0])
    def test_target(self, tmp_path, target):
        assert "--target must be a fraction" in self.refused("x", tmp_path, target=target)

    def test_backbone_auto_is_called_otherwise(self, tmp_path):
        assert "--backbones auto" in self.refused("x", tmp_path, backbone="auto")

    def test_budget_without_a_race(self, tmp_path):
        assert "is for --verify" in self.refused("x", tmp_path, budget="5m")

    def test_settings_that_would_do_nothing(self, tmp_path):
        assert "has no setting 'epochs'" in self.refused("x", tmp_path, epochs=3)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"backbones": "cifar-resnet20"}, "several are to be compared"),
            (
                {"backbones": "vgg16,vgg19", "backbone": None, "tap": "decaf6"},
                "--tap decaf6 is for",
            ),
            ({"backbones": "no-such", "backbone": None}, "--backbones"),
            ({"backbones": ",", "backbone": None}, "names no network"),
            ({"backbones": "vgg16", "backbone": None}, "No weights for vgg16"),
            ({"backbones": "vgg16,vgg19", "backbone": None}, "None of vgg16, vgg19 could"),
        ],
    )
    def test_backbones(self, data, tmp_path, given, expected):
        assert expected in self.refused(data, tmp_path, **given)


class TestAdapt:
    """`adapt` with the strategy left open."""

    def test_does_what_is_advised(self, data, store, advice, tmp_path):
        """Unless a strategy is named, or a recipe that has one."""
        found = tltool.adapt(data, out=tmp_path / "run", store=store, views="2", **EMBEDDED)
        assert found.strategy == advice.strategy
        assert found.views == "2"
        assert found.described[0] == ("Advised because", " ".join(found.advice["reasons"]))
        facts = json.loads((tmp_path / "run" / "run.json").read_text())
        assert facts["settings"]["strategy"] == advice.strategy
        assert facts["advice"]["strategy"] == advice.strategy
        assert "Advised because" in (tmp_path / "run" / "report.html").read_text()
        named = {one["strategy"] for one in found.advice["expected"]}
        assert "from-scratch" not in named  # that would be another network than the one named

    def test_options_narrow_the_choice(self, data, store, tmp_path):
        quick = {"units": "none", "epochs": 2}
        found = tltool.adapt(
            data, strategy="auto", out=tmp_path / "run", store=store, **quick, **EMBEDDED
        )
        assert found.strategy == "frozen-head"
        assert found.advice is None  # nothing was left to choose

    def test_a_recipe_is_followed(self, data, store, tmp_path):
        """What it says of views and taps is not for the advice to change."""
        given = {"tap": "last3:avg+max,last1:grid2", "views": "12"}
        settings = AdaptSettings(strategy="auto", **given, **EMBEDDED)
        assert {"off-the-shelf", "fine-tune"} <= set(settings.candidates)
        with FeatureStore(store) as kept:
            chosen, told = settle(settings, kept, split(data, kept))
        assert (chosen.views, chosen.tap) == ("12", "last3:avg+max,last1:grid2")
        assert told.evidence.probe.tap.startswith("stage1:avg+max")
        assert AdaptSettings(strategy="auto", recipe="alexnet").strategy == "from-scratch"
        for name in ("fast", "recommended"):  # a classifier of features is all that they are
            assert AdaptSettings(strategy="auto", recipe=name).strategy == "off-the-shelf"
        with pytest.raises(TltoolError, match="--recipe alexnet brings its own network, alexnet"):
            tltool.adapt(data, recipe="alexnet", backbone="auto", out=tmp_path / "run")

    def test_the_best_backbone(self, data, store, tmp_path):
        found = tltool.adapt(
            data, backbone="auto", strategy="off-the-shelf", out=tmp_path / "run", store=store
        )
        assert found.backbone == "cifar-resnet20"
        assert [one["backbone"] for one in found.advice["ranking"]] == ["cifar-resnet20"]

    def test_the_best_backbone_for_a_strategy_that_is_never_advised(self, data, store):
        settings = AdaptSettings(strategy="feature-ensemble")
        with FeatureStore(store) as kept:
            chosen, _ = settle(settings, kept, split(data, kept), any_backbone=True)
        assert chosen == replace(settings, backbone="cifar-resnet20")

    def test_options_that_no_strategy_takes(self, data, tmp_path):
        with pytest.raises(TltoolError, match="No --strategy takes all of these options"):
            tltool.adapt(data, strategy="auto", transforms="l2", epochs=3, out=tmp_path / "run")
        with pytest.raises(TltoolError, match="--epochs"):
            tltool.adapt(data, strategy="auto", epochs=0, out=tmp_path / "run")

    def test_too_few_images_to_advise_on(self, tmp_path, caplog):
        """One a class to learn from: the simplest strategy takes them."""
        for split_name, n in (("train", 1), ("test", 3)):
            class_folders(tmp_path / "data" / split_name, n=n, start=n)
        found = tltool.adapt(
            tmp_path / "data", out=tmp_path / "run", store=tmp_path / "store", val=0, **EMBEDDED
        )
        assert (found.strategy, found.advice) == ("off-the-shelf", None)
        assert "too few images to advise on, so off-the-shelf was taken" in caplog.text

    def test_a_finished_run_is_refused_before_anything_is_measured(self, finished_run):
        data, result = finished_run
        with pytest.raises(TltoolError, match="holds a finished run"):
            tltool.adapt(data, strategy="auto", out=result.run, store="/proc/no/such/store")

    def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_measured(
        self, data, tmp_path, monkeypatch
    ):
        (tmp_path / "notes.txt").write_text("a file where a folder would have to be")
        given = {"store": "/proc/no/such/store", **EMBEDDED}
        out = tmp_path / "notes.txt" / "run"
        with pytest.raises(TltoolError, match=r"^Could not write to .*name another place"):
            tltool.adapt(data, out=out, **given)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs").write_text("another")
        with pytest.raises(TltoolError, match=r"^Could not write to runs: Not a directory"):
            tltool.adapt(data, **given)

    def test_in_memory(self, data, store, advice):
        """A classifier with the strategy left open follows the advice on what it is fitted to."""
        paths = sorted(data.rglob("*.png"))
        labels = [path.parent.name for path in paths]
        model = tltool.TransferClassifier("auto", store=store, **EMBEDDED)
        model.fit(paths, labels)
        assert model.advice_.evidence.size.images == len(paths)
        assert model.choices_ and model.advice_.strategy in STRATEGIES
        assert np.mean(model.predict(paths) == labels) > 0.5
        refitted = clone(model)
        assert refitted.strategy == "auto"
        assert model.set_params(strategy="off-the-shelf").fit(paths, labels).advice_ is None

    def test_resume_keeps_to_the_advice(self, data, store, tmp_path, monkeypatch):
        """The strategy is not chosen again, whatever would be advised by now."""
        out = tmp_path / "run"

        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("tltool.workflow.finish_report", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tltool.adapt(data, strategy="auto", out=out, store=store, **EMBEDDED)
        facts = json.loads((out / "run.json").read_text())
        assert facts["state"] == "running"
        monkeypatch.setattr("tltool.workflow.settle", interrupted)
        found = tltool.resume(out)
        assert found.strategy == facts["settings"]["strategy"]
        assert found.advice == facts["advice"]


def test_on_the_command_line(data, store):
    runner = CliRunner()
    given = ["advise", str(data), "--store", str(store), "--backbone", "cifar-resnet20"]
    shown = runner.invoke(app, given)
    assert shown.exit_code == 0, shown.output
    for word in ("Advice", "Why", "Size", "Similarity", "from-scratch", "LogME", "10 times"):
        assert word in shown.stdout
    told = runner.invoke(app, [*given, "--json", "--target", "0.9"])
    found = json.loads(told.stdout)
    assert found["strategy"] == found["settings"]["strategy"]
    assert set(found["similarity"]["distance"]) == {"value", "low", "high"}
    wrong = runner.invoke(app, [*given, "--target", "2"])
    assert wrong.exit_code == 1
