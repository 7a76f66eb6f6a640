"""How feature layers are named."""

import pytest

from tltool import Backbone, TltoolError
from tltool._presets import backbone_preset
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
