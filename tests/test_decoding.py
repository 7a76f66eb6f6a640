"""One decoder for every kind of file, and every kind of damage named."""

import io
import sys
import zipfile

import numpy as np
import pytest
from conftest import SHARED, needs_shared, picture
from PIL import Image

from tltool.data import UnreadableImageError, canvas, decoding, read_image


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PIXELS = picture(1, (60, 40))
IMAGE = Image.fromarray(PIXELS)


def read(data):
    image = read_image(data)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(format):
    options = {"lossless": True} if format == "WEBP" else {}
    np.testing.assert_array_equal(read(encoded(IMAGE, format, **options)), PIXELS)


@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}, {"optimize": True}],
    ids=str,
)
def test_jpeg_is_bit_equal_to_pillow(options):
    data = encoded(IMAGE, "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(read(data), expected)


def test_grey_jpeg_is_bit_equal_to_pillow():
    data = encoded(IMAGE.convert("L"), "JPEG")
    np.testing.assert_array_equal(
        read(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )


@needs_shared("data/cifar10_jpeg.zip")
def test_real_jpegs_are_bit_equal_to_pillow():
    with zipfile.ZipFile(SHARED / "data" / "cifar10_jpeg.zip") as files:
        names = [n for n in files.namelist() if n.endswith(".jpg")][::2000]
        for name in names:
            data = files.read(name)
            np.testing.assert_array_equal(read(data), np.asarray(Image.open(io.BytesIO(data))))


def test_cmyk_jpeg():
    data = encoded(IMAGE.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read(data).astype(int) - PIXELS).mean() < 4


def test_palette_and_gif_give_the_first_frame():
    frames = [IMAGE.quantize(64), Image.new("P", IMAGE.size)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(read(data).astype(int) - PIXELS).mean() < 8
    assert np.abs(read(encoded(IMAGE.quantize(64), "PNG")).astype(int) - PIXELS).mean() < 8


def test_alpha_is_laid_on_white():
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:20] = 255
    data = encoded(Image.fromarray(np.dstack([PIXELS, alpha])), "PNG")
    pixels = read(data)
    np.testing.assert_array_equal(pixels[:20], PIXELS[:20])
    assert (pixels[20:] == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format):
    ramp = np.linspace(0, 65535, 60 * 40).astype(np.uint16).reshape(40, 60)
    pixels = read(encoded(Image.fromarray(ramp), format))
    assert np.abs(pixels[..., 0] - ramp / 257.0).max() <= 0.51
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_real_numbers_outside_0_to_1_are_refused():
    data = encoded(Image.fromarray(np.full((4, 4), 7.0, np.float32)), "TIFF")
    with pytest.raises(UnreadableImageError, match="outside 0 to 1"):
        read_image(data)
    half = encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")
    assert (read(half) == 128).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(IMAGE, format, exif=exif)
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(read(data), np.asarray(expected))
    assert read_image(data).size == ((40, 60) if orientation >= 5 else (60, 40))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (b"<svg xmlns='x'>", "SVG"),
        (b"hello", "is not an image"),
        (encoded(IMAGE, "JPEG")[:600], "is cut short"),
        (encoded(IMAGE, "PNG")[:600], "is cut short"),
        (encoded(IMAGE, "WEBP")[:200], "is damaged|is cut short"),
        (encoded(IMAGE, "JPEG")[:10], "is cut short"),
    ],
    ids=["empty", "html", "svg", "text", "cut jpeg", "cut png", "cut webp", "stub"],
)
def test_unreadable_files_say_why(data, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(data)


def test_decompression_bomb_is_refused_before_it_is_decoded():
    small = encoded(Image.new("1", (8, 8)), "PNG")
    import struct
    import zlib

    header = struct.pack(">II", 60_000, 60_000) + small[24:29]
    bomb = small[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + small[33:]
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        read_image(bomb)


def test_heic_names_the_extra_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImageError, match=r"tltool\[heif\]"):
        read_image(b"\0\0\0\x18ftypheic" + b"\0" * 40)


def test_canvas_is_antialiased_and_whole():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[::2] = 255
    pixels = canvas(encoded(Image.fromarray(stripes), "PNG"), (50, 40))
    assert pixels.shape == (50, 40, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - 127).max() <= 20  # without antialiasing: 127


def test_large_jpegs_are_decoded_smaller_and_look_the_same():
    large = Image.fromarray(picture(3, (2400, 1800)))
    data = encoded(large, "JPEG", quality=95)
    side = decoding.SCALED_DECODING_MARGIN * 32
    assert read_image(data, smallest_side=side).size[1] < 400
    direct = np.asarray(read_image(data).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(canvas(data, (32, 32)) - direct).mean() < 1
