"""Networks in training: what is trained, what stays, and that stored activations change nothing."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import class_folders, histories, killed_in_training, lively, picture, save
from scipy import stats

import tltool
from tltool import AdaptSettings, TltoolError
from tltool._presets import backbone_names, backbone_preset, training_views, views
from tltool.backbones import Backbone, boundary
from tltool.backbones.layers import layer_table
from tltool.data import Dataset, check_listing, read_listing, split_dataset
from tltool.features import DrawnPictures, FeatureSource, FeatureStore, StoredActivations
from tltool.linear import Classifier, LinearHead
from tltool.linear.linear_head import softmax
from tltool.metrics import is_clearly_lower, simplest_of_the_best
from tltool.strategies import FineTune, FromScratch, OffTheShelf, precision
from tltool.strategies.cutting import choose_cache
from tltool.strategies.network_training import NetworkTraining
from tltool.strategies.off_the_shelf import scores_held_out
from tltool.strategies.precision import measure
from tltool.strategies.tuning import TunedNetwork
from tltool.training import Batches, HeldPictures, Trainer, TrainingPlan, Validation
from tltool.training.learning_rate import range_test, rate_factor

TUNED = {"backbone": "cifar-resnet20", "strategy": "fine-tune", "views": "1", "epochs": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A source and a split data set of three easy classes."""
    root = tmp_path_factory.mktemp("tuning")
    data = class_folders(root / "photos", n=16)
    dataset, _ = check_listing(read_listing(data))
    dataset, _ = split_dataset(dataset, seed=0, test=0.3, val=0.2)
    with FeatureStore(root / "store") as store:
        yield FeatureSource(Backbone("cifar-resnet20"), store), dataset


def head(backbone, k=3, seed=0):
    width = sum(backbone.widths(backbone.parts))
    kernel = np.random.default_rng(seed).normal(0, 0.1, (width, k))
    return Classifier((), None, LinearHead.of(kernel, np.zeros(k)))


def tuned(backbone, unfreeze, plan, *, from_activations=False):
    cut = boundary(backbone.preset, backbone.input_size, unfreeze)
    made = TunedNetwork(backbone, cut, head(backbone), plan, 0, from_activations=from_activations)
    return made, cut


class TestBoundaries:
    @pytest.mark.parametrize("name", backbone_names())
    def test_below_and_above_make_the_whole(self, name):
        preset = backbone_preset(name)
        rows = layer_table(preset, preset.input_size)
        total = sum(row.multiply_adds for row in rows if row.block)
        blocks = list(preset.blocks)
        for block in blocks:
            cut = boundary(preset, preset.input_size, block)
            assert cut.below + cut.above == total
            assert cut.unfrozen == tuple(blocks[blocks.index(block) :])
        assert boundary(preset, preset.input_size, "all").below == 0
        assert boundary(preset, preset.input_size, "last1").unfrozen == (blocks[-1],)
        assert boundary(preset, preset.input_size, "last99").layer is None

    def test_unknown_ones_are_answered_with_a_list(self):
        preset = backbone_preset("resnet50")
        with pytest.raises(TltoolError, match=r"stem, stage1, stage2.*did you mean 'stage4'"):
            boundary(preset, (224, 224), "stage44")

    def test_what_is_trained(self):
        backbone = Backbone("cifar-resnet20")
        made, cut = tuned(backbone, "stage3", TrainingPlan())
        names = {v.path.partition("/")[0] for v in made.scoring.trainable_variables}
        assert cut.block == "stage2" and cut.shape == (16, 16, 32)
        assert names == {
            *(f"stage3_block{b}_conv{c}" for b in (1, 2, 3) for c in (1, 2)),
            "predictions",
        }
        adapting, _ = tuned(backbone, "stage3", TrainingPlan(norms="adapt"))
        more = {v.path.partition("/")[0] for v in adapting.scoring.trainable_variables} - names
        assert more == {f"stage3_block{b}_bn{c}" for b in (1, 2, 3) for c in (1, 2)}


