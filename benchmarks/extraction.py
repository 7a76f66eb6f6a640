"""Extraction: a folder of JPEGs to stored features, against Keras's own pipeline, in one run.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/extraction.py caltech101/101_ObjectCategories

For each repetition, in turn: `image_dataset_from_directory` + `model.predict`; tltool from files
to a cold store; decoding alone; the engine alone. Checks and hashes are timed apart. Ratios are
taken within a repetition; their medians are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


from tltool._keras import import_keras
from tltool.backbones import Backbone
from tltool.data import check_listing, read_listing
from tltool.features import FeatureSource, FeatureStore, canvas_batches, make_engine

BATCH = 32


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--weights")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()

    keras = import_keras()
    backbone = Backbone(options.backbone, options.weights)
    size = backbone.input_size
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        listing = read_listing(options.data)
        with FeatureStore(folder) as store:
            started = time.perf_counter()
            dataset, _ = check_listing(listing, cache=store)
            checking = time.perf_counter() - started
        examples = dataset.examples
        n = len(examples)
        readers = [e.path.read_bytes for e in examples]
        pixels = next(iter(canvas_batches(readers, size, BATCH))).pixels
        model = backbone.model
        model.predict(pixels, verbose=0)
        source = FeatureSource(backbone, FeatureStore(folder), options.engine)
        source.features(examples[:BATCH])  # converts the network, as the first run ever does
        engine = make_engine(
            source.engine,
            f"benchmark-{backbone.preset.name}-{backbone.weights.hash[:24]}",
            lambda: model,
        )

        def peer() -> None:
            images = keras.utils.image_dataset_from_directory(
                options.data,
                labels=None,
                batch_size=BATCH,
                image_size=size,
                shuffle=False,
                verbose=False,
            )
            model.predict(images, verbose=0)

        def ours(repetition: int) -> None:
            with FeatureStore(Path(folder) / str(repetition)) as store:
                FeatureSource(backbone, store, options.engine).features(examples)

        def decoding() -> None:
            for _ in canvas_batches(readers, size, BATCH):
                pass

        def computing() -> None:
            for _ in range(0, n, BATCH):
                engine(pixels)

        for repetition in range(options.repetitions):
            rows.append(
                (
                    timed(peer),
                    timed(lambda r=repetition: ours(r)),
                    timed(decoding),
                    timed(computing),
                )
            )
    print(
        f"{n} images, {backbone.preset.name}, {source.engine}; checks {n / checking:.0f} images/s"
    )
    names = ("Keras", "tltool", "decode alone", "engine alone")
    for name, seconds in zip(names, zip(*rows, strict=True), strict=True):
        rates = ", ".join(f"{n / s:.0f}" for s in seconds)
        print(f"{name:>14}: {n / statistics.median(seconds):6.0f} images/s (runs: {rates})")
    speedup = statistics.median(k / t for k, t, _, _ in rows)
    share = statistics.median((d + e) / t for _, t, d, e in rows)
    print(f"tltool / Keras: {speedup:.2f}")
    print(f"tltool / (1 / (1/decode + 1/engine)): {share:.2f}")


if __name__ == "__main__":
    main()
