"""From a sample to what the tower takes: read, decode, find and align faces, resize.

Runs in worker threads. Whatever is wrong with one input ends here as a status and a reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from unmask.errors import FaceError, UnreadableMedia, UnsupportedMedia
from unmask.faces import FaceFinder, make_finder
from unmask.faces.align import crop_face
from unmask.images import Limits, decode, file_sha256, read_bytes, sha256, sniff_kind
from unmask.preprocess import Preprocess
from unmask.types import (
    Crop,
    Face,
    FaceScore,
    FaceSpec,
    Frame,
    Image,
    Kind,
    Reason,
    Result,
    Sample,
    Status,
)

__all__ = ["Alteration", "Memory", "Prepared", "Stage", "prepare"]

_OUT_OF_DOMAIN = Reason(
    "out_of_domain", "the detector was trained on face crops, and the whole picture was scored"
)
_FELL_BACK = Reason("whole_picture", "no face was found, so the whole picture was scored")


class Memory(Protocol):
    """What earlier runs already answered. Called from several threads."""

    def recall_path(self, sample: Sample) -> Result | None:
        """The stored result of an unchanged file, found without opening it, or None."""

    def recall_bytes(self, sha256: str) -> Result | None:
        """The stored result of the same bytes, whatever their name, or None."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """A change of each decoded picture, before faces are looked for."""

    name: str
    """Says all of it: alterations of one name make the same picture of the same file."""
    change: Callable[[Image, str], Image]
    """Given the picture and the content hash of its file, which stands for a seed. It raises
    :class:`~unmask.errors.UnsupportedMedia` for a picture that it cannot change."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What happens to a picture before the tower sees it."""

    mode: Literal["largest", "all", "none"]
    face: FaceSpec
    preprocess: Preprocess
    limits: Limits
    max_faces: int
    min_face_px: float
    whole_picture_without_face: bool = False
    expects_faces: bool = False
    """The detector was trained on face crops alone."""
    landmark_model: Path | None = None
    alter: Callable[[Image, str], Image] | None = None
    """Changes the decoded picture; as ``change`` of :class:`Alteration`."""

    def new_finder(self) -> FaceFinder | None:
        """A finder for one thread, or None where whole pictures are scored.

        Raises:
            ConfigError: no finder of that name, or a landmark file it does not take.
            LandmarkFileError: its landmark file is missing or another one.
        """
        if self.mode == "none":
            return None
        return make_finder(self.face.finder, landmark_model=self.landmark_model)

    def describe(self) -> str:
        """The face stage in words."""
        if self.mode == "none":
            return "whole picture"
        spec = self.face
        return f"{self.mode} faces by {spec.finder}, {spec.size} px, scale {spec.scale:g}" + (
            ", antialiased" if spec.antialias else ""
        )


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One sample on its way to the tower, or what is known of it without the tower."""

    sample: Sample
    kind: Kind = "other"
    sha256: str | None = None
    status: Status = "ok"
    reasons: tuple[Reason, ...] = ()
    faces: tuple[FaceScore, ...] = ()
    """Not scored yet. The first ``len(pixels)`` will be, the rest are listed only. A face
    without a box stands for the whole picture."""
    pixels: tuple[Image, ...] = ()
    """Resized crops, uint8 ``(H, W, 3)`` each: a quarter of the float tensor's memory."""
    frames: int = 0
    elapsed_s: float = 0.0
    recalled: Result | None = None


def prepare(
    sample: Sample, finder: FaceFinder | None, stage: Stage, memory: Memory | None = None
) -> Prepared:
    """The sample's crops, or the status and the reason why it has none."""
    started = time.perf_counter()
    if memory is not None and (known := memory.recall_path(sample)):
        return Prepared(sample, recalled=known)
    digest: str | None = None
    kind: Kind = "other"
    try:
        data = read_bytes(sample.path, stage.limits)
        digest = sha256(data)
        known = memory.recall_bytes(digest) if memory is not None else None
        # Why other bytes could not be decoded is told with the other file's name.
        if known is not None and known.status not in ("unreadable", "unsupported"):
            return Prepared(sample, recalled=known)
        kind = sniff_kind(data, sample.path)
        frame = decode(data, stage.limits, name=sample.source)
        if stage.alter is not None:
            frame = replace(frame, image=stage.alter(frame.image, digest))
        prepared = _prepare_frame(sample, digest, frame, finder, stage)
    except (UnreadableMedia, UnsupportedMedia) as error:
        prepared = _failed(sample, kind, digest, error)
    return replace(prepared, elapsed_s=time.perf_counter() - started)