class TestSteps:
    @pytest.mark.parametrize("norms", ["frozen", "adapt"])
    def test_what_is_frozen_stays_to_the_last_bit(self, norms):
        backbone = Backbone("cifar-resnet20")
        plan = TrainingPlan(norms=norms, learning_rate=0.01)
        made, cut = tuned(backbone, "stage3", plan)
        before = {v.path: v.numpy() for v in made._twin.variables}
        trainer = made.trainer(plan)
        x = np.stack([picture(i, (32, 32), i) for i in range(6)])
        for _ in range(3):
            trainer.step((x, np.eye(3, dtype=np.float32)[[0, 1, 2] * 2], np.ones(6, "f4")), 0.01)
        for variable in made._twin.variables:
            layer = variable.path.partition("/")[0]
            same = (variable.numpy() == before[variable.path]).all()
            statistic = "_bn" in layer
            trained = cut.trains(layer) and (norms == "adapt" or not statistic)
            assert same == (not trained), variable.path
        kept = {key.removeprefix("network/") for key in trainer.weights()}
        changing = (
            sum((v.numpy() != before.get(v.path, np.nan)).any() for v in made._twin.variables) + 2
        )
        assert len(kept) == changing

    def test_layer_wise_rates_are_those_of_plain_keras_layer_by_layer(self):
        """Each layer's own optimizer at its own rate does the same."""
        backbone = Backbone("cifar-resnet20")
        plan = TrainingPlan(
            optimizer="sgd", learning_rate=0.05, weight_decay=0.1, layer_decay=0.5, clip_norm=0.0
        )
        made, cut = tuned(backbone, "stage2", plan)
        reference, _ = tuned(backbone, "stage2", plan)
        x = np.stack([picture(i, (32, 32), i) for i in range(6)]).astype(np.float32)
        y = np.eye(3, dtype=np.float32)[[0, 1, 2] * 2]
        variables = reference.scoring.trainable_variables
        optimizers = []
        for variable in variables:
            depth = cut.depths.get(variable.path.partition("/")[0], 0)
            optimizer = keras.optimizers.SGD(
                0.05 * 0.5**depth, momentum=0.9, nesterov=True, weight_decay=0.1
            )
            optimizer.exclude_from_weight_decay(var_names=["bias"])
            optimizer.build([variable])
            optimizers.append(optimizer)
        import tensorflow as tf

        trainer = made.trainer(plan)
        for _ in range(3):
            trainer.step((x, y, np.ones(6, np.float32)), 0.05)
            with tf.GradientTape() as tape:
                scores = reference.scoring(x, training=True)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, scores))
            gradients = tape.gradient(loss, variables)
            for optimizer, gradient, variable in zip(optimizers, gradients, variables, strict=True):
                optimizer.apply([gradient], [variable])
        for ours, theirs in zip(made.scoring.trainable_variables, variables, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("towards", ["zero", "pretrained"])
    def test_decay_ends_where_it_leads(self, towards):
        backbone = Backbone("cifar-resnet20")
        plan = TrainingPlan(
            optimizer="sgd", momentum=0.0, weight_decay=10.0, l2_sp=towards == "pretrained"
        )
        made, _ = tuned(backbone, "stage3", plan)
        (kernel,) = (v for v in made.scoring.trainable_variables if "block3_conv2" in v.path)
        pretrained = kernel.numpy()
        trainer = made.trainer(plan)
        kernel.assign(pretrained + 1.0)
        batch = (
            np.zeros((2, 32, 32, 3), np.uint8),
            np.full((2, 3), 1 / 3, "f4"),
            np.zeros(2, "f4"),
        )
        trainer.step(batch, 0.05)
        home = pretrained if towards == "pretrained" else np.zeros_like(pretrained)
        np.testing.assert_allclose(kernel, home + 0.5 * (pretrained + 1.0 - home), atol=1e-5)

    @pytest.mark.parametrize(
        ("name", "unfreeze", "options"),
        [
            ("cifar-resnet20", "stage3", {}),
            ("mobilenet-0.25", "block12", {"weights": "none", "input_size": 64}),
            ("densenet121", "last1", {"weights": "none", "input_size": 32}),
        ],
    )
    def test_stored_activations_give_the_loss_of_the_whole_network(
        self, photos, name, unfreeze, options
    ):
        source, dataset = photos
        backbone = Backbone(name, **options)
        if options:
            lively(backbone.network)
        source = source.of_backbone(backbone)
        plan = TrainingPlan(learning_rate=0.01, optimizer="sgd", clip_norm=1.0, batch_size=8)
        some = dataset.of("train")[:16]
        shown = training_views("auto-2", backbone.input_size)
        targets = np.arange(len(some)) % 3
        losses = []
        for stored in (True, False):
            made, cut = tuned(backbone, unfreeze, plan, from_activations=stored)
            if stored:
                crossing = source.of_backbone(backbone.tapping(f"{cut.block}:flatten"))
                pictures = StoredActivations(crossing.showing(shown), some, cut.shape)
            else:
                pictures = DrawnPictures(some, shown, backbone.input_size)
            trainer = made.trainer(plan)
            batches = Batches(pictures, targets, 3, np.ones(len(some)), plan, 0)
            found = []
            for epoch in range(2):
                for batch in batches.epoch(epoch):
                    found.append(trainer.step(batch, 0.01)[0])
            losses.append(found)
        assert losses[0][0] != pytest.approx(losses[0][-1], rel=1e-3)  # it learns
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4, atol=1e-4)


