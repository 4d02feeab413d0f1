"""The model of a detector folder: tower, feature, head; a transformers model like any other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from unmask.models.backbone import build_backbone, extract, feature_width
from unmask.models.configuration import DetectorSpec, UnmaskConfig, read_spec, tower_config
from unmask.models.heads import Head

__all__ = ["UnmaskForImageClassification", "assemble"]


class UnmaskForImageClassification(PreTrainedModel):  # type: ignore[misc]  # untyped for mypy
    """Real or fake, as an image classifier with the labels 0 real and 1 fake.

    Args:
        config: Of the detector folder.
        backbone: A tower that is loaded already; a random one is built where it is None.
        head: A head that is there already; a zero one is built where it is None.

    Raises:
        ConfigError: If the configuration is incomplete or contradicts itself.
        IncompatibleWeights: If the tower does not have the feature.
    """

    config_class = UnmaskConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = ("head",)

    def __init__(
        self, config: UnmaskConfig, backbone: nn.Module | None = None, head: Head | None = None
    ) -> None:
        super().__init__(config)
        self.spec = read_spec(config)
        tower = tower_config(self.spec.backbone_config)
        if backbone is None:
            backbone = build_backbone(tower, self.spec.features)
        else:
            for module in backbone.modules():
                # post_init draws new weights for layers that it does not know, such as merged ones.
                module._is_hf_initialized = True  # type: ignore[assignment]  # transformers' mark
        if head is None:
            width = feature_width(tower, self.spec.features)
            shape = self.spec.head
            head = Head(width, shape.outputs, normalize=shape.normalize, fakes=shape.fakes)
        self.backbone = backbone
        self.head = head
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: towers and heads come initialised, and loaded weights must stay."""

    def logit(self, pixel_values: Tensor) -> Tensor:
        """``(B,)`` float32, positive = fake, before the temperature."""
        features = extract(self.backbone, pixel_values, self.spec.features)
        logits: Tensor = self.head(features)
        return logits

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        **_kwargs: Any,  # noqa: ANN401  # transformers passes its own options
    ) -> ImageClassifierOutput:
        """Two logits per picture whose softmax is (p_real, p_fake), at the detector's temperature.

        Args:
            pixel_values: ``(B, 3, H, W)``, preprocessed.
            labels: ``(B,)`` of 0 and 1; adds the cross-entropy as ``loss``.
        """
        scaled = self.logit(pixel_values) / self.spec.temperature
        logits = torch.stack((-scaled / 2, scaled / 2), dim=-1)  # (B, 2)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def assemble(backbone: nn.Module, head: Head, spec: DetectorSpec) -> UnmaskForImageClassification:
    """A model of parts that exist already; nothing is copied.

    ``spec.backbone_config`` must describe ``backbone`` as it is (``backbone.config.to_dict()``).
    """
    model = UnmaskForImageClassification(spec.to_config(), backbone, head)
    model.eval()
    return model
