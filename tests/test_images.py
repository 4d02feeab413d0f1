"""Bytes of one file -> Frame: every file ends as a picture or as one of two errors."""

from __future__ import annotations

import io
import os
import socket
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from unmask import images, pixels
from unmask.errors import UnreadableMedia, UnsupportedMedia
from unmask.images import (
    Limits,
    decode,
    file_sha256,
    read_bytes,
    read_frame,
    sha256,
    sniff_kind,
)
from unmask.magic import jpeg_scans
from unmask.pixels import to_rgb
from unmask.types import Frame


def photo(width: int = 97, height: int = 61) -> Image.Image:
    """Smooth colours with some texture, different in each corner; odd sizes on purpose."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    noise = np.random.default_rng(3).normal(0, 12, (height, width))
    red = 40 + 180 * x / width
    green = 200 - 150 * y / height + 30 * np.sin(x / 5)
    blue = 90 + 60 * np.cos((x + 2 * y) / 9)
    rgb = np.stack([red + noise, green + noise, blue - noise], axis=2)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(picture: Image.Image, value: int) -> Image.Exif:
    exif = picture.getexif()
    exif[0x0112] = value
    return exif


def codes(frame: Frame) -> list[str]:
    return [note.code for note in frame.notes]


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def icon(entry_size: int, payload: bytes) -> bytes:
    side = entry_size % 256
    entry = struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(payload), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + payload


# JPEG is decoded as the reference path decodes it


@pytest.mark.parametrize("subsampling", [0, 2], ids=["444", "420"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_pixels_are_those_of_cv2_imread(
    tmp_path: Path, subsampling: int, progressive: bool
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(
        encoded(photo(), "JPEG", quality=83, subsampling=subsampling, progressive=progressive)
    )
    frame, _ = read_frame(path)
    assert np.array_equal(frame.image, cv2.imread(str(path))[:, :, ::-1])


def test_grey_jpeg_is_the_same_as_cv2(tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    path.write_bytes(encoded(photo().convert("L"), "JPEG"))
    assert np.array_equal(read_frame(path)[0].image, cv2.imread(str(path))[:, :, ::-1])


def test_frame_is_rgb_uint8_contiguous_and_writable() -> None:
    image = decode(encoded(photo(), "JPEG", exif=oriented(photo(), 6))).image
    assert image.dtype == np.uint8
    assert image.shape == (97, 61, 3)
    assert image.flags.c_contiguous
    assert image.flags.writeable


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_back_the_pixels(kind: str) -> None:
    assert np.array_equal(decode(encoded(photo(), kind)).image, np.asarray(photo()))


def test_lossless_webp_gives_back_the_pixels() -> None:
    data = encoded(photo(), "WEBP", lossless=True, exact=True)
    assert np.array_equal(decode(data).image, np.asarray(photo()))


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "GIF"])
def test_lossy_formats_give_nearly_the_pixels(kind: str) -> None:
    image = decode(encoded(photo(), kind)).image
    assert np.abs(image.astype(int) - np.asarray(photo())).mean() < 12


def test_single_pixel_is_a_picture() -> None:
    assert decode(encoded(photo(1, 1), "PNG")).image.shape == (1, 1, 3)


# orientation

UNTURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera stored: the upright picture turned so that the orientation turns it back."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_applied(kind: str, value: int) -> None:
    stored = photo().transpose(UNTURN[value]) if value in UNTURN else photo()
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encoded(stored, kind, exif=oriented(photo(), value), **options)
    assert np.array_equal(decode(data).image, np.asarray(photo()))


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_of_jpeg_is_that_of_cv2(tmp_path: Path, value: int) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(photo(), "JPEG", exif=oriented(photo(), value)))
    assert np.array_equal(read_frame(path)[0].image, cv2.imread(str(path))[:, :, ::-1])


def test_xmp_orientation_is_applied() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="3"></x:xmpmeta>')
    data = encoded(photo().transpose(Image.Transpose.ROTATE_180), "PNG", pnginfo=info)
    assert np.array_equal(decode(data).image, np.asarray(photo()))


def test_unknown_orientation_leaves_the_picture_as_it_is() -> None:
    data = encoded(photo(), "PNG", exif=oriented(photo(), 99))
    assert np.array_equal(decode(data).image, np.asarray(photo()))


def test_damaged_exif_leaves_the_picture_and_is_noted() -> None:
    data = encoded(photo(), "PNG", exif=b"Exif\x00\x00XX*\x00\xff\xff\xff\xff")
    frame = decode(data)
    assert np.array_equal(frame.image, np.asarray(photo()))
    assert codes(frame) == ["metadata_ignored"]


# colours


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_dropped_and_the_stored_colors_stay(kind: str) -> None:
    picture = photo()
    picture.putalpha(Image.new("L", picture.size, 0))
    assert np.array_equal(decode(encoded(picture, kind)).image, np.asarray(photo()))


def test_alpha_is_dropped_as_cv2_does(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    picture = photo()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(path)
    assert np.array_equal(read_frame(path)[0].image, cv2.imread(str(path))[:, :, ::-1])


def test_grey_with_alpha_becomes_three_equal_channels() -> None:
    image = decode(encoded(photo().convert("LA"), "PNG")).image
    grey = np.asarray(photo().convert("L"))
    assert np.array_equal(image, np.stack([grey] * 3, axis=2))


def test_palette_with_alpha_gives_the_palette_colors_without_a_warning() -> None:
    palette = photo().quantize(16)
    data = encoded(palette, "PNG", transparency=bytes(range(16)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = decode(data).image
    assert np.array_equal(image, np.asarray(palette.convert("RGB")))
    assert caught == []


def test_one_bit_becomes_black_and_white() -> None:
    assert set(np.unique(decode(encoded(photo().convert("1"), "PNG")).image)) == {0, 255}


def test_cmyk_is_converted_as_pillow_does_and_not_inverted() -> None:
    image = decode(encoded(photo().convert("CMYK"), "TIFF")).image
    assert np.array_equal(image, np.asarray(photo()))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_divided_by_257(kind: str) -> None:
    wide = np.array([[0, 128, 129, 257, 32896, 65406, 65407, 65535]], np.uint16)
    frame = decode(encoded(Image.fromarray(wide), kind))
    assert frame.image[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]
    assert codes(frame) == ["reduced_to_8_bits"]


def test_16_bit_color_keeps_the_high_bytes_and_says_so() -> None:
    wide = np.array([[[1000, 30000, 65535]]], np.uint16)
    done, png = cv2.imencode(".png", wide[:, :, ::-1])
    assert done
    frame = decode(png.tobytes())
    assert frame.image.tolist() == [[[1000 >> 8, 30000 >> 8, 255]]]
    assert codes(frame) == ["reduced_to_8_bits"]


def test_32_bit_integers_beyond_16_bits_are_unsupported() -> None:
    data = encoded(Image.fromarray(np.array([[0, 65536]], np.int32)), "TIFF")
    with pytest.raises(UnsupportedMedia, match="0 to 65536") as caught:
        decode(data)
    assert caught.value.code == "unsupported_pixels"


def test_16_bit_grey_of_either_byte_order_is_the_same() -> None:
    wide = np.array([[0, 257, 32896, 65535]], np.uint16)
    big = encoded(Image.fromarray(wide.astype(">u2")), "TIFF")
    assert big.startswith(b"MM")
    assert decode(big).image[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_picture_converted_in_bands_is_that_converted_at_once(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257)
    else:
        picture = photo().convert(mode)
    whole = to_rgb(picture, "x", [])
    assert np.array_equal(whole, np.asarray(photo().convert("L" if mode == "I;16" else mode)
                                            .convert("RGB")))  # fmt: skip
    monkeypatch.setattr(pixels, "_BAND_PIXELS", 300)  # three rows
    assert np.array_equal(to_rgb(picture, "x", []), whole)


def test_pictures_wider_than_a_band_are_converted_row_by_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixels, "_BAND_PIXELS", 10)
    assert np.array_equal(decode(encoded(photo(), "PNG")).image, np.asarray(photo()))


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_pixels_without_a_rule_are_unsupported_with_a_remedy(mode: str) -> None:
    picture = Image.new(mode, (4, 4))
    with pytest.raises(UnsupportedMedia, match=f"mode {mode}.*8-bit RGB PNG") as caught:
        decode(encoded(picture, "TIFF"))
    assert caught.value.code == "unsupported_pixels"


# several pictures in one file


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_first_of_several_pictures_is_taken_and_noted(kind: str) -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    frame = decode(encoded(first, kind, save_all=True, append_images=[second]))
    assert frame.image[16, 16, 0] > 240 > 20 > frame.image[16, 16, 2]
    assert codes(frame) == ["first_frame_of_animation"]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "JPEG", "AVIF"])
def test_a_plain_picture_has_no_notes(kind: str) -> None:
    assert codes(decode(encoded(photo(), kind))) == []


def test_layers_of_a_psd_are_no_further_pictures() -> None:
    header = b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, 2, 2, 8, 3)
    layer = bytes(16) + struct.pack(">H", 0) + b"8BIMnorm" + bytes(4) + struct.pack(">I", 0)
    layers = struct.pack(">h", 2) + 2 * layer
    section = struct.pack(">I", len(layers)) + layers
    pixels = struct.pack(">H", 0) + bytes([10] * 4 + [20] * 4 + [30] * 4)
    data = header + bytes(8) + struct.pack(">I", len(section)) + section + pixels
    frame = decode(data)
    assert frame.image[0, 0].tolist() == [10, 20, 30]
    assert codes(frame) == []


# damaged bytes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM"])
def test_truncated_file_is_unreadable(kind: str) -> None:
    data = encoded(photo(), kind)
    with pytest.raises(UnreadableMedia) as caught:
        decode(data[: len(data) * 2 // 3], name="cut.img")
    assert caught.value.code in {"truncated", "damaged"}
    assert "cut.img" in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cut_jpeg_and_png_say_truncated(kind: str) -> None:
    data = encoded(photo(), kind)
    with pytest.raises(UnreadableMedia, match="cut short") as caught:
        decode(data[: len(data) * 2 // 3])
    assert caught.value.code == "truncated"


def test_a_header_alone_is_damaged_and_the_message_is_always_the_same() -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(UnreadableMedia) as caught:
            decode(b"\x89PNG\r\n\x1a\n" + bytes(40))
        assert caught.value.code == "damaged"
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "0x" not in messages[0]


def test_whatever_the_decoder_raises_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(images.PillowImage, "open", explode)
    with pytest.raises(UnreadableMedia, match="MemoryError"):
        decode(encoded(photo(), "PNG"))


def test_picture_without_pixels_is_unreadable() -> None:
    with pytest.raises(UnreadableMedia):
        decode(png_header(0, 5))


def test_zero_width_that_pillow_lets_through_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.PillowImage, "open", lambda *_, **__: Image.new("RGB", (0, 5)))
    with pytest.raises(UnreadableMedia, match="0x5 pixels"):
        decode(encoded(photo(), "PNG"))


def corrupted(kind: str) -> st.SearchStrategy[bytes]:
    data = encoded(photo(40, 30), kind)
    flips = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)), max_size=12)

    def apply(args: tuple[list[tuple[int, int]], int]) -> bytes:
        changed = bytearray(data)
        for at, mask in args[0]:
            changed[at] ^= mask
        return bytes(changed[: args[1]])

    return st.tuples(flips, st.integers(0, len(data))).map(apply)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "ICO"])
def test_any_corruption_gives_a_frame_or_one_of_two_errors(kind: str) -> None:
    @settings(max_examples=250, deadline=None, derandomize=True, database=None)
    @given(corrupted(kind))
    def check(data: bytes) -> None:
        try:
            image = decode(data, Limits(max_pixels=4_000_000)).image
        except (UnreadableMedia, UnsupportedMedia):
            return
        assert image.ndim == 3
        assert image.dtype == np.uint8

    check()


# limits


@pytest.mark.parametrize("size", [(11000, 10000), (60000, 60000)])
def test_too_many_pixels_are_refused_from_the_header_without_a_warning(
    size: tuple[int, int],
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(UnsupportedMedia) as error:
            decode(png_header(*size))
    assert error.value.code == "too_many_pixels"
    assert caught == []


def test_warnings_as_errors_change_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnsupportedMedia, match="11000x10000"):
            decode(png_header(11000, 10000))


def test_max_pixels_is_the_number_that_is_still_allowed() -> None:
    data = encoded(photo(10, 10), "PNG")
    assert decode(data, Limits(max_pixels=100)).image.shape == (10, 10, 3)
    with pytest.raises(UnsupportedMedia, match="limit of 99"):
        decode(data, Limits(max_pixels=99))


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there ``count`` times more."""
    data = encoded(photo(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + count * data[last:-2] + data[-2:]


def test_scans_are_counted_as_they_stand_in_the_file() -> None:
    plain = encoded(photo(), "JPEG")
    assert jpeg_scans(plain) == 1
    assert jpeg_scans(scans(90)) == jpeg_scans(scans(0)) + 90


def test_the_bytes_of_a_marker_in_a_comment_or_behind_the_end_are_no_scan() -> None:
    data = encoded(photo(), "JPEG", comment=200 * b"\xff\xda") + 200 * b"\xff\xda"
    assert data.count(b"\xff\xda") == 401
    assert jpeg_scans(data) == 1
    assert codes(decode(data)) == []


@pytest.mark.parametrize("end", [2, 4, 200])
def test_scans_of_a_cut_file_are_counted_as_far_as_it_goes(end: int) -> None:
    assert jpeg_scans(encoded(photo(), "JPEG")[:end]) == 0


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(UnsupportedMedia, match=r"a JPEG of 2,\d+ scans, more than") as caught:
        decode(scans(2000))
    assert caught.value.code == "too_many_scans"


def test_a_large_picture_of_numbers_in_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"P3 1 1 255 1 2 3 "
    assert decode(data).image.tolist() == [[[1, 2, 3]]]
    monkeypatch.setattr(images, "_MAX_PLAIN_BYTES", 16)
    with pytest.raises(UnsupportedMedia, match="a plain-text P3 picture of 17 bytes") as caught:
        decode(data)
    assert caught.value.code == "file_too_large"


@pytest.mark.parametrize(("largest_small", "most"), [(100, 1), (10**6, 3)])
def test_large_pictures_are_decoded_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, largest_small: int, most: int
) -> None:
    monkeypatch.setattr(images, "_LARGE_PIXELS", largest_small)
    inside, seen, real = [], [], images._to_frame

    def watched(*arguments: object) -> Frame:
        inside.append(1)
        time.sleep(0.05)
        seen.append(len(inside))
        frame = real(*arguments)  # type: ignore[arg-type]
        inside.pop()
        return frame

    monkeypatch.setattr(images, "_to_frame", watched)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(decode, 3 * [encoded(photo(), "PNG")]))
    assert max(seen) == most


