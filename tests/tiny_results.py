"""Results made by hand, of every status, for what writes results."""

from __future__ import annotations

import os
from dataclasses import replace

from unmask.types import (
    DetectorRef,
    FaceScore,
    FrameCount,
    OperatingPoint,
    Quality,
    Reason,
    Result,
)

POINT = OperatingPoint("fpr5", 0.6, 0.4, source="validation of <b>", target_fpr=0.05)
FACE = FaceScore(
    box_xyxy=(10.0, 12.0, 40.0, 44.0),
    landmarks=((15.0, 20.0), (30.0, 20.0), (22.0, 30.0), (16.0, 38.0), (29.0, 38.0)),
    quality=Quality(size_px=30.0, sharpness=101.5, confidence=0.93),
    logit=2.5,
    p_fake=0.9241418,
    verdict="fake",
)
FAKE = Result(
    source="in/fake/a.png",
    sha256="ab" * 32,
    kind="image",
    status="ok",
    label=1,
    logit=2.5,
    p_fake=0.9241418,
    verdict="fake",
    reasons=(),
    faces=(FACE,),
    frames=FrameCount(sampled=1, scored=1),
    detector=DetectorRef("tiny", "cd" * 32, trained=True),
    preprocessing="all faces by yunet",
    operating_point=POINT,
    elapsed_ms=12.5,
    versions={"unmask": "0.1.0", "torch": "2"},
)
REAL = replace(
    FAKE, source="in/real/b.png", label=0, logit=-2.5, p_fake=0.0758582, verdict="real", faces=()
)
OPEN = replace(
    FAKE,
    source="in/c.png",
    label=None,
    logit=0.1,
    p_fake=0.525,
    verdict="inconclusive",
    reasons=(Reason("near_threshold", "P(fake) 0.525 lies between"),),
)
NO_FACE = replace(
    FAKE,
    source="in/d.png",
    status="no_face",
    logit=None,
    p_fake=None,
    verdict="inconclusive",
    reasons=(Reason("no_face", "yunet found no face"),),
    faces=(),
    frames=FrameCount(sampled=1, scored=0),
)
DAMAGED = replace(
    NO_FACE,
    source="in/e.png",
    sha256=None,
    kind="other",
    status="unreadable",
    reasons=(Reason("damaged", "in/e.png: the PNG data are damaged"),),
)
ALL = (REAL, OPEN, FAKE, NO_FACE, DAMAGED)

HOSTILE_NAMES = (
    "in/two\nlines.png",
    'in/"quoted", and; more.png',
    "in/'single' & <script>alert(1)</script>.png",
    "in/\x1b[2J\x1b[31mred\r.png",
    "in/ünï-文字-🙂.png",
    "in/" + os.fsdecode(b"\xff\xfe.png"),
    "in/=1+1.png",
    "in/back\\slash\\udcff.png",
)


def named(name: str) -> Result:
    """A result of that name whose reason tells the name too, as those of damaged files do."""
    return replace(OPEN, source=name, reasons=(Reason("damaged", f"{name}: damaged"),))
