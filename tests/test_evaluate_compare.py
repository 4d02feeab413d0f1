"""Two detectors on the same items."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tiny_scores import META, several, table
from unmask.errors import ScoresError
from unmask.evaluate.compare import COMPARED, compare, paired
from unmask.evaluate.evaluation import Comparison, Threshold
from unmask.evaluate.intervals import clopper_pearson, delong
from unmask.evaluate.metrics import auc
from unmask.evaluate.table import Scores, joined, select

NAMES = ("one", "other")
HALF = (Threshold(0.5, "fixed"), Threshold(0.5, "fixed"))


def worse(scores: Scores, seed: int = 3) -> Scores:
    """The same items under a detector that adds noise."""
    noise = np.random.default_rng(seed).normal(size=len(scores))
    p_fake = 1 / (1 + np.exp(-(scores.logit + 2 * noise)))
    return replace(scores, p_fake=p_fake, meta=replace(META, detector="worse"))


def compared(one: Scores, other: Scores) -> dict[tuple[str, str], Comparison]:
    found, _ = compare(one, other, NAMES, thresholds=HALF, n=50)
    return {(each.dataset, each.metric): each for each in found}


def test_the_difference_is_the_first_minus_the_second():
    one = several("a")
    other = worse(one)
    found = compared(one, other)["a", "auc"]
    expected = auc(one.label, one.p_fake) - auc(other.label, other.p_fake)
    assert found.difference.value == pytest.approx(expected)
    assert (found.first, found.second) == NAMES


def test_the_same_scores_differ_by_nothing():
    one = several("a")
    for found in compared(one, one).values():
        difference = found.difference
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_both_are_resampled_alike():
    one = several("a", count=400)
    found = compared(one, worse(one, seed=5))["a", "auc"].difference
    assert found.low < found.value < found.high
    # Apart, each AUC has an interval of about 0.1; together they share most of the chance.
    assert found.high - found.low < 0.2


def test_every_metric_is_compared_per_data_set_over_the_mean_and_pooled():
    one = several("a", "b")
    found = compared(one, worse(one))
    assert set(found) == {
        (name, metric) for name in ("a", "b", "mean", "all") for metric in COMPARED
    }
    both = (found["a", "auc"].difference.value + found["b", "auc"].difference.value) / 2
    assert found["mean", "auc"].difference.value == pytest.approx(both)


def test_items_in_groups_of_their_own_have_delongs_p_value():
    one = several("a")
    other = worse(one)
    found = compared(one, other)
    assert found["a", "auc"].p_value == delong(one.label, one.p_fake, other.p_fake).p_value
    assert found["a", "eer"].p_value is None


def test_items_that_share_groups_have_no_p_value():
    one = several("a")
    one.group[:2] = "same"
    assert compared(one, worse(one))["a", "auc"].p_value is None


def test_a_test_without_variance_has_no_p_value():
    one = table([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9])
    other = table([0, 0, 1, 1], [0.9, 0.9, 0.1, 0.1])
    assert compared(one, other)["a", "auc"].p_value is None


def test_one_group_per_class_has_no_interval():
    one = table([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], group=["g"] * 4)
    assert math.isnan(compared(one, one)["a", "auc"].difference.low)


def test_only_items_that_both_scored_are_compared():
    one, other = several("a"), worse(several("a"))
    other.p_fake[0], one.p_fake[1] = np.nan, np.nan
    first, second, note = paired(one, other)
    assert len(first) == len(second) == 58
    assert note == "compared on the 58 of 60 items that both scored"


def test_the_order_of_the_items_does_not_matter():
    one = several("a")
    other = worse(one)
    turned = select(other, np.arange(len(other))[::-1])
    assert compared(one, other) == compared(one, turned)


def test_a_data_set_of_one_class_is_compared_by_its_rate_alone_and_named():
    one = joined([several("a"), table([0, 0], [0.1, 0.9], dataset="lfw")])
    one.source[-2:] = ["x.png", "y.png"]
    other = replace(one, p_fake=np.where(one.dataset == "lfw", 0.1, one.p_fake))
    found, notes = compare(one, other, NAMES, thresholds=HALF, n=20)
    of_lfw = {each.metric: each.difference.value for each in found if each.dataset == "lfw"}
    assert of_lfw == {"false_positive_rate": 0.5}
    assert "mean" not in {each.dataset for each in found}
    assert "of one class only, so compared by FPR or TPR alone: lfw" in notes


def test_a_data_set_of_fakes_is_compared_by_the_fakes_found():
    one = table([1, 1], [0.1, 0.9])
    assert set(compared(one, one)) == {("a", "true_positive_rate")}


APART = (Threshold(0.5, "fixed"), Threshold(0.8, "operating point fpr1, from y"))


def test_each_is_judged_at_its_own_threshold_and_both_are_named():
    scores = table([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7, 0.6, 0.9])
    found, notes = compare(scores, scores, NAMES, thresholds=APART, n=20)
    rates = {each.metric: each for each in found}
    assert rates["false_positive_rate"].difference.value == 0.5
    assert rates["true_positive_rate"].difference.value == 0.5
    assert rates["false_positive_rate"].thresholds == (0.5, 0.8)
    assert rates["auc"].thresholds is None
    assert notes[1] == (
        "FPR and TPR are compared at the threshold of each: one at 0.5 (fixed), other at 0.8 "
        "(operating point fpr1, from y)"
    )


def test_the_same_order_with_other_decisions_is_told():
    # The difference of AUC is 0 [0, 0] then, and one of the two may call every real fake.
    scores = table([0, 0, 1, 1], [0.1, 0.6, 0.6, 0.9])
    squeezed = replace(scores, p_fake=scores.p_fake / 2)
    found, notes = compare(scores, squeezed, NAMES, thresholds=HALF, n=20)
    assert {each.metric: each.difference.value for each in found}["auc"] == 0
    assert notes[-1] == (
        "both rank the items in the same order, so that AUC cannot tell them apart, but one alone "
        "calls fake 3 of 4 pictures of a"
    )


@pytest.mark.parametrize("change", [lambda p: p, lambda p: 1 - p])
def test_the_same_decisions_or_another_order_need_no_such_note(change):
    scores = several("a")
    _, notes = compare(
        scores, replace(scores, p_fake=change(scores.p_fake)), NAMES, thresholds=HALF, n=20
    )
    assert not any("same order" in note for note in notes)


def test_decisions_that_never_differ_are_no_proof_that_none_ever_will():
    scores = table([0] * 10 + [1] * 10, [*np.linspace(0, 0.4, 10), *np.linspace(0.6, 1, 10)])
    other = replace(scores, p_fake=scores.p_fake**1.05)
    found = compared(scores, other)["a", "false_positive_rate"].difference
    bound = clopper_pearson(0, 10).high
    assert (found.value, found.low, found.high) == (0, -bound, bound)


@pytest.mark.parametrize(("turned", "sign"), [(False, -1), (True, 1)])
def test_decisions_that_always_differ_have_the_exact_interval(turned, sign):
    scores = table([0] * 10 + [1] * 10, [*np.linspace(0, 0.4, 10), *np.linspace(0.6, 1, 10)])
    pair = (scores, replace(scores, p_fake=1 - scores.p_fake))
    found = compared(*(pair[::-1] if turned else pair))["a", "false_positive_rate"].difference
    low = clopper_pearson(10, 10).low
    assert (found.value, found.low, found.high) == (sign, *sorted((sign * low, sign)))


@pytest.mark.parametrize("lost", [[0, 1], [1]])
def test_a_data_set_that_lost_a_class_leaves_no_mean_difference(lost):
    scores = several("a", "b", "c", count=8)
    gone = (scores.dataset == "b") & np.isin(scores.label, lost)
    other = replace(scores, p_fake=np.where(gone, np.nan, scores.p_fake))
    found, notes = compare(scores, other, NAMES, thresholds=HALF, n=20)
    assert {each.dataset for each in found} == {"a", "c", "all"}
    assert notes[2] == (
        "not compared, since one of their classes has no item that both scored: b; there is no "
        "mean without them"
    )


def test_videos_are_compared_where_there_are_any():
    scores = table([0, 0, 1, 1], [0.9, 0.1, 0.4, 0.9], video=["r", "r", "f", "f"])
    flipped = replace(scores, p_fake=1 - scores.p_fake)
    found = compared(scores, flipped)["a", "auc"].difference.value
    assert found == 1.0  # videos are ranked right, and then wrong; frames would give 0.25


def test_items_without_a_common_name_cannot_be_compared():
    with pytest.raises(ScoresError, match="none in common"):
        paired(several("a"), several("b"))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (
            "label",
            1,
            r"1 of 60 items have another label .* in/0/f\.png: 'real' in the first, 'fake'",
        ),
        ("video", "w", r"1 of 60 items have another video .* in/0/f\.png: '' in the first, 'w' in"),
        ("sha256", "ff" * 32, r"1 of 60 items have another content .* such as in/0/f\.png"),
    ],
)
def test_items_that_are_not_the_same_in_both_tables_cannot_be_compared(column, value, words):
    one, other = several("a"), several("a")
    getattr(other, column)[0] = value
    with pytest.raises(ScoresError, match=words):
        paired(one, other)


def test_a_file_whose_bytes_one_table_does_not_know_is_taken_for_the_same():
    one, other = several("a"), several("a")
    other.sha256[0] = ""
    assert len(paired(one, other)[0]) == 60


def test_groups_are_those_of_the_first_table_and_others_are_told():
    one, other = several("a"), worse(several("a"))
    other.group[:] = "g"
    first, second, note = paired(one, other)
    assert second.group.tolist() == first.group.tolist() == one.group.tolist()
    assert "60 of them belong to another group in the second table" in note
    assert compared(one, other)["a", "auc"] == compared(one, worse(several("a")))["a", "auc"]
