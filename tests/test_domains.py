"""Faces and whole pictures of the same samples: their order, lists, validation and calibration."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unmask.train.config import TrainConfig
from unmask.train.crops import Crops
from unmask.train.domains import (
    as_whole_picture,
    calibrate_domains,
    domains_of,
    joined,
    order_of,
    validate_domains,
)
from unmask.train.probe import fit_temperature, validate
from unmask.train.sampling import sampler
from unmask.types import Reason, Sample

REASON = Reason("damaged", "cut short")


def faces(count: int, dataset: str = "a") -> list[Sample]:
    """Real and fake in turn."""
    return [
        Sample(f"{number}.png", Path(f"{number}.png"), label=number % 2, dataset=dataset)
        for number in range(count)
    ]


def both(n_faces: int = 10, n_whole: int = 14) -> Crops:
    return joined(crops(faces(n_faces)), crops(faces(n_whole)))


def crops(samples: list[Sample], *left_out: Sample) -> Crops:
    return Crops(
        tuple(samples),
        tuple(sample.source for sample in samples),
        tuple((sample, REASON) for sample in left_out),
        tuple(sample.path for sample in samples),
    )


def numbers_of(found: Crops) -> tuple[list[int], ...]:
    return tuple(list(range(len(found.samples)))[part] for part in domains_of(found))


# Which is which


def test_samples_are_told_apart_by_what_they_stand_for():
    assert numbers_of(both(2, 3)) == ([0, 1], [2, 3, 4])


def test_a_face_of_a_data_set_of_that_name_stays_a_face():
    named = crops(faces(3, "mine (whole pictures)"))
    assert numbers_of(named) == ([0, 1, 2],)


def test_a_whole_picture_has_a_data_set_of_its_own():
    assert as_whole_picture(faces(1)[0]).dataset == "a (whole pictures)"


def test_joined_crops_are_faces_and_then_whole_pictures():
    found = joined(crops(faces(2)), crops(faces(3)))
    assert numbers_of(found) == ([0, 1], [2, 3, 4])
    assert found.hashes == ("0.png", "1.png", "0.png", "1.png", "2.png")
    assert [path.name for path in found.files] == list(found.hashes)


def test_a_picture_that_gives_neither_crop_is_listed_once():
    damaged, faceless = faces(2)
    found = joined(crops([], damaged, faceless), crops([], damaged))
    assert [sample for sample, _ in found.left_out] == [damaged, faceless]


def test_a_picture_that_fails_for_two_reasons_is_listed_with_both():
    (sample,) = faces(1)
    other = replace(crops([]), left_out=((sample, Reason("changed", "meanwhile")),))
    found = joined(crops([], sample), other)
    assert [reason.code for _, reason in found.left_out] == ["damaged", "changed"]


# Order


def test_a_real_and_a_fake_face_and_then_whole_picture_come_in_turn():
    of = both()
    samples, at = of.samples, order_of(of, TrainConfig(sampling="balanced"))
    shown = [samples[at(slot)] for slot in range(40)]
    kinds = [(sample.dataset.endswith("(whole pictures)"), sample.label) for sample in shown]
    assert kinds == [(False, 0), (False, 1), (True, 0), (True, 1)] * 10


def test_every_crop_of_both_is_shown():
    at = order_of(both(10, 14), TrainConfig(sampling="balanced"))
    counts = Counter(at(slot) for slot in range(4 * 5 * 7))
    assert set(counts) == set(range(24))
    assert {counts[number] for number in range(10)} == {7}
    assert {counts[number] for number in range(10, 24)} == {5}


@pytest.mark.parametrize("sampling", ["balanced", "shuffled"])
def test_no_whole_picture_is_blended_with_itself(sampling):
    of = both()
    samples, at = of.samples, order_of(of, TrainConfig(sampling=sampling, self_blended=0.5))
    blended = {index - len(samples) for index in map(at, range(200)) if index >= len(samples)}
    assert blended
    assert blended <= set(numbers_of(of)[0])


def test_blended_are_real_faces_in_half_of_the_fake_ones():
    of = both()
    samples, at = of.samples, order_of(of, TrainConfig(sampling="balanced", self_blended=0.5))
    shown = [at(slot) for slot in range(400)]
    blended = [index - len(samples) for index in shown if index >= len(samples)]
    assert len(blended) == 50  # of 100 slots of fake faces
    assert {samples[number].label for number in blended} == {0}


@pytest.mark.parametrize("samples", [faces(8), [as_whole_picture(each) for each in faces(8)]])
def test_one_domain_is_in_the_order_of_the_sampler(samples):
    config = TrainConfig(sampling="balanced", self_blended=0.25, seed=3)
    at, plain = order_of(crops(samples), config), sampler(samples, "balanced", 3, 0.25)
    assert [at(slot) for slot in range(50)] == [plain(slot) for slot in range(50)]


# Validation


def test_one_domain_validates_as_ever():
    samples = faces(20)
    logits = np.random.default_rng(0).normal(size=20)
    assert validate_domains(logits, crops(samples)) == validate(logits, samples)


def test_faces_and_whole_pictures_have_rows_of_their_own():
    samples = both(10, 14)
    faces_apart = np.array([2.0 * (each.label or 0) for each in faces(10)])
    whole_reversed = np.array([-2.0 * (each.label or 0) for each in faces(14)])
    found = validate_domains(np.concatenate([faces_apart, whole_reversed]), samples)
    assert [(row.dataset, row.n_real, row.auc) for row in found.rows] == [
        ("a", 5, 1.0), ("a (whole pictures)", 7, 0.0)
    ]  # fmt: skip


def test_each_domain_has_a_threshold_of_its_own_in_the_share_that_is_found():
    samples = both(40, 40)
    apart = np.array([2.0 * (each.label or 0) for each in faces(40)])
    found = validate_domains(np.concatenate([apart, apart - 10]), samples)
    assert found.recall_at_fpr5 == 1.0


# Calibration


def test_each_domain_is_calibrated_by_itself():
    of = both(60, 80)
    samples = of.samples
    rng = np.random.default_rng(0)
    labels = np.array([sample.label for sample in samples])
    logits = (2 * labels - 1 + rng.normal(0, 1, 140)) * np.repeat([1.0, 5.0], [60, 80])
    (of_faces, _), (of_whole, points) = calibrate_domains(logits, of, source="here")
    assert of_faces == fit_temperature(logits[:60], samples[:60])
    assert of_whole == fit_temperature(logits[60:], samples[60:])
    assert [(point.name, point.n_real) for point in points.points] == [("fpr5", 40)]


def test_faces_alone_have_one_calibration():
    logits = np.random.default_rng(0).normal(size=20)
    assert len(calibrate_domains(logits, crops(faces(20)), source="here")) == 1
