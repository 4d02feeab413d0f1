"""The rows of an evaluation: what counts, what is missing, what has no value, and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tiny_scores import META, POINT, drawn, several, table
from unmask.errors import ConfigError, ScoresError
from unmask.evaluate.deepfakebench import deepfakebench
from unmask.evaluate.evaluation import Evaluation, Measure, Row, Shares, Threshold, Verdicts
from unmask.evaluate.intervals import clopper_pearson
from unmask.evaluate.mistakes import mistakes, not_scored
from unmask.evaluate.summary import Choices, summarise, threshold_of
from unmask.evaluate.table import Scores, joined, select, texts
from unmask.evaluate.units import pictures, units_of, videos

NAN = math.nan
HALF = Threshold(0.5, "fixed")
FEW = Choices(bootstraps=20)


def evaluated(scores: Scores, choices: Choices = FEW, at: Threshold = HALF) -> Evaluation:
    return summarise(scores, at, choices)


def row(found: Evaluation, name: str, unit: str = "picture", kind: str | None = None) -> Row:
    rows = [
        each
        for each in found.rows
        if (each.name, each.unit) == (name, unit) and kind in {None, each.kind}
    ]
    assert len(rows) == 1
    return rows[0]


def measure(of: Row, name: str) -> Measure:
    return next(each for each in of.measures if each.name == name)


def value(of: Row, name: str) -> float:
    found = measure(of, name).interval
    assert found is not None
    return found.value


# What counts once


def test_every_given_item_is_counted_and_those_without_score_by_their_status():
    scores = table([0, 1, 0, 1, -1], [0.1, 0.9, NAN, NAN, 0.5])
    scores = replace(scores, status=table([0] * 5, [0.1] * 5).status)
    scores.status[2], scores.status[3] = "no_face", "unreadable"
    coverage = pictures(scores).coverage
    assert (coverage.given, coverage.scored) == (5, 2)
    assert coverage.missing == {"no_face": 1, "unreadable": 1, "no_label": 1}


def test_an_item_without_score_is_left_out_by_default():
    assert pictures(table([0, 1, 1], [0.1, 0.9, NAN])).p_fake.tolist() == [0.1, 0.9]


@pytest.mark.parametrize(("missing", "stands_for"), [("as-real", 0.0), ("as-0.5", 0.5)])
def test_an_item_without_score_can_be_given_one(missing, stands_for):
    found = pictures(table([0, 1, 1], [0.1, 0.9, NAN]), missing=missing)
    assert found.p_fake.tolist() == [0.1, 0.9, stands_for]
    assert found.coverage.scored == 2


def test_a_video_counts_once_by_its_scored_frames():
    found = videos(table([1, 1, 1, 0], [0.8, 0.6, NAN, 0.1], video=["v", "v", "v", ""]), "mean")
    assert sorted(found.p_fake.tolist()) == pytest.approx([0.1, 0.7])
    assert (found.coverage.given, found.coverage.scored) == (2, 2)


def test_a_video_without_any_scored_frame_is_missing():
    scores = table([1, 1, 0], [NAN, NAN, 0.1], video=["v", "v", "w"])
    coverage = videos(scores, "mean").coverage
    assert (coverage.given, coverage.scored, coverage.missing) == (2, 1, {"no_face": 1})


def test_only_a_video_without_any_score_is_given_one():
    scores = table([1, 1, 1, 0], [NAN, NAN, 0.8, 0.1], video=["v", "v", "w", "w2"])
    scores.video[1] = "w"
    found = videos(scores, "mean", missing="as-real")
    assert sorted(found.p_fake.tolist()) == pytest.approx([0.0, 0.1, 0.8])


def test_videos_are_measured_only_where_there_are_any():
    assert [each.unit for each in units_of(table([0, 1], [0.1, 0.9]), "mean")] == ["picture"]
    with_video = table([0, 1], [0.1, 0.9], video=["v", ""])
    assert [each.unit for each in units_of(with_video, "mean")] == ["picture", "video"]


def test_videos_of_one_name_in_two_data_sets_stay_apart():  # D32: full identity
    scores = table([0, 1], [0.1, 0.9], dataset=["a", "b"], video=["a/000", "b/000"])
    assert len(videos(scores, "mean").labels) == 2


def test_a_picture_alone_is_a_video_even_where_its_name_is_in_another_set():
    scores = table([0, 1], [0.1, 0.9], dataset=["a", "b"])
    scores.source[:] = "same.png"
    assert len(videos(scores, "mean").labels) == 2


def test_a_video_with_frames_of_both_labels_is_an_error():
    with pytest.raises(ScoresError, match="both labels"):
        evaluated(table([0, 1], [0.1, 0.9], video=["v", "v"]))


def test_data_without_any_score_have_reasons_in_place_of_numbers():
    found = row(evaluated(table([0, 1], [NAN, NAN], video=["v", "w"])), "a", "video")
    assert {each.interval for each in found.measures} == {None}
    assert "none of the items" in found.measures[0].reason


# Rows


def test_a_data_set_has_its_auc_and_an_interval_around_it():
    labels, p_fake = drawn()
    found = measure(row(evaluated(table(labels, p_fake)), "a"), "auc").interval
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score(labels, p_fake))
    assert found.low < found.value < found.high
    assert found.resamples == 20


def test_one_data_set_has_neither_mean_nor_pooled_row():
    assert [each.kind for each in evaluated(several("a")).rows] == ["dataset"]


def test_the_mean_counts_each_data_set_alike():
    scores = joined([several("a"), several("b", count=20)])
    found = evaluated(scores)
    both = (value(row(found, "a"), "auc") + value(row(found, "b"), "auc")) / 2
    assert value(row(found, "mean"), "auc") == pytest.approx(both)
    assert row(found, "mean").n_real == 40


def test_the_interval_of_the_mean_is_narrower_than_those_of_its_parts():
    found = evaluated(several("a", "b", "c", "d"), Choices(bootstraps=200))

    def width(name: str) -> float:
        interval = measure(row(found, name), "auc").interval
        assert interval is not None
        return interval.high - interval.low

    # Half as wide where all are alike and drawn apart; as wide if all were drawn alike.
    assert width("mean") < 0.75 * sum(width(name) for name in "abcd") / 4


def test_the_pooled_row_says_that_it_is_pooled():
    assert "pooled" in row(evaluated(several("a", "b")), "all").notes[0]


def test_a_data_set_does_not_change_the_interval_of_another():
    alone, beside = evaluated(several("a")), evaluated(several("a", "b"))
    assert row(alone, "a").measures == row(beside, "a").measures


def test_rows_of_the_very_same_items_have_the_same_intervals():
    labels, p_fake = drawn()
    scores = table(labels, p_fake, generator=["swap" if label else "" for label in labels])
    found = evaluated(scores)
    assert row(found, "swap").measures == row(found, "a").measures
    renamed = replace(scores, dataset=np.full(60, "z", object))
    assert row(evaluated(renamed), "z").measures == row(found, "a").measures


def test_the_order_of_the_items_does_not_change_the_intervals():
    scores = several("a")
    turned = select(scores, np.arange(60)[::-1])
    assert evaluated(turned).rows[0].measures == evaluated(scores).rows[0].measures


def test_data_sets_are_resampled_apart():
    labels, p_fake = drawn()
    groups = [f"{number:03}" for number in range(120)]  # in the order of the items
    scores = table(labels * 2, p_fake * 2, dataset=["a"] * 60 + ["b"] * 60, group=groups)
    found = evaluated(scores)
    one, other = (measure(row(found, name), "auc").interval for name in "ab")
    assert one != other
    assert value(row(found, "a"), "auc") == value(row(found, "b"), "auc")


def test_the_same_seed_gives_the_same_numbers():
    assert evaluated(several("a", "b")).rows == evaluated(several("a", "b")).rows


def test_another_seed_gives_other_intervals():
    other = Choices(bootstraps=20, seed=1)
    assert evaluated(several("a")).rows != evaluated(several("a"), other).rows


def test_without_bootstraps_there_are_numbers_and_no_intervals():
    found = evaluated(several("a", "b"), Choices(bootstraps=0))
    interval = measure(row(found, "mean"), "auc").interval
    assert interval is not None
    assert math.isnan(interval.low)
    assert found.curves[0].tpr_low == ()
    assert found.curves[0].tpr


def test_whole_groups_are_resampled():
    labels, p_fake = drawn()
    alone = evaluated(table(labels, p_fake), Choices(bootstraps=100))
    groups = [f"g{number // 10}" for number in range(len(labels))]
    grouped = evaluated(table(labels, p_fake, group=groups), Choices(bootstraps=100))
    assert row(grouped, "a").n_groups == 6
    assert row(alone, "a").measures != row(grouped, "a").measures


def test_one_group_per_class_has_no_intervals_and_says_so():
    found = row(evaluated(table([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], group=["g"] * 4)), "a")
    interval = measure(found, "auc").interval
    assert interval is not None
    assert math.isnan(interval.low)
    assert "one group" in found.notes[-1]


# One class


def fakes_and_reals() -> Scores:
    labels, p_fake = drawn(dataset="x")
    order = np.argsort(labels, kind="stable")
    names = ["lfw"] * 30 + ["sfhq"] * 30
    return table(np.array(labels)[order].tolist(), np.array(p_fake)[order].tolist(), dataset=names)


def test_one_class_leaves_what_needs_both_without_value_and_the_rest_standing():
    found = row(evaluated(fakes_and_reals()), "lfw")
    assert measure(found, "auc").interval is None
    assert "needs fakes" in measure(found, "auc").reason
    assert measure(found, "false_positive_rate").interval is not None
    assert found.notes == ("reals only",)


def test_data_sets_of_one_class_are_named_with_what_to_do():
    notes = "\n".join(evaluated(fakes_and_reals()).notes)
    assert "reals only in lfw" in notes
    assert "fakes only in sfhq" in notes
    assert "--join sfhq+lfw" in notes


def test_joined_data_sets_are_measured_as_one():
    found = evaluated(fakes_and_reals(), replace(FEW, joins=(("sfhq", "lfw"),)))
    assert row(found, "sfhq+lfw").n_real == 30
    assert value(row(found, "sfhq+lfw"), "auc") > 0.5
    assert "joined from 2 sources" in found.notes[0]


def test_joining_leaves_the_slices_by_source_apart():
    found = evaluated(fakes_and_reals(), replace(FEW, joins=(("sfhq", "lfw"),)))
    assert {each.value for each in found.slices if each.column == "source"} == {"lfw", "sfhq"}


def test_joining_what_is_not_there_is_an_error_with_a_near_name():
    with pytest.raises(ConfigError, match=r"no data set 'lwf' to join. Did you mean 'lfw'"):
        evaluated(fakes_and_reals(), replace(FEW, joins=(("sfhq", "lwf"),)))


def test_joining_a_data_set_twice_is_an_error():
    with pytest.raises(ConfigError, match="joined twice"):
        evaluated(fakes_and_reals(), replace(FEW, joins=(("sfhq", "lfw"), ("lfw",))))


def test_the_mean_leaves_out_data_sets_of_one_class_and_names_them():
    found = row(evaluated(joined([several("a", "b"), fakes_and_reals()])), "mean")
    assert "over 2 data set(s)" in found.notes[0]
    assert "lfw, sfhq" in found.notes[1]
    assert found.n_real == 60


def test_the_mean_of_data_sets_of_one_class_has_the_metrics_that_all_have():
    found = row(evaluated(fakes_and_reals()), "mean")
    assert measure(found, "accuracy").interval is not None
    assert measure(found, "false_positive_rate").interval is None
    assert measure(found, "false_positive_rate").reason == "1 of 2 data sets have none: sfhq"


def half_lost(lost: Sequence[int], video: bool = False) -> Scores:
    """Data sets a and b of both classes; of b the items with these labels have no score."""
    scores = several("a", "b", count=8)
    gone = (scores.dataset == "b") & np.isin(scores.label, lost)
    p_fake = np.where(gone, NAN, scores.p_fake)
    status = texts(np.where(gone, "no_face", scores.status))
    names = texts(f"v{number}" if video else "" for number in range(len(scores)))
    return replace(scores, p_fake=p_fake, status=status, video=names)


@pytest.mark.parametrize(
    ("lost", "words"),
    [([0, 1], "all of b"), ([0], "the reals of b"), ([1], "the fakes of b")],
)
@pytest.mark.parametrize("protocol", ["unmask", "deepfakebench"])
def test_a_data_set_that_lost_a_class_leaves_no_mean(lost, words, protocol):
    # It dropped out of the mean, which rose, as if its data were of one class.
    found = row(evaluated(half_lost(lost), replace(FEW, protocol=protocol)), "mean")
    assert {each.interval for each in found.measures} == {None}
    if protocol == "unmask":
        assert measure(found, "auc").reason == (
            f"nothing could be scored of {words}: a mean over the others would flatter"
        )
    else:
        assert "the first is b" in measure(found, "auc").reason


def test_a_data_set_that_lost_a_class_is_in_the_coverage_of_the_mean():
    found = row(evaluated(half_lost([0, 1])), "mean")
    assert (found.coverage.given, found.coverage.scored) == (16, 8)
    assert found.notes[0] == "over 2 data set(s), each counting alike: a, b"
    assert not any("do not have both classes" in each for each in found.notes)


def test_a_data_set_that_lost_a_class_leaves_no_mean_over_videos():
    found = row(evaluated(half_lost([1], video=True)), "mean", "video")
    assert measure(found, "accuracy").interval is None
    assert found.coverage.given == 16


def test_a_data_set_that_lost_a_class_says_so_in_its_row():
    assert row(evaluated(half_lost([1])), "b").notes[0] == "only its reals could be scored"
    assert row(evaluated(half_lost([0])), "b").notes[0] == "only its fakes could be scored"


def test_filled_scores_lose_no_class():
    found = row(evaluated(half_lost([0, 1]), replace(FEW, missing="as-0.5")), "mean")
    assert measure(found, "auc").interval is not None


def test_the_mean_over_videos_counts_pictures_where_a_data_set_has_no_videos():
    labels, p_fake = drawn()
    names = [f"v{label}{number // 4}" for number, label in enumerate(labels)]
    with_videos = table(labels, p_fake, dataset="v", video=names)
    found = row(evaluated(joined([with_videos, several("b")])), "mean", "video")
    assert "no videos in b" in found.notes[-1]


# Generators


def test_fakes_of_a_generator_stand_against_the_reals_of_their_data_set():
    labels, p_fake = drawn()
    generators = [["", "swap", "", "gan"][number % 4] for number in range(len(labels))]
    found = evaluated(table(labels, p_fake, generator=generators))
    swap = row(found, "swap", kind="generator")
    assert (swap.n_real, swap.n_fake) == (30, 15)
    assert swap.notes == ("its fakes against the reals of a",)


def test_a_generator_in_two_data_sets_stands_against_the_reals_of_both():
    scores = replace(several("a", "b", "c"), generator=several("a", "b", "c").generator.copy())
    scores.generator[(scores.label == 1) & (scores.dataset != "c")] = "swap"
    swap = row(evaluated(scores), "swap", kind="generator")
    assert (swap.n_real, swap.n_fake) == (60, 60)
    assert swap.notes == ("its fakes against the reals of a, b",)


def test_a_generator_whose_data_set_has_no_reals_stands_against_none():
    scores = table([1, 1], [0.8, 0.9], dataset="x", generator="t2i")
    found = row(evaluated(scores), "t2i")
    assert measure(found, "auc").reason == "AUC needs reals, and the data have none"
    assert found.notes == ("no reals to stand against in x: what needs both classes is n/a",)


def test_a_generator_with_reals_in_one_of_its_data_sets_says_where_there_are_none():
    labels, p_fake = [1, 1, 0, 0, 1, 1], [0.8, 0.9, 0.1, 0.2, 0.7, 0.6]
    scores = table(labels, p_fake, dataset=list("xxbbbb"), generator="t2i")
    (said,) = row(evaluated(scores), "t2i").notes
    assert said == "its fakes against the reals of b; there are none in x"


# Thresholds


def test_the_threshold_is_the_detectors_own_and_says_where_it_is_from():
    found = threshold_of(META)
    assert found.value == POINT.fake_at
    assert found.source == "operating point fpr5, from validation part of x (40 reals)"


def test_a_given_threshold_is_fixed():
    assert threshold_of(META, 0.3) == Threshold(0.3, "fixed")


def test_a_detector_without_calibration_has_a_fixed_threshold():
    point = replace(POINT, name="fixed", source="fixed", fake_at=0.5)
    assert threshold_of(replace(META, operating_point=point)) == Threshold(0.5, "fixed")


def test_copies_of_the_same_bytes_are_one_group_with_all_that_is_in_theirs():
    scores = table([0, 0, 1, 1, 1], [0.1] * 5, group=["a", "b", "b", "c", "d"])
    scores.sha256[1] = scores.sha256[0]
    scores.sha256[3] = scores.sha256[2]
    assert pictures(scores).n_groups == 2


def test_files_without_a_hash_are_no_copies():
    scores = table([0, 1, 1], [0.1] * 3)
    scores.sha256[:] = ""
    assert pictures(scores).n_groups == 3


def test_copies_are_noted_with_their_count_and_data_sets():
    scores = several("a", "b", "c", count=10)
    scores.sha256[10:14] = scores.sha256[0:4]
    scores.label[10] = 1
    assert evaluated(scores).notes == (
        "4 of 30 items have the same bytes as another one (a, b): each counts, and copies are "
        "resampled as one group; 1 files have different labels",
    )


def test_without_copies_there_is_no_note_of_them():
    assert evaluated(several("a", "b")).notes == ()


def test_a_rate_of_0_or_1_has_the_exact_interval_over_its_groups():
    groups = ["r0", "r0", "r1", "r1", "f0", "f1", "f2", "f3"]
    scores = table([0] * 4 + [1] * 4, [0.1] * 4 + [0.9] * 4, group=groups)
    (found,) = evaluated(scores).rows
    for name, right, n in (
        ("false_positive_rate", 0, 2), ("true_positive_rate", 4, 4), ("accuracy", 6, 6),
        ("balanced_accuracy", 2, 2),
    ):  # fmt: skip
        assert measure(found, name).interval == clopper_pearson(right, n)


def test_the_mean_of_rates_of_0_has_the_mean_of_their_bounds():
    label, p_fake = [0, 0, 1, 1, 0, 0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9] * 2 + [0.9]
    p_fake[6] = 0.1
    scores = table(label, p_fake, dataset=list("aaaabbbbb"))
    found = measure(row(evaluated(scores), "mean"), "false_positive_rate").interval
    bounds = [clopper_pearson(0, n).high for n in (2, 3)]
    assert (found.low, found.high) == (0, pytest.approx(np.mean(bounds)))


def test_a_rate_that_is_neither_0_nor_1_keeps_its_bootstrap_interval():
    found = measure(evaluated(several("a")).rows[0], "false_positive_rate").interval
    assert found.resamples == 20


def uneven(n_real: int) -> Scores:
    """A data set of so many reals, and two fakes."""
    p_fake = np.linspace(0.1, 0.5, n_real).tolist()
    return table([0] * n_real + [1, 1], [*p_fake, 0.4, 0.9])


@pytest.mark.parametrize(("n_real", "marked"), [(99, 1), (100, 0), (19, 2), (20, 1), (1, 2)])
def test_a_tpr_at_an_fpr_below_that_of_one_real_is_marked(n_real, marked):
    found = row(evaluated(uneven(n_real)), "a")
    cautious = [each.name for each in found.measures if each.caution]
    assert cautious == ["tpr_at_fpr_1", "tpr_at_fpr_5"][:marked]


def test_the_mark_says_what_the_number_is():
    found = measure(row(evaluated(uneven(40)), "a"), "tpr_at_fpr_1")
    assert found.caution == (
        "with 40 reals there is no FPR between 0 and 2.5 %: this is the TPR at FPR 0"
    )
    assert value(row(evaluated(uneven(40)), "a"), "tpr_at_fpr_1") == 0.5
    assert "with 1 real there" in measure(row(evaluated(uneven(1)), "a"), "tpr_at_fpr_1").caution


def test_the_mean_is_marked_where_a_data_set_has_too_few_reals():
    found = measure(row(evaluated(several("a", "b")), "mean"), "tpr_at_fpr_1")
    assert found.caution == "too few reals for this FPR in a, b: there it is the TPR at FPR 0"


def test_rows_have_the_verdicts_of_each_class_at_the_band():
    scores = table([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.45, 0.7, 0.5, 0.9])
    found = evaluated(scores, at=threshold_of(META)).rows[0].verdicts
    assert found == Verdicts(Shares(0.5, 0.25, 0.25), Shares(0.0, 0.5, 0.5))


def test_the_mean_counts_the_verdicts_of_each_data_set_alike():
    scores = table([0, 1, 0, 0, 1], [0.1, 0.9, 0.9, 0.9, 0.5], dataset=list("aabbb"))
    found = row(evaluated(scores, at=threshold_of(META)), "mean").verdicts
    assert found == Verdicts(Shares(0.5, 0.0, 0.5), Shares(0.0, 0.5, 0.5))


def test_a_class_that_is_not_there_has_no_verdicts():
    scores = table([1, 1, 1, 0], [0.1, 0.9, 0.9, 0.1], dataset=list("abab"))
    found = evaluated(select(scores, scores.label == 1), at=threshold_of(META))
    assert row(found, "mean").verdicts == Verdicts(None, Shares(0.25, 0.0, 0.75))


def test_a_mean_over_videos_and_pictures_says_that_it_mixes_them():
    scores = table([0, 1, 0, 1], [0.1, 0.9] * 2, dataset=list("aabb"), video=["v", "w", "", ""])
    found = evaluated(scores)
    assert {(each.name, each.unit) for each in found.rows if each.mixed} == {
        ("mean", "video"), ("all", "video"),
    }  # fmt: skip


def test_a_fixed_threshold_has_no_verdicts():
    assert {each.verdicts for each in evaluated(several("a", "b")).rows} == {None}


def test_scores_of_several_operating_points_need_a_threshold():
    with pytest.raises(ConfigError, match="--threshold"):
        threshold_of(replace(META, operating_point=None))


def test_a_threshold_from_a_data_set_under_test_is_noted():
    found = evaluated(several("x"), at=threshold_of(META))
    assert "chosen on data sets that are measured here (x)" in found.notes[-1]


def test_a_threshold_from_other_data_is_not_noted():
    assert evaluated(several("y"), at=threshold_of(META)).notes == ()


def noted(*measured: str, **of_point: object) -> str:
    """What the report says of a threshold, of these data sets."""
    meta = replace(META, operating_point=replace(POINT, **of_point))
    found = evaluated(replace(several(*measured, count=4), meta=meta), at=threshold_of(meta))
    return " ".join(each for each in found.notes if "threshold was chosen" in each)


@pytest.mark.parametrize(
    ("source", "datasets", "measured", "named"),
    [
        ("mine", ("my set", "b"), ["my set", "c"], "my set"),
        ("mine", ("a, b",), ["a, b"], "a, b"),
        ("validation part of my set, b", (), ["c", "my set"], "my set"),
        ("val split of a, b", (), ["a, b"], "a, b"),
        ("my set, b", (), ["my set"], "my set"),
    ],
)
def test_a_data_set_that_a_threshold_was_chosen_on_is_found(source, datasets, measured, named):
    # Names were looked for as words of the sentence, so that those of several were missed.
    said = noted(*measured, source=source, datasets=datasets)
    assert f"data sets that are measured here ({named})" in said


@pytest.mark.parametrize(
    ("source", "datasets"),
    [
        ("validation part of x", ()),
        ("val split of x", ()),
        ("val split of x", ("x",)),
        ("validation of part", ("x",)),
        ("", ()),
    ],
)
def test_a_word_of_the_source_is_no_data_set(source, datasets):
    assert noted("validation", "val", "of", "part", "split", source=source, datasets=datasets) == ""


def test_a_threshold_from_the_very_same_data_is_noted():
    point = replace(POINT, sha256=META.data_sha256)
    scores = replace(several("y"), meta=replace(META, operating_point=point))
    assert "these very data" in evaluated(scores, at=threshold_of(scores.meta)).notes[-1]


def test_an_untrained_head_is_noted():
    scores = replace(several("a"), meta=replace(META, trained=False))
    assert "never trained" in evaluated(scores).notes[0]


def test_filled_scores_are_noted():
    assert "as-real" in evaluated(several("a"), replace(FEW, missing="as-real")).notes[-1]


# The protocol of published tables


PUBLISHED = Choices(protocol="deepfakebench", bootstraps=20)


def test_the_published_protocol_gives_its_own_numbers_without_intervals():
    scores = several("a")
    expected = deepfakebench(scores.label, scores.p_fake, scores.source.tolist())
    found = evaluated(scores, PUBLISHED)
    for name, key in (("auc", "auc"), ("eer", "eer"), ("accuracy", "acc")):
        assert value(row(found, "a"), name) == expected[key]
        assert value(row(found, "a", "video"), name) == expected[f"video_{key}"]
    assert found.bootstraps == 0


def test_the_published_protocol_says_that_it_is_used():
    assert "protocol deepfakebench" in evaluated(several("a"), PUBLISHED).notes[-1]


def test_the_published_protocol_says_how_many_folder_names_are_its_videos():
    scores = table([0, 0, 1, 1, 1], [0.1, 0.2, 0.8, 0.9, NAN])
    scores.source[:] = ["x/real/1", "x/real/2", "x/fake/1", "x/fake/2", "x/other/3"]
    found = row(evaluated(scores, PUBLISHED), "a", "video")
    assert (found.n_real, found.n_fake) == (1, 1)
    assert (found.coverage.given, found.coverage.scored) == (3, 2)
    assert found.notes == ("each folder name is a video: 1 of reals, 1 of fakes",)


def test_the_published_protocol_averages_over_data_sets():
    found = evaluated(several("a", "b"), PUBLISHED)
    both = (value(row(found, "a"), "auc") + value(row(found, "b"), "auc")) / 2
    assert value(row(found, "mean"), "auc") == pytest.approx(both)
    assert [each.name for each in row(found, "mean", "video").measures] == ["auc"]


def test_the_published_protocol_calls_one_half_real():
    found = evaluated(table([0, 1], [0.5, 0.6]), replace(PUBLISHED, columns=("source",)))
    assert (found.slices[0].fpr.value, found.slices[0].fnr.value) == (0, 0)


def test_the_published_protocol_without_scores_has_reasons():
    found = evaluated(table([0, 1], [NAN, NAN]), PUBLISHED)
    assert {each.interval for each in row(found, "a").measures} == {None}


# What else a report shows


def test_every_data_set_and_the_pooled_row_have_curves():
    found = evaluated(several("a", "b"))
    assert [each.name for each in found.curves] == ["a", "b", "all"]
    first = found.curves[0]
    assert sum(first.histogram_real) == sum(first.histogram_fake) == 30
    assert sum(first.bin_count) == 60
    assert len(first.fpr) == len(first.tpr) == len(first.tpr_low)


def test_of_many_data_sets_those_with_the_lowest_auc_have_curves():
    names = [f"d{number:02}" for number in range(14)]
    found = evaluated(several(*names, count=20), Choices(bootstraps=0))
    rows = {each.name: value(each, "auc") for each in found.rows if each.kind == "dataset"}
    drawn_sets = [each.name for each in found.curves]
    assert len(rows) == 14
    assert len(drawn_sets) == 13
    assert drawn_sets[-1] == "all"
    left_out = set(rows) - set(drawn_sets)
    assert min(rows[name] for name in left_out) >= max(rows[name] for name in drawn_sets[:-1])


def test_a_long_list_of_names_is_cut_in_sentences():
    names = [f"d{number:02}" for number in range(14)]
    found = row(evaluated(several(*names, count=4), Choices(bootstraps=0)), "mean")
    assert found.notes[0].endswith("d10, d11 and 2 more")


def test_one_class_has_a_histogram_and_no_roc_curve():
    found = evaluated(fakes_and_reals())
    assert found.curves[0].fpr == ()
    assert sum(found.curves[0].histogram_real) == 30


def test_data_without_scores_have_no_curves():
    assert evaluated(table([0, 1], [NAN, NAN])).curves == ()


def test_the_most_confident_errors_come_first_and_right_answers_not_at_all():
    found = mistakes(table([0, 0, 1, 1, 1], [0.8, 0.2, 0.05, 0.9, NAN]), HALF)
    assert [(each.label, each.p_fake) for each in found] == [(1, 0.05), (0, 0.8)]


def test_each_kind_of_error_has_its_share():
    scores = table([0] * 9 + [1], [0.9] * 9 + [0.4])
    assert sorted(each.label for each in mistakes(scores, HALF, each=2)) == [0, 0, 1]


def test_what_is_inconclusive_is_no_confident_error():
    scores = table([1, 1, 0, 0], [0.41, 0.39, 0.59, 0.61])
    assert [each.p_fake for each in mistakes(scores, threshold_of(META))] == [0.61, 0.39]


def test_each_error_says_what_it_was_called_and_what_is_known_of_it():
    extra = {"face_px": np.array([92.0, NAN]), "sharpness": np.array([40.0, 3.0])}
    alarm, miss = mistakes(table([0, 1], [0.95, 0.2], **extra), threshold_of(META))
    assert alarm.reasons == (
        "called fake at P(fake) 0.950, threshold 0.6; face 92 px, sharpness 40",
    )
    assert miss.reasons == ("called real at P(fake) 0.200, real below 0.4; sharpness 3",)


def test_errors_have_thumbnails_where_asked():
    scores = table([0], [0.9])
    (found,) = mistakes(scores, HALF, thumbnail=lambda path: f"data:{path.name}")
    assert found.thumbnail == "data:f.png"
    assert mistakes(scores, HALF)[0].thumbnail == ""


def test_what_was_not_scored_is_listed_with_its_reason():
    found = not_scored(table([0, 1, -1], [0.1, NAN, 0.5]))
    assert found[0] == ("in/1/f.png", "no_face", "no face was found")
    assert found[1][1] == "no_label"


def test_each_data_set_has_a_hash_that_its_labels_decide():
    one = several("a", "b")
    other = replace(one, label=one.label.copy())
    other.label[0] = 1
    first, second = evaluated(one).data, evaluated(other).data
    assert first["a"] != second["a"]
    assert first["b"] == second["b"]


def test_joined_tables_keep_the_settings_of_each_where_they_differ():
    parts = [replace(several("a"), meta=replace(META, settings={"n": n})) for n in (1, 1, 2)]
    assert joined(parts[:2]).meta.settings == {"n": 1}
    assert joined(parts[1:]).meta.settings == {"tables": [{"n": 1}, {"n": 2}]}


def test_a_selection_keeps_its_own_numbers():
    scores = several("a", "b")
    part = select(scores, scores.dataset == "a")
    assert evaluated(part).rows[0] == evaluated(scores).rows[0]
    assert Path(part.source[0]).name == "f.png"
