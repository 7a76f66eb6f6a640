"""Every preset: against plain Keras, on both engines, and against its own fact card."""

import zipfile
from importlib import import_module

import numpy as np
import pytest
import simplejpeg
from conftest import SHARED, lively, needs_shared

from tltool import Backbone, TltoolError, backbone_names, backbone_page
from tltool._keras import import_keras
from tltool._presets import backbone_preset
from tltool.backbones.build import build_network
from tltool.backbones.catalogue import list_backbones
from tltool.features import make_engine

# Where Keras keeps the `preprocess_input` of each of its networks.
MODULES = {
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "InceptionV3": "inception_v3",
    "ResNet50": "resnet",
    "ResNet101": "resnet",
    "ResNet152": "resnet",
    "ResNet50V2": "resnet_v2",
    "ResNet101V2": "resnet_v2",
    "ResNet152V2": "resnet_v2",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "EfficientNetV2B0": "efficientnet_v2",
    "DenseNet121": "densenet",
}

# What the papers, or Keras's own table, say of the network with its classification layers.
PUBLISHED_PARAMETERS = {
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "inception-v3": 23_851_784,
    "resnet50": 25_636_712,
    "resnet101": 44_707_176,
    "resnet152": 60_419_944,
    "resnet50v2": 25_613_800,
    "resnet101v2": 44_675_560,
    "resnet152v2": 60_380_648,
    "mobilenet-1.0": 4_253_864,
    "mobilenet-v2": 3_538_984,
    "efficientnetv2-b0": 7_200_312,
    "densenet121": 8_062_504,
    "alexnet": 61_100_840,
    "googlenet": 6_998_552,
    "lenet5": 61_706,
}
PUBLISHED_TRAINABLE = {
    "cifar-resnet20": 269_722,
    "cifar-resnet32": 464_154,
    "cifar-resnet44": 658_586,
    "cifar-resnet56": 853_018,
    "cifar-resnet110": 1_727_962,
}


def reference(preset):
    """Plain Keras: the network with its classification layers, and what prepares its input."""
    keras = import_keras()
    if preset.builder in MODULES:
        network = getattr(keras.applications, preset.builder)(
            weights=None,
            classifier_activation=None,
            input_shape=(*preset.input_size, 3),
            **preset.arguments,
        )
        module = import_module(f"keras.applications.{MODULES[preset.builder]}")
        return network, lambda pixels: module.preprocess_input(pixels.astype(np.float32))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    grey = preset.preprocessing.channels == "grey"
    inputs = keras.Input((*preset.input_size, 1 if grey else 3))
    if preset.builder == "cifar_resnet":
        from tltool.backbones.cifar_resnet import cifar_resnet as build
    elif preset.builder == "googlenet":
        from tltool.backbones.googlenet import googlenet as build
    else:
        from tltool.backbones.plain import plain_network as build

    def prepare(pixels):
        if grey:
            weights = np.array([0.2989, 0.587, 0.114])
            return ((pixels @ weights) / 127.5 - weights.sum())[..., None].astype(np.float32)
        return ((pixels / 255 - mean) / deviation).astype(np.float32)

    return build(inputs, classes=preset.classes, **preset.arguments), prepare


@pytest.fixture(scope="module", params=backbone_names())
def pair(request, tmp_path_factory):
    """A preset with every named tap, and what plain Keras gives at each of them."""
    keras = import_keras()
    preset = backbone_preset(request.param)
    network, prepare = reference(preset)
    pixels = np.random.default_rng(1).integers(0, 256, (2, *preset.input_size, 3), np.uint8)
    lively(network)
    path = tmp_path_factory.mktemp("weights") / "random.weights.h5"
    network.save_weights(path)
    taps = [*preset.named_taps, f"{next(iter(preset.blocks))}:avg+max"]
    backbone = Backbone(preset.name, str(path), taps=taps)
    # Keras numbers some names on; the n-th layer of the one is the n-th of the other.
    own = [layer for layer in backbone.network.layers if "preprocessing" not in layer.name]
    same = dict(
        zip([x.name for x in own[-len(network.layers) + 1 :]], network.layers[1:], strict=True)
    )
    layers = list(dict.fromkeys(part.layer for part in backbone.parts))
    model = keras.Model(network.input, [same[layer].output for layer in layers])
    outputs = model(prepare(pixels), training=False)  # of two images quicker than to trace a graph
    outputs = map(np.asarray, outputs if isinstance(outputs, list) else [outputs])
    by_layer = dict(zip(layers, outputs, strict=True))
    pool = {
        "avg": lambda x: x.mean(axis=(1, 2)),
        "max": lambda x: x.max(axis=(1, 2)),
        "flatten": lambda x: x.reshape(len(x), -1),
    }
    expected = [pool[part.pooling](by_layer[part.layer]) for part in backbone.parts]
    del network, model
    yield backbone, pixels, expected
    path.unlink()
    del backbone
    keras.backend.clear_session()


