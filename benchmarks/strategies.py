"""What the strategies that train cost and bring.

    python benchmarks/strategies.py caltech101/101_ObjectCategories --rows frozen-head,cache
    TLTOOL_WEIGHTS=FOLDER python benchmarks/strategies.py caltech101/... --rows guide --seeds 3
    python benchmarks/strategies.py cifar10_jpeg --rows table --weights cifar_resnet56.npz --seen

`frozen-head`: a head trained for some epochs on stored features, extraction and decoding included,
against the same head trained through the frozen network, as tutorials do. `cache`: the last block
fine-tuned on stored activations, the pass below it included, against the whole network in every
step, in the same code on the same pictures; the losses are compared step for step. Weights are
random in both: they do not change what it costs. Peers are given decoded pixels; one epoch over
`--timed` images is timed, after a first one that compiles, and multiplied.

`guide`: the transfer-learning guide of Keras (frozen head, 20 epochs of Adam, flips and
rotations; then everything at 1e-5 for 10 epochs) against ours, on the protocol of `decaf.py`.
`table`: all four strategies on folders `train` and `test`, at 100, 1,000 and 10,000 training
images; half of the test images validate and calibrate, the other half test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from decaf import draw

from tltool._presets import training_views
from tltool.backbones import Backbone, boundary
from tltool.backbones.twins import pooled_features, twin
from tltool.data import Dataset, check_listing, read_listing
from tltool.evaluation import evaluate_predictions
from tltool.features import (
    DrawnPictures,
    FeatureSource,
    FeatureStore,
    StoredActivations,
    canvas_batches,
)
from tltool.linear import Classifier, LinearHead
from tltool.settings import AdaptSettings
from tltool.strategies.tuning import TunedNetwork
from tltool.training import Batches, TrainingPlan
from tltool.training.trainer import repeatable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", default="frozen-head,cache")
    parser.add_argument("--backbone", help="default: what the row is about")
    parser.add_argument("--weights")
    parser.add_argument("--images", type=int, help="default: 2,000, and 500 for cache")
    parser.add_argument("--epochs", type=int, help="default: 20, and 5 for cache")
    parser.add_argument("--views", default="1,auto-4", help="what to show in training")
    parser.add_argument("--timed", type=int, default=160, help="images of a peer's epoch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", default="100,1000,10000", help="training images of the table")
    parser.add_argument("--strategies", default="off-the-shelf,frozen-head,fine-tune,from-scratch")
    parser.add_argument("--seen", action="store_true", help="training images are the source's own")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, help="JSON lines, one a fit; those there are kept")
    options = parser.parse_args()
    for row in options.rows.split(","):
        ROWS[row](options)


def some_images(options, store, count: int) -> Dataset:
    """So many images spread over all classes, to train on."""
    dataset, _ = check_listing(read_listing(options.data), cache=store)
    step = max(1, len(dataset.examples) // count)
    chosen = tuple(replace(e, split="train") for e in dataset.examples[::step][:count])
    return Dataset("timed", chosen, tuple(sorted({e.label for e in chosen})))


def frozen_head(options) -> None:
    """Stored features against the frozen network in every epoch."""
    epochs, count = options.epochs or 20, options.images or 2000
    name = options.backbone or "resnet50"
    with tempfile.TemporaryDirectory() as folder, FeatureStore(folder) as store:
        dataset = some_images(options, store, count)
        backbone = Backbone(name, "none")
        settings = AdaptSettings(strategy="frozen-head", backbone=name, epochs=epochs, patience=0)
        plan = settings.make_strategy().plan
        timed = dataset.examples[: options.timed]
        epoch = through_the_network(backbone, plan, timed, dataset.labels)
        peer = epoch * epochs * len(dataset.examples) / len(timed)
        print(
            f"{name}, {len(dataset.examples):,} images, {epochs} epochs\n"
            f"through the network      {peer:8.1f} s, of {epoch:.1f} s for {len(timed)} images"
        )
        for views in options.views.split(","):
            strategy = replace_plan(settings, views=views)
            with FeatureStore(Path(folder) / views) as fresh:
                source = FeatureSource(backbone, fresh)
                started = time.perf_counter()
                strategy.extract(source, dataset)
                extracted = time.perf_counter() - started
                strategy.fit(source, dataset, seed=0)
                seconds = time.perf_counter() - started
            print(
                f"on features, {views:12}{seconds:8.1f} s, {extracted:.1f} of them extraction: "
                f"{peer / seconds:.1f} times as fast",
                flush=True,
            )


def replace_plan(settings: AdaptSettings, **changed):
    strategy = settings.make_strategy()
    strategy.plan = replace(strategy.plan, **changed)
    return strategy


def through_the_network(backbone, plan, examples, labels) -> float:
    """Seconds of one epoch of Keras's own `fit` with the network frozen below the head."""
    pixels, targets = decoded(backbone, examples, labels)
    values = backbone.model(backbone.model.input, training=False)
    for units in plan.units:
        values = keras.layers.Dropout(plan.dropout)(values)
        values = keras.layers.Dense(units, activation="relu")(values)
    values = keras.layers.Dropout(plan.dropout)(values)
    model = keras.Model(backbone.model.input, keras.layers.Dense(len(labels))(values))
    compiled(model, keras.optimizers.AdamW(plan.learning_rate))
    model.fit(pixels[:64], targets[:64], batch_size=32, verbose=0)
    started = time.perf_counter()
    model.fit(pixels, targets, batch_size=32, verbose=0)
    return time.perf_counter() - started


