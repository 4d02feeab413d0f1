import numpy as np
import pytest

from unmask.aggregate import judge
from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate.intervals import clopper_pearson
from unmask.evaluate.thresholds import least_reals, operating_points
from unmask.models.configuration import DetectorSpec, HeadSpec, read_spec
from unmask.preprocess import Preprocess

REALS = np.arange(1000) / 1000
FAKES = 0.2 + np.arange(100) / 125


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("target", [0.01, 0.05, 0.1])
def test_no_more_reals_than_the_target_are_called_fake(seed, target):
    reals = np.round(0.9 * np.random.default_rng(seed).random(137), 2)
    (point,) = operating_points(reals, target_fprs=[target], source="here")
    called = np.mean(reals >= point.fake_at)
    assert called <= target
    # One score lower, and there are too many.
    lower = reals[reals < point.fake_at].max()
    assert np.mean(reals >= lower) > target


def test_a_score_that_is_rounded_otherwise_stays_below_the_threshold():
    (point,) = operating_points(REALS, target_fprs=[0.05], source="here")
    below = REALS[point.fake_at > REALS].max()
    assert below + 3e-7 < point.fake_at < REALS[below < REALS].min() - 3e-7


def test_a_threshold_lies_between_scores_however_close_they_are():
    reals = np.concatenate([np.full(95, 0.5), np.full(5, np.nextafter(0.5, 1))])
    (point,) = operating_points(reals, target_fprs=[0.05], source="here")
    assert np.sum(reals >= point.fake_at) == 5


def test_the_first_point_is_that_of_5_percent_unless_told_otherwise():
    assert [p.name for p in operating_points(REALS, FAKES, source="here")] == ["fpr5", "fpr1"]
    points = operating_points(REALS, FAKES, source="here", target_fprs=(0.002, 0.025))
    assert [p.name for p in points] == ["fpr0.2", "fpr2.5"]


def test_the_share_of_fakes_below_the_band_is_the_target_too():
    five, _ = operating_points(REALS, FAKES, source="here")
    assert np.mean(five.real_below > FAKES) <= 0.05
    assert (five.target_fpr, five.target_fnr) == (0.05, 0.05)


def test_a_point_says_how_sure_its_rate_is_and_what_it_comes_from():
    five, one = operating_points(REALS, FAKES, source="here", sha256="ab")
    for point, k in ((five, 50), (one, 10)):
        expected = clopper_pearson(k, 1000)
        assert (point.fpr_low, point.fpr_high) == pytest.approx((expected.low, expected.high))
        assert (point.n_real, point.n_fake, point.source, point.sha256) == (1000, 100, "here", "ab")


def test_a_point_names_the_data_sets_that_it_was_chosen_on_each_once():
    names = ["b", "my set", "b", "", "\udcff"]
    five, one = operating_points(REALS, source="here", datasets=names)
    assert five.datasets == one.datasets == ("b", "my set", "\\udcff")


def test_the_interval_holds_the_true_rate_of_a_threshold_chosen_on_the_same_reals():
    # Uniform scores: the true rate of a threshold t is 1 - t.
    rng = np.random.default_rng(0)
    points = [operating_points(rng.random(200), source="here")[0] for _ in range(500)]
    held = [p.fpr_low <= 1 - p.fake_at <= p.fpr_high for p in points]
    assert 0.93 < np.mean(held) <= 1
    above = np.mean([1 - p.fake_at > p.fpr_high for p in points])
    assert above == pytest.approx(0.025, abs=0.02)


def test_reals_alone_are_enough():
    five, one = operating_points(REALS, source="here")
    assert np.mean(five.fake_at <= REALS) == pytest.approx(0.05)
    assert (five.target_fnr, five.n_fake) == (None, 0)
    # The band holds what is unusual for a real: five times the target, above it.
    assert np.mean(five.real_below <= REALS) == pytest.approx(0.25, abs=0.0011)
    assert np.mean(one.real_below <= REALS) == pytest.approx(0.05, abs=0.0011)


def test_the_band_of_reals_alone_leaves_half_of_them_real():
    (point,) = operating_points(REALS, source="here", target_fprs=[0.3])
    assert np.mean(point.real_below > REALS) == pytest.approx(0.5, abs=0.0011)


def test_between_the_thresholds_the_answer_is_inconclusive():
    (point,) = operating_points(REALS, source="here", target_fprs=[0.05])
    answers = [judge(p, point) for p in (0.74, 0.76, 0.94, 0.96)]
    assert answers == ["real", "inconclusive", "inconclusive", "fake"]


@pytest.mark.parametrize(("target", "least"), [(0.01, 100), (0.05, 20), (0.03, 34), (0.1, 10)])
def test_a_target_needs_as_many_reals_as_one_false_alarm_is_worth(target, least):
    assert least_reals(target) == least
    reals = np.linspace(0, 0.5, least)
    (point,) = operating_points(reals, source="here", target_fprs=[target])
    assert np.mean(reals >= point.fake_at) <= target
    with pytest.raises(MetricUndefined, match=f"needs at least {least} reals; {least - 1} are"):
        operating_points(reals[1:], source="here", target_fprs=[target])


def test_a_weight_counts_for_the_share():
    reals = np.array([0.1, 0.2, 0.3, 0.4])
    weights = np.array([1.0, 1.0, 1.0, 97.0])
    options = {"source": "here", "target_fprs": [0.25]}
    assert operating_points(reals, **options)[0].fake_at < 0.4
    assert operating_points(reals, **options, real_weights=weights)[0].fake_at > 0.4


def test_reals_that_score_1_leave_no_threshold():
    reals = np.array([0.5] * 90 + [1.0] * 10)
    with pytest.raises(MetricUndefined, match="P\\(fake\\) 1 exactly") as caught:
        operating_points(reals, source="here", target_fprs=[0.05])
    assert caught.value.code == "saturated"
    (point,) = operating_points(reals, source="here", target_fprs=[0.1])
    assert 0.5 < point.fake_at < 1


@pytest.mark.parametrize("targets", [[], [0.05, 0.05]])
def test_no_targets_and_the_same_twice_are_refused(targets):
    with pytest.raises(ConfigError, match="target FPRs"):
        operating_points(REALS, source="here", target_fprs=targets)


@pytest.mark.parametrize("target", [0, 1, 5, -0.1])
def test_a_target_that_is_no_rate_is_refused(target):
    with pytest.raises(ConfigError, match="a target FPR is"):
        operating_points(REALS, source="here", target_fprs=[target])


@pytest.mark.parametrize("reals", [[], [float("nan")], [1.5], [-1.0]])
def test_what_is_no_probability_has_no_threshold(reals):
    with pytest.raises(ScoresError):
        operating_points(reals, source="here")


def test_no_fakes_at_all_are_not_the_same_as_none_asked_for():
    with pytest.raises(ScoresError, match="no scores"):
        operating_points(REALS, [], source="here")


def test_a_detector_folder_keeps_what_a_point_says():
    points = operating_points(REALS, FAKES, source="here", sha256="ab")
    spec = DetectorSpec(
        backbone_config={"model_type": "clip_vision_model"},
        features=("pooler",),
        head=HeadSpec(),
        preprocess=Preprocess.openai_clip(32),
        operating_points=points,
    )
    assert read_spec(spec.to_config()).operating_points == points
