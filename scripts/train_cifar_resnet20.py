"""Train the embedded CIFAR ResNet-20 from nothing on CIFAR-10 JPEGs.

    python scripts/train_cifar_resnet20.py cifar10_jpeg.zip --out cifar_resnet20.safetensors

The recipe: stochastic gradient descent with Nesterov momentum 0.9, batches of 128, a linear
warm-up over two epochs to a learning rate of 0.2, then a cosine down to zero; weight decay 5e-4
on the kernels alone; random crops of the image padded by four pixels, and mirrors. The test
images are read once, after the last epoch.

With one thread (the default) a seed gives the same weights bit for bit on machines of one kind.
With more, sums are rounded in the order that threads finish: faster, and the same only up to that
noise, which training amplifies (after one epoch the mean loss differs in the third digit). An
interrupted training goes on from its last whole epoch, kept in `OUT.checkpoint.safetensors`.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import simplejpeg
from safetensors.numpy import load_file, save_file

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from tltool.backbones.cifar_resnet import cifar_resnet

BATCH = 128
PEAK_RATE = 0.2
WARM_UP_EPOCHS = 2
WEIGHT_DECAY = 5e-4
PAD = 4
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255


def read_split(archive: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images of a split, `(n, 32, 32, 3)` uint8, and their class numbers, `(n,)` int64."""
    with zipfile.ZipFile(archive) as files:
        names = sorted(n for n in files.namelist() if f"{split}/" in n and n.endswith(".jpg"))
        images = np.stack([simplejpeg.decode_jpeg(files.read(name)) for name in names])
    classes = [name.split("/")[-2] for name in names]
    order = {name: number for number, name in enumerate(sorted(set(classes)))}
    return images, np.array([order[name] for name in classes])


def build() -> keras.Model:
    """ResNet-20 with its ten-class head, from normalised pixels to logits."""
    body = cifar_resnet(keras.Input((32, 32, 3)), 20)
    pooled = keras.layers.GlobalAveragePooling2D(name="avgpool")(body.output)
    logits = keras.layers.Dense(10, name="logits")(pooled)
    return keras.Model(body.inputs, logits)


def rate_at(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of a step: warm-up, then half a cosine."""
    epoch = step / steps_per_epoch
    if epoch < WARM_UP_EPOCHS:
        return PEAK_RATE * (step + 1) / (WARM_UP_EPOCHS * steps_per_epoch)
    done = (epoch - WARM_UP_EPOCHS) / (epochs - WARM_UP_EPOCHS)
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * done))


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Raw pixels to the network's input range."""
    return (pixels.astype(np.float32) - MEAN) / DEVIATION


def named_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Every weight of the model under `layer/variable`."""
    return {variable.path: variable.numpy() for variable in model.weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="cifar10_jpeg.zip")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()
    images, labels = read_split(options.archive, "train")
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(1, 2))

    model = build()
    optimizer = keras.optimizers.SGD(
        PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def train_step(pixels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(pixels, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    checkpoint = options.out.with_suffix(".checkpoint.safetensors")
    first_epoch = 0
    if checkpoint.exists():
        state = load_file(checkpoint)
        first_epoch = int(state["epoch"])
        for variable in model.weights:
            variable.assign(state[f"model/{variable.path}"])
        for variable in optimizer.variables:
            variable.assign(state[f"optimizer/{variable.path}"])

    steps = len(images) // BATCH
    for epoch in range(first_epoch, options.epochs):
        started = time.monotonic()
        random = np.random.default_rng([options.seed, epoch])
        order = random.permutation(len(images))
        losses = []
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            top, left = random.integers(0, 2 * PAD + 1, (2, BATCH))
            crops = windows[rows, top, left].transpose(0, 2, 3, 1)
            mirrored = random.random(BATCH) < 0.5
            crops[mirrored] = crops[mirrored, :, ::-1]
            optimizer.learning_rate.assign(rate_at(epoch * steps + step, steps, options.epochs))
            losses.append(float(train_step(normalise(crops), labels[rows])))
        state = {f"model/{v.path}": v.numpy() for v in model.weights}
        state |= {f"optimizer/{v.path}": np.asarray(v) for v in optimizer.variables}
        save_file(state | {"epoch": np.array(epoch + 1)}, checkpoint)
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {seconds:.0f} s", flush=True)

    images, labels = read_split(options.archive, "test")
    scores = np.concatenate(
        [model(normalise(images[i : i + 500]), training=False) for i in range(0, len(images), 500)]
    )
    accuracy = float((scores.argmax(axis=1) == labels).mean())
    save_file(named_arrays(model), options.out)
    checkpoint.unlink(missing_ok=True)
    print(f"accuracy on the {len(labels)} test images: {accuracy:.4f}")


if __name__ == "__main__":
    main()
