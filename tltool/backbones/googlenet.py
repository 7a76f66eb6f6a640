"""GoogLeNet, the first Inception network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras

if TYPE_CHECKING:
    import keras

__all__ = ["googlenet"]

# Filters of each module: 1x1; 3x3 and the 1x1 that reduces before it; 5x5 and its own; the 1x1
# after the pooling branch. A number alone halves the image. Table 1 of the paper.
_MODULES: tuple[tuple[str, int, tuple[int, int], tuple[int, int], int] | str, ...] = (
    ("inception_3a", 64, (96, 128), (16, 32), 32),
    ("inception_3b", 128, (128, 192), (32, 96), 64),
    "pool3",
    ("inception_4a", 192, (96, 208), (16, 48), 64),
    ("inception_4b", 160, (112, 224), (24, 64), 64),
    ("inception_4c", 128, (128, 256), (24, 64), 64),
    ("inception_4d", 112, (144, 288), (32, 64), 64),
    ("inception_4e", 256, (160, 320), (32, 128), 128),
    "pool4",
    ("inception_5a", 256, (160, 320), (32, 128), 128),
    ("inception_5b", 384, (192, 384), (48, 128), 128),
)


def googlenet(inputs: Any, classes: int | None = None) -> keras.Model:
    """GoogLeNet (Inception v1), without the two side classifiers that only steer its training.

    Local response normalisation is left out; Simonyan and Zisserman (2014, section 4.1) found no
    gain in it. Kernels start as He et al. (2015) proposed for ReLU.

    Args:
        inputs: Keras tensor, `(batch, height, width, 3)`, float32, already normalised.
        classes: outputs of the last layer, named `logits`, before any softmax; None to end with
            the last module.

    Returns:
        A functional model from the inputs of that tensor to activations
        `(batch, height / 32, width / 32, 1024)` or logits `(batch, classes)`. With 1,000 classes
        it has 6,998,552 parameters; the paper's table adds up to 6.8 million.

    Source: Szegedy et al., "Going Deeper with Convolutions", 2014,
    https://arxiv.org/abs/1409.4842
    """
    keras = import_keras()

    x = _conv(inputs, 64, 7, "conv1", stride=2)
    x = _halve(x, "pool1")
    x = _conv(x, 64, 1, "conv2_reduce")
    x = _conv(x, 192, 3, "conv2")
    x = _halve(x, "pool2")
    for module in _MODULES:
        x = _halve(x, module) if isinstance(module, str) else _inception(x, *module)
    if classes is not None:
        x = keras.layers.GlobalAveragePooling2D(name="global_average_pooling")(x)
        x = keras.layers.Dropout(0.4, name="dropout")(x)
        x = keras.layers.Dense(classes, kernel_initializer="he_normal", name="logits")(x)
    return keras.Model(keras.utils.get_source_inputs(inputs)[0], x, name="googlenet")


def _inception(
    x: Any, name: str, ones: int, threes: tuple[int, int], fives: tuple[int, int], pooled: int
) -> Any:
    """Four branches side by side, their channels joined."""
    keras = import_keras()

    pool = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        _conv(x, ones, 1, f"{name}_1x1"),
        _conv(_conv(x, threes[0], 1, f"{name}_3x3_reduce"), threes[1], 3, f"{name}_3x3"),
        _conv(_conv(x, fives[0], 1, f"{name}_5x5_reduce"), fives[1], 5, f"{name}_5x5"),
        _conv(pool, pooled, 1, f"{name}_pool_proj"),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def _conv(x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
    keras = import_keras()
    return keras.layers.Conv2D(
        filters,
        kernel,
        stride,
        padding="same",
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _halve(x: Any, name: str) -> Any:
    keras = import_keras()
    return keras.layers.MaxPooling2D(3, 2, padding="same", name=name)(x)
