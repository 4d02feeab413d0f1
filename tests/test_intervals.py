import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate.counts import rank
from unmask.evaluate.intervals import (
    Interval,
    bootstrap,
    clopper_pearson,
    delong,
    groups_per_class,
    paired_difference,
    percentile_interval,
    resampled_counts,
    resampled_metrics,
)
from unmask.evaluate.weighted import accuracy, auc, default_metrics, tpr_at_fpr
from unmask.types import Reason

AUC = {"auc": auc}


def made_up(seed, n=200, gap=1.0, decimals=6):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return labels, np.round(1 / (1 + np.exp(-rng.normal(gap * labels, 1.0))), decimals)


# Bootstrap


def test_resamples_are_the_groups_drawn_with_replacement():
    labels, scores = made_up(0, 40)
    groups = np.arange(40) // 4
    generator = np.random.default_rng(3)
    expected = []
    for _ in range(20):
        drawn = generator.integers(0, 10, 10)
        items = np.concatenate([np.flatnonzero(groups == group) for group in drawn])
        expected.append(sklearn.metrics.roc_auc_score(labels[items], scores[items]))
    found = resampled_metrics(labels, scores, groups, AUC, n=20, seed=3)["auc"]
    assert found == pytest.approx(expected, abs=1e-12)


def test_an_interval_is_the_percentiles_of_the_resamples():
    labels, scores = made_up(0)
    drawn = resampled_metrics(labels, scores, np.arange(200), AUC, n=300, seed=1)["auc"]
    found = bootstrap(labels, scores, np.arange(200), AUC, n=300, seed=1, level=0.9)["auc"]
    low, high = np.percentile(drawn, [5, 95])
    value = sklearn.metrics.roc_auc_score(labels, scores)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high))
    assert (found.level, found.resamples, found.dropped) == (0.9, 300, 0)


def test_copies_of_a_frame_in_one_group_do_not_make_it_surer():
    labels, scores = made_up(0)
    once = bootstrap(labels, scores, np.arange(200), AUC, n=100, seed=0)
    ten = (np.repeat(each, 10) for each in (labels, scores, np.arange(200)))
    assert bootstrap(*ten, AUC, n=100, seed=0)["auc"].low == pytest.approx(once["auc"].low)


def test_most_intervals_hold_the_true_value():
    true = scipy.stats.norm.cdf(1 / math.sqrt(2))
    held = 0
    for seed in range(150):
        labels, scores = made_up(seed, 100)
        found = bootstrap(labels, scores, np.arange(100), AUC, n=150, seed=seed)["auc"]
        held += found.low <= true <= found.high
    assert 0.88 <= held / 150 <= 0.99


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    labels, scores = made_up(0)
    one, same, other = (
        bootstrap(labels, scores, np.arange(200), AUC, n=50, seed=seed)["auc"]
        for seed in (1, 1, [1, 2])
    )
    assert one == same
    assert one != other


