import pytest

from unmask.aggregate import judge, picture_reasons, picture_verdict, strongest
from unmask.types import FaceScore, OperatingPoint, Reason, Verdict

POINT = OperatingPoint("p", fake_at=0.8, real_below=0.3, source="fixed")


def face(
    logit: float | None, verdict: Verdict = "inconclusive", *reasons: Reason, p: float | None = None
) -> FaceScore:
    return FaceScore(
        box_xyxy=(0, 0, 9, 9),
        landmarks=None,
        quality=None,
        logit=logit,
        p_fake=p,
        verdict=verdict,
        reasons=reasons,
    )


@pytest.mark.parametrize(
    ("p_fake", "verdict"),
    [(0.0, "real"), (0.2999, "real"), (0.3, "inconclusive"), (0.7999, "inconclusive"),
     (0.8, "fake"), (1.0, "fake")],
)  # fmt: skip
def test_the_two_thresholds_make_a_band(p_fake, verdict):
    assert judge(p_fake, POINT) == verdict


def test_equal_thresholds_leave_no_band():
    half = OperatingPoint("fixed", fake_at=0.5, real_below=0.5, source="fixed")
    assert [judge(p, half) for p in (0.4999, 0.5)] == ["real", "fake"]


def test_the_strongest_face_has_the_largest_logit():
    faces = [face(-1.0), face(2.0), face(None), face(1.0)]
    assert strongest(faces) is faces[1]


def test_of_equal_faces_the_first_is_the_strongest():
    faces = [face(1.0), face(1.0)]
    assert strongest(faces) is faces[0]


@pytest.mark.parametrize("faces", [[], [face(None)]])
def test_without_a_scored_face_there_is_no_strongest(faces):
    assert strongest(faces) is None


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["real", "fake", "real"], "fake"),
        (["fake", "inconclusive"], "fake"),
        (["real", "real"], "real"),
        (["real", "inconclusive"], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_one_fake_face_makes_a_fake_picture_and_all_must_be_real(verdicts, expected):
    assert picture_verdict([face(0.0, verdict) for verdict in verdicts]) == expected


def test_a_face_that_was_not_scored_has_no_say_in_the_verdict():
    assert picture_verdict([face(-2.0, "real"), face(None, "inconclusive")]) == "real"


def test_faces_disagree_where_one_is_real_and_one_fake():
    reasons = picture_reasons([face(3.0, "fake", p=0.9), face(-3.0, "real", p=0.1)], POINT)
    assert [reason.code for reason in reasons] == ["faces_disagree"]


def test_faces_that_agree_give_no_reason():
    assert picture_reasons([face(3.0, "fake", p=0.9), face(4.0, "fake", p=0.95)], POINT) == ()


def test_a_score_between_the_thresholds_is_near_threshold_and_names_them():
    (reason,) = picture_reasons([face(0.0, p=0.5)], POINT)
    assert reason.code == "near_threshold"
    for part in ("0.500", "0.300", "0.800", "'p'"):
        assert part in reason.message


def test_the_reasons_of_faces_are_told_once():
    small = Reason("face_too_small", "small")
    faces = [face(3.0, "fake", p=0.9), face(None, "inconclusive", small), face(None, "real", small)]
    assert picture_reasons(faces, POINT) == (small,)
