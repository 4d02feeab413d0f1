"""``--recipe probe``: extract features once, choose input, layers and penalty on validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from unmask.aggregate import judge
from unmask.errors import ConfigError
from unmask.models import heads
from unmask.models.backbone import build_backbone
from unmask.models.configuration import (
    BackboneSource,
    DetectorSpec,
    HeadSpec,
    backbone_config_of,
)
from unmask.models.features import prefix_tokens
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.pipeline import FIXED_HALF
from unmask.prepare import Stage
from unmask.preprocess import Preprocess
from unmask.train.data import counted
from unmask.train.features import Tower
from unmask.train.inputs import Extractor, Part, Progress, describe_input, make_extractor
from unmask.train.probe import (
    Fit,
    Head,
    Validation,
    fit_head,
    fit_temperature,
    operating_points,
    validate,
)
from unmask.types import OperatingPoint, Sample
from unmask.versions import versions

__all__ = ["Candidate", "Probe", "ProbeOptions", "Progress", "default_features", "train_probe"]


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """What is tried, and how much."""

    faces: bool = True
    """Learn from aligned faces; otherwise from whole pictures, squashed."""
    scales: tuple[float, ...] = (1.0, 1.3)
    """Crop scales to choose from."""
    features: tuple[tuple[str, ...], ...] = ()
    """Feature lists to choose from; empty takes :func:`default_features`."""
    strengths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    """Values of scikit-learn's ``C`` to choose from; with ``lda`` of the shrinkage."""
    fit: Fit = "logistic"
    """How a head comes about."""
    views: int = 2
    """Augmented copies of each training picture."""
    compare_whole: bool = False
    """Also measure a probe on whole pictures, for the record."""
    seed: int = 0
    finder: str = "yunet"
    least_face_px: float = 32.0
    license: str = "other"
    cache: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        """Refuse numbers outside their range.

        Raises:
            ConfigError: names the option, its value and its range.
        """
        if not 0 <= self.views <= 100:
            raise ConfigError(f"views is {self.views}; it must be 0 to 100 (2 is usual)")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must be at least 0")
        for names in self.features:
            if not names or len(set(names)) != len(names):
                raise ConfigError(
                    f"features are {', '.join(names) or 'none'}; name at least one, each once"
                )
        if not self.scales or not min(self.scales) > 0:
            raise ConfigError(f"scales are {self.scales}; each must be above 0 (1.3 is usual)")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One combination that was tried, and how it did on validation."""

    input: str
    features: tuple[str, ...]
    strength: float
    views: int
    validation: Validation
    altered: Validation | None = None
    """On augmented copies of the validation pictures."""

    @property
    def score(self) -> float:
        """What the choice goes by: mean AUC, altered copies counting as much as originals."""
        parts = [self.validation, *([self.altered] if self.altered else [])]
        return float(np.mean([part.macro_auc for part in parts]))


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A trained detector before it is written, and what its card must say."""

    model: UnmaskForImageClassification
    chosen: Candidate
    tried: tuple[Candidate, ...]
    whole: Candidate | None
    counts: dict[str, int]
    left_out: tuple[tuple[str, str], ...]
    """Source and reason of samples that gave no crop, or whose bytes are in validation too."""
    outcomes: dict[str, float]
    """Share of validation samples per true class and verdict at the default operating point."""
    searched: int = 0
    """Combinations that a search tried before on the same validation samples."""
    points_left_out: tuple[str, ...] = ()
    """A sentence for each operating point that is missing."""