def _failed(
    sample: Sample, kind: Kind, digest: str | None, error: UnreadableMedia | UnsupportedMedia
) -> Prepared:
    if error.code == "file_too_large":  # refused before it was read; it still has an identity
        with suppress(UnreadableMedia, UnsupportedMedia):  # gone meanwhile
            digest = file_sha256(sample.path)
    status: Status = "unreadable" if isinstance(error, UnreadableMedia) else "unsupported"
    return Prepared(sample, kind, digest, status, (Reason(error.code, str(error)),))


def _prepare_frame(
    sample: Sample, digest: str, frame: Frame, finder: FaceFinder | None, stage: Stage
) -> Prepared:
    reasons = list(frame.notes)
    status: Status = "ok"
    faces: list[FaceScore] = []
    images: list[Image] = []
    if finder is None:
        faces, images = [_pending(frame, None)], [frame.image]
        if stage.expects_faces:
            reasons.append(_OUT_OF_DOMAIN)
    elif found := finder.find(frame.image):
        faces, images = _choose(frame, found, stage)
        if not images:
            status = "low_quality"
            reasons.extend(dict.fromkeys(reason for face in faces for reason in face.reasons))
    elif stage.whole_picture_without_face:
        faces, images = [_pending(frame, None)], [frame.image]
        reasons.append(_FELL_BACK)
    else:
        status = "no_face"
        sentence = f"{finder.name} found no face; --faces none scores whole pictures"
        reasons.append(Reason("no_face", sentence))
    pixels = tuple(stage.preprocess.resize(image) for image in images)
    return Prepared(sample, "image", digest, status, tuple(reasons), tuple(faces), pixels, frames=1)


def _choose(frame: Frame, found: list[Face], stage: Stage) -> tuple[list[FaceScore], list[Image]]:
    """Faces to score with their crops, then the faces that are listed only."""
    scored: list[FaceScore] = []
    listed: list[FaceScore] = []
    images: list[Image] = []
    for face in found[:1] if stage.mode == "largest" else found:
        crop = _crop(frame, face, stage, full=len(images) == stage.max_faces)
        if isinstance(crop, Reason):
            listed.append(_pending(frame, face, reason=crop))
        else:
            scored.append(replace(_pending(frame, face), quality=crop.quality))
            images.append(crop.image)
    return scored + listed, images


def _crop(frame: Frame, face: Face, stage: Stage, *, full: bool) -> Crop | Reason:
    """The aligned face, or the reason why it is listed only."""
    spec = stage.face
    left, top, right, bottom = face.box_xyxy
    if (side := min(right - left, bottom - top)) < stage.min_face_px:
        sentence = f"the face is {side:.0f} px wide; {stage.min_face_px:.0f} px are needed"
        return Reason("face_too_small", sentence)
    if full:
        return Reason("too_many_faces", f"only the {stage.max_faces} largest faces are scored")
    try:
        return crop_face(
            frame.image, face, size=spec.size, scale=spec.scale, antialias=spec.antialias
        )
    except FaceError as error:
        return Reason("not_aligned", str(error))


def _pending(frame: Frame, face: Face | None, *, reason: Reason | None = None) -> FaceScore:
    """A face before its score; without a face, the whole picture."""
    return FaceScore(
        box_xyxy=face.box_xyxy if face else None,
        landmarks=tuple((float(x), float(y)) for x, y in face.landmarks) if face else None,
        quality=None,
        logit=None,
        p_fake=None,
        verdict="inconclusive",
        frame=frame.index,
        time_s=frame.time_s,
        reasons=(reason,) if reason else (),
    )
