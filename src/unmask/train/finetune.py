"""From labelled samples to a trained, calibrated detector: crops, start, loop, thresholds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unmask._device import choose_dtype
from unmask.errors import ConfigError
from unmask.models.configuration import BackboneSource, WholePictures
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.models.tuning import merge, trained_state, tune
from unmask.prepare import Stage
from unmask.train.alter import change_of
from unmask.train.batches import Change, by_processes, crop_batches
from unmask.train.config import TrainConfig
from unmask.train.crops import Crops, crops_of, learnt_sha256
from unmask.train.data import apart, counted
from unmask.train.domains import calibrate_domains, joined, order_of, validate_domains
from unmask.train.features import hashes_of
from unmask.train.forge import forge_of
from unmask.train.loop import Forward, Report, fit
from unmask.train.optimizer import Plan, freeze_blocks
from unmask.train.place import new_place
from unmask.train.probe import Validation
from unmask.train.recipe import Progress
from unmask.train.sampling import at_most_frames
from unmask.train.selection import Selection
from unmask.train.start import (
    Start,
    check_classes,
    input_stages,
    over_crops,
    plain_start,
    warm_head,
)
from unmask.train.state import RunFolder, Setting
from unmask.train.towers import keep_head, load_tower
from unmask.types import Image, Reason, Sample
from unmask.versions import versions

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["FinetuneOptions", "Finetuned", "finetune"]

_REPEATED = Reason("also_in_validation", "the same bytes are in the validation part")


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """Where a training computes and keeps its files; no result depends on any of it."""

    folder: Path
    """Checkpoints, logs and curves."""
    cache: Path
    """Crops, and the singular triples of ``effort``."""
    data_name: str = "data"
    """What thresholds say they come from."""
    command: str = ""
    license: str = "other"
    device: str = "auto"
    workers: int | None = None
    revision: str | None = None
    offline: bool = False
    resume: bool = False
    overwrite: bool = False
    adapter: bool = False
    """Keep only what changed, in place of whole weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Finetuned:
    """A trained detector before it is written, and what its card must say."""

    model: UnmaskForImageClassification
    """Plain: what was trained is in its weights."""
    config: TrainConfig
    base: BackboneSource
    """The tower that was trained, by its content."""
    state: dict[str, Tensor] | None
    """What an adapter folder holds; None where whole weights are kept."""
    selection: Selection
    validation: Validation
    """Of the detector as it is written."""
    counts: dict[str, int]
    """Samples with a crop, by part, data set and class."""
    left_out: tuple[tuple[str, str], ...]
    """Source and reason of samples that gave no crop, or whose bytes are in validation too."""
    points_left_out: tuple[str, ...]
    """A sentence for each operating point that is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    train: Crops
    val: Crops
    repeated: tuple[Sample, ...]
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What all parts of one training share."""

    config: TrainConfig
    options: FinetuneOptions
    place: Accelerator
    stage: Stage
    start: Start
    data: _Data

    def over(
        self,
        crops: Crops,
        compute: Callable[[Tensor], Tensor],
        *,
        indices: Sequence[int] | None = None,
        picture: Callable[[int], Image] | None = None,
        advance: Callable[[], None] = lambda: None,
    ) -> npt.NDArray[np.float32]:
        """As :func:`unmask.train.start.over_crops`."""
        return over_crops(
            crops,
            compute,
            self.stage.preprocess,
            device=self.place.device,
            batch_size=self.config.batch_size,
            workers=self.threads,
            indices=indices,
            picture=picture,
            advance=advance,
        )

    @property
    def threads(self) -> int:
        """How many prepare crops; 0 works in the calling thread."""
        workers = self.options.workers
        return (os.cpu_count() or 1) if workers is None else workers


