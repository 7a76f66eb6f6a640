"""Training by gradients: the step, the epochs, and going on after an interruption."""

import math
import sys
import threading
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import class_folders

from tltool import TltoolError
from tltool._keras import RANDOM_STATE
from tltool._presets import augmentation, augmentation_names, training_views, views
from tltool.data import check_listing, read_listing
from tltool.features import DrawnPictures
from tltool.linear.linear_head import softmax
from tltool.linear.transforms import standardisation
from tltool.strategies.network_head import folded, head_network
from tltool.strategies.teaching import teaching
from tltool.training import (
    Batches,
    Checkpoints,
    HeldPictures,
    Trainer,
    TrainingPlan,
    Validation,
    train,
)
from tltool.training.augmentation import BatchAugmentation, check_augmentations
from tltool.training.batches import ahead
from tltool.training.tensorboard import TensorBoardLog
from tltool.training.trainer import NotFiniteError

K = 3


def blobs(n=60, d=8, views=2, seed=0):
    random = np.random.default_rng(0)
    centres = random.normal(0, 1.5, (K, d))
    random = np.random.default_rng(seed)
    targets = np.arange(n) % K
    values = centres[targets][:, None] + random.normal(0, 1, (n, views, d))
    return values.astype(np.float32), targets


def batches(plan, seed=0, **blob):
    values, targets = blobs(**blob)
    augment = BatchAugmentation(plan.augment, of_pixels=False) if plan.augment else None
    pictures = HeldPictures(values)
    return Batches(pictures, targets, K, np.ones(len(targets)), plan, seed, augment)


def validation(seed=5):
    values, targets = blobs(views=1, seed=seed)
    return Validation(HeldPictures(values), targets)


def trainer(plan, seed=0):
    return Trainer(head_network(8, K, plan, seed), plan)


def interrupted_after(made, steps):
    """A trainer that stops as by Ctrl-C where its next step would be one too many."""
    step, count = made.step, 0

    def counted(*given):
        nonlocal count
        count += 1
        if count > steps:
            raise KeyboardInterrupt
        return step(*given)

    made.step = counted
    return made


class Said:
    """What a teacher says of images, whatever it is shown of them."""

    of_changed = False

    def __init__(self, taught):
        self.taught = taught

    def __call__(self, rows, views, inputs, change):
        return self.taught[rows]


class Asked(Said):
    """That counts what it is asked about, and says something else each time."""

    of_changed = True
    rows = 0

    def __call__(self, rows, views, inputs, change):
        self.rows += len(rows)
        return softmax(np.log(self.taught[rows]) * (1 + self.rows / 100)).astype(np.float32)


class Watcher:
    """A teacher that keeps what it is shown."""

    key = "watcher"

    def __init__(self, size):
        self.canvas_size, self.seen = size, []

    def __call__(self, pixels):
        self.seen.append(pixels)
        scores = pixels.reshape(len(pixels), -1, 3).mean(axis=1) / 40.0
        return softmax(scores.astype(np.float64))


@pytest.fixture
def examples(tmp_path):
    folder = class_folders(tmp_path / "photos", n=6, size=(48, 40))
    return check_listing(read_listing(folder))[0].examples


