"""What views cost: extraction with each recipe against the engine's own speed on single canvases.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/views.py caltech101/101_ObjectCategories

Views a second, decoding and storing included, as a share of the canvases a second that the plain
network alone takes over as many canvases just before; medians of repetitions taken in turns, each
with a store of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from tltool._presets import views
from tltool.backbones import Backbone
from tltool.data import check_listing, read_listing
from tltool.features import FeatureSource, FeatureStore, canvas_batches, make_engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--weights")
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--recipes", default="1,2,10,12,augmented-10")
    options = parser.parse_args()

    backbone = Backbone(options.backbone, options.weights)
    with tempfile.TemporaryDirectory() as folder:
        with FeatureStore(folder) as store:
            dataset, _ = check_listing(read_listing(options.data), cache=store)
        step = max(1, len(dataset.examples) // options.images)
        examples = dataset.examples[::step][: options.images]
        readers = [lambda e=e: e.path.read_bytes() for e in examples[:32]]
        pixels = next(iter(canvas_batches(readers, backbone.input_size))).pixels
        plain = make_engine("openvino", f"{backbone.key}-benchmark", lambda: backbone.model)
        names = options.recipes.split(",")
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for turn in range(options.repeat + 1):  # the first one compiles
            for name in names:
                shown = views(name)
                with FeatureStore(Path(folder) / f"{name}-{turn}") as store:
                    source = FeatureSource(backbone, store, views=shown)
                    source.features(examples[:2])  # the network is loaded
                    pictures = (len(examples) - 2) * shown.count
                    rounds = -(-pictures // len(pixels))  # as long: processors tire
                    started = time.perf_counter()
                    for _ in range(rounds):
                        plain(pixels)
                    engine = rounds * len(pixels) / (time.perf_counter() - started)
                    started = time.perf_counter()
                    source.features(examples[2:])
                    rates[name].append((pictures / (time.perf_counter() - started), engine))
    print(f"{options.backbone}, medians of {options.repeat}")
    for name in names:
        views_a_second, engine = np.array(rates[name][1:]).T
        print(
            f"views {name:15}{np.median(views_a_second):8.0f} views a second, the engine "
            f"{np.median(engine):.0f}, ratio {np.median(views_a_second / engine):.2f}"
        )


if __name__ == "__main__":
    main()
