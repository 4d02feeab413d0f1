"""Conditions that fail a release."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tiny_scores import several, table
from unmask.errors import ConfigError
from unmask.evaluate.evaluation import Evaluation, Threshold
from unmask.evaluate.gate import Outcome, check_scopes, judge, parse_gate, sliced
from unmask.evaluate.summary import Choices, summarise
from unmask.evaluate.table import Scores

HALF = Threshold(0.5, "fixed")


def evaluated(scores, *columns: str) -> Evaluation:
    return summarise(scores, HALF, Choices(bootstraps=20, columns=columns))


def judged(text: str, evaluation: Evaluation) -> Outcome:
    (found,) = judge([parse_gate(text)], evaluation)
    return found


@pytest.fixture(scope="module")
def two() -> Evaluation:
    """Data sets a and b with 30 reals and 30 fakes each."""
    return evaluated(several("a", "b"), "source")


@pytest.mark.parametrize(
    ("text", "metric", "bound", "scope", "number"),
    [
        ("fpr@source>0.1", "false_positive_rate", "value", "source", 0.1),
        (" auc.low@celebdf v2 <= 0.9 ", "auc", "low", "celebdf v2", 0.9),
        ("eer.high@a/b>=1e-1", "eer", "high", "a/b", 0.1),
        ("coverage@all<1", "coverage", "value", "all", 1),
    ],
)
def test_an_expression_has_metric_bound_scope_and_number(text, metric, bound, scope, number):
    found = parse_gate(text)
    assert (found.metric, found.bound, found.scope, found.number) == (metric, bound, scope, number)


@pytest.mark.parametrize(
    "text", ["", "auc", "auc@mean", "auc@mean=0.9", "auc@mean<high", "@mean<1", "auc@mean<1e999"]
)
def test_what_is_no_condition_is_an_error(text):
    with pytest.raises(ConfigError, match="is no condition"):
        parse_gate(text)


def test_an_unknown_metric_is_an_error_with_a_near_name():
    with pytest.raises(ConfigError, match="Did you mean 'auc'"):
        parse_gate("auk@mean<0.9")


def test_coverage_has_no_bound():
    with pytest.raises(ConfigError, match="no interval"):
        parse_gate("coverage.low@all<1")


def test_an_unknown_scope_is_an_error_with_a_near_name():
    with pytest.raises(ConfigError, match="Did you mean 'celebdf'"):
        check_scopes([parse_gate("auc@celebdv<0.9")], ["celebdf"], ["source"])


def test_known_scopes_pass():
    gates = [parse_gate(f"fpr@{scope}>0.1") for scope in ("mean", "all", "a", "source")]
    check_scopes(gates, ["a"], ["source"])


def test_slices_have_no_auc():
    with pytest.raises(ConfigError, match="fpr and fnr only"):
        check_scopes([parse_gate("auc@source<0.9")], ["a"], ["source"])


def test_columns_that_gates_look_at_are_sliced_by():
    gates = [parse_gate(text) for text in ("fpr@camera>0.1", "auc@mean<0.9", "auc@a<0.9")]
    assert sliced(gates, ["a"]) == ["camera"]


@pytest.mark.parametrize(("text", "failed"), [("auc@a<1", True), ("auc@a<0.1", False)])
def test_a_gate_fails_where_it_holds(two, text, failed):
    assert judged(text, two).failed is failed


@pytest.mark.parametrize(
    ("sign", "failed"), [("<", False), ("<=", True), (">", False), (">=", True)]
)
def test_each_sign_means_what_it_says(sign, failed):
    found = evaluated(table([0, 0, 1, 1], [0.9, 0.1, 0.9, 0.9]))
    assert judged(f"fpr@a{sign}0.5", found).failed is failed


@pytest.mark.parametrize("scope", ["mean", "all", "a"])
def test_mean_pooled_and_data_set_can_be_looked_at(two, scope):
    assert judged(f"auc@{scope}<1", two).message.startswith("pictures: 0.")


def test_where_there_is_one_data_set_it_is_the_mean():
    assert not judged("auc@mean<0.1", evaluated(several("a"))).failed


def test_a_bound_is_stricter_than_the_number(two):
    value = next(row for row in two.rows if row.name == "a").measures[0].interval.value
    text = f"@a<{value}"
    assert not judged(f"auc{text}", two).failed
    assert judged(f"auc.low{text}", two).failed


def test_misses_are_the_mirror_of_what_is_caught():
    found = evaluated(table([0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.9, 0.9, 0.9, 0.2]))
    assert judged("fnr@a>0.24", found).failed
    assert not judged("fnr@a>0.26", found).failed
    low = judged("fnr.low@a>0.25", found).message
    assert float(low.split()[-1]) <= 0.25


def test_coverage_is_the_share_that_was_scored():
    found = evaluated(table([0, 1, 1], [0.1, 0.9, math.nan]))
    assert judged("coverage@a<0.7", found).failed
    assert not judged("coverage@a<0.6", found).failed


def test_a_number_that_is_not_available_fails():
    found = judged("auc@a<0.1", evaluated(table([0, 0], [0.1, 0.2])))
    assert found.failed
    assert "needs fakes" in found.message


def test_a_bound_that_is_not_available_fails():
    assert judged("auc.low@a<0.1", evaluated(table([0, 1], [0.1, 0.9], group=["g", "g"]))).failed


def test_a_metric_that_the_protocol_does_not_give_fails():
    choices = Choices(protocol="deepfakebench")
    found = judged("brier@a>1", summarise(several("a"), HALF, choices))
    assert found.failed
    assert "protocol" in found.message


def test_of_a_data_set_with_videos_the_videos_are_looked_at():
    scores = table([0, 0, 1, 1], [0.9, 0.1, 0.9, 0.9], video=["r", "r", "f", "f"])
    assert judged("fpr@a>0", evaluated(scores)).message == "videos: 1.000"


def test_a_slice_gate_names_the_slices_that_break_it(two):
    rates = {each.value: each.fpr.value for each in two.slices if each.column == "source"}
    worse = max(rates, key=rates.get)
    found = judged(f"fpr@source>{min(rates.values())}", two)
    assert found.failed
    assert found.message == f"{worse} {rates[worse]:.3f}"


def test_a_slice_gate_passes_where_no_slice_breaks_it(two):
    found = judged("fpr@source>0.99", two)
    assert not found.failed
    assert found.message == "none of 2 slices"


def test_slices_without_the_class_are_named():
    scores = table([0, 1], [0.1, 0.9], dataset=["reals", "fakes"])
    found = judged("fpr@source>0.1", evaluated(scores, "source"))
    assert not found.failed
    assert "not looked at: fakes" in found.message


def test_slices_that_all_lack_the_class_fail():
    assert judged("fpr@source>0.1", evaluated(table([1, 1], [0.8, 0.9]), "source")).failed


def test_a_data_set_comes_before_a_generator_of_its_name():
    scores = several("swap", "b")
    scores = replace(scores, generator=scores.generator.copy())
    scores.generator[scores.label == 1] = "swap"
    found = evaluated(scores)
    row = next(row for row in found.rows if (row.name, row.kind) == ("swap", "dataset"))
    assert judged("auc@swap<1", found).message == f"pictures: {row.measures[0].interval.value:.3f}"


def uneven() -> Scores:
    """Data set a is ranked the wrong way round, b perfectly; the last row of a has no score."""
    labels = [0, 0, 1, 1] * 2
    p_fake = [0.8, 0.9, 0.1, np.nan, 0.1, 0.2, 0.8, 0.9]
    return table(labels, p_fake, dataset=["a"] * 4 + ["b"] * 4)


@pytest.mark.parametrize("text", ["auc@all<0.8", "coverage@all<0.1", "auc@all>=0"])
def test_of_several_data_sets_none_stands_for_all_of_them(text):
    # The protocol has no row of all items; the last data set was judged in its place.
    found = judged(text, summarise(uneven(), HALF, Choices(protocol="deepfakebench")))
    assert found.failed
    assert found.message == "n/a: this evaluation has no row 'all'; name a data set"


def test_of_several_data_sets_none_stands_for_their_mean(two):
    without = replace(two, rows=tuple(row for row in two.rows if row.kind != "mean"))
    found = judged("auc@mean<0.1", without)
    assert found.failed
    assert found.message == "n/a: this evaluation has no row 'mean'; name a data set"


@pytest.mark.parametrize("scope", ["mean", "all"])
def test_one_data_set_is_mean_and_all_by_the_published_protocol_too(scope):
    found = summarise(several("a"), HALF, Choices(protocol="deepfakebench"))
    assert judged(f"acc@{scope}<0.1", found).message.startswith("videos: ")


def test_a_name_without_row_and_slice_fails(two):
    found = judged("auc@nobody<0.1", two)
    assert found.failed
    assert found.message == "n/a: no row or slice is called 'nobody'"