def finetune(
    samples: Sequence[Sample],
    config: TrainConfig,
    options: FinetuneOptions,
    *,
    progress: Progress,
    report: Report,
) -> Finetuned | None:
    """Train by a recipe, keep what validates best, calibrate it; None in all but one process.

    Args:
        samples: Each with label and split ``train`` or ``val``.
        config: The settings.
        options: Where, and from where on.
        progress: Told about what comes before the steps.
        report: Told about the steps.

    Raises:
        ConfigError: If a class has no crop, or settings do not suit tower, data or processes.
        OutputError: If the folder holds another training, or cannot be written.
        SourceError: As :func:`unmask.train.data.apart`.
        WeightsError: If the tower cannot be used, or the training diverges.
        KeyboardInterrupt: After Ctrl-C; a checkpoint is written before.
    """
    place = new_place(options.device)
    choose_dtype(config.precision, place.device)  # refuses, or warns of, one it has not
    stages, start = _start(config, options)
    with place.main_process_first():  # the others find the crops in the cache
        data = _data(samples, config, options, stages, progress)
    order, change = order_of(data.train, config), change_of(config)
    job = _Job(config, options, place, stages[0], start, data)
    setting = Setting(config, data.sha256, start.base.sha256 or "", options.command, versions())
    folder = RunFolder(options.folder)
    going_on = _begin(folder, setting, options, place)
    if config.head_start == "probe" and not going_on and place.is_main_process:
        _warm(job, change, progress)
    torch.manual_seed(config.seed)  # where LoRA starts
    with place.main_process_first():
        tune(start.model, config.tuning(), cache=options.cache / "svd", progress=progress)
    freeze_blocks(start.model, config.frozen_blocks)
    selection = _fit(job, order, change, folder, going_on, report)
    return _finished(job, selection, setting) if place.is_main_process else None


def _start(config: TrainConfig, options: FinetuneOptions) -> tuple[tuple[Stage, ...], Start]:
    tower, published, source = load_tower(
        config.backbone,
        features=config.features,
        revision=options.revision,
        offline=options.offline,
        device="cpu",
        dtype="float32",
        batch_size=config.batch_size,
        workers=options.workers,
    )
    stages = input_stages(config, published, tower.model.config)
    start = plain_start(tower, source, config, stages[0])
    if config.head_start == "kept":
        keep_head(start.model, config.backbone, revision=options.revision, offline=options.offline)
    if options.adapter and not start.whole:
        raise ConfigError(
            f"the features {', '.join(config.features)} leave blocks of {source.id} out, and an "
            "adapter needs the tower as it was published; save it merged, or take a later feature"
        )
    return stages, start


def _begin(
    folder: RunFolder, setting: Setting, options: FinetuneOptions, place: Accelerator
) -> bool:
    """Whether there is a checkpoint to go on from."""
    going_on = False
    if place.is_main_process:
        going_on = folder.begin(setting, resume=options.resume, overwrite=options.overwrite)
    place.wait_for_everyone()
    return going_on if place.is_main_process else folder.checkpoint.is_file()


def _data(
    samples: Sequence[Sample],
    config: TrainConfig,
    options: FinetuneOptions,
    stages: Sequence[Stage],
    progress: Progress,
) -> _Data:
    thinned = at_most_frames(samples, config.frames_per_video)
    hashes = hashes_of(thinned, options.workers)
    kept, repeated = apart(thinned, hashes)
    key_of = dict(zip((id(sample) for sample in thinned), hashes, strict=True))
    crops: dict[str, Crops] = {}
    for part in ("train", "val"):
        own = [sample for sample in kept if sample.split == part]
        found = []
        for stage in stages:
            with progress(f"crops, {part}, {stage.describe()}", len(own)) as advance:
                one = crops_of(
                    own,
                    [key_of[id(sample)] for sample in own],
                    stage,
                    cache=options.cache,
                    workers=options.workers,
                    advance=advance,
                )
            check_classes(one, part)
            found.append(one)
        crops[part] = found[0] if len(found) == 1 else joined(*found)
    sha256 = learnt_sha256(crops["train"], crops["val"])
    return _Data(crops["train"], crops["val"], tuple(repeated), sha256)