def close(values, expected):
    """Equal to 1e-4 of the largest number, which is not zero."""
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(values, expected, atol=1e-4 * scale, rtol=0)


def test_preset_equals_plain_keras_at_every_tap(pair):
    backbone, pixels, expected = pair
    found = np.split(
        np.asarray(backbone.model(pixels, training=False)),
        np.cumsum(backbone.widths(backbone.parts))[:-1],
        axis=1,
    )
    for part, values, wanted in zip(backbone.parts, found, expected, strict=True):
        assert values.shape == wanted.shape, part
        close(values, wanted)
    assert not backbone.model.trainable_weights
    assert backbone.network.count_params() == backbone.preset.parameters


def smallest_of_families():
    """Of networks that are built of the same layers, the one with the fewest parameters."""
    found = {}
    for preset in sorted(map(backbone_preset, backbone_names()), key=lambda one: -one.parameters):
        found[MODULES.get(preset.builder, preset.builder)] = preset.name
    return sorted(found.values())


@pytest.mark.parametrize("pair", smallest_of_families(), indirect=True)
def test_openvino_serves_every_tap(pair):
    backbone, pixels, expected = pair
    run = make_engine("openvino", f"test-{backbone.preset.name}", lambda: backbone.model)
    found = np.split(run(pixels), np.cumsum(backbone.widths(backbone.parts))[:-1], axis=1)
    for values, wanted in zip(found, expected, strict=True):
        close(values, wanted)
        assert values.dtype == np.float32


@pytest.mark.parametrize("name", backbone_names())
def test_fact_card_is_true(name):
    preset = backbone_preset(name)
    page = backbone_page(name)
    rows = {row.name: row for row in page.layers}
    assert sum(row.parameters for row in page.layers) == preset.parameters
    assert sum(row.multiply_adds for row in page.layers) == preset.multiply_adds
    assert PUBLISHED_PARAMETERS.get(name, preset.parameters) == preset.parameters
    for tap, where in preset.named_taps.items():
        assert tap in rows[where.partition(":")[0]].taps
    for row in page.layers:
        above = bool(set(row.taps) & set(preset.head_taps))
        assert above <= (row.block == "")
    assert [row.block for row in page.layers if row.boundary] == list(preset.blocks)
    (tap,) = Backbone(name, "none").taps
    assert Backbone(name, "none").widths(tap.parts) == [preset.features]
    assert preset.citation
    if preset.weights.origin != "none":
        assert preset.weights.licence
        assert preset.weights.file


@pytest.mark.parametrize("name", backbone_names())
def test_everything_above_a_boundary_follows_from_it_alone(name):
    """So the layers below can be frozen, and their output stored."""
    keras = import_keras()
    preset = backbone_preset(name)
    network = build_network(preset, preset.input_size)
    last = network.get_layer(list(preset.blocks.values())[-1]).output
    for layer in preset.blocks.values():
        boundary = network.get_layer(layer).output
        if boundary is not last:
            keras.Model(boundary, last)  # raises where another path leads around it


@pytest.mark.parametrize("name", sorted(PUBLISHED_TRAINABLE))
def test_cifar_resnets_have_the_published_size(name):
    preset = backbone_preset(name)
    network = build_network(preset, preset.input_size, preset.classes)
    assert sum(w.numpy().size for w in network.trainable_weights) == PUBLISHED_TRAINABLE[name]


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg-small", "googlenet", "cifar-resnet20"])
def test_start_of_own_networks(name):
    """Kernels vary as Glorot and Bengio say where nothing normalises, else as He et al. say."""
    preset = backbone_preset(name)
    network = build_network(preset, preset.input_size, preset.classes)
    plain = ("lenet5", "alexnet")
    for layer in network.layers:
        if not hasattr(layer, "kernel"):
            continue
        shape = layer.kernel.shape
        inside = int(np.prod(shape[:-1]))
        outside = int(np.prod(shape[:-2])) * shape[-1]
        variance = 2 / (inside + outside) if name in plain else 2 / inside
        if inside * shape[-1] > 2000:
            assert float(np.var(layer.kernel)) == pytest.approx(variance, rel=0.15), layer.name


@pytest.mark.parametrize("name", backbone_names())
def test_smallest_input_is_taken_and_less_is_refused(name):
    preset = backbone_preset(name)
    network = build_network(preset, (preset.smallest_input, preset.smallest_input))
    assert min(network.output.shape[1:]) >= 1
    body_tap = next(iter(preset.blocks))
    with pytest.raises(TltoolError, match=f"from {preset.smallest_input}x{preset.smallest_input}"):
        Backbone(name, "none", taps=body_tap, input_size=preset.smallest_input - 1)