def test_activations_beyond_memory_are_read_from_the_store(photos, monkeypatch):
    source, dataset = photos
    backbone = source.backbone
    cut = boundary(backbone.preset, backbone.input_size, "stage3")
    crossing = source.of_backbone(backbone.tapping("stage2:flatten"))
    crossing = crossing.showing(training_views("auto-2", (32, 32)))
    some = dataset.of("train")
    held = StoredActivations(crossing, some, cut.shape)
    assert held.at_hand
    monkeypatch.setattr("tltool.features.pictures.HELD_IN_MEMORY", 1000)
    read = StoredActivations(crossing, some, cut.shape)
    assert not read.at_hand
    rows, views = np.array([3, 0, 3, 7]), np.array([0, 1, 1, 0])
    np.testing.assert_array_equal(held.take(rows, views), read.take(rows, views))
    assert (held.take(rows, views)[0] != held.take(rows, views)[2]).any()


def test_a_picture_that_changed_is_told(tmp_path):
    data = class_folders(tmp_path / "photos", n=4)
    dataset, _ = check_listing(read_listing(data))
    pictures = DrawnPictures(dataset.examples, training_views("auto", (32, 32)), (32, 32))
    rows = np.arange(3)
    first = pictures.take(rows, rows)
    assert first.shape == (3, 32, 32, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, pictures.take(rows, rows))
    save(dataset.examples[5].path, picture(99))
    with pytest.raises(TltoolError, match="has changed since it was checked"):
        pictures.take(np.array([5]), np.array([0]))


