"""From the scores of faces to the answer for the picture. No images, no tensors."""

from __future__ import annotations

from collections.abc import Sequence

from unmask.types import FaceScore, OperatingPoint, Reason, Verdict

__all__ = ["judge", "picture_reasons", "picture_verdict", "strongest"]


def judge(p_fake: float, point: OperatingPoint) -> Verdict:
    """The verdict for one probability under two thresholds.

    >>> point = OperatingPoint("p", fake_at=0.8, real_below=0.3, source="fixed")
    >>> [judge(p, point) for p in (0.1, 0.3, 0.79, 0.8)]
    ['real', 'inconclusive', 'inconclusive', 'fake']
    """
    if p_fake >= point.fake_at:
        return "fake"
    return "real" if p_fake < point.real_below else "inconclusive"


def strongest(faces: Sequence[FaceScore]) -> FaceScore | None:
    """The scored face with the largest ``p_fake`` (the first one on ties), or None.

    A picture is as suspicious as its most suspicious face: one swapped face among five real
    ones is a manipulated picture.
    """
    scored = [face for face in faces if face.logit is not None]
    return max(scored, key=_logit) if scored else None


def _logit(face: FaceScore) -> float:
    return face.logit if face.logit is not None else float("-inf")


def picture_verdict(faces: Sequence[FaceScore]) -> Verdict:
    """Fake if any face is, real if every scored face is, else inconclusive."""
    verdicts = {face.verdict for face in faces if face.logit is not None}
    if "fake" in verdicts:
        return "fake"
    return "real" if verdicts == {"real"} else "inconclusive"


def picture_reasons(faces: Sequence[FaceScore], point: OperatingPoint) -> tuple[Reason, ...]:
    """What a reader must know about how the faces led to the verdict, without repeats."""
    reasons = [reason for face in faces for reason in face.reasons]
    verdicts = {face.verdict for face in faces if face.logit is not None}
    top = strongest(faces)
    if {"fake", "real"} <= verdicts:
        reasons.append(
            Reason("faces_disagree", "some faces look real and some fake; see each face")
        )
    if top is not None and top.p_fake is not None and judge(top.p_fake, point) == "inconclusive":
        reasons.append(
            Reason(
                "near_threshold",
                f"P(fake) {top.p_fake:.3f} lies between {point.real_below:.3f} (real below) and "
                f"{point.fake_at:.3f} (fake from), operating point {point.name!r}",
            )
        )
    return tuple(dict.fromkeys(reasons))
