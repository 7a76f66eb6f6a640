"""One forward pass with four taps against one with the last tap alone, in one run.

    TLTOOL_WEIGHTS=FOLDER python benchmarks/taps.py

Both on the engine and on the images of one batch, in turn; the ratio of each repetition's times is
taken, and the median of the ratios printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from tltool.backbones import Backbone
from tltool.features import make_engine

# OpenVINO leaves out what nobody reads: the shortcuts of ResNet v1 take every second pixel of a
# stage's end, and only where that end is tapped are the others computed at all.
NETWORKS = (
    ("mobilenet-0.25", "block6,block11,block12,avgpool"),
    ("resnet50", "stage1,stage2,stage3,avgpool"),
    ("resnet50", "conv2_block2_out,conv3_block3_out,conv4_block5_out,avgpool"),
    ("inception-v3", "mixed2,mixed5,mixed7,avgpool"),
    ("vgg16", "block3,block4,block5:max,avgpool"),
    ("cifar-resnet20", "stem,stage1,stage2,avgpool"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--engine", default="openvino", choices=("keras", "openvino"))
    options = parser.parse_args()

    print(f"{'network':16} {'taps':58} {'one ms':>7} {'four ms':>8} {'ratio':>6}")
    for name, taps in NETWORKS:
        here = name in ("mobilenet-0.25", "cifar-resnet20")
        runs = []
        for wanted in (taps.rsplit(",", 1)[1], taps):
            backbone = Backbone(name, None if here else "none", taps=wanted)
            layers = "-".join(part.layer for part in backbone.parts)
            key = f"benchmark-{name}-{layers}-{backbone.weights.hash[:12]}"
            runs.append(make_engine(options.engine, key, lambda b=backbone: b.model))
        size = backbone.input_size
        pixels = np.random.default_rng(0).integers(0, 256, (32, *size, 3), np.uint8)
        times: list[list[float]] = [[], []]
        for repetition in range(options.repetitions + 2):
            for which, run in enumerate(runs):
                started = time.perf_counter()
                calls = max(1, 3_000_000 // pixels.size)
                for _ in range(calls):
                    run(pixels)
                if repetition >= 2:  # the first ones warm up
                    times[which].append((time.perf_counter() - started) / calls)
        ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
        one, four = (1000 * statistics.median(t) for t in times)
        print(f"{name:16} {taps:58} {one:7.1f} {four:8.1f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