class TestCache:
    def chosen(self, unfreeze="stage4", asked="auto", views=0, n=500, room=10**11, **plan):
        backbone = Backbone("resnet50", "none")
        cut = boundary(backbone.preset, backbone.input_size, unfreeze)
        made = TrainingPlan(**({"epochs": 10, "views": "auto"} | plan))
        return choose_cache(asked, backbone, cut, made, views, n, room)

    def test_it_pays_where_much_is_frozen_and_epochs_are_many(self):
        found = self.chosen()
        assert found.used and found.views == "auto-4" and found.gain > 1.5
        assert self.chosen(epochs=40).gain > found.gain > self.chosen(epochs=5).gain
        assert not self.chosen(epochs=1).used
        assert not self.chosen("stage1").used
        assert self.chosen("stage1", asked="on").used

    def test_reading_from_the_store_costs_more(self):
        """Beyond a gigabyte: 802,816 bytes a view of stage3."""
        assert self.chosen(n=300).gain > self.chosen(n=400).gain == self.chosen(n=500).gain

    @pytest.mark.parametrize(
        ("name", "views", "measured"),
        [
            ("resnet50", 1, 1.94),
            ("resnet50", 4, 1.60),
            ("mobilenet-0.25", 1, 3.95),
            ("mobilenet-0.25", 4, 2.17),
            ("cifar-resnet20", 1, 1.74),
            ("cifar-resnet20", 4, 1.30),
        ],
    )
    def test_the_estimate_is_near_what_was_measured(self, name, views, measured):
        """By `benchmarks/strategies.py --rows cache`, see docs/speed.md."""
        backbone = Backbone(name, "none")
        cut = boundary(backbone.preset, backbone.input_size, "last1")
        plan = TrainingPlan(epochs=5)
        found = choose_cache("auto", backbone, cut, plan, views, 300, 10**11)
        assert measured / 1.25 < found.gain < measured * 1.25

    def test_room_and_pixels(self):
        assert "more than half of the store" in self.chosen(room=10**9).said
        assert not self.chosen(augment=("erasing",)).used
        with pytest.raises(TltoolError, match="--augment erasing changes pixels"):
            self.chosen(asked="on", augment=("erasing",))
        with pytest.raises(TltoolError, match="all layers are trained"):
            self.chosen("all", asked="on")
        backbone = Backbone("resnet50", "none", taps="stage2,stage4")
        cut = boundary(backbone.preset, backbone.input_size, "stage4")
        with pytest.raises(TltoolError, match="tap stage2 lies below the boundary"):
            choose_cache("on", backbone, cut, TrainingPlan(), 1, 10, 10**9)


def test_the_rate_follows_the_distance():
    assert rate_factor(None) == 1.0
    assert rate_factor(0.006) == pytest.approx(0.1)
    assert rate_factor(0.05) == pytest.approx(0.5)
    assert rate_factor(0.2) == 1.0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_range_test_leaves_all_as_it_was(optimizer):
    """On a quadratic bowl rates above 2 / curvature diverge, those a tenth of it learn."""
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    plan = TrainingPlan(optimizer=optimizer, momentum=0.0, weight_decay=0.0, batch_size=30)
    random = np.random.default_rng(0)
    targets = np.arange(90) % 3
    values = (np.eye(3, 4)[targets] * 3 + random.normal(0, 1, (90, 4))).astype(np.float32)
    trainer = Trainer(network, plan)
    before = trainer.state()
    batches = Batches(HeldPictures(values[:, None]), targets, 3, np.ones(90), plan, 0)
    found = range_test(trainer, batches, optimizer)
    for name, value in trainer.state().items():
        np.testing.assert_array_equal(value, before[name])
    assert found.chosen == pytest.approx(0.1 * found.rates[int(np.argmin(found.changes))])
    assert min(found.changes) < -0.1
    losses = []
    for epoch in range(20):
        for batch in batches.epoch(epoch):
            losses.append(trainer.step(batch, found.chosen)[0])
    assert losses[-1] < losses[0]
    for epoch in range(20, 300):  # to the best that it can do: from there the loss can only rise
        for batch in batches.epoch(epoch):
            trainer.step(batch, found.chosen)
    ended = range_test(trainer, batches, optimizer)
    assert min(ended.changes) > -0.05
    assert 1e-2 * found.chosen < ended.chosen <= 10 * found.chosen


