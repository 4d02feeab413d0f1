import numpy as np
import pytest
import scipy.optimize
import sklearn.isotonic

from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate import metrics
from unmask.evaluate.calibration import (
    TEMPERATURES,
    compare_maps,
    estimate_shift,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    sigmoid,
)


def made_up(seed, n=4000, slope=1.0, offset=0.0):
    """Logits of which ``sigmoid(slope * logit + offset)`` is the true P(fake), and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    return logits, (rng.random(n) < sigmoid(slope * logits + offset)).astype(int)


def test_sigmoid_does_not_overflow():
    assert sigmoid([-1e6, 0, 1e6]).tolist() == [0, 0.5, 1]


# Temperature


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_of_made_up_logits_is_found(temperature):
    logits, labels = made_up(0, 20000)
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_less_log_loss():
    logits, labels = made_up(1, slope=0.4)
    best = fit_temperature(logits, labels)
    at_best = metrics.log_loss(labels, sigmoid(logits / best))
    for other in (0.9 * best, 1.1 * best):
        assert metrics.log_loss(labels, sigmoid(logits / other)) > at_best


def test_a_weight_of_two_is_the_item_twice():
    logits, labels = made_up(2, 300)
    weights = np.where(np.arange(300) < 100, 2.0, 1.0)
    twice = np.concatenate([np.arange(300), np.arange(100)])
    assert fit_temperature(logits, labels, weights) == pytest.approx(
        fit_temperature(logits[twice], labels[twice]), rel=1e-4
    )


def test_classes_apart_end_at_the_lower_bound():
    found = fit_temperature([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    assert found == pytest.approx(TEMPERATURES[0], rel=1e-3)


# Platt and isotonic


def test_platt_finds_slope_and_offset():
    logits, labels = made_up(0, 20000, slope=0.5, offset=-1.0)
    found = fit_platt(logits, labels)
    assert (found.a, found.b) == pytest.approx((0.5, -1.0), abs=0.05)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_platt_has_the_least_loss_against_the_smoothed_labels(scale):
    logits, labels = made_up(3, 200, slope=0.7, offset=0.5)
    n_fake = labels.sum()
    targets = np.where(labels == 1, (n_fake + 1) / (n_fake + 2), 1 / (200 - n_fake + 2))

    def loss(parameters):
        z = parameters[0] * logits + parameters[1]
        return np.mean(np.logaddexp(0, z) - targets * z)

    expected = scipy.optimize.minimize(loss, [1.0, 0.0], tol=1e-10).x
    found = fit_platt(scale * logits + 7, labels)
    assert found.a * scale == pytest.approx(expected[0], abs=1e-4)
    assert found.a * 7 + found.b == pytest.approx(expected[1], abs=1e-4)
    assert found(scale * logits + 7) == pytest.approx(
        sigmoid(expected[0] * logits + expected[1]), abs=1e-4
    )


def test_platt_stays_finite_where_the_classes_are_apart():
    found = fit_platt([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    assert 0 < found.a < 5
    assert found([-3.0])[0] == pytest.approx(1 / 4, abs=0.1)


def test_platt_of_equal_logits_is_the_share_of_fakes():
    assert fit_platt([1.0] * 4, [0, 0, 0, 1])([1.0])[0] == pytest.approx((3 / 5 + 2 / 3) / 4)


def test_isotonic_is_that_of_scikit_learn():
    logits, labels = made_up(0, 300)
    model = sklearn.isotonic.IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    model.fit(logits, labels)
    at = np.linspace(-10, 10, 201)
    assert fit_isotonic(logits, labels)(at) == pytest.approx(model.predict(at))


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt, fit_isotonic])
@pytest.mark.parametrize(("label", "code"), [(0, "no_fakes"), (1, "no_reals")])
def test_one_class_cannot_be_calibrated(fit, label, code):
    with pytest.raises(MetricUndefined, match="needs both classes") as caught:
        fit([0.1, 0.2], [label, label])
    assert caught.value.code == code


# Comparison


def test_maps_are_compared_and_the_right_one_wins():
    logits, labels = made_up(0, 4000, slope=0.3)
    found = {each.name: each for each in compare_maps(logits, labels, np.arange(4000))}
    assert list(found) == ["none", "temperature", "platt", "isotonic"]
    assert found["temperature"].log_loss < found["none"].log_loss - 0.1
    assert found["temperature"].ece < 0.03 < found["none"].ece
    assert found["none"].log_loss == pytest.approx(metrics.log_loss(labels, sigmoid(logits)))
    assert found["none"].brier == pytest.approx(metrics.brier(labels, sigmoid(logits)))


def test_a_map_is_never_judged_on_a_group_that_it_was_fitted_to():
    # Twenty copies of each item: isotonic knows them by heart unless copies stay together.
    logits, labels = made_up(1, 60, slope=0.0)
    copies = [np.repeat(each, 20) for each in (logits, labels, np.arange(60))]
    by_group = compare_maps(*copies)[3]
    by_item = compare_maps(copies[0], copies[1], np.arange(1200))[3]
    assert by_item.brier < 0.25 < by_group.brier


def test_the_comparison_is_seeded():
    logits, labels = made_up(2, 200)
    assert compare_maps(logits, labels, np.arange(200), seed=1) == compare_maps(
        logits, labels, np.arange(200), seed=1
    )
    assert compare_maps(logits, labels, np.arange(200), seed=1) != compare_maps(
        logits, labels, np.arange(200), seed=2
    )


def test_one_fold_is_refused():
    logits, labels = made_up(0, 20)
    with pytest.raises(ConfigError, match="folds is 1"):
        compare_maps(logits, labels, np.arange(20), folds=1)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ScoresError, match="one group for each of 2 items"):
        compare_maps([0.1, 0.2], [0, 1], [0, 1, 2])


@pytest.mark.parametrize(("alone", "named"), [(0, "reals"), (1, "fakes")])
def test_a_class_of_one_group_cannot_be_cross_validated(alone, named):
    logits, labels = made_up(0, 40)
    groups = np.where(labels == alone, -1, np.arange(40))
    with pytest.raises(MetricUndefined, match=f"all {named} are in 1 group") as caught:
        compare_maps(logits, labels, groups)
    assert caught.value.code == "too_few_groups"


# Prior shift


def saerens(p, prior):
    """The published EM steps."""
    share = prior
    for _ in range(5000):
        fake, real = share / prior * p, (1 - share) / (1 - prior) * (1 - p)
        share = np.mean(fake / (fake + real))
    return share


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("prior", [0.3, 0.5])
def test_the_share_of_fakes_is_where_the_em_steps_end(share, prior):
    rng = np.random.default_rng(0)
    labels = rng.random(3000) < share
    # Two normals a distance 2 apart: the log odds at even shares are 2x.
    logits = 2 * rng.normal(np.where(labels, 1.0, -1.0), 1.0)
    p = sigmoid(logits + np.log(prior / (1 - prior)))
    found = estimate_shift(p, prior=prior, max_bias=4)
    assert found.estimated == pytest.approx(saerens(p, prior), abs=1e-6)
    assert found.estimated == pytest.approx(share, abs=0.03)
    odds = found.estimated / (1 - found.estimated) * (1 - prior) / prior
    assert found.bias == pytest.approx(np.log(odds))
    assert not found.limited


def test_corrected_scores_are_calibrated_for_the_new_share():
    rng = np.random.default_rng(1)
    labels = (rng.random(5000) < 0.2).astype(int)
    logits = 2 * rng.normal(np.where(labels == 1, 1.0, -1.0), 1.0)
    found = estimate_shift(sigmoid(logits))
    corrected = sigmoid(logits + found.bias)
    assert metrics.log_loss(labels, corrected) < metrics.log_loss(labels, sigmoid(logits))


@pytest.mark.parametrize(("p", "bias"), [(0.01, -2.0), (0.99, 2.0), (0.0, -2.0), (1.0, 2.0)])
def test_the_guard_rail_holds_and_says_so(p, bias):
    found = estimate_shift(np.full(300, p))
    assert (found.bias, found.limited) == (bias, True)
    assert found.estimated == pytest.approx(sigmoid(bias))


def test_few_scores_tell_no_share():
    with pytest.raises(MetricUndefined, match="from 199 scores; at least 200"):
        estimate_shift(np.full(199, 0.5))


@pytest.mark.parametrize("options", [{"prior": 0}, {"prior": 1}, {"max_bias": 0}, {"least": 0}])
def test_impossible_limits_are_refused(options):
    with pytest.raises(ConfigError, match="limits above 0"):
        estimate_shift(np.full(300, 0.5), **options)


@pytest.mark.parametrize("score", [1.5, float("nan")])
def test_what_is_no_probability_has_no_shift(score):
    with pytest.raises(ScoresError):
        estimate_shift(np.full(300, score))