def test_the_names_of_the_groups_do_not_matter_but_for_their_order():
    labels, scores = made_up(0)
    by_number = bootstrap(labels, scores, np.arange(200) // 5, AUC, n=50, seed=0)
    names = [f"video {index // 5:03d}" for index in range(200)]
    assert bootstrap(labels, scores, names, AUC, n=50, seed=0) == by_number


def test_a_metric_does_not_change_the_resamples_of_another():
    labels, scores = made_up(0)
    alone = bootstrap(labels, scores, np.arange(200), AUC, n=50, seed=0)["auc"]
    every = bootstrap(labels, scores, np.arange(200), default_metrics(0.5), n=50, seed=0)
    assert every["auc"] == alone
    assert all(each.low <= each.value <= each.high for name, each in every.items() if name != "ece")


def test_resamples_of_one_class_are_dropped_and_counted():
    labels, scores = [0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9]
    metrics = {"auc": auc, "accuracy": partial(accuracy, threshold=0.5)}
    found = bootstrap(labels, scores, np.arange(4), metrics, n=400, seed=0)
    assert found["auc"].resamples + found["auc"].dropped == 400
    assert found["auc"].dropped / 400 == pytest.approx(2 / 2**4, abs=0.04)
    assert found["accuracy"].dropped == 0


def test_a_metric_without_a_value_gives_its_reason_and_the_others_stand():
    # D38: one class is no failure of the whole table.
    metrics = {"auc": auc, "accuracy": partial(accuracy, threshold=0.5)}
    found = bootstrap([0] * 9, np.arange(9) / 10, np.arange(9), metrics, n=50, seed=0)
    assert found["auc"] == Reason("no_fakes", "AUC needs fakes, and the data have none")
    assert isinstance(found["accuracy"], Interval)


def test_a_class_from_one_group_has_no_interval():
    labels, scores = made_up(0, 20)
    groups = np.where(labels == 1, 0, np.arange(20) + 1)
    found = bootstrap(labels, scores, groups, AUC, n=50, seed=0)["auc"]
    assert found.value > 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.resamples == 0


def test_groups_are_counted_by_the_class_that_has_fewest():
    assert groups_per_class([0, 0, 0, 1, 1], ["a", "b", "c", "c", "d"]) == 2
    assert groups_per_class([0, 0, 0], ["a", "b", "b"]) == 2


def test_each_resample_has_as_many_groups_as_the_data():
    labels, scores = made_up(0, 60)
    sizes = {
        counts.n_real + counts.n_fake
        for counts in resampled_counts(rank(labels, scores), np.arange(60) // 3, n=30, seed=0)
    }
    assert sizes == {60}


def test_an_interval_of_no_values_is_unknown():
    found = percentile_interval(0.5, np.array([np.nan, np.nan]))
    assert math.isnan(found.low)
    assert (found.resamples, found.dropped) == (0, 2)


@pytest.mark.parametrize("n", [0, -1])
def test_no_resamples_are_refused(n):
    labels, scores = made_up(0, 10)
    with pytest.raises(ConfigError, match="resamples were asked for"):
        list(resampled_counts(rank(labels, scores), np.arange(10), n=n, seed=0))


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_probability_is_refused(level):
    labels, scores = made_up(0, 10)
    with pytest.raises(ConfigError, match="level"):
        bootstrap(labels, scores, np.arange(10), AUC, n=5, seed=0, level=level)
    with pytest.raises(ConfigError, match="level"):
        clopper_pearson(1, 2, level)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ScoresError, match="one group for each of 2 items"):
        bootstrap([0, 1], [0.1, 0.9], [0, 1, 2], AUC, n=5, seed=0)


def test_an_empty_group_is_refused():
    with pytest.raises(ScoresError, match="item number 1 and 1 others have an empty group"):
        bootstrap([0, 1, 1], [0.1, 0.9, 0.8], ["a", "", ""], AUC, n=5, seed=0)


# Differences


def test_the_difference_of_a_detector_to_itself_is_0_for_sure():
    labels, scores = made_up(0)
    found = paired_difference(labels, scores, scores, np.arange(200), auc, n=50, seed=0)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_paired_difference_takes_both_detectors_in_the_same_resamples():
    labels, a = made_up(0)
    b = a + np.random.default_rng(1).normal(0, 0.02, 200)
    found = paired_difference(labels, a, b, np.arange(200), auc, n=100, seed=4)
    drawn = [
        resampled_metrics(labels, each, np.arange(200), AUC, n=100, seed=4)["auc"]
        for each in (a, b)
    ]
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(drawn[0] - drawn[1], [0.025, 0.975]))
    )
    alone = bootstrap(labels, a, np.arange(200), AUC, n=100, seed=4)["auc"]
    assert found.high - found.low < (alone.high - alone.low) / 2


def test_a_difference_between_classes_of_one_group_has_no_interval():
    labels, scores = made_up(0, 10)
    found = paired_difference(labels, scores, -scores, labels, auc, n=10, seed=0)
    assert math.isnan(found.low)


def test_a_difference_of_what_has_no_value_is_undefined():
    with pytest.raises(MetricUndefined):
        paired_difference([0, 0], [0.1, 0.2], [0.2, 0.1], [0, 1], auc, n=10, seed=0)


