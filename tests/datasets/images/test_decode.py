import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hushsweep.datasets.images import Geometry
from hushsweep.datasets.images.decode import decode

GREY, COLOUR = Geometry(channels=1), Geometry(channels=3)
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
SCENE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)  # not square, no two pixels alike


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 / height, columns * 255 / width, 255 - rows * 200 / height], -1).astype(
        np.uint8
    )


def png(colour_type, depth, rows, extra=b""):
    """A PNG written by hand, since Pillow cannot write 16-bit colour."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    height, width = rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_colour_is_channel_height_width():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(SCENE)), COLOUR), SCENE.transpose(2, 0, 1))


def test_greyscale_file_gives_three_equal_channels():
    found = decode(encoded(Image.fromarray(RAMP)), COLOUR)
    np.testing.assert_array_equal(found, np.stack([RAMP] * 3))


def test_colour_file_gives_luma():
    expected = SCENE @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decode(encoded(Image.fromarray(SCENE)), GREY)[0], expected, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_undone(orientation, kind):
    upright = Image.fromarray(smooth(24, 40))
    # How a camera stores an upright scene: the inverse of the operation that each orientation asks for.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = upright if stored is None else upright.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(image, kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {})), COLOUR)
    np.testing.assert_allclose(found.transpose(1, 2, 0), np.asarray(upright), atol=12)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_invalid_orientation_leaves_the_image(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(SCENE), exif=exif)
    np.testing.assert_array_equal(decode(content, COLOUR), SCENE.transpose(2, 0, 1))


def test_a_damaged_exif_block_leaves_the_image():
    content = encoded(Image.fromarray(smooth(16, 16)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f broken")
    assert decode(content, COLOUR).shape == (3, 16, 16)


def test_cmyk_jpeg_has_the_colours_of_its_rgb():
    scene = Image.fromarray(smooth(32, 32))
    found = decode(encoded(scene.convert("CMYK"), "JPEG", quality=98, subsampling=0), COLOUR)
    np.testing.assert_allclose(found.transpose(1, 2, 0), np.asarray(scene), atol=12)


@pytest.mark.parametrize("geometry", [GREY, COLOUR])
def test_sixteen_bit_grey_keeps_its_full_range(geometry):
    wide = RAMP.astype(">u2") * 257  # 0..65535, exactly the 8-bit ramp
    found = decode(png(0, 16, wide), geometry)
    np.testing.assert_array_equal(found, np.broadcast_to(RAMP, found.shape))


def test_sixteen_bit_grey_tiff_in_both_byte_orders():
    for order in "<>":
        image = Image.fromarray((RAMP.astype(np.uint16) * 257).astype(order + "u2"))
        np.testing.assert_array_equal(decode(encoded(image, "TIFF"), GREY)[0], RAMP)


def test_sixteen_bit_colour_keeps_its_full_range():
    found = decode(png(2, 16, SCENE.astype(">u2") * 257), COLOUR)
    np.testing.assert_array_equal(found, SCENE.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused_not_clipped(mode):
    image = Image.fromarray(RAMP.astype(np.int32 if mode == "I" else np.float32) * 1000)
    assert image.mode == mode
    with pytest.raises(ValueError, match="no agreed black and white"):
        decode(encoded(image, "TIFF"), GREY)


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_palette_with_transparency_gives_the_palette_colours(transparency, recwarn):
    image = Image.fromarray(RAMP).convert("P")
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    image.putpalette(palette.tobytes())
    found = decode(encoded(image, transparency=transparency), COLOUR)
    expected = palette[np.asarray(image)]
    np.testing.assert_array_equal(found.transpose(1, 2, 0), expected)
    assert not recwarn.list


def test_transparency_is_dropped_as_by_torchvision():
    alpha = np.full((6, 9, 1), 100, np.uint8)
    content = encoded(Image.fromarray(np.concatenate([SCENE, alpha], -1)))
    np.testing.assert_array_equal(decode(content, COLOUR), SCENE.transpose(2, 0, 1))


def test_black_and_white_becomes_0_and_255():
    image = Image.fromarray(RAMP > 127)
    assert image.mode == "1"
    np.testing.assert_array_equal(decode(encoded(image), GREY)[0], (RAMP > 127) * np.uint8(255))


def test_pixels_in_memory_take_the_same_way():
    geometry = Geometry(channels=1, resize=5, crop=4)
    np.testing.assert_array_equal(decode(SCENE, geometry), decode(encoded(Image.fromarray(SCENE)), geometry))


@pytest.mark.parametrize("kept", [0, 1, 20, 0.5, -40])
def test_truncated_files_are_errors(kept):
    content = encoded(Image.fromarray(smooth(64, 64)), "JPEG")
    kept = int(kept * len(content)) if isinstance(kept, float) else kept
    with pytest.raises((OSError, ValueError, SyntaxError)):
        decode(content[:kept], COLOUR)
