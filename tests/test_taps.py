"""How feature layers are named."""

import numpy as np
import pytest

from tltool import Backbone, TltoolError
from tltool._presets import backbone_preset
from tltool.backbones.pooling import pool, width
from tltool.backbones.taps import TapPart, parse_taps


def refuse():
    raise AssertionError("the preset knows these names itself")


def parts(name, wanted):
    taps = parse_taps(backbone_preset(name), wanted, refuse)
    return [str(part) for tap in taps for part in tap.parts]


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("vgg16", None, ["block5_pool:avg"]),
        ("vgg16", "decaf5", ["block5_pool:flatten"]),
        ("vgg16", "decaf6,decaf7,logits", ["fc1:flatten", "fc2:flatten", "predictions:flatten"]),
        ("alexnet", None, ["fc6:flatten"]),
        ("resnet50", "stage4:max", ["conv5_block3_out:max"]),
        ("resnet50", ["stage3", "avgpool:avg+max"], None),
        ("inception-v3", " mixed7 , avgpool ", ["mixed7:avg", "mixed10:avg"]),
        ("mobilenet-0.25", "logits", ["conv_preds:flatten"]),
    ],
)
def test_names_of_the_preset(name, wanted, expected):
    if expected is None:
        expected = ["conv4_block6_out:avg", "conv5_block3_out:avg", "conv5_block3_out:max"]
    assert parts(name, wanted) == expected


def test_names_of_keras():
    backbone = Backbone("mobilenet-0.25", "none", taps="conv_pw_11,conv_pw_12:max,avgpool")
    assert backbone.parts == (
        TapPart("conv_pw_11", "avg"),
        TapPart("conv_pw_12", "max"),
        TapPart("conv_pw_13_relu", "avg"),
    )
    assert backbone.widths(backbone.parts) == [128, 256, 256]
    assert backbone.model.output_shape == (None, 640)


@pytest.mark.parametrize(
    ("pooling", "n", "starts", "side"),
    [("grid2", 2, [0, 7], 7), ("grid3", 3, [0, 4, 8], 6)],  # of 14x14, the last ones overlap
)
def test_grids_are_averages_over_cells(pooling, n, starts, side):
    activations = np.random.default_rng(0).normal(size=(2, 14, 14, 5)).astype(np.float32)
    found = np.asarray(pool(activations, pooling, "cells"))
    cells = [
        activations[:, top : top + side, left : left + side].mean(axis=(1, 2))
        for top in starts
        for left in starts
    ]
    np.testing.assert_allclose(found, np.concatenate(cells, axis=1), atol=1e-5)
    assert found.shape[1] == width((14, 14, 5), pooling) == n * n * 5


def test_a_grid_has_no_more_cells_than_the_layer():
    activations = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(pool(activations, "grid3", "cells"), [[0, 1, 2, 3, 4, 5]])
    assert width((1, 2, 3), "grid3") == 6


def test_several_poolings_of_one_tap():
    backbone = Backbone("cifar-resnet20", taps="stage2:avg+grid2,stage3:max")
    layer = "stage2_block3_out"
    assert [str(part) for part in backbone.parts[:2]] == [f"{layer}:avg", f"{layer}:grid2"]
    assert backbone.widths(backbone.parts) == [32, 128, 64]
    assert backbone.model.output_shape == (None, 224)
    mirrored = backbone.mirror_order(backbone.parts)
    np.testing.assert_array_equal(mirrored[:32], np.arange(32))
    np.testing.assert_array_equal(mirrored[32:64], np.arange(64, 96))  # top right for top left
    np.testing.assert_array_equal(mirrored[160:], np.arange(160, 224))


def test_two_names_of_one_layer_are_one_part():
    backbone = Backbone("cifar-resnet20", taps="stage3,avgpool")
    assert len(backbone.taps) == 2
    assert backbone.parts == (TapPart("stage3_block3_out", "avg"),)
    assert backbone.model.output_shape == (None, 64)


def test_classification_layers_are_built_only_where_they_are_tapped():
    assert "logits" not in {layer.name for layer in Backbone("cifar-resnet20").network.layers}
    backbone = Backbone("cifar-resnet20", taps="logits")
    assert backbone.taps[0].in_head
    assert backbone.model.output_shape == (None, 10)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("stage9", "did you mean 'stage3'"),
        ("stage1_block1_convl1", "did you mean 'stage1_block1_conv1'"),
        ("stage2:average", "Unknown pooling 'average': did you mean 'avg'"),
        ("avgpool:", "Unknown pooling ''"),
        ("stage2:avg+avg", "names the same twice"),
        ("stage2:avg+grid4", "Unknown pooling 'grid4': did you mean 'grid"),
        ("zzz", "known: avgpool, logits, stage1, stage2, stage3, stem"),
        ("logits:max", "gives one vector an image"),
        ("global_average_pooling:avg", "gives one vector an image"),
        ("avgpool,avgpool", "twice"),
        ("", "names no layer"),
        ("avgpool,,stage1", "names no layer"),
        ([], "names no layer"),
        (3, "given as text"),
    ],
)
def test_names_that_are_wrong(wanted, message):
    with pytest.raises(TltoolError, match=message):
        Backbone("cifar-resnet20", taps=wanted)


def test_operations_can_be_tapped_and_raw_pixels_cannot():
    """Where the width of a CIFAR ResNet doubles, its shortcut is padded by an operation."""
    backbone = Backbone("cifar-resnet20", taps="pad:max,preprocessing")
    assert backbone.model.output_shape == (None, 35)
    with pytest.raises(TltoolError, match="no tap or layer 'pixels'"):
        Backbone("cifar-resnet20", taps="pixels")
