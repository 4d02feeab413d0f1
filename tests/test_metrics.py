import warnings
from functools import partial

import numpy as np
import pytest
import sklearn.metrics

from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate import metrics, weighted
from unmask.evaluate.counts import rank

RANK_METRICS = {
    "auc": metrics.auc,
    "average_precision": metrics.average_precision,
    "eer": metrics.eer,
    "eer_nearest": metrics.eer_nearest,
    "tpr_at_fpr": partial(metrics.tpr_at_fpr, fpr=0.1),
    "partial_auc": partial(metrics.partial_auc, max_fpr=0.1),
    "balanced_accuracy": partial(metrics.balanced_accuracy, threshold=0.5),
}
ANY_CLASS = {
    "accuracy": partial(metrics.accuracy, threshold=0.5),
    "brier": metrics.brier,
    "ece": metrics.ece,
    "log_loss": metrics.log_loss,
}
EVERY = {**RANK_METRICS, **ANY_CLASS}


def made_up(seed, n=200, decimals=8):
    """Labels and overlapping scores; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    labels[:2] = 0, 1
    scores = 1 / (1 + np.exp(-rng.normal(1.2 * labels - 0.6, 1.0)))
    return labels, np.round(scores, decimals)


many = pytest.mark.parametrize(
    ("seed", "n", "decimals"), [(0, 300, 8), (1, 300, 1), (2, 7, 1), (3, 1000, 2), (4, 2, 8)]
)


# Against scikit-learn


@many
def test_auc_is_that_of_scikit_learn(seed, n, decimals):
    labels, scores = made_up(seed, n, decimals)
    expected = sklearn.metrics.roc_auc_score(labels, scores)
    assert metrics.auc(labels, scores) == pytest.approx(expected, abs=1e-12)


@many
def test_average_precision_is_that_of_scikit_learn(seed, n, decimals):
    labels, scores = made_up(seed, n, decimals)
    expected = sklearn.metrics.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@many
@pytest.mark.parametrize("max_fpr", [0.001, 0.1, 0.5])
def test_partial_auc_is_that_of_scikit_learn(seed, n, decimals, max_fpr):
    labels, scores = made_up(seed, n, decimals)
    expected = sklearn.metrics.roc_auc_score(labels, scores, max_fpr=max_fpr)
    assert metrics.partial_auc(labels, scores, max_fpr) == pytest.approx(expected, abs=1e-12)


def test_partial_auc_up_to_1_is_the_auc():
    labels, scores = made_up(0)
    expected = metrics.auc(labels, scores)
    assert metrics.partial_auc(labels, scores, 1.0) == pytest.approx(expected)


@many
def test_eer_nearest_is_the_rule_on_the_curve_of_scikit_learn(seed, n, decimals):
    labels, scores = made_up(seed, n, decimals)
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores)
    expected = fpr[np.nanargmin(np.abs(1 - tpr - fpr))]
    assert metrics.eer_nearest(labels, scores) == pytest.approx(expected, abs=1e-12)


@many
def test_eer_is_where_a_root_search_finds_it(seed, n, decimals):
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    labels, scores = made_up(seed, n, decimals)
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    line = interp1d(fpr, tpr)
    expected = brentq(lambda x: 1 - x - line(x), 0, 1)
    assert metrics.eer(labels, scores) == pytest.approx(expected, abs=1e-9)


@many
def test_log_loss_is_that_of_scikit_learn(seed, n, decimals):
    labels, scores = made_up(seed, n, decimals)
    expected = sklearn.metrics.log_loss(labels, scores, labels=[0, 1])
    assert metrics.log_loss(labels, scores) == pytest.approx(expected, abs=1e-12)


def test_log_loss_of_a_sure_mistake_is_that_of_scikit_learn():
    labels, scores = [0, 1, 1], [1.0, 0.0, 1.0]
    expected = sklearn.metrics.log_loss(labels, scores)
    assert metrics.log_loss(labels, scores) == pytest.approx(expected)


@many
def test_brier_is_that_of_scikit_learn(seed, n, decimals):
    labels, scores = made_up(seed, n, decimals)
    expected = sklearn.metrics.brier_score_loss(labels, scores)
    assert metrics.brier(labels, scores) == pytest.approx(expected, abs=1e-12)


@many
def test_accuracies_are_those_of_scikit_learn(seed, n, decimals):
    labels, scores = made_up(seed, n, decimals)
    called = scores >= 0.5
    assert metrics.accuracy(labels, scores, 0.5) == pytest.approx(
        sklearn.metrics.accuracy_score(labels, called)
    )
    assert metrics.balanced_accuracy(labels, scores, 0.5) == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, called)
    )


@many
def test_tpr_at_fpr_is_the_best_of_all_thresholds(seed, n, decimals):
    labels, scores = made_up(seed, n, decimals)
    for fpr in (0, 0.01, 0.05, 0.5, 1):
        thresholds = [*scores, np.inf]
        allowed = [t for t in thresholds if np.mean(scores[labels == 0] >= t) <= fpr]
        best = max(np.mean(scores[labels == 1] >= t) for t in allowed)
        assert metrics.tpr_at_fpr(labels, scores, fpr) == best


# By hand


def test_a_score_at_the_threshold_is_called_fake():
    assert metrics.accuracy([1, 0], [0.5, 0.4], 0.5) == 1
    assert metrics.accuracy([1, 0], [0.5, 0.5], 0.5) == 0.5


def test_a_threshold_above_all_scores_calls_nothing_fake():
    assert metrics.false_positive_rate([0, 0], [0.5, 0.6], 0.7) == 0
    assert metrics.true_positive_rate([1, 1], [0.5, 0.6], 0.7) == 0


def test_rates_of_one_class_need_only_that_class():
    assert metrics.false_positive_rate([0, 0, 0, 0], [0.1, 0.2, 0.6, 0.7], 0.6) == 0.5
    assert metrics.true_positive_rate([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.7], 0.6) == 0.25


def test_classes_apart_have_no_errors():
    labels, scores = [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]
    assert metrics.auc(labels, scores) == metrics.average_precision(labels, scores) == 1
    assert metrics.eer(labels, scores) == metrics.eer_nearest(labels, scores) == 0
    assert metrics.tpr_at_fpr(labels, scores, 0.0) == 1


def test_classes_the_wrong_way_round_have_nothing_but_errors():
    labels, scores = [1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]
    assert metrics.auc(labels, scores) == 0
    assert metrics.eer(labels, scores) == 1


def test_equal_scores_are_chance():
    labels, scores = [0, 1, 0, 1], [0.5] * 4
    assert metrics.auc(labels, scores) == metrics.eer(labels, scores) == 0.5
    assert metrics.tpr_at_fpr(labels, scores, 0.5) == 0


def test_eer_is_interpolated_within_a_tie():
    # The curve goes (0, 0), (1/2, 1), (1, 1): FNR 1 - 2x meets x at 1/3.
    assert metrics.eer([0, 1, 1, 0], [0.5, 0.5, 0.5, 0.1]) == pytest.approx(1 / 3)


def test_an_fpr_is_reached_by_exactly_its_share_of_reals():
    # In floats 0.07 * 100 is above 7 and 0.29 * 100 below 29: neither may change the answer.
    labels = np.array([0] * 100 + [1] * 100)
    scores = np.concatenate([np.arange(100), np.arange(100) - 0.5]) / 100
    for percent in (1, 7, 29, 57):
        assert metrics.tpr_at_fpr(labels, scores, percent / 100) == percent / 100


def test_ece_is_the_gap_of_each_bin_by_its_size():
    # Two bins: (0.1, 0.3) with a fake share of 1/2, and 0.9 with 1; gaps 0.3 and 0.1.
    assert metrics.ece([0, 1, 1], [0.1, 0.3, 0.9], bins=2) == pytest.approx((2 * 0.3 + 0.1) / 3)


def test_a_score_on_an_edge_belongs_to_the_bin_above():
    # 0.6 begins the tenth of fifteen bins: apart from 0.59, each is off by its own gap.
    gap = abs(0.59 - 1) + abs(0.6 - 0)
    assert metrics.ece([1, 0], [0.59, 0.6], bins=15) == pytest.approx(gap / 2)


def test_a_score_of_1_belongs_to_the_last_bin():
    assert metrics.ece([1, 0], [1.0, 0.99], bins=10) == pytest.approx(abs(0.995 - 0.5))


def test_rank_metrics_take_logits():
    labels, scores = made_up(0)
    logits = np.log(scores / (1 - scores)) * 5
    for name in ("auc", "average_precision", "eer", "eer_nearest"):
        assert RANK_METRICS[name](labels, logits) == pytest.approx(
            RANK_METRICS[name](labels, scores)
        )


@pytest.mark.parametrize("name", EVERY)
def test_the_order_of_the_items_does_not_matter(name):
    labels, scores = made_up(5, decimals=1)
    order = np.random.default_rng(0).permutation(len(labels))
    assert EVERY[name](labels[order], scores[order]) == pytest.approx(EVERY[name](labels, scores))


@pytest.mark.parametrize("name", weighted.default_metrics(0.5) | {"eer_nearest": None})
def test_a_weight_of_three_is_the_item_three_times(name):
    metric = {**weighted.default_metrics(0.5), "eer_nearest": weighted.eer_nearest}[name]
    labels, scores = made_up(6, decimals=2)
    times = np.random.default_rng(0).integers(0, 4, len(labels))
    ranking = rank(labels, scores)
    by_weight = metric(ranking.counts(times[ranking.order].astype(float)))
    by_copies = metric(rank(np.repeat(labels, times), np.repeat(scores, times)).counts())
    assert by_weight == pytest.approx(by_copies, abs=1e-12)


def test_a_score_of_weight_zero_is_no_point_of_the_curve():
    # With the last item, which counts zero times, a point would be kept that lies on a line.
    labels, scores = [1, 0, 1, 0, 1, 0, 0, 1], [0.2, 0.9, 0.2, 0.3, 0.7, 0.6, 1.0, 0.4]
    times = np.array([1, 2, 2, 2, 1, 2, 1, 0])
    ranking = rank(labels, scores)
    by_weight = weighted.eer_nearest(ranking.counts(times[ranking.order].astype(float)))
    assert by_weight == metrics.eer_nearest(np.repeat(labels, times), np.repeat(scores, times))


# What has no value, and what is refused


@pytest.mark.parametrize("name", RANK_METRICS)
@pytest.mark.parametrize(("label", "code"), [(0, "no_fakes"), (1, "no_reals")])
def test_one_class_leaves_a_metric_undefined_with_its_reason(name, label, code):
    # D38: the reference fails on one class, or answers with a number that means nothing.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MetricUndefined, match="the data have none") as caught:
            RANK_METRICS[name]([label] * 3, [0.1, 0.5, 0.9])
    assert caught.value.code == code


@pytest.mark.parametrize("name", ANY_CLASS)
@pytest.mark.parametrize("label", [0, 1])
def test_the_other_metrics_stand_on_one_class(name, label):
    assert 0 <= ANY_CLASS[name]([label] * 3, [0.1, 0.5, 0.9]) < 2


def test_the_rate_of_a_missing_class_is_undefined():
    with pytest.raises(MetricUndefined, match="needs reals"):
        metrics.false_positive_rate([1], [0.5], 0.5)
    with pytest.raises(MetricUndefined, match="needs fakes"):
        metrics.true_positive_rate([0], [0.5], 0.5)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "there are no scores"),
        ([0, 1], [0.5], "the same length"),
        ([[0, 1]], [[0.1, 0.5]], "the same length"),
        ([0, 1], [0.5, float("nan")], "1 of 2 scores are not finite, the first is number 1"),
        ([0, 1], [float("inf"), 0.5], "not finite"),
        ([0, 2], [0.1, 0.5], r"label number 1 is .*2.*; 0 \(real\) and 1 \(fake\)"),
        ([0, -1], [0.1, 0.5], "label number 1"),
        ([0.0, float("nan")], [0.1, 0.5], "label number 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(name, labels, scores, message):
    with pytest.raises(ScoresError, match=message):
        EVERY[name](labels, scores)


@pytest.mark.parametrize("name", ["brier", "ece", "log_loss"])
@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_scores_that_are_no_probabilities_have_no_calibration(name, score):
    with pytest.raises(ScoresError, match=r"probabilities in 0\.\.1 were expected"):
        EVERY[name]([0, 1], [0.5, score])


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        metrics.tpr_at_fpr([0, 1], [0.1, 0.9], rate)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        metrics.partial_auc([0, 1], [0.1, 0.9], rate)


def test_no_area_lies_below_an_fpr_of_0():
    with pytest.raises(ConfigError, match="max_fpr is 0"):
        metrics.partial_auc([0, 1], [0.1, 0.9], 0)


def test_no_bins_are_refused():
    with pytest.raises(ConfigError, match="bins is 0"):
        metrics.ece([0, 1], [0.1, 0.9], bins=0)
