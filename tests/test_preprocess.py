import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from unmask.errors import ConfigError
from unmask.preprocess import Preprocess
from unmask.processor_config import CLIP_MEAN, CLIP_STD

SIZES = [(224, 224), (301, 217), (217, 301), (64, 65), (33, 200), (640, 481), (225, 224), (1, 7)]
PROCESSORS = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
    "ViTImageProcessor": ViTImageProcessorPil,
    "SiglipImageProcessor": SiglipImageProcessorPil,
}


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def theirs(processor, image):
    return processor(PillowImage.fromarray(image), return_tensors="np")["pixel_values"][0]


def assert_within_one_level(ours, expected, std):
    level = 1 / (255 * np.asarray(std, dtype=np.float64))[:, None, None]
    assert ours.shape == expected.shape
    assert (np.abs(ours.astype(np.float64) - expected) <= level * 1.001 + 1e-5).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_published_processor_is_matched_within_one_grey_level(kind, size):
    processor = PROCESSORS[kind]()
    ours = Preprocess.from_processor_config(processor.to_dict())
    image = picture(*size)
    assert_within_one_level(ours(image), theirs(processor, image), ours.std)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(5, 400),
    width=st.integers(5, 400),
    edge=st.integers(16, 80),
    crop=st.integers(10, 90),
    resample=st.sampled_from([0, 1, 2, 3]),
)
def test_any_edge_and_crop_match_the_processor(height, width, edge, crop, resample):
    config = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": edge},
        "crop_size": {"height": crop, "width": crop + 3},
        "resample": resample,
    }
    ours = Preprocess.from_processor_config(config)
    image = picture(height, width)
    given_ = {key: value for key, value in config.items() if key != "image_processor_type"}
    expected = theirs(CLIPImageProcessorPil(**given_), image)
    if resample == 0:
        # A nearest sample at an exact tie may fall on either neighbour: compare in the mean.
        different = np.abs(ours(image) - expected).max(axis=0) > 0.02
        assert different.mean() < 0.2
        return
    assert_within_one_level(ours(image), expected, ours.std)


def test_cv2_linear_is_exactly_the_reference_formula():
    image = picture(301, 217)
    scaled = cv2.resize(image, (224, 224), interpolation=cv2.INTER_LINEAR)
    preprocess = Preprocess.effort()
    assert np.array_equal(preprocess.resize(image), scaled)
    mean, std = np.float32(CLIP_MEAN), np.float32(CLIP_STD)
    expected = ((scaled.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(preprocess(image), expected, atol=1e-6)


def test_cv2_linear_with_a_centre_crop_crops_what_cv2_gives():
    preprocess = Preprocess(20, 20, "shortest_edge", "cv2_linear", shortest_edge=30)
    image = picture(60, 90)
    whole = cv2.resize(image, (45, 30), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(preprocess.resize(image), whole[5:25, 12:32])


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess.openai_clip(),
        Preprocess(96, 80, "squash", "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        Preprocess(64, 64, "none", "bicubic"),
        Preprocess(224, 224, "squash", "lanczos"),
    ],
)
def test_the_written_processor_file_makes_transformers_do_the_same(preprocess):
    config = preprocess.to_processor_config()
    config.pop("image_processor_type")
    image = picture(150, 100)
    expected = theirs(CLIPImageProcessorPil(**config), image)
    assert_within_one_level(preprocess(image), expected, preprocess.std)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess.openai_clip(336),
        Preprocess(96, 80, "squash", "nearest"),
        Preprocess(9, 8, "none"),
    ],
)
def test_the_written_processor_file_reads_back(preprocess):
    config = preprocess.to_processor_config()
    back = Preprocess.from_processor_config(config)
    assert back.to_processor_config() == config


def test_cv2_linear_is_written_as_the_nearest_that_transformers_has():
    preprocess = Preprocess.effort()
    config = preprocess.to_processor_config()
    config.pop("image_processor_type")
    image = picture(224, 224)
    assert_within_one_level(
        preprocess(image), theirs(CLIPImageProcessorPil(**config), image), preprocess.std
    )


def test_a_dictionary_holds_every_field():
    preprocess = Preprocess(96, 80, "shortest_edge", "cv2_linear", shortest_edge=100)
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess


def test_a_batch_is_normalised_as_its_pictures_are():
    preprocess = Preprocess.effort(32)
    images = np.stack([preprocess.resize(picture(50, 40, seed)) for seed in range(3)])
    batch = preprocess.normalize(images)
    assert batch.shape == (3, 3, 32, 32)
    assert batch.dtype == np.float32
    for image, pixels in zip(images, batch, strict=True):
        assert np.array_equal(preprocess.normalize(image[None])[0], pixels)