def test_a_pixel_of_jpeg_2000_counts_as_two() -> None:
    data = encoded(photo(10, 10), "JPEG2000")
    assert decode(data, Limits(max_pixels=200)).image.shape == (10, 10, 3)
    with pytest.raises(UnsupportedMedia, match=r"10x10 pixels \(each of JPEG 2000 counts as two"):
        decode(data, Limits(max_pixels=199))


def test_pillow_settings_stay_as_they_are() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnsupportedMedia):
        decode(png_header(60000, 60000))
    assert before == Image.MAX_IMAGE_PIXELS


def test_threads_decode_alike() -> None:
    data = [encoded(photo(), "JPEG", quality=quality) for quality in range(60, 92, 4)]
    expected = [decode(one).image for one in data]
    with ThreadPoolExecutor(8) as pool:
        got = [frame.image for frame in pool.map(decode, data * 4)]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected * 4, strict=True))


# icons


def test_icon_with_png_gives_its_largest_picture() -> None:
    assert decode(encoded(photo(64, 64), "ICO", sizes=[(16, 16), (64, 64)])).image.shape[0] == 64


def test_icon_with_bitmap_gives_its_pixels() -> None:
    data = encoded(photo(32, 32), "ICO", sizes=[(32, 32)], bitmap_format="bmp")
    assert np.array_equal(decode(data).image, np.asarray(photo(32, 32)))


