import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tiny_detectors import noise_image, sample, write_picture, write_pictures
from unmask.errors import ConfigError, LandmarkFileError
from unmask.flow import batches, ordered
from unmask.images import Limits
from unmask.models.detector import Detector, load
from unmask.pipeline import Options, Pipeline
from unmask.prepare import Prepared
from unmask.sources import read_sources
from unmask.types import FaceSpec, Image, Result, Sample


def one(detector: Detector, path: Path, **options) -> Result:
    (result,) = Pipeline(detector, Options(**options))([sample(path)])
    return result


def codes(result: Result) -> list[str]:
    return [reason.code for reason in result.reasons]


# Faces


def test_auto_scores_all_faces_for_a_detector_of_faces(face_detector, two_faces):
    result = one(face_detector, two_faces)
    assert len(result.faces) == 2
    assert all(face.logit is not None for face in result.faces)
    assert "all faces" in result.preprocessing


def test_auto_scores_the_whole_picture_for_a_detector_of_pictures(image_detector, two_faces):
    result = one(image_detector, two_faces, operating_point=0.5)
    assert result.status == "ok"
    assert result.faces == ()
    assert result.reasons == ()
    assert result.preprocessing.startswith("whole picture")


def test_largest_scores_one_face(face_detector, two_faces):
    (face,) = one(face_detector, two_faces, faces="largest").faces
    assert face.box_xyxy[0] < 300  # the one on the left


def test_none_with_a_detector_of_faces_is_out_of_domain(face_detector, portrait):
    result = one(face_detector, portrait, faces="none")
    assert result.status == "ok"
    assert "out_of_domain" in codes(result)


def test_the_picture_is_as_fake_as_its_most_fake_face(face_detector, two_faces):
    result = one(face_detector, two_faces)
    assert result.logit == max(face.logit for face in result.faces)
    assert result.p_fake == max(face.p_fake for face in result.faces)


def test_faces_disagree(face_detector, two_faces):
    scores = [face.p_fake for face in one(face_detector, two_faces).faces]
    assert abs(scores[0] - scores[1]) > 1e-3
    result = one(face_detector, two_faces, operating_point=sum(scores) / 2)
    assert {face.verdict for face in result.faces} == {"real", "fake"}
    assert result.verdict == "fake"
    assert codes(result) == ["faces_disagree"]


def test_a_picture_without_a_face_is_not_scored(face_detector, tmp_path, crops):
    result = one(face_detector, write_picture(tmp_path / "a.png", noise_image(0)))
    assert (result.status, codes(result)) == ("no_face", ["no_face"])
    assert result.frames.sampled == 1
    assert result.frames.scored == 0
    assert crops == []


def test_the_whole_picture_can_stand_in_for_a_face_and_says_so(face_detector, tmp_path):
    path = write_picture(tmp_path / "a.png", noise_image(0))
    result = one(face_detector, path, no_face="whole_picture", operating_point=0.5)
    assert (result.status, codes(result), result.faces) == ("ok", ["whole_picture"], ())
    assert result.logit == one(face_detector, path, faces="none").logit


def test_a_small_face_is_listed_and_not_scored(face_detector, portrait, crops):
    result = one(face_detector, portrait, min_face_px=1000)
    assert (result.status, codes(result)) == ("low_quality", ["face_too_small"])
    assert result.faces[0].logit is None
    assert crops == []


def test_of_too_many_faces_the_largest_are_scored(face_detector, two_faces):
    result = one(face_detector, two_faces, max_faces=1)
    assert result.status == "ok"
    assert [face.logit is None for face in result.faces] == [False, True]
    assert "too_many_faces" in codes(result)
    assert result.logit == result.faces[0].logit


def test_a_blurred_face_is_inconclusive(face_detector, portrait):
    result = one(face_detector, portrait, min_sharpness=1e9, operating_point=0.0)
    assert (result.status, result.verdict, codes(result)) == ("ok", "inconclusive", ["blurred"])
    assert result.p_fake is not None


def test_another_crop_can_be_asked_for(face_detector, portrait):
    wider = FaceSpec(size=32, scale=2.0)
    other = one(face_detector, portrait, face=wider)
    assert "scale 2" in other.preprocessing
    assert other.logit != one(face_detector, portrait).logit


# Verdicts


def test_the_first_operating_point_is_the_default(image_detector):
    assert Pipeline(image_detector).point.name == "fpr5"


def test_an_operating_point_is_chosen_by_name(image_detector):
    pipeline = Pipeline(image_detector, Options(operating_point="fpr1"))
    assert (pipeline.point.fake_at, pipeline.point.real_below) == (0.9, 0.1)


