"""Errors within parts of the data."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_scores import table
from unmask.errors import ConfigError
from unmask.evaluate.evaluation import Slice
from unmask.evaluate.intervals import clopper_pearson
from unmask.evaluate.scoring import FILE_COLUMNS
from unmask.evaluate.slices import COLUMNS, available, default_columns, slices, worst_slice
from unmask.evaluate.table import texts

NAN = np.nan


def part(value: str, alarms: int, reals: int) -> Slice:
    return Slice("c", value, reals, 0, clopper_pearson(alarms, reals) if reals else None, None)


def test_texts_have_a_slice_for_each_value_the_most_frequent_first():
    scores = table([0, 0, 0], [0.1] * 3, camera=texts(["b", "a", "a"]))
    assert [each.value for each in slices(scores, ["camera"], 0.5)] == ["a", "b"]


def test_numbers_are_cut_at_their_quartiles():
    scores = table([0] * 8, [0.1] * 8, face_px=np.arange(8.0))
    found = slices(scores, ["face_px"], 0.5)
    assert [each.value for each in found] == [
        "[0, 1.75)",
        "[1.75, 3.5)",
        "[3.5, 5.25)",
        "[5.25, 7]",
    ]
    assert [each.n_real for each in found] == [2, 2, 2, 2]


def test_few_different_numbers_are_values():
    scores = table([0, 0, 0], [0.1] * 3, jpeg_quality=np.array([75.0, 95.0, 75.0]))
    assert [each.value for each in slices(scores, ["jpeg_quality"], 0.5)] == ["75", "95"]


def test_a_manifests_column_of_numbers_is_cut_like_numbers():
    scores = table([0] * 8, [0.1] * 8, age=texts([str(each) for each in range(8)]))
    assert slices(scores, ["age"], 0.5)[0].value == "[0, 1.75)"


def test_a_column_with_one_word_among_numbers_is_texts():
    scores = table([0] * 8, [0.1] * 8, age=texts(["old", *map(str, range(7))]))
    assert "old" in {each.value for each in slices(scores, ["age"], 0.5)}


def test_what_is_not_known_has_a_slice_of_its_own():
    scores = table(
        [0] * 3, [0.1] * 3, aspect=np.array([1.0, 2.0, NAN]), camera=texts(["", "a", "a"])
    )
    assert [each.value for each in slices(scores, ["aspect"], 0.5)] == ["1", "2", "unknown"]
    assert [each.value for each in slices(scores, ["camera"], 0.5)] == ["a", "unknown"]


def test_rare_values_share_a_slice():
    scores = table([0] * 40, [0.1] * 40, camera=texts([f"c{each:02}" for each in range(40)]))
    found = slices(scores, ["camera"], 0.5)
    assert (len(found), found[-1].value, found[-1].n_real) == (31, "(other values)", 10)


def test_rates_are_shares_of_their_class_with_exact_intervals():
    scores = table([0, 0, 1, 1], [0.9, 0.1, 0.5, 0.2])
    (found,) = slices(scores, ["source"], 0.5)
    assert (found.fpr, found.fnr) == (clopper_pearson(1, 2), clopper_pearson(1, 2))


def test_a_slice_without_a_class_has_no_rate_of_it():
    (found,) = slices(table([0], [0.9]), ["source"], 0.5)
    assert (found.n_fake, found.fnr) == (0, None)


def test_items_without_score_or_label_are_in_no_slice():
    (found,) = slices(table([0, 0, -1], [0.9, NAN, 0.9]), ["source"], 0.5)
    assert found.n_real == 1


def test_source_and_dataset_are_the_data_set():
    scores = table([0, 0], [0.1, 0.9], dataset=["a", "b"])
    for name in ("source", "dataset"):
        assert [each.value for each in slices(scores, [name], 0.5)] == ["a", "b"]


def test_an_unknown_column_is_an_error_with_a_near_name():
    with pytest.raises(ConfigError, match=r"no column 'face_pix' .* 'face_px'"):
        slices(table([0], [0.1], face_px=np.array([1.0])), ["face_pix"], 0.5)


def test_usual_columns_that_tell_nothing_apart_are_left_out():
    scores = table([0] * 2, [0.1] * 2, format=texts(["png"] * 2), aspect=np.array([1.0, 2.0]))
    assert default_columns(scores) == ["aspect"]


def test_what_can_be_sliced_by_is_known_before_anything_is_scored():
    measured = {"faces", "face_px", "sharpness", "face_confidence"}
    assert set(COLUMNS) == {*available(table([0], [0.1])), *FILE_COLUMNS, *measured}


def test_the_worst_slice_has_the_highest_lower_bound():
    few, many = part("few", 8, 20), part("many", 70, 200)
    assert few.fpr.value > many.fpr.value
    assert worst_slice([few, many]) is many


def test_a_slice_of_few_reals_is_never_the_worst():
    assert worst_slice([part("few", 19, 19), part("many", 1, 20)]).value == "many"


def test_without_slices_of_enough_reals_none_is_the_worst():
    assert worst_slice([part("few", 1, 19), part("none", 0, 0)]) is None
