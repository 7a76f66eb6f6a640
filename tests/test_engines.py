"""Keras and OpenVINO as engines; tests/test_backbones.py compares them on every preset."""

import numpy as np
import pytest
from conftest import lively

from tltool import Backbone
from tltool._presets import views
from tltool.backbones.views import views_model
from tltool.features import make_engine


def test_compiled_copy_needs_no_network():
    model = Backbone("cifar-resnet20").model
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    first = make_engine("openvino", "test-again", lambda: model)(pixels)
    again = make_engine("openvino", "test-again", lambda: pytest.fail("built again"))
    np.testing.assert_array_equal(again(pixels), first)


def test_damaged_copy_is_made_again(own_caches):
    model = Backbone("cifar-resnet20").model
    make_engine("openvino", "test-damaged", lambda: model)
    (copy,) = (own_caches / "openvino").glob("test-damaged-*/model.xml")
    copy.write_text("<damaged")
    make_engine("openvino", "test-damaged", lambda: model)(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("engine", ["keras", "openvino"])
@pytest.mark.parametrize("name", ["cifar-resnet20", "resnet50"])
def test_bfloat16_is_another_precision(engine, name):
    backbone = Backbone(name, None if name == "cifar-resnet20" else "none")
    if name != "cifar-resnet20":
        lively(backbone.network)
    size = backbone.input_size
    pixels = np.random.default_rng(2).integers(0, 256, (4, *size, 3), np.uint8)
    exact_engine = make_engine(engine, f"bf16-{name}", lambda: backbone.model)
    exact = exact_engine(pixels)
    rough = make_engine(engine, f"bf16-{name}", lambda: backbone.model, "bfloat16")(pixels)
    assert rough.dtype == np.float32
    assert np.abs(rough - exact).max() / np.abs(exact).max() < 0.3
    np.testing.assert_array_equal(exact_engine(pixels), exact)  # it did not change the other


def test_bfloat16_reaches_the_network_inside_of_views():
    backbone, two = Backbone("cifar-resnet20"), views("2")
    pixels = np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3), np.uint8)
    exact, rough = (
        make_engine("keras", "bf16-views", lambda: views_model(backbone.model, two, (32, 32)), p)
        for p in ("float32", "bfloat16")
    )
    apart = np.abs(rough(pixels) - exact(pixels)).max() / np.abs(exact(pixels)).max()
    assert 1e-4 < apart < 0.3


def test_openvino_sends_nothing():
    """The converter's makers get no event: sockets are blocked while it is imported."""
    import subprocess
    import sys

    code = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = refuse; socket.create_connection = refuse\n"
        "from tltool.features.openvino_engine import _import_openvino\n"
        "_import_openvino()\n"
        "import sys, threading\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
