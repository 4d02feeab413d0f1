import numpy as np
import pytest

from unmask.errors import ConfigError, ScoresError
from unmask.evaluate.videos import by_video

LABELS = [1, 0, 1, 1, 0, 1]
SCORES = [0.9, 0.3, 0.2, 0.4, 0.1, 0.5]
VIDEOS = ["b", "a", "b", "b", "a", "b"]


@pytest.mark.parametrize(
    ("how", "k", "expected"),
    [
        ("mean", 3, [0.2, 0.5]),
        ("median", 3, [0.2, 0.45]),
        ("max", 3, [0.3, 0.9]),
        ("top-k", 1, [0.3, 0.9]),
        ("top-k", 2, [0.2, 0.7]),
        ("top-k", 3, [0.2, 0.6]),
        ("top-k", 99, [0.2, 0.5]),
    ],
)
def test_frames_become_one_score(how, k, expected):
    found = by_video(LABELS, SCORES, VIDEOS, how, k=k)
    assert found.scores == pytest.approx(expected)
    assert found.ids.tolist() == ["a", "b"]
    assert found.labels.tolist() == [0, 1]


def test_a_video_leads_back_to_its_first_frame():
    found = by_video(LABELS, SCORES, VIDEOS, "mean")
    assert found.first.tolist() == [1, 0]
    assert found.frames.tolist() == [2, 4]


@pytest.mark.parametrize("how", ["mean", "median", "max", "top-k"])
def test_the_order_of_the_frames_changes_nothing_at_all(how):
    rng = np.random.default_rng(0)
    scores = rng.random(300)
    videos = np.array([f"v{i}" for i in rng.integers(0, 20, 300)])
    labels = np.array([int(video[1:]) % 2 for video in videos])
    order = rng.permutation(300)
    one = by_video(labels, scores, videos, how)
    other = by_video(labels[order], scores[order], videos[order], how)
    assert one.scores.tolist() == other.scores.tolist()


@pytest.mark.parametrize(
    ("how", "by_hand"),
    [("mean", np.mean), ("median", np.median), ("top-k", lambda s: np.mean(np.sort(s)[-3:]))],
)
def test_each_video_is_what_numpy_says_of_its_frames(how, by_hand):
    rng = np.random.default_rng(1)
    scores, videos = rng.random(200), rng.integers(100, 130, 200)
    found = by_video(np.zeros(200, int), scores, videos, how)
    expected = [by_hand(scores[videos == int(name)]) for name in found.ids]
    assert found.scores == pytest.approx(expected)


def test_frames_of_both_labels_in_one_video_are_an_error_that_names_it():
    # D32: the reference groups by bare folder name and rounds the mean label down.
    with pytest.raises(ScoresError, match=r"1 of 2 videos have frames of both labels, .* 'a'"):
        by_video([0, 1, 1], [0.1, 0.2, 0.3], ["a", "a", "b"], "mean")


def test_videos_of_one_name_in_two_data_sets_stay_apart():
    # D32: the full identity tells them apart.
    found = by_video([0, 1], [0.1, 0.9], ["one/real/000", "two/fake/000"], "mean")
    assert found.scores.tolist() == [0.1, 0.9]


def test_a_frame_without_a_video_is_refused():
    with pytest.raises(ScoresError, match="frame number 1 has no video"):
        by_video([0, 1], [0.1, 0.2], ["a", ""], "mean")


def test_videos_of_another_length_are_refused():
    with pytest.raises(ScoresError, match="one name for each of 2 frames"):
        by_video([0, 1], [0.1, 0.2], ["a"], "mean")


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ConfigError, match="aggregation is 'mode', not one of mean, median"):
        by_video([0], [0.1], ["a"], "mode")


def test_the_top_none_are_refused():
    with pytest.raises(ConfigError, match="k is 0"):
        by_video([0], [0.1], ["a"], "top-k", k=0)