def test_a_paired_difference_takes_any_metric():
    labels, a = made_up(0)
    _, b = made_up(1)
    metric = partial(tpr_at_fpr, fpr=0.05)
    found = paired_difference(labels, a, b, np.arange(200), metric, n=30, seed=0)
    assert found.low <= found.value <= found.high


# DeLong


def slow_delong(labels, a, b):
    """By the definition: a kernel over all pairs of a fake and a real."""
    parts = []
    for scores in (a, b):
        fakes, reals = scores[labels == 1], scores[labels == 0]
        kernel = (fakes[:, None] > reals) + 0.5 * (fakes[:, None] == reals)
        parts.append((kernel.mean(), kernel.mean(axis=1), kernel.mean(axis=0)))
    (auc_a, fakes_a, reals_a), (auc_b, fakes_b, reals_b) = parts
    variance = 0.0
    for one, two in ((fakes_a, fakes_b), (reals_a, reals_b)):
        matrix = np.cov(np.stack([one, two]))
        variance += (matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1]) / len(one)
    return auc_a - auc_b, math.sqrt(variance)


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("seed", range(4))
def test_delong_by_midranks_is_delong_over_all_pairs(seed, decimals):
    labels, a = made_up(seed, 61, 1.0, decimals)
    _, b = made_up(seed + 10, 61, 0.5, decimals)
    found = delong(labels, a, b)
    difference, error = slow_delong(labels, a, b)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.standard_error == pytest.approx(error, abs=1e-12)
    assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(difference) / error))


def test_delong_of_four_items_is_what_a_hand_finds():
    # a: 3/4 of the pairs right, b: 1/2. Shares of the fakes 1/2, 1 and 1, 0; of the reals 1, 1/2
    # and 1/2, 1/2. Differences -1/2, 1 and 1/2, 0: variances 9/8 and 1/8, each over 2.
    found = delong([0, 0, 1, 1], [0.1, 0.5, 0.4, 0.9], [0.3, 0.2, 0.9, 0.1])
    assert found.difference == pytest.approx(0.25)
    assert found.standard_error == pytest.approx(math.sqrt(9 / 16 + 1 / 16))


def test_delong_finds_no_difference_of_a_detector_to_itself():
    labels, scores = made_up(0)
    assert delong(labels, scores, 2 * scores).p_value == 1


def test_delong_of_detectors_alike_rarely_says_that_they_differ():
    small = 0
    for seed in range(300):
        labels, a = made_up(2 * seed, 100)
        _, b = made_up(2 * seed + 1, 100)
        small += delong(labels, a, b).p_value < 0.05
    assert 0.02 < small / 300 < 0.09


def test_delong_needs_two_of_each_class():
    with pytest.raises(MetricUndefined, match="1 reals and 2 fakes") as caught:
        delong([0, 1, 1], [0.1, 0.5, 0.6], [0.1, 0.5, 0.4])
    assert caught.value.code == "too_few_items"


def test_delong_has_nothing_to_test_where_nothing_varies():
    labels, scores = [0, 0, 1, 1], np.array([0.1, 0.2, 0.8, 0.9])
    with pytest.raises(MetricUndefined, match="nothing to test by") as caught:
        delong(labels, scores, 1 - scores)
    assert caught.value.code == "no_variance"


# Clopper and Pearson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_clopper_pearson_is_that_of_scipy(k, n, level):
    expected = scipy.stats.binomtest(k, n).proportion_ci(level, method="exact")
    found = clopper_pearson(k, n, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.value == k / n


def test_none_of_thirty_still_allows_one_in_nine():
    assert clopper_pearson(0, 30).high == pytest.approx(1 - 0.025 ** (1 / 30))


def test_a_share_of_nothing_is_undefined():
    with pytest.raises(MetricUndefined, match="no items"):
        clopper_pearson(0, 0)


@pytest.mark.parametrize(("k", "n"), [(2, 1), (-1, 3), (1, 0)])
def test_a_part_larger_than_the_whole_is_refused(k, n):
    with pytest.raises(ScoresError, match="is no share"):
        clopper_pearson(k, n)