def test_icon_whose_bitmap_is_larger_than_it_says_is_damaged() -> None:
    bitmap = struct.pack("<IiiHHIIiiII", 40, 12000, 24000, 1, 32, 0, 0, 0, 0, 0, 0) + bytes(4096)
    with pytest.raises(UnreadableMedia, match="16x16, its bitmap 12000x12000"):
        decode(icon(16, bitmap))


def test_icon_with_a_huge_png_is_refused_from_the_header() -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        decode(icon(16, png_header(11000, 10000)))
    assert caught.value.code == "too_many_pixels"


@pytest.mark.parametrize("data", [struct.pack("<HHH", 0, 1, 0), icon(16, b"tiny")])
def test_icon_without_a_picture_is_damaged(data: bytes) -> None:
    with pytest.raises(UnreadableMedia) as caught:
        decode(data)
    assert caught.value.code == "damaged"


# what is no picture

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(64)
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)
M4A = b"\x00\x00\x00\x14ftypM4A \x00\x00\x00\x00M4A " + bytes(64)


@pytest.mark.parametrize(
    "data",
    [
        MP4,
        b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat",
        b"\x1a\x45\xdf\xa3" + bytes(16),
        b"RIFF\x00\x00\x00\x00AVI LIST",
        (b"G" + bytes(187)) * 3,
    ],
    ids=["mp4", "mov", "webm", "avi", "ts"],
)
def test_video_is_unsupported_and_says_that_videos_are_not_scored_yet(data: bytes) -> None:
    assert sniff_kind(data, Path("clip.bin")) == "video"
    with pytest.raises(UnsupportedMedia, match="Videos are not scored yet") as caught:
        decode(data)
    assert caught.value.code == "video_not_supported"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"just some text", "no known picture format"),
        (b"BMW and other cars, a text", "no known picture format"),
        (HEIC, "HEIC"),
        (b"<?xml version='1.0'?><svg></svg>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no known picture format"),
    ],
)
def test_other_content_is_unsupported_and_named(data: bytes, words: str) -> None:
    assert sniff_kind(data, Path("a.jpg")) == "other"
    with pytest.raises(UnsupportedMedia, match=words) as caught:
        decode(data)
    assert caught.value.code == "unsupported_format"


