"""Questions of textbooks, answered from the table; receptive fields against published ones."""

import pytest

from tltool import backbone_page
from tltool._keras import import_keras
from tltool.backbones import layers as layers_module
from tltool.backbones.layer_table import layer_rows


def rows_of(name, **options):
    return {row.name: row for row in backbone_page(name, **options).layers}


def chain(size, *layers):
    keras = import_keras()
    inputs = x = keras.Input(size)
    for layer in layers:
        x = layer(x)
    return layer_rows(keras.Model(inputs, x))


def test_convolution_against_fully_connected():
    """A 5x5 kernel over one channel of 300x300 pixels: 26 parameters instead of 8.1 milliards."""
    keras = import_keras()
    row = chain((300, 300, 1), keras.layers.Conv2D(1, 5, padding="same"))[-1]
    assert row.parameters == 26
    assert row.fully_connected == 8_100_000_000
    assert row.multiply_adds == 300 * 300 * 25


@pytest.mark.parametrize("count", range(1, 8))
def test_stacked_convolutions(count):
    keras = import_keras()
    stack = [keras.layers.Conv2D(2, 3, padding="same") for _ in range(count)]
    assert chain((64, 64, 1), *stack)[-1].receptive_field == 2 * count + 1


def test_stride_doubles_the_growth_after_it():
    keras = import_keras()
    convolve = lambda stride: keras.layers.Conv2D(2, 3, stride, padding="same")  # noqa: E731
    fields = [r.receptive_field for r in chain((64, 64, 1), convolve(2), *map(convolve, (1, 1)))]
    assert fields == [1, 3, 7, 11]
    strides = [r.stride for r in chain((64, 64, 1), convolve(2), convolve(2))]
    assert strides == [1, 2, 4]


def test_dilation_and_merging():
    keras = import_keras()
    inputs = keras.Input((32, 32, 3))
    wide = keras.layers.Conv2D(4, 3, dilation_rate=2, padding="same", name="wide")(inputs)
    narrow = keras.layers.Conv2D(4, 1, name="narrow")(inputs)
    joined = keras.layers.Add(name="joined")([wide, narrow])
    whole = keras.layers.GlobalAveragePooling2D(keepdims=True)(joined)
    gated = keras.layers.Multiply(name="gated")([joined, whole])
    rows = {row.name: row for row in layer_rows(keras.Model(inputs, gated))}
    assert (rows["wide"].receptive_field, rows["narrow"].receptive_field) == (5, 1)
    assert rows["joined"].receptive_field == rows["gated"].receptive_field == 5


def test_depthwise_and_grouped_convolutions():
    keras = import_keras()
    rows = chain(
        (10, 10, 8),
        keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        keras.layers.Conv2D(8, 3, groups=2, padding="same", use_bias=False),
    )
    assert [r.parameters for r in rows] == [0, 9 * 8, 9 * 4 * 8]
    assert [r.multiply_adds for r in rows] == [0, 100 * 9 * 8, 100 * 9 * 4 * 8]


def test_lenet():
    """Its second convolution: 2,400 weights and 16 biases when it sees all six maps."""
    rows = rows_of("lenet5")
    assert rows["c3"].parameters == 5 * 5 * 6 * 16 + 16 == 2_400 + 16
    assert rows["c1"].parameters == 6 * 26
    assert rows["c5"].receptive_field == 32


def test_vgg16():
    rows = rows_of("vgg16")
    most = max(rows.values(), key=lambda row: row.parameters)
    assert most.name == "fc1"
    assert most.parameters > sum(row.parameters for row in rows.values()) / 2
    largest = max(rows.values(), key=lambda row: row.activations)
    assert (largest.block, largest.activations) == ("block1", 224 * 224 * 64)
    for block in ("block1", "block2", "block3", "block4"):
        costs = [row.multiply_adds for row in rows.values() if row.block == block]
        assert 1_849_688_064 in costs


@pytest.mark.parametrize(
    ("name", "layer", "field", "stride"),
    [
        # Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", 2019
        ("alexnet", "pool5", 195, 32),
        ("vgg16", "block5_pool", 212, 32),
        ("mobilenet-1.0", "conv_pw_13_relu", 315, 32),
        ("resnet50", "conv5_block3_out", 483, 32),
        ("resnet101", "conv5_block3_out", 1027, 32),
        ("resnet152", "conv5_block3_out", 1507, 32),
        ("inception-v3", "mixed10", 1311, 32),
    ],
)
def test_published_receptive_fields(name, layer, field, stride):
    row = rows_of(name)[layer]
    assert (row.receptive_field, row.stride) == (field, stride)


def test_blocks_add_up():
    page = backbone_page("resnet50")
    assert [row.name for row in page.blocks] == [
        "stem",
        *(f"stage{i}" for i in range(1, 5)),
        "head",
    ]
    assert sum(row.parameters for row in page.blocks) == page.entry.preset.parameters
    assert sum(row.multiply_adds for row in page.blocks) == page.entry.preset.multiply_adds
    assert sum(row.layers for row in page.blocks) == len(page.layers)
    assert page.blocks[-1].taps == ("logits",)


def test_other_size():
    rows = rows_of("resnet50", input_size="160x224")
    assert rows["conv5_block3_out"].output_shape == (5, 7, 2048)


def test_table_is_kept_and_damage_is_repaired(monkeypatch, own_caches):
    first = backbone_page("cifar-resnet32")
    monkeypatch.setattr("tltool.backbones.build.build_network", lambda *a: pytest.fail("built"))
    assert backbone_page("cifar-resnet32").layers == first.layers
    monkeypatch.undo()
    (kept,) = (own_caches / "layers").glob("cifar-resnet32-32x32-*")
    kept.write_text("[{")
    assert backbone_page("cifar-resnet32").layers == first.layers
    assert layers_module.layer_table(first.entry.preset, (32, 32)) == first.layers
