"""The arrows: samples in, one result each, in order, as they come.

Worker threads read, decode, find and align faces (the libraries release the GIL) while batches of
crops go through the tower in the calling thread. What waits between the two is bounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from unmask.aggregate import judge, picture_reasons, picture_verdict, strongest
from unmask.errors import ConfigError, near_names
from unmask.flow import UntilError, batches, prepare_all
from unmask.images import Limits
from unmask.models.detector import Detector
from unmask.prepare import Alteration, Memory, Prepared, Stage
from unmask.types import (
    FaceScore,
    FaceSpec,
    FrameCount,
    Image,
    OperatingPoint,
    Reason,
    Result,
    Sample,
)
from unmask.versions import versions

__all__ = ["FIXED_HALF", "FaceMode", "NoFace", "Options", "Pipeline", "Reading"]

FaceMode = Literal["auto", "largest", "all", "none"]
NoFace = Literal["report", "whole_picture"]

_LARGEST_BATCH = 4096
"""Beyond it nothing gets faster, and the pictures that wait no longer fit into memory."""

FIXED_HALF = OperatingPoint("fixed", fake_at=0.5, real_below=0.5, source="fixed")
"""What decides where a detector has no operating point."""

UNTRAINED = Reason(
    "untrained_head",
    "the head of this detector was never trained: the score is noise, allowed on request",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How a pipeline treats what it is given. All of it is part of a run's identity."""

    faces: FaceMode = "auto"
    """``auto`` is ``all`` for a detector of faces and ``none`` for one of whole pictures."""
    face: FaceSpec | None = None
    """Finder and crop; None takes those the detector was trained with."""
    landmark_model: Path | None = None
    """Landmark file of the ``dlib81`` finder; None takes the fetched one."""
    no_face: NoFace = "report"
    """``whole_picture`` scores the uncropped picture where no face is found, and says so; with the
    temperature and the operating point of whole pictures where the detector has such."""
    limits: Limits = field(default_factory=Limits)
    max_faces: int = 32
    """Largest faces scored per frame; the rest are listed unscored."""
    min_face_px: float = 32.0
    """Faces with a shorter side below this many source pixels are listed unscored."""
    min_sharpness: float = 0.0
    """Faces less sharp than this (see :class:`~unmask.types.Quality`) are inconclusive."""
    operating_point: str | float | None = None
    """A name from the detector's config, a fixed threshold on P(fake), or None: its default. Of a
    detector that has points for faces and for whole pictures, those of what is scored."""
    batch_size: int = 16
    workers: int | None = None
    """Threads that prepare crops; None is one per core; 0 works in the calling thread."""

    def __post_init__(self) -> None:
        """Refuse numbers outside their range.

        Raises:
            ConfigError: names the option, its value and its range.
        """
        for name, known in (("faces", FaceMode), ("no_face", NoFace)):
            if getattr(self, name) not in get_args(known):
                given, names = getattr(self, name), " or ".join(get_args(known))
                raise ConfigError(f"{name} is {given!r}; it must be {names}")
        for name, value, least in (
            ("batch_size", self.batch_size, 1),
            ("max_faces", self.max_faces, 1),
            ("max_bytes", self.limits.max_bytes, 1),
            ("max_pixels", self.limits.max_pixels, 1),
            ("min_face_px", self.min_face_px, 0),
            ("min_sharpness", self.min_sharpness, 0),
        ):
            if not (value >= least and math.isfinite(value)):
                raise ConfigError(f"{name} is {value}; it must be a number from {least}")
        if self.batch_size > _LARGEST_BATCH:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be 1 to {_LARGEST_BATCH}")
        if self.workers is not None and not 0 <= self.workers <= 256:
            raise ConfigError(f"workers is {self.workers}; it must be 0 to 256")
        if isinstance(self.operating_point, bool):
            raise ConfigError(
                f"operating_point is {self.operating_point}; give a name or a number from 0 to 1"
            )
        if isinstance(self.operating_point, float | int) and not 0 <= self.operating_point <= 1:
            raise ConfigError(
                f"the threshold {self.operating_point} is no probability; give 0 to 1 or a name"
            )


@dataclass(frozen=True, slots=True)
class Reading:
    """How a logit becomes P(fake) and a verdict."""

    temperature: float
    point: OperatingPoint


