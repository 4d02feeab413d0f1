import math
from pathlib import Path

import numpy as np
import pytest

from tiny_detectors import sample
from unmask.errors import ConfigError
from unmask.train.probe import validate
from unmask.train.sweep.judge import Judged, cross_fit, intervals, units_of


def pictures(n: int, dataset: str = "d", label: int | None = None, **known: object):
    return [
        sample(
            Path(f"{dataset}/{label}/{number}.png"),
            label=number % 2 if label is None else label,
            dataset=dataset,
            **known,
        )
        for number in range(n)
    ]


def mixed():
    """Two data sets with both classes, one of them of videos, and two of one class each."""
    frames = [
        sample(
            Path(f"v/{n}.png"), label=n // 3 % 2, dataset="v", video=f"{n // 3}", group=f"{n % 3}"
        )
        for n in range(36)
    ]
    return [*pictures(20), *frames, *pictures(7, "r", 0), *pictures(9, "f", 1)]


def judged(samples, scores):
    units = units_of(samples)
    return Judged(units, units.means(np.asarray(scores, float)))


def test_the_numbers_are_those_of_a_validation_table():
    samples = mixed()
    logits = np.random.default_rng(0).normal(size=(len(samples), 3)).round(1)  # with ties
    units = units_of(samples)
    aucs = units.aucs(units.means(logits))
    for head in range(3):
        rows = validate(logits[:, head], samples).rows
        assert [row.auc for row in rows] == pytest.approx(aucs[:, head].tolist())
        assert [(row.dataset, row.n_real, row.n_fake, row.by_video) for row in rows] == [
            (line.name, line.n_real, line.n_fake, line.by_video) for line in units.lines
        ]
    assert [line.name for line in units.lines] == ["d", "v", "f + r"]


def test_of_some_units_only_the_rest_counts():
    units = units_of(pictures(4))
    scores = np.array([[0.0], [1.0], [2.0], [1.5]])
    assert units.aucs(scores)[0, 0] == 0.5
    assert units.aucs(scores, np.array([True, True, False, False]))[0, 0] == 1
    assert math.isnan(units.aucs(scores, np.array([True, False, True, False]))[0, 0])


def test_a_data_set_of_one_class_without_a_counterpart_has_no_line():
    units = units_of([*pictures(6), *pictures(3, "r", 0)])
    assert [line.name for line in units.lines] == ["d"]
    assert set(units.datasets) == {"d", "r"}


def test_samples_of_one_class_cannot_be_judged_by():
    with pytest.raises(ConfigError, match="all 3 samples to judge by are of one class"):
        units_of(pictures(3, label=1))


def test_the_best_of_many_guesses_is_no_better_than_a_guess_elsewhere():
    samples = pictures(80)
    guesses = judged(samples, np.random.default_rng(1).normal(size=(80, 300)))
    best = guesses.units.aucs(guesses.scores).max()
    assert best > 0.65
    assert cross_fit([[guesses]], seed=0) == pytest.approx(0.5, abs=0.08)


def test_a_head_that_is_right_stays_right():
    samples = pictures(40)
    scores = np.random.default_rng(1).normal(size=(40, 5))
    scores[:, 3] = [each.label for each in samples]
    wrong = judged(samples, -scores)
    assert cross_fit([[wrong], [judged(samples, scores)]], seed=0) == 1


def test_altered_copies_count_as_much_as_originals():
    samples = pictures(40)
    right = np.array([[each.label] for each in samples])
    assert cross_fit([[judged(samples, right), judged(samples, -right)]], seed=0) == 0.5


def test_no_group_is_chosen_on_and_measured_by():
    # Each head knows one group of three pictures per class and guesses the others.
    samples = [
        sample(Path(f"{n}.png"), label=n % 2, dataset="d", group=f"{n // 6}") for n in range(60)
    ]
    groups = np.array([int(each.group) for each in samples])
    scores = np.random.default_rng(2).normal(size=(60, 400))
    for head in range(400):
        scores[groups == head % 10, head] = 9 * (np.arange(6) % 2) - 4.5
    honest = cross_fit([[judged(samples, scores)]], seed=0)
    apart = [sample(each.path, label=each.label, dataset="d") for each in samples]
    leaking = cross_fit([[judged(apart, scores)]], seed=0)
    assert honest < leaking - 0.03


def test_divisions_come_from_the_seed():
    found = judged(pictures(30), np.random.default_rng(3).normal(size=(30, 50)))
    one, same, other = (cross_fit([[found]], seed=seed) for seed in (0, 0, 1))
    assert one == same != other


def test_groups_that_hold_a_whole_class_each_leave_nothing_to_choose_by():
    samples = [
        sample(Path(f"{n}.png"), label=n % 2, dataset="d", group="rf"[n % 2]) for n in range(10)
    ]
    assert cross_fit([[judged(samples, np.arange(10)[:, None])]], seed=0) is None


def test_the_interval_holds_the_mean_and_narrows_with_groups():
    widths = []
    for items in (40, 400):
        samples = pictures(items)
        scores = np.random.default_rng(4).normal(size=(items, 2))
        scores[:, 1] += [each.label for each in samples]
        whole, (alone,) = intervals(judged(samples, scores), 1, seed=0)
        assert whole.low < whole.value < whole.high
        assert (whole.value, whole.low, whole.high) == (alone.value, alone.low, alone.high)
        widths.append(whole.high - whole.low)
    assert widths[1] < widths[0] / 2


def test_a_class_of_one_group_has_no_interval():
    samples = [*pictures(8, label=0, group="g"), *pictures(8, label=1)]
    whole, _ = intervals(judged(samples, np.arange(16)[:, None]), 0, seed=0)
    assert whole.value == 1
    assert math.isnan(whole.low)
