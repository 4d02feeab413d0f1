"""Against recorded runs of the reference code; see ``fixtures/metrics``."""

import json
from pathlib import Path

import numpy as np
import pytest

from unmask.errors import MetricUndefined, ScoresError
from unmask.evaluate.deepfakebench import (
    AVERAGED,
    averages,
    deepfakebench,
    gend_eer,
    gend_tpr_at_fpr,
    universal_fake_detect,
)
from unmask.types import Reason

FOLDER = Path(__file__).parent / "fixtures" / "metrics"
INPUTS = json.loads((FOLDER / "inputs.json").read_text(encoding="utf-8"))
RECORDED = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
LABELS, SCORES = np.array(INPUTS["labels"]), np.array(INPUTS["probs"])
KEYS = ["acc", "auc", "eer", "ap", "video_auc", "video_eer", "video_acc"]


@pytest.mark.parametrize(
    ("run", "names"),
    [("yzy", "names"), ("scl", "names"), ("yzy_colliding_video_names", "names_colliding")],
)
def test_the_numbers_of_the_reference_come_out(run, names):
    found = deepfakebench(LABELS, SCORES, INPUTS[names])
    assert list(found) == KEYS
    for key, expected in RECORDED[run].items():
        assert found[key] == pytest.approx(expected, abs=1e-9)


def test_the_numbers_of_the_reference_come_out_with_ties():
    inputs = RECORDED["ties_inputs"]
    found = deepfakebench(inputs["y"], inputs["p"], inputs["names"])
    assert found == pytest.approx(RECORDED["ties"], abs=1e-9)


def test_the_compatibility_scripts_numbers_are_the_same_two():
    found = deepfakebench(LABELS, SCORES, INPUTS["names"])
    recorded = RECORDED["perf_auc_prauc"]
    assert (found["auc"], found["ap"]) == pytest.approx(
        (recorded["auc"], recorded["pr_auc"]), abs=1e-9
    )


def test_a_half_is_not_fake_in_this_protocol():
    found = deepfakebench([0, 1, 1], [0.5] * 3, ["a/0.png", "b/0.png", "c/0.png"])
    assert found["acc"] == found["video_acc"] == 1 / 3


def test_a_folder_of_both_labels_counts_as_real():
    # D32: kept in this protocol, where published numbers come from it.
    found = deepfakebench([0, 1, 1, 1], [0.1, 0.1, 0.1, 0.9], ["x/v/0", "y/v/1", "y/v/2", "y/w/0"])
    assert found["video_acc"] == 1


def test_video_metrics_that_the_reference_drops_have_their_reason():
    # D32, D38: every folder name holds both labels, and the reference's keys vanish.
    found = deepfakebench(LABELS, SCORES, INPUTS["names_all_colliding"])
    recorded = RECORDED["yzy_all_names_colliding"]
    assert {key: found[key] for key in recorded} == pytest.approx(recorded, abs=1e-9)
    assert list(found) == KEYS
    for key in ("video_auc", "video_eer", "video_acc"):
        assert found[key].code == "no_fakes"
        assert "10 folder names hold frames of both labels" in found[key].message


@pytest.mark.parametrize(("label", "code"), [(0, "no_fakes"), (1, "no_reals")])
def test_one_class_leaves_the_accuracy_and_the_reasons(label, code):
    # D38: the reference raises ValueError('All-NaN slice encountered').
    found = deepfakebench([label, label], [0.1, 0.9], ["a/0", "b/0"])
    assert found["acc"] == 0.5
    assert {found[key].code for key in KEYS if key != "acc"} == {code}


def test_backslashes_separate_too():
    by_slash = deepfakebench(LABELS, SCORES, INPUTS["names"])
    windows = [name.replace("/", "\\") for name in INPUTS["names"]]
    assert deepfakebench(LABELS, SCORES, windows) == by_slash


def test_a_path_without_a_folder_is_refused():
    with pytest.raises(ScoresError, match=r"'a.png' has no folder"):
        deepfakebench([0, 1], [0.1, 0.9], ["x/a.png", "a.png"])


