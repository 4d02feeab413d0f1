"""Rows of tables of scores that repeat or contradict each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiny_scores import several, table
from unmask.errors import ScoresError
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