class TestTeaching:
    ROWS, VIEWS = np.array([3, 0, 17, 3]), np.array([5, 9, 2, 6])

    @pytest.mark.parametrize("kind", ["shifted", "augmented"])
    def test_it_is_asked_about_what_is_shown(self, examples, kind):
        shown, plan = training_views(kind, (32, 32)), TrainingPlan(teacher_temperature=3.0)
        pictures = DrawnPictures(examples, shown, (32, 32))
        inputs = pictures.take(self.ROWS, self.VIEWS)
        teacher = Watcher((32, 32))
        taught = teaching(teacher, examples, shown, (32, 32), plan, of_pixels=True)
        said = taught(self.ROWS, self.VIEWS, inputs, None)
        np.testing.assert_array_equal(teacher.seen[-1], inputs)
        told = np.log(Watcher((32, 32))(inputs)) / 3.0
        np.testing.assert_allclose(said, softmax(told), rtol=1e-5)
        assert said.dtype == np.float32

    @pytest.mark.parametrize("kind", ["shifted", "augmented"])
    def test_it_sees_the_same_part_on_its_own_canvas(self, examples, kind):
        shown = training_views(kind, (32, 32))
        inputs = DrawnPictures(examples, shown, (32, 32)).take(self.ROWS, self.VIEWS)
        teacher = Watcher((128, 128))
        taught = teaching(teacher, examples, shown, (32, 32), TrainingPlan(), of_pixels=True)
        taught(self.ROWS, self.VIEWS, inputs, None)
        blocks = teacher.seen[-1].reshape(4, 32, 4, 32, 4, 3).mean(axis=(2, 4))
        others = inputs[[1, 2, 3, 0]]
        for large, small, other in zip(blocks, inputs.astype(float), others, strict=True):
            off = np.abs(large - small).mean()
            assert off < 0.2 * np.abs(large - other).mean()
            assert off < 0.5 * np.abs(large[:, ::-1] - small).mean()

    @pytest.mark.parametrize(("name", "count"), [("1", 1), ("auto-4", 4)])
    def test_where_views_are_few_it_is_asked_once(self, examples, name, count):
        shown = training_views(name, (32, 32))
        teacher = Watcher((32, 32))
        taught = teaching(teacher, examples, shown, (32, 32), TrainingPlan(), of_pixels=False)
        asked = sum(map(len, teacher.seen))
        assert asked == len(examples) * count
        rows, views = np.array([2, 2, 11]), np.array([0, 3, 1]) % count
        said = taught(rows, views, np.zeros((3, 7)), None)
        assert sum(map(len, teacher.seen)) == asked
        pictures = DrawnPictures(examples, shown, (32, 32)).take(rows, views)
        np.testing.assert_allclose(
            said, softmax(np.log(Watcher((32, 32))(pictures)) / 2.0), rtol=1e-5
        )

    def test_it_may_be_asked_about_whole_images_alone(self, examples):
        shown, plan = training_views("auto", (32, 32)), TrainingPlan(teacher_sees="images")
        teacher = Watcher((32, 32))
        taught = teaching(teacher, examples, shown, (32, 32), plan, of_pixels=True)
        said = taught(np.array([4, 4]), np.array([8, 1000]), np.zeros((2, 32, 32, 3)), None)
        np.testing.assert_array_equal(said[0], said[1])
        whole = DrawnPictures(examples, views("1"), (32, 32)).take(np.array([4]), np.array([0]))
        np.testing.assert_allclose(
            said[:1], softmax(np.log(Watcher((32, 32))(whole)) / 2.0), rtol=1e-5
        )

    @pytest.mark.parametrize("augment", ["mixup:alpha=1", "cutmix", "erasing"])
    @pytest.mark.parametrize("size", [32, 96])
    @pytest.mark.parametrize("kind", ["shifted", "1"])
    def test_it_is_asked_about_what_the_augmentation_makes_of_that(
        self, examples, augment, size, kind
    ):
        """In its own resolution, where that is another: as the same draws change it there."""
        shown = training_views(kind, (32, 32))
        plan = TrainingPlan(augment=(augment,), batch_size=len(examples))
        targets = np.arange(len(examples)) % K
        pictures = DrawnPictures(examples, shown, (32, 32))
        teacher = Watcher((size, size))
        shown_batches = Batches(
            pictures,
            targets,
            K,
            np.ones(len(targets)),
            plan,
            0,
            BatchAugmentation(plan.augment),
            teaching(teacher, examples, shown, (32, 32), plan, of_pixels=True),
        )
        (batch,) = shown_batches.epoch(3)
        inputs, told, _ = batch
        (seen,) = teacher.seen
        assert seen.dtype == np.uint8
        said = softmax(np.log(Watcher((size, size))(seen)) / 2.0)
        np.testing.assert_allclose(told[:, K:], said, rtol=1e-5)
        factor = size // 32
        blocks = seen.reshape(len(seen), 32, factor, 32, factor, 3).mean(axis=(2, 4))
        if factor == 1:
            np.testing.assert_allclose(blocks, inputs, atol=0.51)
        else:  # noise that fills a rectangle is another in another size
            off = np.median(np.abs(blocks - inputs), axis=(1, 2, 3))
            others = np.median(np.abs(blocks - np.roll(inputs, 1, axis=0)), axis=(1, 2, 3))
            assert (off < 0.6 * others).all()

    def test_what_it_says_of_activations_is_mixed_with_them(self, examples):
        shown = training_views("1", (32, 32))
        plan = TrainingPlan(augment=("mixup",))
        taught = teaching(Watcher((32, 32)), examples, shown, (32, 32), plan, of_pixels=False)
        assert not taught.of_changed


