"""The residual networks that He et al. (2015, section 4.2) built for 32-pixel images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras
from tltool._validation import TltoolError

if TYPE_CHECKING:
    import keras

__all__ = ["cifar_resnet"]

# Channels of the three stages; the first block of stages 2 and 3 halves the image.
_STAGE_CHANNELS = (16, 32, 64)


def cifar_resnet(inputs: Any, depth: int, classes: int | None = None) -> keras.Model:
    """A CIFAR residual network.

    The shortcuts have no parameters (option A of the paper): where the width doubles they take
    every second pixel and fill the new channels with zeros, half before and half after.

    Args:
        inputs: Keras tensor, `(batch, height, width, 3)`, float32, already normalised.
        depth: number of weighted layers, `6n + 2`: 20, 32, 44, 56 or 110 in the paper.
        classes: outputs of the last layer, named `logits`, before any softmax; None to end with
            the last stage.

    Returns:
        A functional model from the inputs of that tensor to the last stage's activations,
        `(batch, height / 4, width / 4, 64)`, or logits `(batch, classes)`. With ten classes
        ResNet-20 has 269,722 trainable parameters, ResNet-56 853,018.

    Raises:
        TltoolError: the depth is not `6n + 2`.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015,
    https://arxiv.org/abs/1512.03385
    """
    keras = import_keras()

    if depth < 8 or depth % 6 != 2:
        raise TltoolError(
            f"A CIFAR ResNet needs a depth of 6n + 2 (20, 32, 44, 56, 110), got {depth}; "
            "choose one of these."
        )
    blocks = (depth - 2) // 6
    x = _conv_norm(inputs, _STAGE_CHANNELS[0], 1, "conv1", "bn1")
    x = keras.layers.ReLU(name="conv1_relu")(x)
    for stage, channels in enumerate(_STAGE_CHANNELS, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(x, channels, stride, f"stage{stage}_block{block}")
    if classes is not None:
        x = keras.layers.GlobalAveragePooling2D(name="global_average_pooling")(x)
        x = keras.layers.Dense(classes, kernel_initializer="he_normal", name="logits")(x)
    return keras.Model(keras.utils.get_source_inputs(inputs)[0], x, name=f"cifar_resnet{depth}")


def _basic_block(x: Any, channels: int, stride: int, name: str) -> Any:
    """Two 3x3 convolutions beside a shortcut: `relu(x' + F(x))`."""
    keras = import_keras()

    shortcut = x
    if stride > 1:
        shortcut = keras.layers.AveragePooling2D(1, strides=stride, name=f"{name}_skip")(x)
        side = (channels - x.shape[-1]) // 2
        shortcut = keras.ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), (side, side)))
    x = _conv_norm(x, channels, stride, f"{name}_conv1", f"{name}_bn1")
    x = keras.layers.ReLU(name=f"{name}_relu1")(x)
    x = _conv_norm(x, channels, 1, f"{name}_conv2", f"{name}_bn2")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def _conv_norm(x: Any, channels: int, stride: int, conv_name: str, norm_name: str) -> Any:
    """3x3 convolution padded by one pixel on every side, then batch normalisation."""
    keras = import_keras()

    padding = "same"
    if stride > 1:  # Keras' "same" would pad an even side on the right alone
        x = keras.layers.ZeroPadding2D(1, name=f"{conv_name}_pad")(x)
        padding = "valid"
    x = keras.layers.Conv2D(
        channels,
        3,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=conv_name,
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm_name)(x)
