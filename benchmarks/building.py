"""Building a network from local weights, against Keras's own constructor, in one run.

    python benchmarks/building.py [NAME...]

Every network of Keras Applications without its classification layers, random weights in a file
of the official kind (HDF5 as Keras 2 wrote it). For each repetition, in turn: Keras's constructor
with `weights=FILE`; `Backbone(NAME, FILE).model`, which also hashes the file. Medians are printed.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tltool._keras import import_keras
from tltool._presets import backbone_names, backbone_preset
from tltool.backbones import Backbone


def official_file(network: object, path: Path) -> None:
    """Weights as the official files hold them."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.1.6"
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{i}:0".encode() for i in range(len(layer.weights))]
            group.attrs["weight_names"] = names
            for name, array in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name.decode(), data=array)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()

    keras = import_keras()
    names = options.names or [
        n for n in backbone_names() if hasattr(keras.applications, backbone_preset(n).builder)
    ]
    print(f"{'network':20} {'Keras s':>8} {'tltool s':>9} {'ratio':>6}")
    for name in names:
        preset = backbone_preset(name)
        build = getattr(keras.applications, preset.builder)
        shape = (*preset.input_size, 3)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.h5"
            official_file(
                build(include_top=False, weights=None, input_shape=shape, **preset.arguments), path
            )
            theirs, ours = [], []
            for _ in range(options.repetitions):
                gc.collect()
                started = time.perf_counter()
                build(
                    include_top=False,
                    weights=str(path),
                    input_shape=shape,
                    pooling="avg",
                    **preset.arguments,
                )
                theirs.append(time.perf_counter() - started)
                gc.collect()
                started = time.perf_counter()
                _ = Backbone(name, str(path)).model
                ours.append(time.perf_counter() - started)
        ratio = statistics.median(b / a for a, b in zip(theirs, ours, strict=True))
        keras_s, tltool_s = statistics.median(theirs), statistics.median(ours)
        print(f"{name:20} {keras_s:8.2f} {tltool_s:9.2f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
