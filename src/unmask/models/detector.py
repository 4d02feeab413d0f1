"""A detector ready for use: model, preprocessing and who it is. ``load`` finds it by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from unmask._device import choose_device, choose_dtype
from unmask.errors import (
    ConfigError,
    IncompatibleWeights,
    UntrainedHead,
    near_names,
)
from unmask.models.adapter import load_adapter
from unmask.models.backbone import feature_width, load_backbone
from unmask.models.builtin import DEFAULT
from unmask.models.checkpoint import load_model
from unmask.models.configuration import (
    BackboneSource,
    DetectorSpec,
    Domain,
    HeadSpec,
    UnmaskConfig,
    WholePictures,
    backbone_config_of,
)
from unmask.models.heads import new_head
from unmask.models.locate import Located, locate, read_preprocess
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.models.published import recognise
from unmask.models.svd import default_cache
from unmask.models.weights import read_config, weights_sha256
from unmask.preprocess import Preprocess
from unmask.types import DetectorRef, FaceSpec, OperatingPoint

__all__ = [
    "Detector",
    "Located",
    "UnmaskForImageClassification",
    "load",
    "locate",
    "read_preprocess",
    "untrained_detector",
]


@dataclass(frozen=True, eq=False)
class Detector:
    """One model on one device, with everything that is needed to trust its answer."""

    model: UnmaskForImageClassification
    config: UnmaskConfig
    preprocess: Preprocess
    ref: DetectorRef
    device: torch.device
    dtype: torch.dtype

    @property
    def domain(self) -> Domain:
        """``face`` where it learnt from aligned faces, ``image`` where from whole pictures."""
        return self.model.spec.domain

    @property
    def face(self) -> FaceSpec | None:
        """How its faces must be cut; ``None`` for a detector of whole pictures."""
        return self.model.spec.face

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """Thresholds with their source; the first is the default. May be empty."""
        return self.model.spec.operating_points

    @property
    def whole_pictures(self) -> WholePictures | None:
        """How logits of whole pictures are read, where a detector of faces learnt from both."""
        return self.model.spec.whole_pictures

    @property
    def config_sha256(self) -> str:
        """SHA-256 of what decides the answer beside the file; see ``docs/detector-folder.md``.

        Where the tower came from, the licence and the records of training and calibration are no
        part of it. The head's weights are: which labels of another's classifier mean fake is
        nowhere else to be seen.
        """
        values = {
            name: getattr(self.config, name)
            for name in ("backbone_config", "features", "head", "preprocess", "domain", "face")
        }
        values["temperature"] = self.model.spec.temperature
        values["operating_points"] = [asdict(point) for point in self.operating_points]
        whole = self.whole_pictures
        if whole is not None:  # without, the hash is that of before there was any
            values["whole_pictures"] = asdict(replace(whole, record={}))
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
        for _, weights in sorted(self.model.head.state_dict().items()):
            digest.update(weights.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """``(B,)`` float32, positive = fake, before the temperature.

        Args:
            images: ``(B, H, W, 3)`` RGB, as ``preprocess.resize`` gives them.

        Raises:
            IncompatibleWeights: If a logit is not finite, as happens beyond float16's range.
        """
        pixels = torch.from_numpy(self.preprocess.normalize(images)).to(self.device)
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = self.model.logit(pixels).float().cpu().numpy()
        if not np.isfinite(logits).all():
            remedy = "use --dtype float32 or bfloat16"
            if self.dtype == torch.float32:
                remedy = "its weights are damaged or of no use; fetch or train them again"
            raise IncompatibleWeights(
                f"{self.ref.id} gives logits that are not finite in {self.dtype}; {remedy}"
            )
        return logits

    def p_fake(
        self, logits: npt.NDArray[np.float32], temperature: float | None = None
    ) -> npt.NDArray[np.float64]:
        """``sigmoid(logit / temperature)``, float64; by default at the detector's temperature.

        A detector with :attr:`whole_pictures` has another one for those.
        """
        if temperature is None:
            temperature = self.model.spec.temperature
        scaled = np.asarray(logits, dtype=np.float64) / temperature
        return np.asarray(0.5 * (1.0 + np.tanh(scaled / 2)), dtype=np.float64)


def load(
    reference: str | Path = DEFAULT,
    *,
    revision: str | None = None,
    offline: bool = False,
    allow_untrained: bool = False,
    base: str | Path | None = None,
    fake_labels: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    token: str | None = None,
) -> Detector:
    """The detector that ``reference`` names, on its device.

    Args:
        reference: Name of a built-in detector, a local folder, or a Hub id ``org/name[@revision]``.
            Classifiers that others published (transformers' image classification, GenD) are read
            as they are; ``unmask convert`` makes a folder of them, with proof of parity.
        revision: Branch, tag or commit of a Hub id.
        offline: Do not ask the Hub; a cached copy is used.
        allow_untrained: Accept a head that never learnt anything; results are marked.
        base: Of an adapter, the tower that it was made on, instead of the one that it names; of a
            GenD, a model whose configuration says what shapes of weights do not.
        fake_labels: Of somebody else's classifier, the labels that mean fake, where their names do
            not say it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
        dtype: Of the tower: ``auto`` (float32), ``float32``, ``bfloat16`` or ``float16``.
        token: For the Hub, instead of ``HF_TOKEN``.

    Returns:
        A detector whose ``ref.sha256`` is that of the weights that answer: of the weights file, or
        of an adapter's file and its tower's content together.

    Raises:
        UnknownDetector: If nothing of that name is found; lists near names.
        UntrainedHead: If it has no trained head and ``allow_untrained`` is not set.
        WeightsError: Its other kinds, on weights that cannot be used.
        ConfigError: On options or a configuration that contradict each other.
    """
    located = locate(reference, revision=revision, offline=offline, token=token)
    if recognise.recognise(located.folder) is not None:
        model = _published(located, base, fake_labels, offline=offline, token=token)
        chosen = f" (fake: {', '.join(fake_labels)})" if fake_labels else ""
        sha256 = weights_sha256(located.folder)
        ref = DetectorRef(f"{located.id}{chosen}", sha256, trained=True)
        return _on_device(model, ref, device, dtype)
    config = read_config(located.folder)
    if fake_labels:
        raise ConfigError(
            f"{located.id} is no classifier of somebody else's, so it has no labels to choose "
            f"{', '.join(fake_labels)} from; leave --fake-label out"
        )
    if isinstance(config, UnmaskConfig):
        model, sha256 = _ours(located, config, base, offline=offline, token=token)
        trained = model.spec.head.trained
        if not trained and not allow_untrained:
            raise UntrainedHead(
                f"the head of {located.id} was never trained, its scores mean nothing. Train it "
                "with 'unmask train', or see them all the same with --allow-untrained."
            )
        return _on_device(model, DetectorRef(located.id, sha256, trained), device, dtype)
    if base is not None:
        raise ConfigError(f"{located.id} is no adapter, so it has no base; leave --base out")
    if not allow_untrained:
        raise UntrainedHead(
            f"{located.id} is a bare {config.model_type!r} model: it has no head that was "
            "trained to tell real from fake. Train one ('unmask train DATA -o DIR --backbone "
            f"{located.id}'), or see meaningless scores with --allow-untrained."
        )
    return _untrained(located, _Untrained(), device=device, dtype=dtype)


def untrained_detector(
    reference: str | Path,
    *,
    features: Sequence[str] = ("pooler",),
    head: str = "linear",
    outputs: int = 2,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    revision: str | None = None,
    offline: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    token: str | None = None,
) -> Detector:
    """A bare model with a fresh head: its scores mean nothing, and ``ref.trained`` says so.

    Args:
        reference: A local folder or Hub id of a vision model, as in :func:`load`.
        features: What the head sees.
        head: ``linear``.
        outputs: Of the head, 1 or 2.
        seed: The head is the same for the same seed.
        preprocess: Instead of what the model's own processor does.
        revision: As in :func:`load`.
        offline: As in :func:`load`.
        device: As in :func:`load`.
        dtype: As in :func:`load`.
        token: As in :func:`load`.

    Raises:
        ConfigError: On another head or feature, or a processor that is not understood.
        IncompatibleWeights: If the model is a classifier already.
        WeightsError: Its other kinds, on weights that cannot be used.
    """
    if head != "linear":
        raise ConfigError(f"head {head!r} is not known. {near_names(head, ['linear'])}")
    located = locate(reference, revision=revision, offline=offline, token=token)
    if recognise.recognise(located.folder) is not None:
        raise IncompatibleWeights(
            f"{located.id} is a classifier already; load it as it is ('unmask scan --detector'), "
            "or name a bare vision model"
        )
    config = read_config(located.folder)
    if isinstance(config, UnmaskConfig):
        raise ConfigError(f"{located.id} is a detector already; load it as it is")
    fresh = _Untrained(tuple(features), outputs, seed, preprocess)
    return _untrained(located, fresh, device=device, dtype=dtype)


def _published(
    located: Located,
    base: str | Path | None,
    fake_labels: Sequence[str],
    *,
    offline: bool,
    token: str | None,
) -> UnmaskForImageClassification:
    """Somebody else's detector as one of ours; what it was read from is let go."""
    folder = None if base is None else locate(base, offline=offline, token=token).folder
    return recognise.read(located.folder, fake_labels=fake_labels, base=folder).model


def _ours(
    located: Located,
    config: UnmaskConfig,
    base: str | Path | None,
    *,
    offline: bool,
    token: str | None,
) -> tuple[UnmaskForImageClassification, str]:
    """The model of a detector or adapter folder, and the hash of all its weights."""
    sha256 = weights_sha256(located.folder)
    if config.adapter is None:
        if base is not None:
            raise ConfigError(f"{located.id} is no adapter, so it has no base; leave --base out")
        return load_model(located.folder), sha256
    model = load_adapter(
        located.folder, base=base, offline=offline, token=token, cache=default_cache()
    )
    # The tower's content was checked to have this hash.
    both = f"{sha256}\n{config.adapter['base']['sha256']}"
    return model, hashlib.sha256(both.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Untrained:
    """What a fresh head is made of."""

    features: tuple[str, ...] = ("pooler",)
    outputs: int = 2
    seed: int = 0
    preprocess: Preprocess | None = None


def _untrained(located: Located, fresh: _Untrained, *, device: str, dtype: str) -> Detector:
    preprocess = fresh.preprocess or read_preprocess(located.folder)
    tower = load_backbone(located.folder, fresh.features)
    head = new_head(feature_width(tower.config, fresh.features), fresh.outputs, fresh.seed)
    sha256 = weights_sha256(located.folder)
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=fresh.features,
        head=HeadSpec(outputs=fresh.outputs, trained=False),
        preprocess=preprocess,
        backbone_source=BackboneSource(located.hub_id or located.id, located.revision, sha256),
    )
    ref = DetectorRef(located.id, sha256, trained=False)
    return _on_device(assemble(tower, head, spec), ref, device, dtype)


def _on_device(
    model: UnmaskForImageClassification, ref: DetectorRef, device: str, dtype: str
) -> Detector:
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    model.eval()
    model.requires_grad_(False)
    model.to(where)
    model.backbone.to(precision)
    return Detector(model, model.config, model.spec.preprocess, ref, where, precision)