def test_other_input_sizes():
    backbone = Backbone("cifar-resnet20", input_size="40x56")
    assert backbone.model.input_shape == (None, 40, 56, 3)
    assert backbone.model.output_shape == (None, 64)
    for size in ("large", "40x", "0", -3, (32, 32, 32), 1.5, 2049, 100_000):
        with pytest.raises(TltoolError, match="name a side"):
            Backbone("cifar-resnet20", input_size=size)
    with pytest.raises(TltoolError, match="224x224 pixels alone"):
        Backbone("vgg16", "none", taps="decaf6", input_size=160)
    assert Backbone("vgg16", "none", input_size=160).input_size == (160, 160)


def test_model_reloads_with_keras_alone(tmp_path):
    keras = import_keras()
    backbone = Backbone("cifar-resnet20", taps="stage1:avg+max,stage2:flatten,logits")
    backbone.model.save(tmp_path / "m.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        loaded.predict(pixels, verbose=0), backbone.model.predict(pixels, verbose=0)
    )


def test_names_do_not_depend_on_what_was_built_before():
    preset = backbone_preset("inception-v3")
    first, second = (build_network(preset, (75, 75)) for _ in range(2))
    names = [operation.name for operation in first.operations]
    assert names == [operation.name for operation in second.operations]
    assert {"conv2d", "conv2d_93"} <= set(names)


def test_unknown_backbone_offers_the_nearest():
    with pytest.raises(TltoolError, match="did you mean 'resnet50'"):
        Backbone("resnet-50")


@pytest.mark.parametrize("depth", [7, 21, 2])
def test_impossible_depth(depth):
    from tltool.backbones.cifar_resnet import cifar_resnet

    with pytest.raises(TltoolError, match="6n"):
        cifar_resnet(None, depth)


def test_list_is_in_natural_order_and_complete():
    names = [entry.preset.name for entry in list_backbones()]
    assert sorted(names) == backbone_names()
    assert names.index("cifar-resnet56") < names.index("cifar-resnet110")


def cifar_test_images():
    with zipfile.ZipFile(SHARED / "data" / "cifar10_jpeg.zip") as files:
        names = sorted(n for n in files.namelist() if n.startswith("test/") and n.endswith(".jpg"))
        pixels = np.stack([simplejpeg.decode_jpeg(files.read(n)) for n in names])
    return pixels, np.array([n.split("/")[1] for n in names])


def accuracy_of(backbone):
    pixels, classes = cifar_test_images()
    run = make_engine("openvino", f"cifar-{backbone.weights.hash[:16]}", lambda: backbone.model)
    scores = np.concatenate([run(pixels[i : i + 500]) for i in range(0, len(pixels), 500)])
    return float(np.mean(np.unique(classes)[scores.argmax(axis=1)] == classes))


@needs_shared("data/cifar10_jpeg.zip")
def test_embedded_weights_reach_the_figure_on_their_card():
    accuracy = accuracy_of(Backbone("cifar-resnet20", taps="logits"))
    assert accuracy >= 0.84
    card = backbone_preset("cifar-resnet20").accuracy
    assert f"{100 * accuracy:.2f}" == f"{card.top1:.2f}"


@needs_shared("weights/cifar_resnet20.npz", "weights/cifar_resnet56.npz", "data/cifar10_jpeg.zip")
@pytest.mark.parametrize(("depth", "reached"), [(20, 0.8103), (56, 0.8320)])
def test_ported_weights_reach_the_published_figure(depth, reached):
    file = SHARED / "weights" / f"cifar_resnet{depth}.npz"
    backbone = Backbone(f"cifar-resnet{depth}", str(file), taps="logits")
    assert accuracy_of(backbone) == pytest.approx(reached, abs=5e-4)


@needs_shared("weights/cifar_resnet20.npz", "weights/cifar_resnet56.npz", "data/cifar10_jpeg.zip")
@pytest.mark.parametrize("depth", [20, 56])
def test_ported_weights_give_the_reference_features(depth):
    file = SHARED / "weights" / f"cifar_resnet{depth}.npz"
    backbone = Backbone(f"cifar-resnet{depth}", str(file), taps="avgpool,logits")
    with np.load(SHARED / "weights" / "cifar_resnet_reference.npz") as kept:
        names = kept["files"]
        expected = np.hstack([kept[f"features_{depth}"], kept[f"logits_{depth}"]])
    with zipfile.ZipFile(SHARED / "data" / "cifar10_jpeg.zip") as files:
        pixels = np.stack([simplejpeg.decode_jpeg(files.read(str(n))) for n in names])
    np.testing.assert_allclose(backbone.model.predict(pixels, verbose=0), expected, atol=1e-3)