def default_features(config: object) -> tuple[tuple[str, ...], ...]:
    """Feature lists that are worth trying on a tower of any depth.

    Traces of forgery live in middle blocks as much as in the last: patch means over all of the
    depth, patch means of five blocks, and the middle block alone.
    """
    depth: int = config.num_hidden_layers  # type: ignore[attr-defined]
    has_cls = prefix_tokens(config) > 0
    step = max(1, depth // 12)

    def at(*shares: float) -> list[int]:
        return sorted({max(1, round(depth * share)) for share in shares})

    every = [f"mean@{block}" for block in range(min(2 * step, depth), depth + 1, step)]
    spread = [f"mean@{block}" for block in at(1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)]
    if has_cls:
        every += [f"cls@{block}" for block in at(2 / 3, 5 / 6, 1)]
        spread += [f"cls@{block}" for block in at(2 / 3, 1)]
    return tuple(every), tuple(spread), (f"mean@{at(1 / 2)[0]}",)


def train_probe(
    samples: Sequence[Sample],
    tower: Tower,
    preprocess: Preprocess,
    source: BackboneSource,
    options: ProbeOptions,
    *,
    data_name: str,
    progress: Progress,
) -> Probe:
    """Choose on validation, refit with augmented copies, calibrate; nothing is written.

    Raises:
        ConfigError: no sample of a class or part gave a crop.
        SourceError: as :func:`unmask.train.data.apart`.
    """
    lists = options.features or default_features(tower.model.config)
    names = list(dict.fromkeys(name for features in lists for name in features))
    extract = make_extractor(
        samples,
        names,
        tower,
        preprocess,
        cache=options.cache,
        seed=options.seed,
        finder=options.finder,
        least_face_px=options.least_face_px,
        progress=progress,
    )
    tried: list[Candidate] = []
    best: tuple[Candidate, Head, float] | None = None
    for scale in options.scales if options.faces else (0.0,):
        part = extract(scale)
        at_scale = _try_all(part, lists, options, describe_input(scale))
        first = max(at_scale, key=lambda candidate: candidate.score)
        candidate, head = _refit(extract, part, scale, first, options)
        tried += [*at_scale, *([candidate] if options.views else [])]
        # With altered copies in it another scale may win than without: they decide.
        if best is None or candidate.score > best[0].score:
            best = candidate, head, scale
    if best is None:
        raise ConfigError("no crop scale was given; at least one is needed")
    chosen, head, scale = best
    whole = None
    if options.compare_whole and options.faces:
        at_whole = _try_all(extract(0.0), lists, options, describe_input(0.0))
        whole = max(at_whole, key=lambda candidate: candidate.score)
    return _calibrated(
        head,
        chosen,
        tuple(tried),
        whole,
        extract(scale),
        extract.stage(scale),
        tower,
        source,
        data_name,
        options,
    )


def _try_all(
    part: Part, lists: Sequence[tuple[str, ...]], options: ProbeOptions, described: str
) -> list[Candidate]:
    tried = []
    for features in lists:
        x_train, x_val = part.train.matrix(features), part.val.matrix(features)
        for strength in options.strengths:
            head = fit_head(x_train, part.train.samples, strength=strength, fit=options.fit)
            found = validate(head(x_val), part.val.samples)
            tried.append(Candidate(described, features, strength, 0, found))
    return tried


def _refit(
    extract: Extractor, part: Part, scale: float, best: Candidate, options: ProbeOptions
) -> tuple[Candidate, Head]:
    """The chosen input and features again, with altered copies to learn from and to judge by."""
    if options.views == 0:
        x_train = part.train.matrix(best.features)
        return best, fit_head(x_train, part.train.samples, strength=best.strength, fit=options.fit)
    *views, altered = extract.views(scale, train=options.views, val=1)
    x_train = np.concatenate([each.matrix(best.features) for each in (part.train, *views)])
    learnt_from = [sample for each in (part.train, *views) for sample in each.samples]
    x_val, x_altered = part.val.matrix(best.features), altered.matrix(best.features)
    found = []
    for strength in options.strengths:
        head = fit_head(x_train, learnt_from, strength=strength, fit=options.fit)
        candidate = replace(
            best,
            strength=strength,
            views=options.views,
            validation=validate(head(x_val), part.val.samples),
            altered=validate(head(x_altered), altered.samples),
        )
        found.append((candidate, head))
    return max(found, key=lambda pair: pair[0].score)


def _calibrated(
    head: Head,
    chosen: Candidate,
    tried: tuple[Candidate, ...],
    whole: Candidate | None,
    part: Part,
    stage: Stage,
    tower: Tower,
    source: BackboneSource,
    data_name: str,
    options: ProbeOptions,
) -> Probe:
    val = part.val.samples
    logits = head(part.val.matrix(chosen.features))
    temperature = fit_temperature(logits, val)
    p_fake = 0.5 * (1 + np.tanh(logits / temperature / 2))  # as Detector.p_fake, never overflows
    found = operating_points(p_fake, val, source=f"validation part of {data_name}")
    everything = (*part.train.samples, *part.val.samples)
    counts = counted(everything)
    left_out = tuple(
        (sample.source, reason.code)
        for sample, reason in (*part.train.left_out, *part.val.left_out)
    )
    outcomes = _outcomes(p_fake, val, next(iter(found.points), FIXED_HALF))
    spec = DetectorSpec(
        backbone_config={},
        features=chosen.features,
        head=HeadSpec(outputs=1, trained=True),
        preprocess=stage.preprocess,
        domain="face" if options.faces else "image",
        face=stage.face if options.faces else None,
        temperature=temperature,
        operating_points=found.points,
        backbone_source=source,
        training={
            "recipe": "probe",
            "data": data_name,
            "samples": counts,
            "left_out": dict(Counter(code for _, code in left_out)),
            "seed": options.seed,
            "fit": options.fit,
            "chosen": _record(chosen),
            "tried": [_record(candidate) for candidate in tried],
            "whole_picture": _record(whole) if whole else None,
            "verdicts_on_validation": outcomes,
            "versions": versions(),
        },
        license=options.license,
    )
    model = _model(head, spec, tower)
    return Probe(
        model,
        chosen,
        tried,
        whole,
        counts,
        left_out,
        outcomes,
        points_left_out=found.left_out,
    )


def _model(head: Head, spec: DetectorSpec, tower: Tower) -> UnmaskForImageClassification:
    # The smallest tower with these features: no later blocks, no pooling head that nobody uses.
    backbone = build_backbone(tower.model.config, spec.features)
    weights = tower.model.state_dict()
    backbone.load_state_dict({name: weights[name] for name in backbone.state_dict()})
    module = heads.new_head(len(head.weight), 1, seed=0)
    with torch.no_grad():
        module.linear.weight.copy_(torch.from_numpy(head.weight)[None])
        module.linear.bias.fill_(head.bias)
    spec = replace(spec, backbone_config=backbone_config_of(backbone.config))
    return assemble(backbone, module, spec)


def _outcomes(
    p_fake: npt.NDArray[np.float64], samples: Sequence[Sample], point: OperatingPoint
) -> dict[str, float]:
    found = Counter(
        ("fake" if sample.label else "real", judge(float(p), point))
        for sample, p in zip(samples, p_fake, strict=True)
    )
    totals = Counter("fake" if sample.label else "real" for sample in samples)
    return {
        f"{truth} called {verdict}": round(found[truth, verdict] / totals[truth], 4)
        for truth in ("real", "fake")
        for verdict in ("real", "inconclusive", "fake")
    }


def _record(candidate: Candidate) -> dict[str, object]:
    record = asdict(candidate)
    record["score"] = round(candidate.score, 4)
    return record