class TestTeacher:
    def test_its_loss_is_hintons(self):
        """Labels by what is left of 1, the teacher by its share and the square of its warmth."""
        plan = TrainingPlan(
            label_smoothing=0.1, teacher_share=0.7, teacher_temperature=3.0, batch_size=60
        )
        values, targets = blobs(views=1)
        taught = softmax(np.random.default_rng(1).normal(0, 1, (len(targets), K))).astype("float32")
        shown = Batches(
            HeldPictures(values), targets, K, np.ones(len(targets)), plan, 0, None, Said(taught)
        )
        (batch,) = shown.epoch(0)
        assert batch[1].shape == (60, 2 * K)
        student = trainer(plan)
        scores = student.scores([batch[0]]).astype(np.float64)
        hard = -(0.9 * batch[1][:, :K] + 0.1 / K) * np.log(softmax(scores))
        soft = -batch[1][:, K:] * np.log(softmax(scores / 3.0))
        expected = (0.3 * hard.sum(axis=1) + 0.7 * 9 * soft.sum(axis=1)).mean()
        loss, right = student.step(batch, 0.0)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert right == pytest.approx(
            (scores.argmax(axis=1) == batch[1][:, :K].argmax(axis=1)).mean()
        )

    def test_its_answers_are_learned(self):
        """Of a teacher that swaps two classes, the student does, too."""
        plan = TrainingPlan(epochs=40, learning_rate=0.02, teacher_share=1.0, batch_size=20)
        values, targets = blobs(views=1)
        swapped = np.array([1, 0, 2])[targets]
        taught = np.eye(K, dtype=np.float32)[swapped]
        shown = Batches(
            HeldPictures(values), targets, K, np.ones(len(targets)), plan, 0, None, Said(taught)
        )
        student = trainer(plan)
        train(student, shown, None, plan)
        said = student.scores([values[:, 0]]).argmax(axis=1)
        assert (said == swapped).mean() > 0.9

    def test_it_is_mixed_with_the_images(self):
        plan = TrainingPlan(augment=("mixup",), batch_size=60)
        values, targets = blobs(views=1)
        taught = Said(np.eye(K, dtype=np.float32)[targets])
        augment = BatchAugmentation(plan.augment, of_pixels=False)
        shown = Batches(
            HeldPictures(values),
            targets,
            K,
            np.ones(len(targets)),
            plan,
            0,
            augment,
            taught,
        )
        (batch,) = shown.epoch(0)
        np.testing.assert_allclose(batch[1][:, :K], batch[1][:, K:], atol=1e-6)
        assert not np.isin(batch[1], (0.0, 1.0)).all()