@pytest.mark.parametrize("threshold", [0.7, 1])
def test_a_number_is_a_fixed_threshold(image_detector, threshold):
    point = Pipeline(image_detector, Options(operating_point=threshold)).point
    assert (point.name, point.source) == ("fixed", "fixed")
    assert point.fake_at == point.real_below == threshold


def test_an_unknown_operating_point_offers_the_near_ones(image_detector):
    with pytest.raises(ConfigError, match=r"no operating point 'frp5'.*fpr5"):
        Pipeline(image_detector, Options(operating_point="frp5"))


def test_without_operating_points_half_is_the_threshold(image_detector):
    model = image_detector.model
    before, model.spec = model.spec, replace(model.spec, operating_points=())
    try:
        point = Pipeline(image_detector).point
    finally:
        model.spec = before
    assert (point.fake_at, point.real_below, point.source) == (0.5, 0.5, "fixed")


@pytest.mark.parametrize(("threshold", "verdict"), [(0.0, "fake"), (1.0, "real")])
def test_the_verdict_follows_the_threshold(image_detector, tmp_path, threshold, verdict):
    path = write_picture(tmp_path / "a.png", noise_image(0))
    assert one(image_detector, path, operating_point=threshold).verdict == verdict


def test_an_untrained_head_is_stamped_and_inconclusive(untrained_folder, tmp_path):
    detector = load(untrained_folder, device="cpu", allow_untrained=True)
    path = write_picture(tmp_path / "a.png", noise_image(0))
    result = one(detector, path, operating_point=0.0)
    assert (result.status, result.verdict) == ("ok", "inconclusive")
    assert codes(result) == ["untrained_head"]
    assert result.detector.trained is False


def test_an_untrained_head_is_not_blamed_for_what_was_not_scored(untrained_folder, tmp_path):
    detector = load(untrained_folder, device="cpu", allow_untrained=True)
    assert codes(one(detector, tmp_path / "gone.png")) == ["unreadable"]


# Options


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_size", 0), ("max_faces", 0), ("min_face_px", -1.0), ("workers", -1),
     ("workers", 257), ("operating_point", 1.5), ("operating_point", float("nan")),
     ("operating_point", 2), ("operating_point", True), ("min_face_px", float("nan")),
     ("min_face_px", float("inf")), ("min_sharpness", float("nan")), ("batch_size", 4097),
     ("faces", "bogus"), ("no_face", "bogus")],
)  # fmt: skip
def test_an_option_outside_its_range_is_refused(option, value):
    with pytest.raises(ConfigError, match=str(value)):
        Options(**{option: value})


@pytest.mark.parametrize("limits", [Limits(max_bytes=0), Limits(max_pixels=-1)])
def test_a_limit_that_lets_nothing_through_is_refused(limits):
    with pytest.raises(ConfigError, match=r"max_\w+ is"):
        Options(limits=limits)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_stands_before_an_error_of_the_source_is_given_out_first(
    image_detector, tmp_path, workers
):
    folder = write_pictures(tmp_path / "in", ["a.png", "b.png", "c.png"])

    def samples() -> Iterator[Sample]:
        yield from read_sources([folder])
        raise ValueError("no more")

    results = Pipeline(image_detector, Options(workers=workers))(samples())
    found = [Path(result.source).name for result in islice(results, 3)]
    assert found == ["a.png", "b.png", "c.png"]
    with pytest.raises(ValueError, match="no more"):
        next(results)


def test_a_finder_that_cannot_work_is_an_error_before_any_file(face_detector, tmp_path):
    options = Options(face=FaceSpec("dlib81", size=32), landmark_model=tmp_path / "gone.dat")
    with pytest.raises(LandmarkFileError):
        Pipeline(face_detector, options)


def test_limits_are_options(image_detector, tmp_path):
    path = write_picture(tmp_path / "a.png", noise_image(0))
    result = one(image_detector, path, limits=Limits(max_pixels=100))
    assert (result.status, codes(result)) == ("unsupported", ["too_many_pixels"])
    result = one(image_detector, path, limits=Limits(max_bytes=100))
    assert (result.status, codes(result)) == ("unsupported", ["file_too_large"])


def test_settings_tell_apart_what_changes_answers_and_nothing_else(image_detector, face_detector):
    plain = Pipeline(image_detector).settings()
    same = Pipeline(image_detector, Options(batch_size=3, workers=1)).settings()
    assert plain == same
    for other in (
        Pipeline(image_detector, Options(operating_point=0.4)),
        Pipeline(image_detector, Options(max_faces=3)),
        Pipeline(face_detector),
    ):
        assert other.settings() != plain


def test_settings_tell_apart_temperatures(image_detector):
    model = image_detector.model
    plain = Pipeline(image_detector).settings()
    before, model.spec = model.spec, replace(model.spec, temperature=3.0)
    try:
        assert Pipeline(image_detector).settings() != plain
    finally:
        model.spec = before