def test_paths_of_another_number_are_refused():
    with pytest.raises(ScoresError, match="1 paths for 2 scores"):
        deepfakebench([0, 1], [0.1, 0.9], ["x/a.png"])


def test_data_sets_are_averaged_where_all_have_a_number():
    one = deepfakebench(LABELS, SCORES, INPUTS["names"])
    two = deepfakebench(LABELS, 1 - SCORES, INPUTS["names"])
    found = averages({"one": one, "two": two})
    assert tuple(found) == AVERAGED
    assert found["auc"] == pytest.approx(0.5)


def test_an_average_without_all_its_data_sets_has_its_reason():
    one = deepfakebench(LABELS, SCORES, INPUTS["names"])
    two = deepfakebench(LABELS, SCORES, INPUTS["names_all_colliding"])
    found = averages({"one": one, "two": two})
    assert found["auc"] == pytest.approx(RECORDED["yzy"]["auc"])
    assert found["video_auc"] == Reason(
        "not_all_defined", "1 of 2 data sets have no video_auc, the first is two"
    )


def test_no_data_sets_have_no_average():
    with pytest.raises(ScoresError, match="no data sets"):
        averages({})


# GenD and UniversalFakeDetect


def test_the_eer_of_gend_and_its_threshold_come_out():
    assert gend_eer(LABELS, SCORES) == pytest.approx(RECORDED["gend_eer_brentq"], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_eer_of_gend_is_where_its_root_search_ends(seed):
    import sklearn.metrics
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    rng = np.random.default_rng(seed)
    labels = np.arange(50) % 2
    scores = np.round(rng.random(50) + 0.3 * labels, 1)  # ties: the crossing is on a slope
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(labels, scores)
    rate = brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1)
    expected = (rate, float(interp1d(fpr, thresholds)(rate)))
    assert gend_eer(labels, scores) == pytest.approx(expected, abs=1e-9)


def test_the_threshold_of_gend_is_finite_for_classes_apart():
    assert gend_eer([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == (0, pytest.approx(0.9))


def test_the_tpr_of_gend_comes_out():
    recorded = RECORDED["gend_tpr_at_fpr_0.001_0.01_0.05"]
    assert gend_tpr_at_fpr(LABELS, SCORES) == pytest.approx(recorded, abs=1e-9)


def first_of_each(n):
    """What the recorded threshold search was given: reals first, then fakes."""
    chosen = np.concatenate([np.flatnonzero(label == LABELS)[:n] for label in (0, 1)])
    return LABELS[chosen], SCORES[chosen]


def test_the_threshold_search_of_universal_fake_detect_comes_out():
    # D42: the threshold is chosen on the scores that it is judged by, and named so.
    recorded = RECORDED["ufd"]
    found = universal_fake_detect(*first_of_each(recorded["n_each"]))
    assert found.ap == pytest.approx(recorded["ap"], abs=1e-9)
    assert found.best_threshold == pytest.approx(recorded["best_threshold"], abs=1e-9)
    for ours, theirs in (
        (found.at_half, "acc_at_0.5(real,fake,all)"),
        (found.at_best, "acc_at_best"),
    ):
        assert (ours.real, ours.fake, ours.all) == pytest.approx(recorded[theirs], abs=1e-9)


def test_the_best_accuracy_among_fakes_is_that_of_the_fakes():
    # D39: the reference's average of it adds the accuracy of the reals.
    found = universal_fake_detect([0, 0, 1, 1], [0.2, 0.6, 0.4, 0.9]).at_best
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.2, 0.6, 0.4, 0.9])
    best = universal_fake_detect(labels, scores).best_threshold
    assert found.fake == np.mean(scores[labels == 1] > best)
    assert found.real == np.mean(scores[labels == 0] <= best)
    assert found.fake != found.real


def test_the_labels_say_what_is_real_and_not_the_order():
    # D33, D42: that code takes the first half for real.
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.2, 0.7, 0.4])
    found = universal_fake_detect(labels, scores)
    assert found.best_threshold == pytest.approx(0.55)
    assert found.at_best.all == 1


def test_one_class_has_no_best_threshold():
    with pytest.raises(MetricUndefined, match="needs fakes"):
        universal_fake_detect([0, 0], [0.1, 0.9])