def test_it_begins_with_the_fitted_head_and_may_end_with_it(photos):
    source, dataset = photos
    ruinous = TrainingPlan(epochs=3, learning_rate=30.0, optimizer="sgd", batch_size=8)
    fitted = FineTune(ruinous, unfreeze="stage3", cache="off").fit(source, dataset, seed=0)
    assert fitted.choices["best_epoch"] == 0
    assert fitted.history[0]["epoch"] == 0
    assert fitted.history[0]["loss"] is None
    assert fitted.features_from(source) == source
    assert "none of" in dict(fitted.described())["Training"]
    assert set(fitted.choices["ends"]) == {"as trained", "fitted on them", "the start"}


@pytest.mark.parametrize("best", ["as trained", "fitted on them", "the start"])
def test_the_best_end_is_taken(photos, monkeypatch, best):
    source, dataset = photos
    calls = iter(["as trained", "fitted on them", "the start"])
    judged = NetworkTraining._judged

    def judged_as_wished(*given):
        return judged(*given)[0], np.full(6, 0.1 if next(calls) == best else 0.2)

    monkeypatch.setattr(NetworkTraining, "_judged", judged_as_wished)
    told = []

    def held_out(*given, **named):
        told.append(scores_held_out(*given, **named))
        return told[-1]

    monkeypatch.setattr("tltool.strategies.network_training.scores_held_out", held_out)
    plan = TrainingPlan(epochs=1, learning_rate=1e-3)
    fitted = FineTune(plan, unfreeze="stage3", cache="off").fit(source, dataset, seed=0)
    # a head fitted once more is calibrated by fits like it, one as trained by itself
    assert len(told) == (best != "as trained")
    for scores in told:
        np.testing.assert_allclose(fitted.held_out.scores, fitted.calibration.apply(scores))
    assert (fitted.choices["best_epoch"] == 0) == (best == "the start")
    untouched = fitted.features_from(source).backbone.weights.hash == source.backbone.weights.hash
    assert untouched == (best == "the start")
    if best == "as trained":
        assert fitted.choices["head"] == "as trained"
        return
    whole = OffTheShelf("lda").fit(fitted.features_from(source), dataset, seed=0)
    some = dataset.of("test")
    expected = whole.classifier.scores(fitted.features_from(source).features(some).values)
    found = fitted.calibration.undo(fitted.scores(source, some))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ([0.2, 0.2, 0.2, 0.2, 0.2], "as trained"),  # lower by 0.1 for every image
        ([0.3, 0.3, 0.3, 0.3, 0.2], "the start"),  # by 0.02, and a standard error of 0.02
        ([0.1, 0.5, 0.1, 0.5, 0.2], "the start"),  # by 0.02, and one of 0.09
        ([0.4, 0.4, 0.4, 0.4, 0.4], "the start"),
    ],
)
def test_the_simplest_end_that_nothing_tells_from_the_best(trained, expected):
    losses = {"the start": np.full(5, 0.3), "as trained": np.array(trained)}
    assert simplest_of_the_best(losses) == expected


def test_a_paired_t_test_at_95_percent():
    """Against SciPy's own."""
    random = np.random.default_rng(0)
    for n in (2, 3, 6, 40):
        for shift in (0.0, 0.2, 0.5, 1.0):
            losses = random.gamma(1.0, size=n)
            others = losses + random.normal(shift, 0.5, n)
            p = stats.ttest_rel(losses, others, alternative="less").pvalue
            assert is_clearly_lower(losses, others) == (p < 0.05)
    assert not is_clearly_lower(np.array([0.1]), np.array([5.0]))
    assert not is_clearly_lower(np.zeros(5), np.zeros(5))


@pytest.mark.parametrize(
    ("images_of_a_class", "start", "expected"),
    [
        (5, 0.5, "fitted on them"),  # every image says so
        (5, None, "the start"),  # none can be told
        (20, None, "fitted on them"),
        (20, 0.1, "the start"),
    ],
)
def test_size_decides_where_the_images_cannot(images_of_a_class, start, expected):
    training = object.__new__(NetworkTraining)
    fitting = [None] * (3 * images_of_a_class)
    training._lesson = SimpleNamespace(fitting=fitting, labels=("a", "b", "c"))
    unsure = np.array([0.1, 0.6, 0.1, 0.5])
    losses = {
        "as trained": np.full(4, 0.4),
        "fitted on them": np.full(4, 0.3),
        "the start": unsure if start is None else start + np.array([0, 0.01, 0, 0.02]),
    }
    assert training._best_end(losses) == expected
    del losses["the start"]
    assert training._best_end(losses) == "fitted on them"


