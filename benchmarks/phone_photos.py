"""Twelve-megapixel photos: what decoding at a reduced scale saves, and what it changes.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/phone_photos.py caltech101/101_ObjectCategories

Photos of 4000x3000 pixels are made of a folder's images: half are mosaics at the images' own
resolution (as sharp as a JPEG gets), half are one image enlarged with sensor noise (as soft as
a phone's). Each is decoded in full and at the scale that tltool uses, and both canvases go
through the backbone; printed are rates, and relative differences of features,
|scaled - full| / |full|.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tltool.backbones import Backbone
from tltool.data import canvas, check_listing, decoding, read_listing
from tltool.features import FeatureSource, FeatureStore

SIZE = (4000, 3000)


def mosaic(paths: list[Path], random: np.random.Generator) -> Image.Image:
    """Images side by side at their own resolution."""
    sheet = Image.new("RGB", SIZE)
    for top in range(0, SIZE[1], 200):
        for left in range(0, SIZE[0], 250):
            with Image.open(paths[random.integers(len(paths))]) as tile:
                sheet.paste(tile.convert("RGB"), (left, top))
    return sheet


def enlarged(path: Path, random: np.random.Generator) -> Image.Image:
    """One image at phone size, with noise of three grey levels."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC))
    noisy = pixels + random.normal(0, 3, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet-0.25")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--margins", type=int, nargs="*", default=[1, 2, 3, 4, 6, 8])
    options = parser.parse_args()

    random = np.random.default_rng(0)
    paths = sorted(options.data.rglob("*.jpg"))
    backbone = Backbone(options.backbone)
    size = backbone.input_size
    photos = []
    for i in range(options.photos):
        made = (
            mosaic(paths, random) if i % 2 else enlarged(paths[random.integers(len(paths))], random)
        )
        buffer = io.BytesIO()
        made.save(buffer, "JPEG", quality=92)
        photos.append(buffer.getvalue())
    megabytes = np.mean([len(p) for p in photos]) / 1e6
    print(f"{len(photos)} photos of {SIZE[0]}x{SIZE[1]}, {megabytes:.1f} MB each")

    used = decoding.SCALED_DECODING_MARGIN
    canvases = {}
    for margin in (10**6, *options.margins):
        decoding.SCALED_DECODING_MARGIN = margin
        started = time.perf_counter()
        canvases[margin] = np.stack([canvas(photo, size) for photo in photos])
        seconds = (time.perf_counter() - started) / len(photos)
        features = backbone.model.predict(canvases[margin], verbose=0)
        if margin == 10**6:
            full = features
            print(f"  in full: {1e3 * seconds:6.1f} ms an image on one core")
            continue
        change = np.linalg.norm(features - full, axis=1) / np.linalg.norm(full, axis=1)
        mark = "  <- tltool" if margin == used else ""
        kinds = (change, change[1::2], change[::2])
        all_of_them, sharp, soft = (statistics.median(kind) for kind in kinds)
        print(
            f"margin {margin}: {1e3 * seconds:6.1f} ms, features change by {all_of_them:.4f} "
            f"(sharp {sharp:.4f}, soft {soft:.4f}, most {change.max():.4f}){mark}"
        )
    decoding.SCALED_DECODING_MARGIN = used

    with tempfile.TemporaryDirectory() as folder:
        for i in range(4 * len(photos)):  # different bytes: each goes through the network
            place = Path(folder) / "photos" / str(i % 2)
            place.mkdir(parents=True, exist_ok=True)
            photo = photos[i % len(photos)]
            (place / f"{i}.jpg").write_bytes(photo[:2] + b"\xff\xfe\x00\x04%02d" % i + photo[2:])
        with FeatureStore(Path(folder) / "store") as store:
            started = time.perf_counter()
            dataset, _ = check_listing(read_listing(Path(folder) / "photos"), cache=store)
            checked = time.perf_counter() - started
            source = FeatureSource(backbone, store)
            source.features(dataset.examples[:2])
            started = time.perf_counter()
            source.features(dataset.examples)
            extracted = time.perf_counter() - started
    n = len(dataset.examples)
    print(f"all cores: {n / checked:.1f} checked and {(n - 2) / extracted:.1f} extracted a second")


if __name__ == "__main__":
    main()