def decoded(backbone, examples, labels) -> tuple[np.ndarray, np.ndarray]:
    readers = [lambda e=e: e.path.read_bytes() for e in examples]
    pixels = np.concatenate([b.pixels for b in canvas_batches(readers, backbone.input_size)])
    return pixels, np.array([labels.index(e.label) for e in examples])


def compiled(model, optimizer) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])


def cache(options) -> None:
    """The last block on stored activations against the whole network in every step."""
    epochs, count = options.epochs or 5, options.images or 500
    backbone = Backbone(options.backbone or "resnet50", "none")
    cut = boundary(backbone.preset, backbone.input_size, "last1")
    with tempfile.TemporaryDirectory() as folder, FeatureStore(folder) as store:
        dataset = some_images(options, store, count)
        targets = dataset.targets(dataset.examples)
        k, width = len(dataset.labels), sum(backbone.widths(backbone.parts))
        kernel = np.random.default_rng(0).normal(0, 0.01, (width, k))
        start = Classifier((), None, LinearHead.of(kernel, np.zeros(k)))
        plan = TrainingPlan(optimizer="sgd", learning_rate=0.01, batch_size=32, epochs=epochs)
        print(f"{backbone.preset.name}, {cut.unfrozen[0]}, {len(targets)} images, {epochs} epochs")

        def steps(pictures, stored: bool, most: int) -> tuple[list[float], list[float]]:
            """Losses, and seconds of each step after the first two, which compile."""
            network = TunedNetwork(backbone, cut, start, plan, 0, from_activations=stored)
            trainer = network.trainer(plan)
            batches = Batches(pictures, targets, k, np.ones(len(targets)), plan, 0)
            losses, seconds = [], []
            with repeatable():
                for epoch in range(epochs):
                    before = time.perf_counter()
                    for batch in batches.epoch(epoch):
                        losses.append(trainer.step(batch, 0.001)[0])
                        seconds.append(time.perf_counter() - before)
                        before = time.perf_counter()
                        if len(losses) == most:
                            return losses, seconds
            return losses, seconds

        for views in options.views.split(","):
            shown = training_views(views, backbone.input_size)
            pictures = DrawnPictures(dataset.examples, shown, backbone.input_size)
            expected, slow = steps(pictures, False, 2 + -(-options.timed // 32))
            peer = float(np.median(slow[2:])) * epochs * -(-count // plan.batch_size)
            with FeatureStore(Path(folder) / views) as fresh:
                source = FeatureSource(backbone.tapping(f"{cut.block}:flatten"), fresh, views=shown)
                started = time.perf_counter()
                held = StoredActivations(source, dataset.examples, cut.shape)
                below = time.perf_counter() - started
                losses, quick = steps(held, True, 10**9)
                seconds = below + float(np.median(quick[2:])) * len(quick)
            usual = (
                epochs * count / options.timed * keras_fit(backbone, cut, start, dataset, options)
            )
            apart = max(abs(a - b) for a, b in zip(expected, losses, strict=False))
            print(
                f"{views:8} whole network {peer:7.1f} s ({np.median(slow[2:]):.2f} a step), stored "
                f"{seconds:7.1f} s ({below:.1f} below, {np.median(quick[2:]):.2f} a step): "
                f"{peer / seconds:.2f} times as fast; losses differ by {apart:.1e}; Keras's fit, "
                f"layers below frozen, {usual:.1f} s: {usual / seconds:.2f} times",
                flush=True,
            )


def keras_fit(backbone, cut, start, dataset, options) -> float:
    """Seconds of one epoch of Keras's own `fit` over the timed images, as a user would write it."""
    network = twin(backbone)
    for layer in network.layers:
        norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = cut.trains(layer.name) and not norm
    features = pooled_features(network, backbone.parts)
    scores = keras.layers.Dense(len(start.head.bias))(features)
    model = keras.Model(network.input, scores)
    compiled(model, keras.optimizers.SGD(0.001, momentum=0.9, nesterov=True))
    pixels, targets = decoded(backbone, dataset.examples[: options.timed], dataset.labels)
    model.fit(pixels[:64], targets[:64], batch_size=32, verbose=0)
    started = time.perf_counter()
    model.fit(pixels, targets, batch_size=32, verbose=0)
    return time.perf_counter() - started


def mean_class_accuracy(probabilities, targets) -> float:
    right = probabilities.argmax(axis=1) == targets
    counts = np.bincount(targets, minlength=probabilities.shape[1])
    of_each = np.bincount(targets, right, probabilities.shape[1])
    return float((of_each / np.maximum(counts, 1))[counts > 0].mean())


def guide(options) -> None:
    """Keras's guide against off-the-shelf features and fine-tuning, with the same test views."""
    name = options.backbone or "mobilenet-0.25"
    given = {"backbone": name, "weights": options.weights}
    rows = {
        "off-the-shelf, one view": AdaptSettings(**given),
        "off-the-shelf, ten views": AdaptSettings(**given, views="10"),
        "fine-tune, ten views": AdaptSettings(**given, strategy="fine-tune", views="10"),
    }
    with FeatureStore(options.store) as store:
        dataset, _ = check_listing(read_listing(options.data), cache=store)
        for seed in range(options.seeds):
            drawn = draw(dataset, seed, 30, 50)
            targets = drawn.targets(drawn.of("test"))
            for row, settings in rows.items():
                report(options, row, seed, partial(ours, settings, store, drawn, seed), targets)
            for row in ("guide, frozen", "guide, all"):
                report(options, row, seed, partial(keras_guide, row, name, drawn), targets)


def ours(settings, store, dataset, seed):
    """Probabilities of the test images, and what was chosen."""
    source = settings.make_source(store)
    fitted = settings.make_strategy().fit(source, dataset, seed=seed)
    return fitted.predict_proba(source, dataset.of("test")), fitted.choices


def report(options, row, seed, made, targets) -> None:
    """One fit, unless it is there."""
    if options.out and options.out.exists():
        for line in options.out.read_text().splitlines():
            entry = json.loads(line)
            if (entry["row"], entry["seed"]) == (row, seed):
                print(f"seed {seed}, {row}: {100 * entry['figure']:.2f} %", flush=True)
                return
    started = time.perf_counter()
    probabilities, choices = made()
    choices = {k: v for k, v in choices.items() if k not in ("cross_validation", "estimate")}
    found = evaluate_predictions(probabilities, targets, majority=0, seed=0).metrics["accuracy"]
    entry = {
        "row": row,
        "seed": seed,
        "figure": mean_class_accuracy(probabilities, targets),
        "accuracy": [found.value, found.low, found.high],
        "seconds": time.perf_counter() - started,
        "choices": choices,
    }
    print(
        f"seed {seed}, {row}: {100 * entry['figure']:.2f} %, accuracy {100 * found.value:.2f} "
        f"({100 * found.low:.2f} to {100 * found.high:.2f}), {entry['seconds']:.0f} s",
        flush=True,
    )
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def keras_guide(row: str, name: str, drawn: Dataset):
    """The guide's own steps: https://keras.io/guides/transfer_learning/."""
    keras.utils.set_random_seed(0)
    backbone = Backbone(name)
    train = drawn.of("train")
    pixels, targets = decoded(backbone, train, drawn.labels)
    layers = keras.layers
    inputs = keras.Input((*backbone.input_size, 3))
    turned = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(inputs))
    network = twin(backbone)
    base = keras.Model(network.input, pooled_features(network, backbone.parts))
    base.trainable = False
    values = layers.Dropout(0.2)(base(turned, training=False))
    model = keras.Model(inputs, layers.Dense(len(drawn.labels))(values))
    compiled(model, keras.optimizers.Adam())
    model.fit(pixels, targets, epochs=20, verbose=0)
    if row == "guide, all":
        base.trainable = True
        compiled(model, keras.optimizers.Adam(1e-5))
        model.fit(pixels, targets, epochs=10, verbose=0)
    tested, _ = decoded(backbone, drawn.of("test"), drawn.labels)
    scores = model.predict(tested, verbose=0)
    return np.asarray(keras.ops.softmax(scores)), {}


def table(options) -> None:
    """All strategies at several sizes of training set."""
    name = options.backbone or "cifar-resnet56"
    with FeatureStore(options.store) as store:
        dataset, _ = check_listing(read_listing(options.data), cache=store)
        random = np.random.default_rng(0)
        given = {s: [e for e in dataset.examples if e.split == s] for s in ("train", "test")}
        order = {s: random.permutation(len(rows)) for s, rows in given.items()}
        half = len(given["test"]) // 2
        judging = [replace(given["test"][i], split="val") for i in order["test"][:half]]
        testing = [replace(given["test"][i], split="test") for i in order["test"][half:]]
        targets = dataset.targets(testing)
        for size in map(int, options.sizes.split(",")):
            fitting = [given["train"][i] for i in order["train"][:size]]
            # no more images to judge by than it takes: every epoch sees all of them
            examples = (*fitting, *judging[: min(max(size, 500), 2000)], *testing)
            part = Dataset(dataset.source, examples, dataset.labels)
            for strategy in options.strategies.split(","):
                settings = AdaptSettings(strategy=strategy)  # which may bring its own network
                row = f"{strategy}, {size:,} images"
                if strategy != "from-scratch":
                    settings = replace(settings, backbone=name, weights=options.weights)
                    row += ", seen in pretraining" if options.seen else ""
                report(options, row, 0, partial(ours, settings, store, part, 0), targets)


ROWS = {"frozen-head": frozen_head, "cache": cache, "guide": guide, "table": table}


if __name__ == "__main__":
    main()
