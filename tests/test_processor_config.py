"""Processors of convolutional classifiers and of other transformers than CLIP."""

import numpy as np
import pytest
from PIL import Image as PillowImage
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import (
    EfficientNetImageProcessorPil,
)

from unmask.errors import ConfigError
from unmask.preprocess import Preprocess

SIZES = [(224, 224), (301, 217), (217, 301), (64, 65), (33, 200)]
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PROCESSORS = {
    "convnext below 384": ConvNextImageProcessorPil(size={"shortest_edge": 224}, **IMAGENET),
    "convnext with another share": ConvNextImageProcessorPil(
        size={"shortest_edge": 64}, crop_pct=0.95
    ),
    "convnext from 384 on": ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    "beit": BeitImageProcessorPil(),
    "deit without its crop": DeiTImageProcessorPil(
        size={"height": 224, "width": 224}, do_center_crop=False
    ),
    "deit with a crop of all": DeiTImageProcessorPil(size={"height": 224, "width": 224}),
    "efficientnet": EfficientNetImageProcessorPil(size={"height": 96, "width": 96}, **IMAGENET),
    "efficientnet without its top": EfficientNetImageProcessorPil(
        size={"height": 96, "width": 96}, include_top=False
    ),
    "efficientnet from -1 to 1": EfficientNetImageProcessorPil(
        size={"height": 96, "width": 96},
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        include_top=False,
        **IMAGENET,
    ),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PROCESSORS)
def test_a_published_processor_is_matched_within_one_grey_level(name, size):
    processor = PROCESSORS[name]
    ours = Preprocess.from_processor_config(processor.to_dict())
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = processor(PillowImage.fromarray(image), return_tensors="np")["pixel_values"][0]
    level = 1 / (255 * np.asarray(ours.std, dtype=np.float64))[:, None, None]
    assert ours(image).shape == theirs.shape
    assert (np.abs(ours(image).astype(np.float64) - theirs) <= level * 1.001 + 1e-4).all()


def test_a_bare_integer_size_is_convnexts_shortest_edge():
    config = {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875}
    assert Preprocess.from_processor_config(config) == Preprocess(
        224, 224, "shortest_edge", "bicubic", (0.5,) * 3, (0.5,) * 3, 256
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"height": 224, "width": 224}}, "shortest_edge and crop_pct were expected"),
        ({"do_center_crop": True}, "do_center_crop = True is not supported"),
        ({"crop_pct": 0}, "crop_pct = 0.0 is not a share"),
        ({"crop_pct": 1.5}, "crop_pct = 1.5 is not a share"),
        ({"crop_pct": "all"}, "crop_pct = 'all' must be a number"),
        ({"include_top": True}, "include_top = True is not understood"),
    ],
)
def test_a_convnext_processor_of_another_form_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        Preprocess.from_processor_config(
            {"image_processor_type": "ConvNextImageProcessor"} | config
        )


def test_deits_crop_of_a_squashed_picture_is_refused():
    with pytest.raises(ConfigError, match="both sides fixed"):
        Preprocess.from_processor_config(DeiTImageProcessorPil().to_dict())


def test_a_share_belongs_to_convnext_alone():
    config = {"image_processor_type": "ViTImageProcessor", "crop_pct": 0.9}
    with pytest.raises(ConfigError, match=r"crop_pct = 0\.9 is not understood"):
        Preprocess.from_processor_config(config)