class TestPicturesThatComeAgain:
    plan = TrainingPlan(
        augment=("mixup",), batch_size=16, distinct_pictures=100, epochs=5, patience=0
    )

    def batches(self, plan=plan):
        values, targets = blobs()
        taught = softmax(np.random.default_rng(1).normal(0, 1, (len(targets), K)))
        augment = BatchAugmentation(plan.augment, of_pixels=False)
        weights, pictures = np.ones(len(targets)), HeldPictures(values)
        return Batches(pictures, targets, K, weights, plan, 0, augment, Asked(taught))

    def test_their_teacher_is_asked_once(self):
        shown = self.batches()
        epochs = [list(shown.epoch(number)) for number in range(5)]
        assert shown.taught.rows == 2 * 60
        for number, again in enumerate(epochs[2:]):
            for batch, other in zip(epochs[number % 2], again, strict=True):
                for part, same in zip(batch, other, strict=True):
                    np.testing.assert_array_equal(part, same)
        assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])

    def test_an_epoch_that_was_broken_off_is_asked_about_anew(self):
        shown = self.batches()
        started = shown.epoch(0)
        next(started)
        started.close()
        asked = shown.taught.rows
        assert not shown.answers
        list(shown.epoch(0))
        assert shown.taught.rows == asked + 60

    def test_pictures_are_drawn_anew_unless_told(self):
        shown = self.batches(replace(self.plan, distinct_pictures=0))
        for number in range(5):
            list(shown.epoch(number))
        assert shown.taught.rows == 5 * 60
        assert not shown.answers

    @pytest.mark.parametrize("where", [5, 14])
    def test_a_training_that_goes_on_knows_what_was_said(self, tmp_path, where):
        whole = trainer(self.plan)
        train(whole, self.batches(), None, self.plan)
        broken = interrupted_after(trainer(self.plan), where)
        kept = Checkpoints(tmp_path / "state.safetensors", "a")
        with pytest.raises(KeyboardInterrupt):
            train(broken, self.batches(), None, self.plan, checkpoints=kept)
        shown, resumed = self.batches(), trainer(self.plan)
        shown.taught.rows = 60 * min(2, where // 4)  # it was asked about those before
        train(resumed, shown, None, self.plan, checkpoints=kept)
        assert shown.taught.rows == 2 * 60
        for name, value in whole.weights().items():
            np.testing.assert_array_equal(value, resumed.weights()[name])


class TestPlan:
    def test_cosine_after_a_warm_up(self):
        plan = TrainingPlan(learning_rate=2.0, warmup=0.25, schedule="cosine")
        rates = [plan.learning_rate_at(step, 8) for step in range(8)]
        assert rates[:3] == [1.0, 2.0, 2.0]
        expected = [1.0 + math.cos(math.pi * step / 6) for step in range(6)]
        np.testing.assert_allclose(rates[2:], expected)

    def test_a_tenth_at_each_step(self):
        plan = TrainingPlan(learning_rate=1.0, warmup=0.0, schedule="step")
        rates = [plan.learning_rate_at(step, 10) for step in range(10)]
        np.testing.assert_allclose(rates, [1] * 3 + [0.1] * 3 + [0.01] * 3 + [0.001])
        assert (
            TrainingPlan(learning_rate=1, warmup=0, schedule="constant").learning_rate_at(9, 10)
            == 1
        )

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"epochs": 0}, "--epochs"),
            ({"batch_size": 2.5}, "--batch-size"),
            ({"learning_rate": -1.0}, "--learning-rate must be a number above 0"),
            ({"learning_rate": math.nan}, "--learning-rate must be a number above 0"),
            ({"optimizer": "adam"}, "did you mean 'adamw'"),
            ({"dropout": 1.0}, "dropout"),
            ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
            ({"weight_averaging": -1.0}, "weight_averaging must be at least 0"),
            ({"units": (0,)}, "units"),
        ],
    )
    def test_bad_values_are_named(self, given, said):
        with pytest.raises(TltoolError, match=said):
            TrainingPlan(**given)

    def test_what_is_given_beats_the_recipe(self):
        plan = TrainingPlan.of({"epochs": 7, "units": [4]}, epochs=None, dropout=0.5)
        assert (plan.epochs, plan.units, plan.dropout) == (7, (4,), 0.5)
        with pytest.raises(TltoolError, match="did you mean 'epochs'"):
            TrainingPlan.of({"epoch": 7})