class Pipeline:
    """Scores samples with one detector. Calling it gives results in the samples' order.

    The example of use stands in the README, where a test runs it.
    """

    def __init__(
        self,
        detector: Detector,
        options: Options | None = None,
        *,
        alteration: Alteration | None = None,
    ) -> None:
        """Check the options against the detector.

        Args:
            detector: Answers.
            options: The default ones where None.
            alteration: What every picture goes through first, to see what becomes of its answer.

        Raises:
            ConfigError: an operating point that the detector does not have, of faces or of the
                whole pictures that it may be given.
            FaceError: the finder cannot work (its landmark file is missing, for example).
        """
        self.detector = detector
        self.options = options or Options()
        self.reading, self.whole_reading = _readings(detector, self.options)
        self._alteration = alteration
        self._stage = replace(
            _stage(detector, self.options), alter=alteration.change if alteration else None
        )
        self._versions = versions()
        self._stage.new_finder()  # one that cannot work is an error before a file is opened

    @property
    def point(self) -> OperatingPoint:
        """What decides, but where a whole picture stands in for a face; see ``whole_reading``."""
        return self.reading.point

    def altered(self, alteration: Alteration) -> Pipeline:
        """One that differs only in what every picture goes through first."""
        return Pipeline(self.detector, self.options, alteration=alteration)

    def settings(self) -> dict[str, object]:
        """What decides the answers, as plain JSON; equal settings give equal results."""
        options = asdict(self.options)
        for name in ("batch_size", "workers", "landmark_model"):
            del options[name]  # these change speed or a path, not the answer
        return {
            "detector": asdict(self.detector.ref),
            "detector_config": self.detector.config_sha256,
            "dtype": str(self.detector.dtype),
            "temperature": self.reading.temperature,
            "preprocessing": self.describe(),
            "options": options,
            "operating_point": _plain(self.point),
            "unmask": self._versions["unmask"],
            **self._settings_of_whole_pictures(),
        }

    def _settings_of_whole_pictures(self) -> dict[str, object]:
        """Where they may be scored, and are read in another way than faces."""
        if self.detector.whole_pictures is None or self.whole_reading is None:
            return {}
        temperature, point = self.whole_reading.temperature, self.whole_reading.point
        return {"whole_pictures": {"temperature": temperature, "operating_point": _plain(point)}}

    def describe(self) -> str:
        """Alteration, face stage and preprocessing in one line."""
        altered = f"altered by {self._alteration.name}; " if self._alteration else ""
        return f"{altered}{self._stage.describe()}; {self.detector.preprocess.describe()}"

    def __call__(
        self, samples: Iterable[Sample], *, memory: Memory | None = None
    ) -> Iterator[Result]:
        """Yield one result per sample, in order. ``memory`` spares what was answered before.

        An error of ``samples`` is raised after the results of all samples before it.
        """
        size = self.options.batch_size
        source = UntilError(samples)
        ready = prepare_all(
            source, self._stage, workers=self.options.workers, waiting=2 * size, memory=memory
        )
        with closing(ready):
            for batch in batches(ready, size):
                yield from self._score(batch, memory)
        source.check()

    def _score(self, batch: list[Prepared], memory: Memory | None) -> Iterator[Result]:
        """One result per prepared sample; bytes that occur twice go through the tower once."""
        started = time.perf_counter()
        answers: dict[str, Result] = {}
        fresh: dict[str, Prepared] = {}
        for prepared in batch:
            if not prepared.pixels or prepared.sha256 is None or prepared.sha256 in fresh:
                continue
            known = memory.recall_bytes(prepared.sha256) if memory else None
            if known:
                answers[prepared.sha256] = known
            else:
                fresh[prepared.sha256] = prepared
        logits = self._logits([image for each in fresh.values() for image in each.pixels])
        share = (time.perf_counter() - started) / max(1, len(fresh))
        for digest, prepared in fresh.items():
            taken, logits = np.split(logits, [len(prepared.pixels)])
            answers[digest] = self._result(prepared, taken, share)
        for prepared in batch:
            if prepared.recalled:
                answer = prepared.recalled
            elif prepared.pixels and prepared.sha256 is not None:
                answer = answers[prepared.sha256]
            else:  # nothing to score: its reason names the file, so it is nobody else's answer
                answer = self._result(prepared, logits[:0], 0.0)
            yield replace(answer, source=prepared.sample.source, label=prepared.sample.label)

    def _logits(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        size = self.options.batch_size
        parts = [
            self.detector.logits(np.stack(images[start : start + size]))
            for start in range(0, len(images), size)
        ]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def _result(
        self, prepared: Prepared, logits: npt.NDArray[np.float32], batch_s: float
    ) -> Result:
        reading = self._reading_of(prepared)
        p_fakes = self.detector.p_fake(logits, reading.temperature)
        faces = list(prepared.faces)
        for index, (logit, p_fake) in enumerate(zip(logits, p_fakes, strict=True)):
            verdict = judge(float(p_fake), reading.point)
            face = replace(faces[index], logit=float(logit), p_fake=float(p_fake), verdict=verdict)
            faces[index] = self._doubted(face)
        top = strongest(faces)
        trained = self.detector.ref.trained
        reasons: tuple[Reason, ...] = () if trained or top is None else (UNTRAINED,)
        if prepared.status == "ok":
            reasons += picture_reasons(faces, reading.point)
        return Result(
            source=prepared.sample.source,
            sha256=prepared.sha256,
            kind=prepared.kind,
            status=prepared.status,
            label=prepared.sample.label,
            logit=top.logit if top else None,
            p_fake=top.p_fake if top else None,
            verdict=picture_verdict(faces),
            reasons=prepared.reasons + reasons,
            faces=tuple(face for face in faces if face.box_xyxy is not None),
            frames=FrameCount(sampled=prepared.frames, scored=int(top is not None)),
            detector=self.detector.ref,
            preprocessing=self.describe(),
            operating_point=reading.point,
            elapsed_ms=round(1000 * (prepared.elapsed_s + batch_s), 2),
            versions=self._versions,
        )

    def _reading_of(self, prepared: Prepared) -> Reading:
        """That of whole pictures where one stands in for faces."""
        whole = any(face.box_xyxy is None for face in prepared.faces)
        return self.whole_reading if whole and self.whole_reading is not None else self.reading

    def _doubted(self, face: FaceScore) -> FaceScore:
        """The face without a verdict, where it is blurred or the head was never trained."""
        least = self.options.min_sharpness
        if face.quality is not None and face.quality.sharpness < least:
            sentence = f"sharpness {face.quality.sharpness:.0f} is below {least:.0f}"
            reasons = (*face.reasons, Reason("blurred", sentence))
            return replace(face, verdict="inconclusive", reasons=reasons)
        return face if self.detector.ref.trained else replace(face, verdict="inconclusive")


def _mode(detector: Detector, options: Options) -> Literal["largest", "all", "none"]:
    if options.faces == "auto":
        return "all" if detector.domain == "face" else "none"
    return options.faces


def _stage(detector: Detector, options: Options) -> Stage:
    face = options.face or detector.face or FaceSpec(size=detector.preprocess.height)
    return Stage(
        mode=_mode(detector, options),
        face=face,
        preprocess=detector.preprocess,
        limits=options.limits,
        max_faces=options.max_faces,
        min_face_px=options.min_face_px,
        landmark_model=options.landmark_model,
        whole_picture_without_face=options.no_face == "whole_picture",
        expects_faces=detector.domain == "face" and detector.whole_pictures is None,
    )


def _readings(detector: Detector, options: Options) -> tuple[Reading, Reading | None]:
    """Of what the options score, and of whole pictures where these are read in another way."""
    whole, only_whole = detector.whole_pictures, _mode(detector, options) == "none"
    of_whole = None
    if whole is not None and (only_whole or options.no_face == "whole_picture"):
        of_whole = Reading(whole.temperature, _operating_point(detector, options, whole=True))
        if only_whole:
            return of_whole, of_whole
    point = _operating_point(detector, options, whole=False)
    return Reading(detector.model.spec.temperature, point), of_whole


def _operating_point(detector: Detector, options: Options, *, whole: bool) -> OperatingPoint:
    asked = options.operating_point
    if isinstance(asked, float | int):
        return OperatingPoint("fixed", fake_at=asked, real_below=asked, source="fixed")
    of_whole = detector.whole_pictures.operating_points if detector.whole_pictures else ()
    given, others = detector.operating_points, of_whole
    if whole:
        given, others = others, given
    points = {point.name: point for point in given}
    if asked is None:
        return next(iter(points.values()), FIXED_HALF)
    if asked in points:
        return points[asked]
    said = f"the detector {detector.ref.id!r} has no operating point {asked!r}."
    if any(point.name == asked for point in others):
        only, scored = ("faces", "whole pictures") if whole else ("whole pictures", "faces")
        said = (
            f"the detector {detector.ref.id!r} has the operating point {asked!r} for {only} alone, "
            f"and {scored} are scored here."
        )
    raise ConfigError(
        f"{said} {near_names(asked, points)} A number fixes the threshold on P(fake)."
    )


def _plain(point: OperatingPoint) -> dict[str, object]:
    return {**asdict(point), "datasets": list(point.datasets)}
