"""The nouns of the flow: each arrow of the pipeline takes one of these and gives the next.

    path ─sources→ Sample ─images→ Frame ─faces→ Crop ─preprocess→ tensor (B, 3, H, W)
                                                                      │
    report ←──────── Result ←aggregate─ FaceScore ←─────── Detector: backbone + head

Invariants (each has a test of its name in ``tests/test_invariants.py``):

1. Images are RGB uint8 ``(H, W, 3)`` from decoding to preprocess. BGR exists only inside an
   adapter to a library that needs it.
2. A detector gives one ``logit`` per crop, float32 ``(B,)``, positive = fake;
   ``p_fake = sigmoid(logit / temperature)``. Nothing guesses units or polarity.
3. Labels are 0 real, 1 fake, ``None`` unknown; decided in ``sources`` and nowhere else.
4. Every input yields exactly one ``Result``, in order, with a ``status``.
5. Every result can be traced: path, content hash, frame, box, detector id and weight hash,
   preprocessing, versions.
6. Same input, same detector, same answer, whatever the batch size, order or number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "Crop",
    "DetectorRef",
    "Face",
    "FaceScore",
    "FaceSpec",
    "Frame",
    "FrameCount",
    "Image",
    "Kind",
    "Label",
    "OperatingPoint",
    "Quality",
    "Reason",
    "Result",
    "Sample",
    "Status",
    "Verdict",
]

Label = int | None
"""0 real, 1 fake, ``None`` unknown."""

Image = npt.NDArray[np.uint8]
"""RGB, ``(H, W, 3)``, 0..255."""

Kind = Literal["image", "video", "other"]
Status = Literal["ok", "no_face", "low_quality", "unreadable", "unsupported"]
Verdict = Literal["real", "fake", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One input medium and what is known of it before it is opened."""

    source: str
    """The input as the user named it; identifies the sample in every output."""
    path: Path
    label: Label = None
    dataset: str = ""
    generator: str = ""
    """What made the fake, where known (``face_swap``, ``stylegan1``, ...)."""
    group: str = ""
    """What must not be split between training and validation: an identity or a video."""
    video: str = ""
    split: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    """What else a list says of it, ``(name, value)`` in the list's order; empty values left out."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a result is what it is: a code for machines, a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture."""

    image: Image
    index: int = 0
    time_s: float | None = None
    notes: tuple[Reason, ...] = ()
    """What decoding had to decide (first frame of an animation, 16 bits reduced to 8, ...)."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One found face, in pixels of the frame (x to the right, y down, origin top left)."""

    box_xyxy: tuple[float, float, float, float]
    landmarks: npt.NDArray[np.float32]
    """``(5, 2)``: eye, eye, nose, mouth, mouth; the eye and mouth corner on the left of the
    picture come before those on its right."""
    confidence: float
    """What the finder reports; its scale is the finder's own (YuNet 0..1, dlib unbounded)."""


@dataclass(frozen=True, slots=True)
class FaceSpec:
    """How the faces were cut that the detector learnt from, and must be cut for it.

    Args:
        finder: ``yunet`` or ``dlib81``.
        scale: Margin around the 112-pixel template; 1.3 is that of the reference.
        size: Side of the square crop, in pixels.
        antialias: Whether a face larger than the crop is smoothed before it is sampled.
    """

    finder: str = "yunet"
    scale: float = 1.3
    size: int = 224
    antialias: bool = False


@dataclass(frozen=True, slots=True)
class Quality:
    """What a crop is worth before anybody scores it."""

    size_px: float
    """Shorter side of the face box, in pixels of the source picture."""
    sharpness: float
    """Variance of the Laplacian of the grey aligned crop; falls with blur."""
    confidence: float
    """The finder's own, see :class:`Face`."""


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """What goes into the detector: an aligned face, or the whole picture where ``face`` is None."""

    image: Image
    face: Face | None = None
    matrix: npt.NDArray[np.float64] | None = None
    """``(2, 3)``: takes source pixels to crop pixels; ``None`` for a whole picture."""
    quality: Quality | None = None
    frame: int = 0
    time_s: float | None = None


@dataclass(frozen=True, slots=True)
class FaceScore:
    """One face (or whole picture) with its answer; ``logit`` is None where it was not scored."""

    box_xyxy: tuple[float, float, float, float] | None
    landmarks: tuple[tuple[float, float], ...] | None
    quality: Quality | None
    logit: float | None
    p_fake: float | None
    verdict: Verdict
    frame: int = 0
    time_s: float | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameCount:
    """How many frames were taken from the medium, and how many of them gave a score."""

    sampled: int
    scored: int


@dataclass(frozen=True, slots=True)
class DetectorRef:
    """Which weights answered."""

    id: str
    sha256: str
    trained: bool


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Two thresholds on ``p_fake`` and where they come from.

    ``p_fake >= fake_at`` is fake, ``p_fake < real_below`` is real, between them inconclusive.
    """

    name: str
    fake_at: float
    real_below: float
    source: str
    """The named data the thresholds were chosen on, or ``fixed``."""
    target_fpr: float | None = None
    target_fnr: float | None = None
    fpr_low: float | None = None
    """With ``fpr_high``: 95 % interval (Clopper-Pearson) of the share of reals at ``fake_at`` or
    above, from the reals it was chosen on."""
    fpr_high: float | None = None
    n_real: int | None = None
    """How many reals the thresholds were chosen on."""
    n_fake: int | None = None
    """How many fakes; 0 where they were chosen on reals alone."""
    sha256: str | None = None
    """Of the data they were chosen on, as the calibration reports it."""
    datasets: tuple[str, ...] = ()
    """The data sets that they were chosen on, by name; empty where nobody wrote them down."""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one sample. Documented, with its JSON form, in ``docs/result.md``."""

    source: str
    sha256: str | None
    kind: Kind
    status: Status
    label: Label
    logit: float | None
    p_fake: float | None
    verdict: Verdict
    reasons: tuple[Reason, ...]
    faces: tuple[FaceScore, ...]
    frames: FrameCount
    detector: DetectorRef
    preprocessing: str
    operating_point: OperatingPoint
    elapsed_ms: float
    versions: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = 1