class TestBatches:
    def test_an_epoch_shows_each_image_once(self):
        made = batches(TrainingPlan(batch_size=16))
        shown = list(made.epoch(0))
        assert len(shown) == made.steps == 4
        assert {len(x) for x, _, _ in shown} == {15}
        rows = np.concatenate([x for x, _, _ in shown])
        owners = [
            np.flatnonzero((made.pictures.values == row).all(axis=2).any(axis=1))[0] for row in rows
        ]
        assert sorted(owners) == list(range(60))
        targets = np.concatenate([y for _, y, _ in shown]).argmax(axis=1)
        np.testing.assert_array_equal(targets, made.targets[owners])

    def test_epochs_follow_from_number_and_seed(self):
        plan = TrainingPlan(batch_size=16, augment=("mixup:alpha=0.4",))
        one, same = batches(plan), batches(plan)
        for (x, y, w), (u, v, z) in zip(one.epoch(3), same.epoch(3), strict=True):
            np.testing.assert_array_equal(x, u)
            np.testing.assert_array_equal(y, v)
            np.testing.assert_array_equal(w, z)
        first, other = next(iter(one.epoch(0)))[0], next(iter(one.epoch(1)))[0]
        assert (first != other).any()
        assert (first != next(iter(batches(plan, seed=1).epoch(0)))[0]).any()

    def test_mixing_keeps_sums(self):
        for _, targets, _ in batches(TrainingPlan(augment=("mixup:alpha=1.0",))).epoch(0):
            np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
            assert ((targets > 0.01).sum(axis=1) == 2).any()

    def test_balance(self):
        values, _ = blobs(n=200)
        targets = np.array([0] * 180 + [1] * 15 + [2] * 5)
        for balance in ("weights", "sampling"):
            plan = TrainingPlan(balance=balance, batch_size=200)
            made = Batches(HeldPictures(values), targets, K, np.ones(200), plan, 0)
            of_classes = np.zeros(K)
            for number in range(20):
                for _, wanted, weights in made.epoch(number):
                    of_classes += weights @ wanted
            shares = of_classes / of_classes.sum()
            np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