# Batches


def test_crops_go_through_the_tower_in_batches(image_detector, tmp_path, crops):
    write_pictures(tmp_path, [f"{number}.png" for number in range(10)])
    list(Pipeline(image_detector, Options(batch_size=4))(read_sources([tmp_path])))
    assert crops == [4, 4, 2]


def test_no_forward_pass_is_larger_than_the_batch_size(face_detector, two_faces, crops):
    list(Pipeline(face_detector, Options(batch_size=1))([sample(two_faces)]))
    assert crops == [1, 1]


def test_the_same_bytes_in_one_batch_are_scored_once(image_detector, tmp_path, crops):
    path = write_picture(tmp_path / "a.png", noise_image(0))
    results = list(Pipeline(image_detector)([sample(path)] * 5))
    assert len(results) == 5
    assert crops == [1]


def test_the_reason_of_a_damaged_file_names_that_file(image_detector, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for result in Pipeline(image_detector)(read_sources([tmp_path])):
        assert result.source in result.reasons[0].message


def test_results_stream(image_detector, tmp_path):
    taken = 0

    def samples() -> Iterator[Sample]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield sample(tmp_path / f"{number}.png")

    write_pictures(tmp_path, [f"{number}.png" for number in range(2)])
    results = Pipeline(image_detector, Options(batch_size=1, workers=2))(samples())
    next(results)
    results.close()
    assert taken < 20


def test_pictures_without_crops_do_not_hold_others_up():
    ready = iter([Prepared(Sample("a", Path("a"))) for _ in range(100)])
    assert len(next(batches(ready, 2))) == 8
    assert len(list(ready)) == 92


# Threads


@pytest.mark.parametrize(("workers", "window"), [(1, 1), (2, 5), (4, 9)])
def test_no_more_than_the_window_is_begun_ahead_of_a_slow_consumer(workers, window):
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(60):
            begun.append(number)
            yield number

    for taken, _ in enumerate(ordered(lambda item: item, items(), workers, window), start=1):
        assert len(begun) - taken < window
        time.sleep(0.0005)
    assert len(begun) == 60


def test_order_is_kept_where_later_items_are_faster():
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 4 == 0 else 0)
        return number

    assert list(ordered(slow_first, range(40), 4, 12)) == list(range(40))


def test_work_runs_at_the_same_time():
    together = threading.Barrier(3, timeout=10)
    assert len(list(ordered(lambda _: together.wait(), range(3), 3, 3))) == 3


def preparing() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("unmask-prepare")]


def test_an_error_in_a_worker_comes_out_and_nothing_hangs():
    def broken(number: int) -> int:
        if number == 7:
            raise RuntimeError("seven")
        return number

    results = ordered(broken, range(100), 3, 10)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(RuntimeError, match="seven"):
        next(results)
    assert preparing() == []


def test_an_error_in_the_input_comes_out_and_nothing_hangs():
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(ordered(lambda item: item, items(), 2, 4))
    assert preparing() == []


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_unforeseen_error_of_a_finder_stops_the_pipeline(
    face_detector, tmp_path, monkeypatch, workers
):
    write_pictures(tmp_path, [f"{number}.png" for number in range(30)])
    monkeypatch.setattr("unmask.faces.yunet.YuNet.find", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(Pipeline(face_detector, Options(workers=workers))(read_sources([tmp_path])))
    assert preparing() == []


def test_closing_early_stops_the_threads(image_detector, tmp_path):
    write_pictures(tmp_path, [f"{number}.png" for number in range(30)])
    results = Pipeline(image_detector, Options(workers=3, batch_size=2))(read_sources([tmp_path]))
    next(results)
    assert preparing()
    results.close()
    assert preparing() == []


def test_one_picture_needs_no_thread(image_detector, tmp_path, monkeypatch):
    monkeypatch.setattr("unmask.flow.ThreadPoolExecutor", None)
    assert one(image_detector, write_picture(tmp_path / "a.png", noise_image(0))).status == "ok"


def test_each_thread_has_its_own_finder(face_detector, tmp_path, monkeypatch):
    from unmask.faces.yunet import YuNet

    users: dict[int, set[int]] = {}
    find = YuNet.find

    def noting(self: YuNet, image: Image) -> list:
        users.setdefault(id(self), set()).add(threading.get_ident())
        return find(self, image)

    monkeypatch.setattr(YuNet, "find", noting)
    write_pictures(tmp_path, [f"{number}.png" for number in range(20)])
    list(Pipeline(face_detector, Options(workers=4))(read_sources([tmp_path])))
    assert all(len(threads) == 1 for threads in users.values())


def test_no_samples_give_no_results(image_detector):
    assert list(Pipeline(image_detector)([])) == []