def _warm(job: _Job, change: Change, progress: Progress) -> None:
    """Fit the head on the features of the untouched tower, of crops altered as in the steps."""
    model = job.start.model.to(job.place.device)
    forward = Forward(model, job.config.precision)

    def altered(index: int) -> Image:
        rng = np.random.default_rng([job.config.seed, index, 2])  # slots of steps end in 1
        return change(job.data.train[index].image, rng)

    def features(
        crops: Crops, part: str, picture: Callable[[int], Image] | None
    ) -> npt.NDArray[np.float32]:
        with progress(f"features, {part}", len(crops.samples)) as advance:
            return job.over(
                crops, lambda pixels: forward(pixels)[0], picture=picture, advance=advance
            )

    found = features(job.data.train, "train", altered), features(job.data.val, "val", None)
    warm_head(model.to("cpu"), job.data.train, job.data.val, found)


def _fit(
    job: _Job,
    order: Callable[[int], int],
    change: Change,
    folder: RunFolder,
    going_on: bool,
    report: Report,
) -> Selection:
    config, data = job.config, job.data
    batches = crop_batches(
        data.train,
        order,
        forge_of(data.train, config),
        change,
        job.stage.preprocess,
        batch_size=config.batch_size,
        seed=config.seed,
        workers=job.threads,
        processes=by_processes(job.place.device),
    )
    return fit(
        job.start.model,
        batches,
        config,
        Plan.of(config, len(data.train.samples)),
        place=job.place,
        folder=folder,
        evaluate=lambda forward: validate_domains(_shared_logits(job, forward), data.val),
        resume=going_on,
        report=report,
    )


def _shared_logits(job: _Job, forward: Forward) -> npt.NDArray[np.float64]:
    """Of all validation crops, ``(N,)``, in every process; each scores its share."""
    from accelerate.utils import gather_object

    count = len(job.data.val.samples)
    own = range(job.place.process_index, count, job.place.num_processes)
    logits = job.over(job.data.val, lambda pixels: forward(pixels)[1], indices=own)
    found: list[tuple[int, float]] = gather_object(list(zip(own, logits.tolist(), strict=True)))
    result = np.empty(count, np.float64)
    for index, logit in found:
        result[index] = logit
    return result


def _finished(job: _Job, selection: Selection, setting: Setting) -> Finetuned:
    """Merge, and calibrate what will be loaded again."""
    model, data, val = job.start.model, job.data, job.data.val.samples
    state = None
    if job.options.adapter:
        state = trained_state(model, job.config.tuning(), base=job.start.digests)
        state = {key: value.cpu() for key, value in state.items()}
    merge(model)
    if not job.options.adapter:
        model.backbone.half().float()  # as the file will have it
    forward = Forward(model)
    logits = job.over(data.val, lambda pixels: forward(pixels)[1]).astype(np.float64)
    model.to("cpu")
    read = calibrate_domains(logits, data.val, source=f"validation part of {job.options.data_name}")
    temperature, points = read[0]
    whole = None if len(read) == 1 else WholePictures(read[1][0], read[1][1].points)
    validation = validate_domains(logits, data.val)
    left_out = _left_out(data)
    counts = counted((*data.train.samples, *val))
    spec = replace(
        model.spec,
        temperature=temperature,
        operating_points=points.points,
        whole_pictures=whole,
        training=_record(job, selection, setting, validation, counts, left_out),
        license=job.options.license,
    )
    plain = assemble(model.backbone, model.head, spec)
    return Finetuned(
        plain,
        job.config,
        job.start.base,
        state,
        selection,
        validation,
        counts,
        left_out,
        tuple(dict.fromkeys(sentence for _, points in read for sentence in points.left_out)),
    )


def _record(
    job: _Job,
    selection: Selection,
    setting: Setting,
    validation: Validation,
    counts: dict[str, int],
    left_out: tuple[tuple[str, str], ...],
) -> dict[str, object]:
    """What the folder says about its training."""
    return {
        **setting.to_dict(),
        "recipe": job.config.recipe,
        "seed": job.config.seed,
        "data": job.options.data_name,
        "samples": counts,
        "left_out": dict(Counter(code for _, code in left_out)),
        "validation": asdict(validation),
        "chosen_step": None if selection.best is None else selection.best.step,
        "evaluations": selection.to_list(),
    }


def _left_out(data: _Data) -> tuple[tuple[str, str], ...]:
    found = [(sample, _REPEATED) for sample in data.repeated]
    found += [*data.train.left_out, *data.val.left_out]
    return tuple((sample.source, reason.code) for sample, reason in found)