def test_bytes_decide_on_the_kind_and_not_the_name() -> None:
    assert sniff_kind(encoded(photo(), "JPEG"), Path("clip.mp4")) == "image"


def test_name_tells_sound_from_video_where_the_container_is_shared() -> None:
    ogg = b"OggS" + bytes(30)
    assert sniff_kind(ogg, Path("a.ogv")) == "video"
    assert sniff_kind(ogg, Path("a.opus")) == "other"
    assert sniff_kind(M4A, Path("a")) == "other"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.JPG", "image"), ("a.mov", "video"), ("a.txt", "other")]
)
def test_without_bytes_the_name_alone_decides(name: str, kind: str) -> None:
    assert sniff_kind(b"", Path(name)) == kind


# reading


def test_read_frame_gives_the_hash_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(), "PNG"))
    assert read_frame(path)[1] == sha256(path.read_bytes()) == file_sha256(path)


def test_sha256_is_the_published_one_of_abc() -> None:
    assert sha256(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_empty_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UnreadableMedia, match="empty") as caught:
        read_bytes(tmp_path / "a.jpg")
    assert caught.value.code == "empty_file"


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="No such file") as caught:
        read_frame(tmp_path / "a.jpg")
    assert caught.value.code == "unreadable"


def test_name_with_a_nul_is_unreadable() -> None:
    with pytest.raises(UnreadableMedia):
        read_bytes(Path("a\x00.jpg"))