def test_mixed_precision_is_measured_and_near(photos, tmp_path):
    source, _ = photos
    x = np.stack([picture(i, (32, 32), i) for i in range(6)])
    batch = x, np.eye(3, dtype=np.float32)[[0, 1, 2] * 2], np.ones(6, np.float32)
    made = []

    def trainer_in(precision):
        made.append(precision)
        plan = TrainingPlan(precision=precision, optimizer="sgd")
        network, _ = tuned(source.backbone, "all", plan)
        variables = network.scoring.trainable_variables
        assert {v.dtype for v in variables} == {"float32"}
        layer = network.scoring.get_layer("stage2_block1_conv1")
        assert layer.compute_dtype == precision
        return network.trainer(plan)

    found = measure(trainer_in, batch)
    assert made == ["float32", "bfloat16"]
    assert 0 < found["off"] < 0.05 and found["gain"] > 0
    with FeatureStore(tmp_path) as store:
        for gain, off, expected in (
            (1.3, 0.01, "bfloat16"),
            (1.1, 0.01, "float32"),
            (1.3, 0.2, "float32"),
        ):
            figures = {"gain": gain, "off": off}
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(precision, "measure", lambda *given, f=figures: f)
                patched.setattr(precision, "has_bfloat16", lambda: True)
                key = f"{gain}{off}"
                assert precision.choose_precision(key, store, trainer_in, batch) == expected
                patched.setattr(precision, "measure", None)  # known by now
                assert precision.choose_precision(key, store, trainer_in, batch) == expected
                patched.setattr(precision, "has_bfloat16", lambda: False)
                assert precision.choose_precision(key, store, trainer_in, batch) == "float32"


def test_from_scratch_begins_with_random_weights(photos):
    source, dataset = photos
    plan = TrainingPlan(epochs=1, norms="adapt", optimizer="sgd", learning_rate=0.01)
    source = source.of_backbone(Backbone("lenet5", "none"))
    fitted = FromScratch(plan).fit(source, dataset, seed=0)
    again = FromScratch(plan).fit(source, dataset, seed=0)
    for one, other in zip(fitted.arrays, again.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [row["epoch"] for row in fitted.history] == [1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"unfreeze": "stage9"}, "has the blocks stem, stage1, stage2, stage3"),
        ({"learning_rate": "fast"}, "--learning-rate must be a number above 0, such as 0.001, or"),
        ({"train_views": "10"}, "Unknown --train-views '10'"),
        ({"augment": "mixupp"}, "did you mean 'mixup'"),
        ({"augment": "mixup:alpha"}, "expected a name and arguments"),
        ({"augment": "mixup:beta=1"}, "does not take this"),
        ({"cache": "maybe"}, "--cache"),
        ({"norms": "thaw"}, "--norms"),
        ({"layer_decay": 2.0}, "--layer-decay must be above 0"),
        ({"unfreeze": "all", "cache": "on"}, "because all layers are trained"),
        ({"strategy": "from-scratch", "weights": "imagenet"}, "from-scratch takes random ones"),
        ({"strategy": "from-scratch", "unfreeze": "all"}, "--unfreeze is for --strategy fine-tune"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, photos, given, said):
    data = class_folders(tmp_path / "photos", n=6)
    with pytest.raises(TltoolError, match=said):
        tltool.adapt(data, out=tmp_path / "run", store=tmp_path / "store", **(TUNED | given))


