"""Networks that are one chain of layers, each from a table: LeNet-5, AlexNet, a small VGG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tltool._keras import import_keras
from tltool._validation import check_option

if TYPE_CHECKING:
    import keras

__all__ = ["PLAIN_NETWORKS", "PlainNetwork", "plain_network"]


@dataclass(frozen=True)
class _Conv:
    """A convolution and its activation; batch normalisation between them if `norm`."""

    name: str
    filters: int
    kernel: int
    stride: int = 1
    pad: int = 0
    norm: bool = False


@dataclass(frozen=True)
class _Pool:
    """Pooling over windows of `size`, `stride` apart."""

    name: str
    kind: str
    size: int
    stride: int


@dataclass(frozen=True)
class _Full:
    """A fully connected layer, its activation, and dropout in training."""

    name: str
    units: int
    dropout: float = 0.0


@dataclass(frozen=True)
class PlainNetwork:
    """A chain of layers.

    Args:
        activation: of every layer with weights but the last.
        body: convolutions and poolings.
        head: fully connected layers before the last one; empty for average pooling instead.
    """

    activation: str
    body: tuple[_Conv | _Pool, ...]
    head: tuple[_Full, ...] = ()


PLAIN_NETWORKS = {
    # LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
    # 1998. As usual today every map of c3 sees all six of s2, subsampling has no coefficients,
    # and the last layer is linear instead of radial: 61,706 parameters, about 60,000 in the paper.
    "lenet5": PlainNetwork(
        "tanh",
        body=(
            _Conv("c1", 6, 5),
            _Pool("s2", "average", 2, 2),
            _Conv("c3", 16, 5),
            _Pool("s4", "average", 2, 2),
            _Conv("c5", 120, 5),
        ),
        head=(_Full("f6", 84),),
    ),
    # Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
    # networks", 2012 (60 million parameters), in the single tower of Krizhevsky, "One weird trick
    # for parallelizing convolutional neural networks", 2014: 61,100,840. Local response
    # normalisation is left out; Simonyan and Zisserman (2014, section 4.1) found no gain in it.
    "alexnet": PlainNetwork(
        "relu",
        body=(
            _Conv("conv1", 64, 11, stride=4, pad=2),
            _Pool("pool1", "max", 3, 2),
            _Conv("conv2", 192, 5, pad=2),
            _Pool("pool2", "max", 3, 2),
            _Conv("conv3", 384, 3, pad=1),
            _Conv("conv4", 256, 3, pad=1),
            _Conv("conv5", 256, 3, pad=1),
            _Pool("pool5", "max", 3, 2),
        ),
        head=(_Full("fc6", 4096, dropout=0.5), _Full("fc7", 4096, dropout=0.5)),
    ),
    # The pattern of Simonyan and Zisserman (2014), pairs of 3x3 convolutions between halvings that
    # double the width, for 32-pixel images, with batch normalisation (Ioffe, Szegedy 2015).
    "vgg-small": PlainNetwork(
        "relu",
        body=tuple(
            layer
            for block, width in enumerate((32, 64, 128), start=1)
            for layer in (
                _Conv(f"block{block}_conv1", width, 3, pad=1, norm=True),
                _Conv(f"block{block}_conv2", width, 3, pad=1, norm=True),
                _Pool(f"block{block}_pool", "max", 2, 2),
            )
        ),
    ),
}


def plain_network(inputs: Any, table: str, classes: int | None = None) -> keras.Model:
    """A network of `PLAIN_NETWORKS`.

    Kernels start as He et al. (2015, https://arxiv.org/abs/1502.01852) proposed for ReLU, and as
    Glorot and Bengio (2010) did for tanh.

    Args:
        inputs: Keras tensor, `(batch, height, width, channels)`, float32, already normalised.
        table: "lenet5", "alexnet" or "vgg-small".
        classes: outputs of the last layer, named `logits`, before any softmax; None to end with
            the last layer of the body.

    Returns:
        A functional model from the inputs of that tensor to activations
        `(batch, height', width', filters)` or logits `(batch, classes)`.

    Raises:
        TltoolError: there is no such table.
    """
    keras = import_keras()

    check_option("table", table, PLAIN_NETWORKS)
    network = PLAIN_NETWORKS[table]
    # he_normal keeps activations as large as pixels up to the last layer where there is no
    # normalisation: the first losses are then far above those of guessing, and training diverges
    normalised = any(isinstance(layer, _Conv) and layer.norm for layer in network.body)
    start = "he_normal" if normalised else "glorot_uniform"
    x = inputs
    for layer in network.body:
        if isinstance(layer, _Pool):
            kind = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
            x = kind[layer.kind](layer.size, layer.stride, name=layer.name)(x)
        else:
            x = _convolve(x, layer, network.activation, start)
    if classes is not None:
        if network.head:
            x = keras.layers.Flatten(name="flatten")(x)
        else:
            x = keras.layers.GlobalAveragePooling2D(name="global_average_pooling")(x)
        for full in network.head:
            dense = keras.layers.Dense(
                full.units, network.activation, kernel_initializer=start, name=full.name
            )
            x = dense(x)
            if full.dropout:
                x = keras.layers.Dropout(full.dropout, name=f"{full.name}_dropout")(x)
        x = keras.layers.Dense(classes, kernel_initializer=start, name="logits")(x)
    return keras.Model(keras.utils.get_source_inputs(inputs)[0], x, name=table.replace("-", "_"))


def _convolve(x: Any, layer: _Conv, activation: str, start: str) -> Any:
    """The layer itself gives the activations, unless normalisation comes between."""
    keras = import_keras()

    same = layer.stride == 1 and layer.pad == layer.kernel // 2
    if layer.pad and not same:
        x = keras.layers.ZeroPadding2D(layer.pad, name=f"{layer.name}_pad")(x)
    x = keras.layers.Conv2D(
        layer.filters,
        layer.kernel,
        layer.stride,
        padding="same" if same and layer.pad else "valid",
        activation=None if layer.norm else activation,
        use_bias=not layer.norm,
        kernel_initializer=start,
        name=layer.name,
    )(x)
    if layer.norm:
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{layer.name}_bn")(x)
        x = keras.layers.Activation(activation, name=f"{layer.name}_{activation}")(x)
    return x
