"""What the strategies that train cost and bring.

    python benchmarks/strategies.py caltech101/101_ObjectCategories --rows frozen-head

`frozen-head`: a head trained for some epochs on stored features, extraction and decoding included,
against the same head trained through the frozen network, as tutorials do. The network's weights
are random: they do not change what it costs. The peer is given decoded pixels; one epoch of it
over `--timed` images is timed, after a first one that compiles, and multiplied.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from tltool.backbones import Backbone
from tltool.data import Dataset, check_listing, read_listing
from tltool.features import FeatureSource, FeatureStore, canvas_batches
from tltool.settings import AdaptSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", default="frozen-head")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--views", default="1,augmented-4", help="recipes to time")
    parser.add_argument("--timed", type=int, default=160, help="images of the peer's epoch")
    options = parser.parse_args()
    for row in options.rows.split(","):
        ROWS[row](options)


def frozen_head(options: argparse.Namespace) -> None:
    """Stored features against the frozen network in every epoch."""
    with tempfile.TemporaryDirectory() as folder, FeatureStore(folder) as store:
        dataset, _ = check_listing(read_listing(options.data), cache=store)
        step = max(1, len(dataset.examples) // options.images)
        chosen = dataset.examples[::step][: options.images]
        examples = tuple(replace(e, split="train") for e in chosen)
        labels = tuple(sorted({e.label for e in examples}))
        backbone = Backbone(options.backbone, "none")
        given = {"epochs": options.epochs, "patience": 0}
        settings = AdaptSettings(strategy="frozen-head", backbone=options.backbone, **given)
        plan = settings.make_strategy().plan
        epoch = through_the_network(backbone, plan, examples[: options.timed], labels)
        peer = epoch * options.epochs * len(examples) / min(options.timed, len(examples))
        print(
            f"{options.backbone}, {len(examples):,} images, {options.epochs} epochs\n"
            f"through the network      {peer:8.1f} s, of {epoch:.1f} s for {options.timed} images"
        )
        for views in options.views.split(","):
            shown = AdaptSettings(views=views)
            with FeatureStore(Path(folder) / views) as fresh:
                source = FeatureSource(
                    backbone, fresh, views=shown.make_source(fresh, backbone).views
                )
                started = time.perf_counter()
                source.for_prediction().features(examples)
                if source.views.random:
                    source.each_view(examples)
                extracted = time.perf_counter() - started
                settings.make_strategy().fit(source, Dataset("timed", examples, labels), seed=0)
                seconds = time.perf_counter() - started
            print(
                f"on features, {views:12}{seconds:8.1f} s, {extracted:.1f} of them extraction: "
                f"{peer / seconds:.1f} times as fast",
                flush=True,
            )


def through_the_network(backbone, plan, examples, labels) -> float:
    """Seconds of one epoch of Keras's own `fit` with the network frozen below the head."""
    readers = [lambda e=e: e.path.read_bytes() for e in examples]
    pixels = np.concatenate([b.pixels for b in canvas_batches(readers, backbone.input_size)])
    targets = np.array([labels.index(e.label) for e in examples])
    values = backbone.model(backbone.model.input, training=False)
    for units in plan.units:
        values = keras.layers.Dropout(plan.dropout)(values)
        values = keras.layers.Dense(units, activation="relu")(values)
    values = keras.layers.Dropout(plan.dropout)(values)
    model = keras.Model(backbone.model.input, keras.layers.Dense(len(labels))(values))
    model.compile(
        keras.optimizers.AdamW(plan.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(pixels[:64], targets[:64], batch_size=32, verbose=0)
    started = time.perf_counter()
    model.fit(pixels, targets, batch_size=32, verbose=0)
    return time.perf_counter() - started


ROWS = {"frozen-head": frozen_head}


if __name__ == "__main__":
    main()