def test_one_image_a_class(tmp_path):
    data = class_folders(tmp_path / "photos", n=2)
    result = tltool.adapt(
        data, out=tmp_path / "run", store=tmp_path / "store", test=0.5, val=0.0, **TUNED
    )
    assert any("too few images to hold any back" in text for text in result.warnings)


def test_runs_end_in_the_same_model(tmp_path):
    """Killed at a random moment and resumed; read back by Keras alone; evaluated again."""
    data = class_folders(tmp_path / "photos", n=16)
    settings = TUNED | {"epochs": 30, "patience": 0, "unfreeze": "stage3", "cache": "on"}
    settings |= {"train_views": "auto-2", "learning_rate": 1e-4}
    store = tmp_path / "store"
    result = tltool.adapt(data, out=tmp_path / "whole", store=store, **settings)
    killed_in_training(data, tmp_path / "broken", store, settings, 1.0)
    tltool.resume(tmp_path / "broken")
    whole, broken = (
        keras.saving.load_model(tmp_path / run / "model.keras") for run in ("whole", "broken")
    )
    for one, other in zip(whole.get_weights(), broken.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    whole, broken = histories(tmp_path / "whole", tmp_path / "broken")
    assert whole == broken
    assert dict(result.described)["Stored"].startswith("activations of stage2, 2 views")
    again = tltool.evaluate(tmp_path / "whole", data, split="test")
    assert again.evaluation.metrics["log_loss"].value == pytest.approx(
        result.evaluation.metrics["log_loss"].value, rel=1e-3
    )
    photo = data / "red" / "0.png"
    found = tltool.similar(tmp_path / "whole", photo, store=store, out=tmp_path / "sheet.html")
    assert found.neighbours[0].file == "red/0.png" and found.neighbours[0].distance < 1e-4
    table = tmp_path / "features.npz"
    tltool.extract(data, table, backbone="cifar-resnet20", views="1", store=store)
    with pytest.raises(TltoolError, match="trained its network, so no table holds its features"):
        tltool.predict(tmp_path / "whole", [table])
    assert "<polyline" in (tmp_path / "whole" / "report.html").read_text()


def test_fine_tuning_from_a_head_after_l2(photos):
    source, dataset = photos
    opening = OffTheShelf("lda", "l2").fit(source, dataset, seed=0)
    cut = boundary(source.backbone.preset, source.backbone.input_size, "stage3")
    made = TunedNetwork(
        source.backbone, cut, opening.classifier, TrainingPlan(), 0, from_activations=False
    )
    some = dataset.of("test")
    pictures = DrawnPictures(some, training_views("1", (32, 32)), (32, 32))
    pixels = pictures.take(np.arange(len(some)), np.zeros(len(some), int))
    scores = np.asarray(made.scoring(pixels.astype(np.float32)))
    expected = opening.classifier.scores(source.features(some).values)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_settings_of_every_strategy_can_be_given_again():
    for strategy in ("off-the-shelf", "frozen-head", "fine-tune", "from-scratch"):
        settings = AdaptSettings(strategy=strategy)
        assert settings == AdaptSettings(**vars(settings))
    tuned = AdaptSettings(strategy="fine-tune", learning_rate="auto", augment="mixup,erasing")
    plan = tuned.make_strategy().plan
    assert plan.learning_rate == "auto" and plan.augment == ("mixup", "erasing")
    scratch = AdaptSettings(recipe="alexnet")
    assert (scratch.backbone, scratch.tap, scratch.weights) == ("alexnet", "decaf7", "none")
    assert replace(plan, learning_rate="0.5").learning_rate == 0.5


def test_what_recipes_and_options_reach():
    def plan(**given):
        return AdaptSettings(**given).make_strategy().plan

    assert plan(strategy="fine-tune", l2_sp=True).l2_sp and not plan(strategy="fine-tune").l2_sp
    with pytest.raises(TltoolError, match="--l2-sp is for --strategy fine-tune"):
        AdaptSettings(strategy="from-scratch", l2_sp=True)
    assert plan(recipe="fine-tune-adapt").norms == "adapt"
    deep = plan(recipe="frozen-head-deep")
    assert deep.batch_norm and len(deep.units) == 2


@pytest.mark.parametrize("name", ["alexnet", "lenet5"])  # without normalisation
def test_from_random_weights_the_first_loss_is_that_of_guessing(name):
    """Far above it, as with activations that grow from layer to layer, training diverges."""
    backbone = Backbone(name, "none", seed=1)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *backbone.input_size, 3), np.uint8)
    features = np.asarray(backbone.model(pixels))
    draw = keras.initializers.GlorotUniform(seed=1)
    scores = features @ np.asarray(draw((features.shape[1], 5)))
    losses = -np.log(softmax(scores))
    assert losses.mean(axis=0) == pytest.approx(np.full(5, np.log(5)), abs=0.7)


