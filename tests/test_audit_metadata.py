"""What one file says of itself without a look at what it shows."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from tiny_detectors import noise_image, sample
from unmask.audit.columns import columns_of, name_shape
from unmask.audit.jpeg import compression
from unmask.audit.metadata import Picture, Unread, describe, read_picture
from unmask.images import Limits, decode

PICTURE = PillowImage.fromarray(noise_image(0, (40, 60)))


def file_of(kind="JPEG", picture=PICTURE, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def container(data):
    return describe(data, decode(data).image)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 90, 100])
def test_the_quality_of_an_ijg_encoder_is_found_exactly(quality):
    with PillowImage.open(io.BytesIO(file_of(quality=quality))) as picture:
        found = compression(picture.quantization)
    assert (found.quality, found.misfit) == (quality, 0.0)


def test_tables_of_another_encoder_have_a_misfit():
    found = compression({0: [5] * 64, 1: [9] * 64})
    assert found.misfit > 1


def test_a_grey_jpeg_has_one_table():
    with PillowImage.open(io.BytesIO(file_of(picture=PICTURE.convert("L"), quality=80))) as grey:
        assert compression(grey.quantization).quality == 80


@pytest.mark.parametrize(
    ("option", "name"), [("4:4:4", "4:4:4"), ("4:2:2", "4:2:2"), ("4:2:0", "4:2:0")]
)
def test_the_chroma_subsampling_of_a_jpeg_has_its_usual_name(option, name):
    assert container(file_of(subsampling=option)).subsampling == name


def test_a_grey_jpeg_has_no_chroma():
    assert container(file_of(picture=PICTURE.convert("L"))).subsampling == "grey"


def test_a_progressive_jpeg_is_seen():
    assert container(file_of(progressive=True)).progressive
    assert not container(file_of()).progressive


def test_the_size_is_that_of_the_upright_picture():
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    found = container(file_of(exif=exif))
    assert (found.width, found.height) == (40, 60)


def test_a_png_has_no_jpeg_compression():
    found = container(file_of("PNG"))
    assert (found.format, found.compression, found.subsampling) == ("png", None, "")


def test_alpha_shows_in_the_mode():
    assert container(file_of("PNG", PICTURE.convert("RGBA"))).mode == "RGBA"


def test_the_program_that_wrote_a_file_is_read_from_exif():
    exif = PillowImage.Exif()
    exif[0x0131] = "Camera 1.0"
    found = container(file_of(exif=exif))
    assert (found.software, found.exif_bytes > 0) == ("Camera 1.0", True)


def test_damaged_exif_is_no_error():
    data = file_of(exif=b"Exif\0\0II*\0\xff\xff\xff\xff\0\0")
    assert container(data).software in ("damaged", "")


def test_the_prompt_of_an_image_generator_counts_as_text():
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a portrait, 30 steps")
    assert container(file_of("PNG", pnginfo=text)).text_fields == 1


def test_a_colour_profile_is_measured():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert container(file_of(icc_profile=profile)).icc_bytes == len(profile)


def test_the_density_is_read():
    assert container(file_of(dpi=(300, 300))).density == "300x300"


def test_a_file_that_cannot_be_read_has_a_reason(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(file_of()[:200])
    found = read_picture(sample(path), Limits())
    assert isinstance(found, Unread)
    assert found.reason.code in ("truncated", "damaged")


def test_a_name_is_reduced_to_its_pattern():
    assert name_shape("IMG_0042 (2)") == "a_9 (9)"


def pictures_named(tmp_path, *names):
    found = []
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.save(path)
        found.append(read_picture(sample(path), Limits()))
    assert all(isinstance(each, Picture) for each in found)
    return found


def test_the_folder_that_carries_the_label_is_no_feature(tmp_path):
    one, two = pictures_named(tmp_path, "real/1.png", "fake/1.png")
    assert all(
        column.values[0] == column.values[1] or np.isnan(column.values).all()
        for column in columns_of([one, two])
    )


def test_rare_categories_are_one(tmp_path):
    names = [f"{'_'.join('a' * (i + 1))}.png" for i in range(40)]
    pictures = pictures_named(tmp_path, *names)
    (pattern,) = [column for column in columns_of(pictures) if column.name == "pattern"]
    assert len(pattern.categories) == 33
    assert pattern.categories[-1] == "another"


def test_what_a_png_lacks_is_not_a_number(tmp_path):
    (quality,) = [
        column
        for column in columns_of(pictures_named(tmp_path, "a.png"))
        if column.name == "quality"
    ]
    assert np.isnan(quality.values).all()