class TestStep:
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_it_is_plain_keras(self, optimizer):
        plan = TrainingPlan(
            optimizer=optimizer, units=(6,), label_smoothing=0.1, weight_decay=0.1, clip_norm=0.5
        )
        ours = trainer(plan)
        theirs = head_network(8, K, plan, 0)
        options = {"weight_decay": 0.1, "global_clipnorm": 0.5}
        reference = (
            keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, **options)
            if optimizer == "sgd"
            else keras.optimizers.AdamW(0.1, **options)
        )
        reference.exclude_from_weight_decay(var_names=["bias"])
        theirs.compile(
            reference, keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
        )
        for x, y, w in batches(plan).epoch(0):
            loss, _ = ours.step((x, y, w), 0.1)
            assert loss == pytest.approx(float(theirs.train_on_batch(x, y)), rel=1e-4)
        for a, b in zip(ours.network.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    def test_weights_of_images_count(self):
        plan = TrainingPlan(optimizer="sgd", weight_decay=0.0)
        one, other = trainer(plan), trainer(plan)
        x, y, _ = next(iter(batches(plan).epoch(0)))
        counted = np.arange(len(x), dtype=np.float32) % 2
        one.step((x, y, 2 * counted), 0.1)
        kept = counted > 0
        other.step((x[kept], y[kept], np.ones(kept.sum(), np.float32)), 0.1)
        for a, b in zip(one.network.get_weights(), other.network.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)

    def test_what_is_not_finite_changes_nothing(self):
        plan = TrainingPlan(units=(6,))
        made = trainer(plan)
        x, y, w = next(iter(batches(plan).epoch(0)))
        made.step((x, y, w), 0.1)
        before = made.state()
        with pytest.raises(NotFiniteError, match="lower --learning-rate"):
            made.step((x * np.nan, y, w), 0.1)
        after = made.state()
        for name, value in before.items():
            np.testing.assert_array_equal(value, after[name])

    def test_a_batch_that_does_not_fit_is_told_which_one_does(self, monkeypatch):
        import tensorflow as tf

        plan = TrainingPlan()
        made = trainer(plan)
        update = made._update

        def small_memory(inputs, *rest):
            if len(inputs) > 9:
                raise tf.errors.ResourceExhaustedError(None, None, "no memory")
            return update(inputs, *rest)

        monkeypatch.setattr(made, "_update", small_memory)
        before = made.weights()
        with pytest.raises(TltoolError, match=r"30 images a step .* --batch-size 7 does"):
            made.step(next(iter(batches(plan).epoch(0))), 0.1)
        for name, value in before.items():
            np.testing.assert_array_equal(value, made.weights()[name])


class TestAveraging:
    """Shamir and Zhang, 2013: with an exponent of 3 step s counts as s (s + 1) (s + 2)."""

    plan = TrainingPlan(units=(6,), batch_norm=True, dropout=0.3, batch_size=8, weight_averaging=3)

    def trained(self):
        """A trainer after eight steps, and the weights after each."""
        made, after = trainer(self.plan), []
        for batch in batches(self.plan).epoch(0):
            made.step(batch, 0.05)
            after.append(made.network.get_weights())
        return made, after

    def test_later_steps_count_more(self):
        made, after = self.trained()
        s = np.arange(1, len(after) + 1)
        counts = s * (s + 1) * (s + 2) / (s * (s + 1) * (s + 2)).sum()
        kept = head_network(8, K, self.plan, 0)
        Trainer(kept, replace(self.plan, weight_averaging=0)).restore(made.weights())
        for i, found in enumerate(kept.get_weights()):
            if np.issubdtype(found.dtype, np.floating):
                expected = sum(c * one[i] for c, one in zip(counts, after, strict=True))
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            else:  # the state of a random layer
                np.testing.assert_array_equal(found, after[-1][i])

    def test_averages_are_judged_and_the_last_weights_go_on(self):
        made, after = self.trained()
        inputs = blobs(views=1, seed=5)[0][:, 0]
        plain = trainer(replace(self.plan, weight_averaging=0))
        plain.restore(made.weights())
        np.testing.assert_array_equal(made.scores([inputs]), plain.scores([inputs]))
        for found, last in zip(made.network.get_weights(), after[-1], strict=True):
            np.testing.assert_array_equal(found, last)

    def test_the_way_is_that_of_plain_weights(self):
        _, after = self.trained()
        plain = trainer(replace(self.plan, weight_averaging=0))
        for batch, expected in zip(batches(self.plan).epoch(0), after, strict=True):
            plain.step(batch, 0.05)
            for found, one in zip(plain.network.get_weights(), expected, strict=True):
                np.testing.assert_array_equal(found, one)

    def test_weights_that_are_given_are_kept(self):
        """What it ends with is what the best epoch had, not an average that goes beyond it."""
        made, _ = self.trained()
        best = {name: value + np.ones_like(value) for name, value in made.weights().items()}
        made.restore(best)
        for name, value in made.weights().items():
            np.testing.assert_array_equal(value, best[name])


class TestEpochs:
    plan = TrainingPlan(
        epochs=6,
        units=(16,),
        dropout=0.3,
        batch_norm=True,
        batch_size=16,
        augment=("mixup",),
        patience=0,
    )

    def test_the_best_epoch_is_kept(self):
        plan = TrainingPlan(epochs=30, patience=4, learning_rate=0.3, batch_size=8, units=(32,))
        made = trainer(plan)
        history = train(made, batches(plan), validation(), plan)
        losses = [epoch.val_loss for epoch in history.epochs]
        assert history.best == int(np.argmin(losses)) + 1
        if len(losses) < plan.epochs:
            assert len(losses) == history.best + 4
            assert "gained nothing for 4 epochs" in history.stopped
            assert history.early
        again = trainer(plan)
        full = batches(plan)
        for number in range(history.best):
            steps = full.steps * plan.epochs
            for step, batch in enumerate(full.epoch(number), full.steps * number):
                again.step(batch, plan.learning_rate_at(step, steps))
        for name, value in made.weights().items():
            np.testing.assert_allclose(value, again.weights()[name], atol=1e-5)

    @pytest.mark.parametrize("averaging", [0.0, 3.0])
    @pytest.mark.parametrize("where", [1, 7, 13, 22])
    def test_an_interrupted_training_ends_where_an_unbroken_one_does(
        self, tmp_path, where, averaging
    ):
        plan = replace(self.plan, weight_averaging=averaging)
        whole = trainer(plan)
        expected = train(whole, batches(plan), validation(), plan)

        broken = interrupted_after(trainer(plan), where)
        kept = Checkpoints(tmp_path / "state.safetensors", "a")
        with pytest.raises(KeyboardInterrupt):
            train(broken, batches(plan), validation(), plan, checkpoints=kept)
        resumed = trainer(plan, seed=9)  # nothing of its own start is left
        if where < 4:  # before the first epoch was finished there is nothing to go on from
            resumed = trainer(plan)
        found = train(resumed, batches(plan), validation(), plan, checkpoints=kept)
        assert found.best == expected.best
        assert [e.loss for e in found.epochs] == [e.loss for e in expected.epochs]
        for name, value in whole.weights().items():
            np.testing.assert_array_equal(value, resumed.weights()[name])

    def test_a_budget_ends_it_in_time(self):
        now = iter(range(10_000))
        plan = TrainingPlan(**{**vars(self.plan), "epochs": 500})
        history = train(
            trainer(plan), batches(plan), validation(), plan, budget=30, clock=lambda: next(now)
        )
        assert 1 <= len(history.epochs) < 10
        assert "--budget" in history.stopped and not history.early

    def test_a_loss_that_explodes_keeps_the_best(self, monkeypatch):
        made = trainer(self.plan)
        step, count = made.step, 0

        def exploding(batch, rate):
            nonlocal count
            count += 1
            inputs, targets, weights = batch
            return step((inputs * np.nan if count > 10 else inputs, targets, weights), rate)

        made.step = exploding
        history = train(made, batches(self.plan), validation(), self.plan)
        assert len(history.epochs) == 2
        assert "finite" in history.stopped
        assert all(np.isfinite(value).all() for value in made.weights().values())

    def test_kept_states_are_checked(self, tmp_path):
        path = tmp_path / "state.safetensors"
        kept = Checkpoints(path, "a")
        assert kept.last() is None
        train(trainer(self.plan), batches(self.plan), None, self.plan, checkpoints=kept)
        with pytest.raises(TltoolError, match="other images or settings"):
            Checkpoints(path, "b").last()
        arrays, facts = kept.last()
        assert len(facts["epochs"]) == 6
        other = TrainingPlan(**{**vars(self.plan), "units": (17,)})
        with pytest.raises(TltoolError, match="another network"):
            trainer(other).restore(arrays)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(TltoolError, match="damaged"):
            kept.last()
        kept.remove()
        assert kept.last() is None

    def test_the_same_seed_gives_the_same_weights(self):
        found = []
        for _ in range(2):
            made = trainer(self.plan)
            train(made, batches(self.plan), validation(), self.plan)
            found.append(made.weights())
        for name, value in found[0].items():
            np.testing.assert_array_equal(value, found[1][name])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_folded_head_gives_the_network_s_probabilities(batch_norm):
    plan = TrainingPlan(units=(12, 7), dropout=0.4, batch_norm=batch_norm, epochs=3)
    values, targets = blobs(views=1)
    raw = 5.0 * values[:, 0] + 3.0
    step = standardisation(raw)
    inputs = step.apply(raw)
    made = trainer(plan)
    shown = HeldPictures(inputs[:, None])
    given = Batches(shown, targets, K, np.ones(len(targets)), plan, 0)
    train(made, given, None, plan)
    scores = made.scores([inputs]) / 1.7
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    head = folded(made.network, step).scaled(np.full(K, 1 / 1.7), np.zeros(K))
    assert len(head.layers) == 3
    np.testing.assert_allclose(softmax(head.scores(raw)), expected, atol=1e-5)
    source = keras.Input((8,))
    model = head.on(keras.Model(source, keras.layers.Identity()(source)))
    assert model.layers[-1].name == "predictions"
    np.testing.assert_allclose(model.predict(raw, verbose=0), expected, atol=1e-5)


class TestAugmentation:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3)).astype(np.uint8)
    targets = np.eye(K, dtype=np.float32)[[0, 1, 2] * 2]

    def changed(self, name, seed=1):
        made = BatchAugmentation(check_augmentations(name))
        return made(self.pixels, self.targets, np.random.default_rng(seed))

    @pytest.mark.parametrize("name", augmentation_names())
    def test_every_one_is_repeatable(self, name):
        if augmentation(name).package != "keras":
            pytest.importorskip(augmentation(name).package, reason="needs the extra cv")
        images, targets = self.changed(name)
        again, same = self.changed(name)
        assert images.shape == self.pixels.shape and images.dtype == np.float32
        assert images.min() >= -1e-3 and images.max() <= 255.001
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(targets, same)
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
        others = [self.changed(name, seed)[0] for seed in range(2, 6)]
        assert any((images != other).any() for other in others)
        assert any((images != self.pixels).any() for images in (images, *others))

    def test_mixing_mixes_classes_as_it_mixes_images(self):
        """Images of one flat colour a class: what the colour says, the targets say."""
        flat = np.broadcast_to(255.0 * self.targets[:, None, None], (6, 64, 64, K))
        for name in ("mixup:alpha=1.0", "cutmix"):
            made = BatchAugmentation((name,))
            images, targets = made(flat, self.targets, np.random.default_rng(0))
            tolerance = 1e-4 if "mixup" in name else 0.05  # cutmix counts whole pixels
            np.testing.assert_allclose(images.mean(axis=(1, 2)) / 255, targets, atol=tolerance)
            assert (targets.max(axis=1) < 0.99).any()

    @pytest.mark.parametrize("seed", range(4))
    def test_randaugment_is_that_of_keras(self, seed):
        """Which computes every change there is for each one that it takes."""
        quick = BatchAugmentation(("randaugment",))
        found, _ = quick(self.pixels, self.targets, np.random.default_rng(seed))
        (layer,) = quick._layers
        plain = keras.layers.RandAugment(**augmentation("randaugment").arguments)
        plain.build(self.pixels.shape)
        random = np.random.default_rng(seed)
        for mine, other in zip(layer.variables, plain.variables, strict=True):
            assert mine.shape == other.shape
            if mine.name == RANDOM_STATE:
                other.assign(random.integers(0, 2**31, 2).astype(np.uint32))
        expected = plain(self.pixels.astype(np.float32), training=True)
        np.testing.assert_array_equal(found, np.asarray(expected))

    def test_several_and_none(self):
        assert check_augmentations("none") == ()
        names = check_augmentations("erasing, mixup:alpha=0.4")
        assert names == ("erasing", "mixup:alpha=0.4")
        with pytest.raises(TltoolError, match="--augment erasing changes pixels"):
            BatchAugmentation(names, of_pixels=False)

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "keras_cv", None)
        with pytest.raises(TltoolError, match=r"needs the package keras_cv: pip install"):
            BatchAugmentation(("grid-mask",))