def test_few_images_without_any_to_judge_by_leave_the_network_as_it_was(tmp_path):
    data = class_folders(tmp_path / "photos", n=6, size=(32, 32))
    dataset, _ = check_listing(read_listing(data))
    dataset, _ = split_dataset(dataset, seed=0, test=0.5, val=0.0)
    with FeatureStore(tmp_path / "store") as store:
        source = FeatureSource(Backbone("cifar-resnet20"), store)
        plan = TrainingPlan(epochs=2, optimizer="sgd", learning_rate=0.1)
        fitted = FineTune(plan, unfreeze="stage3").fit(source, dataset, seed=0)
        assert "too few images to hold any back" in " ".join(fitted.notes)
        assert fitted.choices["best_epoch"] == 0
        usual = OffTheShelf("lda").fit(source, dataset, seed=0)
        tests = dataset.of("test")
        np.testing.assert_allclose(
            fitted.predict_proba(source, tests), usual.predict_proba(source, tests), atol=1e-5
        )
        assert fitted.choices["temperature"] == usual.choices["temperature"]
        assert len(fitted.held_out.examples) == len(dataset.of("train"))


def test_two_validation_images_do_not_calibrate(photos):
    source, dataset = photos
    kept = [e for e in dataset.examples if e.split != "val"] + list(dataset.of("val")[:2])
    few = Dataset(dataset.source, tuple(kept), dataset.labels)
    plan = TrainingPlan(epochs=1, learning_rate=1e-5)
    fitted = FineTune(plan, unfreeze="stage3", cache="off").fit(source, few, seed=0)
    assert any("2 validation images are too few to calibrate" in note for note in fitted.notes)
    assert fitted.choices["calibration"]["images"] == 0


@pytest.mark.parametrize("name", ["1", "2", "10", "12"])
def test_drawn_views_are_those_of_the_graph(photos, name):
    """What validation is judged by is what predictions see, stored or drawn."""
    source, dataset = photos
    some = dataset.of("val")
    shown = views(name)
    made, cut = tuned(source.backbone, "stage3", TrainingPlan(), from_activations=True)
    whole, _ = tuned(source.backbone, "stage3", TrainingPlan())
    crossing = source.of_backbone(source.backbone.tapping("stage2:flatten")).showing(shown)
    stored = Validation(StoredActivations(crossing, some, cut.shape), np.zeros(len(some), int))
    drawn = Validation(DrawnPictures(some, shown, (32, 32)), np.zeros(len(some), int))
    expected = head(source.backbone).scores(source.showing(shown).features(some).values)
    by_stored = stored.scores(made.trainer(TrainingPlan()))
    np.testing.assert_allclose(by_stored, expected, rtol=1e-3, atol=1e-3)
    by_drawn = drawn.scores(whole.trainer(TrainingPlan()))
    tolerance = 0.02 if name == "12" else 1e-3  # the whole image is resized apart there
    np.testing.assert_allclose(by_drawn, expected, rtol=tolerance, atol=tolerance)