def test_a_small_picture_is_surrounded_by_zeros():
    preprocess = Preprocess(8, 9, "none")
    resized = preprocess.resize(np.full((4, 4, 3), 200, np.uint8))
    assert resized.shape == (8, 9, 3)
    assert (resized == 200).all(axis=2).sum() == 16
    assert resized[0].max() == 0


def test_an_extreme_aspect_costs_no_memory_for_what_is_cut_away():
    # The whole scaled picture would have 224 x 22,400,000 pixels.
    resized = Preprocess.openai_clip().resize(np.full((1, 100_000, 3), 9, np.uint8))
    assert resized.shape == (224, 224, 3)
    assert (resized == 9).all()


def test_the_old_openai_file_is_understood():
    config = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
        "resample": 3,
        "size": 224,
    }
    assert Preprocess.from_processor_config(config) == Preprocess.openai_clip()


def test_a_processor_file_of_transformers_5_is_understood():
    config = {
        "image_processor": CLIPImageProcessorPil().to_dict(),
        "processor_class": "CLIPProcessor",
    }
    assert Preprocess.from_processor_config(config) == Preprocess.openai_clip()


@pytest.mark.parametrize("suffix", ["", "Fast", "Pil"])
def test_the_variants_of_a_processor_class_are_one(suffix):
    config = {"image_processor_type": f"CLIPImageProcessor{suffix}"}
    assert Preprocess.from_processor_config(config) == Preprocess.openai_clip()


def test_a_bare_integer_size_means_both_sides_for_vit():
    config = {"image_processor_type": "ViTImageProcessor", "size": 96}
    preprocess = Preprocess.from_processor_config(config)
    assert (preprocess.height, preprocess.width, preprocess.resize_rule) == (96, 96, "squash")


def test_dinov3_squashes_with_imagenet_statistics():
    preprocess = Preprocess.from_processor_config(
        {"image_processor_type": "DINOv3ViTImageProcessorFast"}
    )
    assert preprocess.resize_rule == "squash"
    assert preprocess.interpolation == "bilinear"
    assert preprocess.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    "change",
    [
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
    ],
)
def test_switched_off_and_unusual_scaling_is_matched(change):
    ours = Preprocess.from_processor_config(
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, **change}
    )
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32}, **change)
    image = picture(40, 50)
    np.testing.assert_allclose(ours(image), theirs(processor, image), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"image_processor_type": "SamImageProcessor"}, "SamImageProcessor"),
        ({}, "image_processor_type"),
        ({"image_processor_type": "CLIPImageProcessor", "do_pad": True}, "do_pad"),
        ({"image_processor_type": "CLIPImageProcessor", "resample": 5}, "resample"),
        (
            {"image_processor_type": "CLIPImageProcessor", "size": {"longest_edge": 9}},
            "longest_edge",
        ),
        ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": "9"}}, "integer"),
        ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, "size"),
        ({"image_processor_type": "ViTImageProcessor", "do_resize": False}, "do_resize"),
        ({"image_processor_type": "CLIPImageProcessor", "rescale_factor": 0}, "rescale_factor"),
        ({"image_processor_type": "CLIPImageProcessor", "rescale_factor": "x"}, "rescale_factor"),
        ({"image_processor_type": "CLIPImageProcessor", "image_mean": [0.5]}, "image_mean"),
        (
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"height": 256, "width": 256},
            },
            "crop_size",
        ),
    ],
)
def test_a_processor_that_is_not_understood_is_refused_by_name(config, word):
    with pytest.raises(ConfigError, match=word):
        Preprocess.from_processor_config(config)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"height": 0}, "positive"),
        ({"resize_rule": "stretch"}, "resize_rule"),
        ({"interpolation": "area"}, "interpolation"),
        ({"shortest_edge": 9}, "shortest_edge"),
        ({"resize_rule": "shortest_edge", "shortest_edge": 0}, "shortest_edge"),
        ({"std": (0.1, 0.0, 0.1)}, "std"),
        ({"mean": (0.1, float("nan"), 0.1)}, "mean"),
    ],
)
def test_contradicting_fields_are_refused(change, word):
    with pytest.raises(ConfigError, match=word):
        Preprocess(**{"height": 8, "width": 8, **change})


def test_a_dictionary_with_unknown_keys_is_refused():
    values = {**Preprocess.effort().to_dict(), "crop": 3}
    with pytest.raises(ConfigError, match="crop"):
        Preprocess.from_dict(values)


def test_the_description_names_rule_and_size():
    assert "224x224 squash cv2_linear" in Preprocess.effort().describe()
    assert "edge 336 bicubic" in Preprocess.openai_clip(336).describe()
    assert "8x9 centre crop" in Preprocess(8, 9, "none").describe()


def test_preprocess_imports_neither_torch_nor_opencv():
    code = (
        "import sys, unmask.preprocess; print({'torch', 'cv2', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
