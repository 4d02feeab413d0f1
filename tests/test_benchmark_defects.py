"""D31 to D43: the defects of the training and measuring code around the original scripts.

``test_reference_defects.py`` has those of the scripts, and checks that no row of the table in
``docs/compatibility.md`` is without its test.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tiny_scores import META, drawn, several, table
from tuned_models import plain_model, save_base
from unmask.evaluate import metrics
from unmask.evaluate.summary import Choices, summarise, threshold_of
from unmask.faces.align import template
from unmask.models.tuning import tune
from unmask.train.batches import tensor_batches
from unmask.train.bench_config import read_config_file
from unmask.train.config import TrainConfig
from unmask.train.logs import read_log
from unmask.train.loop import fit
from unmask.train.optimizer import Plan
from unmask.train.place import new_place
from unmask.train.state import RunFolder, Setting

FEW = Choices(bootstraps=20)


def values(scores, name, *, kind="dataset", at=None):
    """The metrics of the row of pictures of this name and kind; None where one has no value."""
    found = summarise(scores, at or threshold_of(META, 0.5), FEW)
    (row,) = [
        one for one in found.rows if (one.name, one.kind, one.unit) == (name, kind, "picture")
    ]
    return {one.name: one.interval and one.interval.value for one in row.measures}


def test_d31_another_number_under_data_aug_is_another_augmentation(tmp_path):
    # D31: the published loader of Effort reads none of it and has numbers of its own.
    def given(chance):
        path = tmp_path / "effort.yaml"
        text = f"model_name: effort\nuse_data_augmentation: true\ndata_aug: {{flip_prob: {chance}}}"
        path.write_text(text, encoding="utf-8")
        return read_config_file(path).values["augmentation"]

    assert given(0.25) != given(0.75)


@pytest.mark.parametrize("rate", [metrics.false_positive_rate, metrics.true_positive_rate])
def test_d33_the_rate_of_a_class_does_not_depend_on_the_order(rate):
    # D33: the first half of the list is taken for the reals, whatever the labels say.
    labels, scores = np.array(drawn(60)[0]), np.array(drawn(60)[1])
    order = np.argsort(labels, kind="stable")
    assert rate(labels, scores, 0.5) == rate(labels[order], scores[order], 0.5)
    assert rate(labels, scores, 0.5) != rate(labels[order], scores, 0.5)


def test_d33_the_rates_in_the_table_are_those_of_the_labels():
    # D33: as above, through the whole evaluation of items that alternate.
    labels, scores = drawn(60)
    found = values(table(labels, scores), "a")
    pairs = list(zip(labels, scores, strict=True))
    assert found["true_positive_rate"] == np.mean([p >= 0.5 for label, p in pairs if label == 1])
    assert found["false_positive_rate"] == np.mean([p >= 0.5 for label, p in pairs if label == 0])


def test_d34_the_schedule_moves_at_every_step(tmp_path):
    # D34: the published loop moves its schedule once, when the training is over.
    config = TrainConfig(
        recipe="lora", lora_rank=2, outputs=2, batch_size=8, steps=4, lr=0.01, min_lr=0.001,
        schedule="cosine", head_start="random",
    )  # fmt: skip
    model, _ = plain_model(save_base(tmp_path / "clip", "clip"))
    tune(model, config.tuning())
    folder = RunFolder(tmp_path / "run")
    folder.begin(Setting(config, "data", "tower"), resume=False, overwrite=False)
    batches = tensor_batches(torch.zeros(8, 3, 32, 32), torch.arange(8) % 2)
    fit(
        model, batches, config, Plan(4, 2),
        place=new_place("cpu"), folder=folder,
    )  # fmt: skip
    rates = [line["lr"] for line in read_log(folder.log) if "lr" in line]
    half = [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == pytest.approx([0.001 + 0.009 * each for each in half])


@pytest.mark.parametrize("label", [0, 1])
def test_d38_a_data_set_of_one_class_does_not_end_the_evaluation(label):
    # D38: the reference ends with a ValueError, and the numbers of all data sets are lost.
    both, (_, scores) = drawn(40), drawn(40, dataset="b")
    joint = table([*both[0], *[label] * 40], [*both[1], *scores], dataset=["a"] * 40 + ["b"] * 40)
    assert values(joint, "b")["auc"] is None
    assert values(joint, "b")["accuracy"] is not None
    assert values(joint, "a") == values(table(*both), "a")


def test_d38_the_reason_stands_in_place_of_the_number():
    # D38: as above; the reason is what a reader gets.
    found = summarise(table([0, 0], [0.1, 0.9]), threshold_of(META, 0.5), FEW)
    (auc,) = [one for one in found.rows[0].measures if one.name == "auc"]
    assert auc.reason == "AUC needs fakes, and the data have none"


def test_d39_the_mean_of_a_metric_is_that_of_the_same_metric():
    # D39: the reference's mean accuracy among fakes adds the accuracy among reals.
    scores = several("a", "b")
    mean, one, other = values(scores, "mean", kind="mean"), values(scores, "a"), values(scores, "b")
    assert mean == pytest.approx({name: (one[name] + other[name]) / 2 for name in mean})
    assert one["true_positive_rate"] != one["false_positive_rate"]


def test_d42_scores_under_test_do_not_move_the_threshold():
    # D42: the reference searches the threshold of greatest accuracy on the test data.
    labels, scores = drawn(60)
    moved = [0.5 * each for each in scores]
    at = threshold_of(META)
    found = [summarise(table(labels, p), at, FEW).threshold for p in (scores, moved)]
    assert found[0] == found[1] == at
    assert found[0].value == META.operating_point.fake_at


def test_d42_accuracy_is_that_at_the_given_threshold_and_not_the_best():
    # D42: classes that a better threshold would part keep their accuracy at the given one.
    apart = table([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])
    assert values(apart, "a", at=threshold_of(replace(META, operating_point=None), 0.5))[
        "accuracy"
    ] == pytest.approx(0.5)


@pytest.mark.parametrize("size", [112, 224, 256])
def test_d43_the_template_is_shifted_at_every_size(size):
    # D43: one script adds the 8 pixels of 112 at an output of 112 only; 12.3 are missing at 224.
    assert np.allclose(template(size, 1.0), template(112, 1.0) * size / 112)
    unshifted = 30.2946 * size / 112
    assert template(size, 1.0)[0, 0] - unshifted == pytest.approx(8 * size / 112)
