"""Peak memory of extraction: how far above the imports, for few images and for many.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/memory.py caltech101/101_ObjectCategories

Each figure is of a process of its own: the peak resident size after extraction to a cold store,
less the peak after the imports (TensorFlow's too, and the network built and converted once
before, in another process, as on any second run).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def measure(data: Path, backbone: str, n: int, engine: str) -> None:
    """In a process of its own: print the megabytes after the imports and at the end."""
    from tltool._keras import import_keras
    from tltool.backbones import Backbone
    from tltool.data import check_listing, read_listing
    from tltool.features import FeatureSource, FeatureStore
    from tltool.features.openvino_engine import _import_openvino

    if engine == "keras":
        import_keras()
    _import_openvino()
    listing = read_listing(data)
    with tempfile.TemporaryDirectory() as folder, FeatureStore(folder) as store:
        imported = peak()
        if n:
            dataset, _ = check_listing(listing, cache=store)
            step = max(1, len(dataset.examples) // n)
            FeatureSource(Backbone(backbone), store, engine).features(dataset.examples[::step][:n])
        else:
            FeatureSource(Backbone(backbone), store, engine).features(())
    print(imported, peak())


def peak() -> float:
    """Largest resident size of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 8000])
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.data, options.backbone, options.measure, options.engine)
        return
    for n in (32, *options.images):  # the first converts the network
        rows = []
        for _ in range(1 if n == 32 else options.repetitions):
            done = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    str(options.data),
                    "--backbone",
                    options.backbone,
                    "--engine",
                    options.engine,
                    "--measure",
                    str(n),
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append([float(x) for x in done.stdout.split()[-2:]])
        if n == 32:
            continue
        before = statistics.median(r[0] for r in rows)
        above = statistics.median(r[1] - r[0] for r in rows)
        print(f"{n} images: {above:.0f} MB above the imports ({before:.0f} MB)", flush=True)


if __name__ == "__main__":
    main()