def test_batches_are_made_ahead_in_their_order():
    made = []

    def items():
        for number in range(9):
            made.append(number)
            yield number

    stream = ahead(items(), 2)
    assert next(stream) == 0
    time.sleep(0.3)
    assert made == [0, 1, 2, 3]  # one taken, two waiting, one in the hand
    assert list(stream) == list(range(1, 9))

    def broken():
        yield 1
        raise TltoolError("no more")

    stream = ahead(broken(), 2)
    assert next(stream) == 1
    with pytest.raises(TltoolError, match="no more"):
        next(stream)
    threads = threading.active_count()
    stream = ahead(iter(range(100)), 2)
    next(stream)
    stream.close()
    assert threading.active_count() <= threads


def test_who_listens_hears_of_every_epoch(tmp_path):
    """Of all there were so far; of those before an interruption at once."""
    heard = []
    plan = TrainingPlan(epochs=3)
    kept = Checkpoints(tmp_path / "kept.safetensors", "one")

    def listen(history):
        heard.append([row["epoch"] for row in history])
        if len(heard) == 3:
            raise KeyboardInterrupt

    given = {"checkpoints": kept, "told": listen}
    with pytest.raises(KeyboardInterrupt):
        train(trainer(plan), batches(plan), validation(), plan, **given)
    train(trainer(plan), batches(plan), validation(), plan, **given)
    assert heard == [[1], [1, 2], [1, 2, 3], [1, 2], [1, 2, 3]]


def test_tensorboard_finds_every_figure(tmp_path):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    plan = TrainingPlan(epochs=2)
    history = train(trainer(plan), batches(plan), validation(), plan, judge_start=True)
    rows = [vars(epoch) for epoch in history.epochs]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "events.of-a-killed-process").write_bytes(b"half a rec")
    log = TensorBoardLog(tmp_path)
    log.tell(rows[:2])
    assert len(list((tmp_path / "train").iterdir())) == 1  # it can be looked at meanwhile
    log.tell(rows)
    found = {}
    for file in tmp_path.rglob("events*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[file.parent.name, value.tag, event.step] = float(
                    tf.make_ndarray(value.tensor)
                )
    assert len(found) == 3 + 2 * 2 + 3 * 2  # rates, the training images, the validation images
    for epoch in history.epochs:
        kept = found["validation", "epoch_loss", epoch.epoch]
        assert kept == pytest.approx(epoch.val_loss, rel=1e-5)
    assert found["train", "epoch_loss", 2] == pytest.approx(history.epochs[2].loss, rel=1e-5)
