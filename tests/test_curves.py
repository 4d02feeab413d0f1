import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate.curves import det, reliability, roc, roc_band


def made_up(seed, n=200, decimals=6):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return labels, np.round(1 / (1 + np.exp(-rng.normal(labels, 1.0))), decimals)


@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("n", [2, 5, 300])
def test_the_roc_curve_is_that_of_scikit_learn(n, decimals):
    labels, scores = made_up(0, n, decimals)
    found = roc(labels, scores)
    expected = sklearn.metrics.roc_curve(labels, scores)
    for ours, theirs in zip((found.fpr, found.tpr, found.thresholds), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_the_det_curve_has_the_misses_of_scikit_learn():
    labels, scores = made_up(0, 100, 1)
    found = det(labels, scores)
    fpr, fnr, thresholds = sklearn.metrics.det_curve(labels, scores)
    ours = dict(zip(found.thresholds, zip(found.fpr, found.fnr, strict=True), strict=True))
    for threshold, pair in zip(thresholds, zip(fpr, fnr, strict=True), strict=True):
        if threshold in ours:
            assert ours[threshold] == pytest.approx(pair)


def test_a_curve_of_one_class_is_undefined():
    for curve in (roc, det):
        with pytest.raises(MetricUndefined, match="the ROC curve needs fakes"):
            curve([0, 0], [0.1, 0.2])


def test_reliability_is_that_of_scikit_learn():
    labels, scores = made_up(0)
    found = reliability(labels, scores, bins=10)
    share, mean = sklearn.calibration.calibration_curve(labels, scores, n_bins=10)
    filled = found.count > 0
    assert found.share[filled] == pytest.approx(share)
    assert found.mean[filled] == pytest.approx(mean)


def test_an_empty_bin_has_no_mean_and_no_share():
    found = reliability([0, 1], [0.1, 0.9], bins=3)
    assert found.count.tolist() == [1, 0, 1]
    assert np.isnan(found.mean).tolist() == np.isnan(found.share).tolist() == [False, True, False]
    assert found.edges == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_reliability_needs_probabilities():
    with pytest.raises(ScoresError, match="probabilities"):
        reliability([0, 1], [-3.0, 3.0])


def test_a_band_lies_around_the_curve():
    labels, scores = made_up(0)
    grid = np.linspace(0, 1, 21)
    found = roc_band(labels, scores, np.arange(200), grid, n=200, seed=0)
    assert (found.low <= found.tpr).all()
    assert (found.tpr <= found.high).all()
    assert (found.high - found.low)[1:-1].max() > 0.05
    assert found.tpr[-1] == found.low[-1] == 1


def test_the_curve_of_a_band_is_the_upper_end_where_it_is_upright():
    # Up to 1/2, right to 1/2, up to 1, right to 1.
    labels, scores, grid = [1, 0, 1, 0], [0.9, 0.7, 0.5, 0.3], np.array([0.0, 0.4, 0.5])
    found = roc_band(labels, scores, np.arange(4), grid, n=50, seed=0)
    assert found.tpr == pytest.approx([0.5, 0.5, 1])


def test_the_curve_of_a_band_is_straight_between_points():
    found = roc_band([0, 1, 0, 1], [0.5] * 4, np.arange(4), np.array([0.25, 0.5]), n=50, seed=0)
    assert found.tpr == pytest.approx([0.25, 0.5])


def test_a_band_of_a_class_of_one_group_is_unknown():
    labels, scores = made_up(0, 10)
    found = roc_band(labels, scores, labels, np.array([0.5]), n=10, seed=0)
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_a_band_without_any_resample_of_both_classes_is_undefined():
    seed = next(
        seed
        for seed in range(1000)
        if len({i % 2 for i in np.random.default_rng(seed).integers(0, 4, 4)}) == 1
    )
    with pytest.raises(MetricUndefined, match="none of 1 resamples"):
        roc_band([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], range(4), np.array([0.5]), n=1, seed=seed)


@pytest.mark.parametrize("grid", [[], [-0.1], [1.1]])
def test_a_band_at_no_rates_is_refused(grid):
    with pytest.raises(ConfigError, match="fpr must be rates"):
        roc_band([0, 1], [0.1, 0.9], [0, 1], np.array(grid), n=5, seed=0)


def test_a_band_of_an_impossible_level_is_refused():
    with pytest.raises(ConfigError, match="level is 2"):
        roc_band([0, 1], [0.1, 0.9], [0, 1], np.array([0.5]), n=5, seed=0, level=2)