def test_file_over_the_limit_is_unsupported_and_still_has_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x" * 11)
    assert read_bytes(path, Limits(max_bytes=11)) == b"x" * 11
    with pytest.raises(UnsupportedMedia, match="11 bytes, more than the limit of 10") as caught:
        read_bytes(path, Limits(max_bytes=10))
    assert caught.value.code == "file_too_large"
    assert file_sha256(path) == sha256(b"x" * 11)


def test_file_that_grows_while_it_is_read_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"longer than it said")
    real = os.fstat

    def stale(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor))
        fields[6] = 5  # st_size
        return os.stat_result(fields)

    monkeypatch.setattr(images.os, "fstat", stale)
    with pytest.raises(UnreadableMedia, match="changed while it was read"):
        read_bytes(path)


def test_pipe_is_unsupported_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UnsupportedMedia, match="pipe") as caught:
        read_bytes(tmp_path / "a.jpg")
    assert caught.value.code == "not_a_file"


def test_file_exchanged_for_a_pipe_before_it_is_opened_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "was").write_bytes(b"regular")
    regular = (tmp_path / "was").stat()
    monkeypatch.setattr(Path, "stat", lambda self, **_: regular)
    with pytest.raises(UnsupportedMedia, match="pipe"):
        read_bytes(tmp_path / "a.jpg")


def test_socket_is_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("a.jpg")
        with pytest.raises(UnsupportedMedia):
            file_sha256(Path("a.jpg"))


def test_directory_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="a directory") as caught:
        read_bytes(tmp_path)
    assert caught.value.code == "not_a_file"
