"""Rows of tables of scores that repeat or contradict each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiny_scores import POINT, several, table
from unmask.errors import ScoresError
from unmask.evaluate.agreement import DIFFERENCES
from unmask.evaluate.repeats import REPEATED, put_together, repeated
from unmask.evaluate.summary import Choices, summarise, threshold_of
from unmask.evaluate.table import Scores, data_hash, joined, select, texts

NAMES = ("one.parquet", "two.parquet")


def test_a_table_without_repeats_stays_as_it_is():
    one = several("a")
    found = put_together([one], NAMES[:1])
    assert found.source.tolist() == one.source.tolist()
    assert repeated(found) == 0


def test_rows_that_two_tables_share_count_once():
    one = several("a", count=10)
    found = put_together([one, select(one, np.arange(4))], NAMES)
    assert found.source.tolist() == one.source.tolist()
    assert (repeated(found), found.meta.settings[REPEATED]) == (4, 4)
    assert found.meta.data_sha256 == data_hash(one)


def test_what_was_not_scored_repeats_itself_too():
    one = table([0, 1], [np.nan, 0.5])
    assert len(put_together([one, one], NAMES)) == 2


def test_a_repeat_that_took_another_time_is_one():
    one, other = several("a"), several("a")
    other.elapsed_ms[:] = 7
    assert repeated(put_together([one, other], NAMES)) == 60


def test_the_report_says_how_many_rows_were_repeated():
    one = several("a", count=10)
    scores = put_together([one, one], NAMES)
    found = summarise(scores, threshold_of(scores.meta), Choices(bootstraps=0))
    assert (
        found.notes[0] == "10 rows say word for word what another one says: each item counts once"
    )


def with_repeats(scores: Scores, count: object) -> Scores:
    return replace(scores, meta=replace(scores.meta, settings={REPEATED: count}))


def test_repeats_of_earlier_runs_are_added_up():
    parts = [with_repeats(several(name, count=4), 2 + len(name)) for name in ("a", "bb")]
    assert repeated(joined(parts)) == 7
    assert repeated(put_together([*parts, parts[0]], ("x", "y", "z"))) == 14


def test_a_count_that_is_none_is_not_believed():
    assert repeated(with_repeats(several("a"), "many")) == 0


def test_an_item_of_another_split_is_no_repeat():
    one, other = several("a"), several("a")
    other.split[:] = "test"
    assert len(put_together([one, other], NAMES)) == 120


def test_a_file_of_two_labels_is_an_error_that_names_both_rows():
    one, other = several("a"), select(several("b"), np.array([1, 0]))
    other.label[1] = 1
    words = r"in/0/f\.png is real by one\.parquet, row 1 and fake by two\.parquet, row 2"
    with pytest.raises(ScoresError, match=words):
        put_together([one, other], NAMES)


def test_a_file_of_two_labels_within_one_table_is_an_error():
    one = table([0, 1], [0.1, 0.9])
    one.source[:] = "x.png"
    one.sha256[:] = ""
    with pytest.raises(ScoresError, match=r"x\.png is real by t, row 1 and fake by t, row 2"):
        put_together([one], ["t"])


def test_files_of_one_name_and_other_bytes_in_two_data_sets_are_two_files():
    one, other = several("a"), several("b")
    other = replace(other, label=1 - other.label, sha256=texts(f"{each}x" for each in other.sha256))
    assert len(put_together([one, other], NAMES)) == 120


def test_an_item_of_two_contents_within_a_data_set_is_an_error():
    one, other = several("a"), several("a")
    other.sha256[3] = "ff" * 32
    words = r"in/3/f\.png of the data set a has other bytes in two\.parquet, row 4 than in one\.par"
    with pytest.raises(ScoresError, match=words):
        put_together([one, other], NAMES)


@pytest.mark.parametrize("value", [0.123, np.nan])
def test_an_item_of_two_scores_within_a_data_set_is_an_error(value):
    one, other = several("a"), several("a")
    other.p_fake[3] = value
    with pytest.raises(ScoresError, match=r"has another score in two\.parquet, row 4"):
        put_together([one, other], NAMES)


SETTINGS = {
    "detector_config": "ab",
    "dtype": "float32",
    "temperature": 2.0,
    "preprocessing": "all faces",
    "options": {"faces": "auto", "min_face_px": 32.0},
    "operating_point": {"name": "fpr5"},
    "reading": {"data": ["x"]},
}


def told(name: str, changed: dict[str, object], **of_meta: object) -> Scores:
    """A data set scored with these settings."""
    table = several(name, count=4)
    meta = replace(table.meta, settings={**SETTINGS, **changed}, **of_meta)
    return replace(table, meta=meta)


@pytest.mark.parametrize(
    ("changed", "of_meta", "words"),
    [
        ({"temperature": 3.0}, {}, r"two\.parquet has another temperature \(3\.0\) than one\.pa"),
        ({}, {"preprocessing": "whole picture"}, r"another preprocessing \(whole picture\) than"),
        ({"detector_config": "cd"}, {}, r"another configuration of the detector \(cd\) than"),
    ],
)
def test_tables_in_which_p_fake_means_something_else_are_not_put_together(changed, of_meta, words):
    one, other = told("a", {}, preprocessing="all faces"), told("b", changed)
    other = replace(other, meta=replace(other.meta, **{"preprocessing": "all faces", **of_meta}))
    with pytest.raises(ScoresError, match=words):
        put_together([one, other], NAMES)


def test_tables_in_which_whole_pictures_are_read_in_another_way_are_not_put_together():
    one, other = (
        told(name, {"whole_pictures": {"temperature": temperature}})
        for name, temperature in (("a", 0.5), ("b", 0.6))
    )
    words = r"temperature \(2\.0, of whole pictures 0\.6\) than one\.parquet \(2\.0, of whole"
    with pytest.raises(ScoresError, match=words):
        put_together([one, other], NAMES)


def test_a_third_table_is_compared_too_and_so_are_those_that_were_put_together_before():
    one, two, three = told("a", {}), told("b", {"dtype": "float16"}), told("c", {"temperature": 1})
    both = put_together([one, two], NAMES)
    with pytest.raises(ScoresError, match=r"two\.parquet has another temperature \(1\) than"):
        put_together([both, three], NAMES)


def test_another_operating_point_is_another_configuration_of_the_same_p_fake():
    other = told("b", {"detector_config": "cd", "operating_point": {"name": "fpr1"}})
    point = replace(POINT, name="fpr1", fake_at=0.9)
    other = replace(other, meta=replace(other.meta, operating_point=point))
    found = put_together([told("a", {}), other], NAMES)
    assert found.meta.settings[DIFFERENCES] == [
        "operating point: fpr5 (0.6), fpr1 (0.9)",
    ]


@pytest.mark.parametrize(
    ("changed", "of_meta", "words"),
    [
        ({"dtype": "float16"}, {}, "dtype: float32, float16"),
        ({}, {"versions": {"unmask": "0.2.0"}}, "version of unmask: 0.1.0, 0.2.0"),
        ({"options": {"faces": "all", "min_face_px": 9.0}}, {}, "min_face_px: 32.0, 9.0"),
        ({"temperature": None}, {}, "temperature: 2.0, not known"),
    ],
)
def test_what_may_shift_p_fake_slightly_is_noted(changed, of_meta, words):
    parts = [told("a", {}), told("b", changed, **of_meta)]
    scores = put_together(parts, NAMES)
    assert scores.meta.settings[DIFFERENCES] == [words]
    found = summarise(scores, threshold_of(scores.meta), Choices(bootstraps=0))
    assert found.notes[0] == (
        "put together from tables not scored alike: P(fake), and what has one, may differ "
        f"slightly between them ({words})"
    )


def test_what_was_noted_of_tables_stays_when_further_ones_are_added():
    both = put_together([told("a", {}), told("b", {"dtype": "float16"})], NAMES)
    found = put_together([both, told("c", {})], NAMES)
    assert found.meta.settings[DIFFERENCES] == ["dtype: float32, float16"]


def test_tables_that_were_scored_alike_have_no_note():
    found = put_together([told("a", {}), told("b", {"reading": {"data": ["y"]}})], NAMES)
    assert DIFFERENCES not in found.meta.settings


def test_differences_that_are_none_are_not_believed():
    scores = told("a", {DIFFERENCES: 3})
    assert summarise(scores, threshold_of(scores.meta), Choices(bootstraps=0)).notes == ()
