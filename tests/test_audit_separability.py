"""Can a classifier without eyes tell the classes apart, and does it say so honestly?"""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from unmask.audit.auc import auc_interval, fold_auc
from unmask.audit.columns import GROUPS, Column
from unmask.audit.contrast import contrast
from unmask.audit.separability import Table, separability
from unmask.audit.thumbnails import thumbnail_scores


def rng(seed=0):
    return np.random.default_rng(seed)


def test_in_one_fold_the_auc_is_that_of_scikit_learn():
    labels = rng().integers(0, 2, 200)
    scores = np.round(labels * 0.5 + rng(1).normal(size=200), 1)  # with ties
    expected = roc_auc_score(labels, scores)
    assert fold_auc(labels, scores, np.zeros(200, int)) == pytest.approx(expected, abs=1e-12)


def test_pairs_are_compared_within_their_fold_only():
    labels = np.array([0, 1, 0, 1])
    scores = np.array([0.1, 0.2, 0.8, 0.9])  # the second fold has higher scores altogether
    assert fold_auc(labels, scores, np.array([0, 0, 1, 1])) == 1.0
    assert fold_auc(labels, scores, np.zeros(4, int)) < 1.0


def test_samples_outside_all_folds_do_not_count():
    labels, folds = np.array([0, 1, 1]), np.array([0, 0, -1])
    assert fold_auc(labels, np.array([0.0, 1.0, -9.0]), folds) == 1.0


def test_folds_of_one_class_give_no_auc():
    assert np.isnan(fold_auc(np.array([0, 1]), np.array([0.0, 1.0]), np.array([0, 1])))


def test_the_interval_covers_the_auc_and_is_wider_for_few_units():
    labels = np.tile([0, 1], 200)
    scores = labels + rng().normal(size=400) * 2
    folds = np.zeros(400, int)
    many = auc_interval(labels, scores, folds, np.arange(400), n_bootstrap=300, seed=0)
    few = auc_interval(labels, scores, folds, np.arange(400) // 40, n_bootstrap=300, seed=0)
    assert many.low < many.auc < many.high
    copies = np.repeat(np.arange(40), 10)
    twice = auc_interval(
        np.repeat(labels[:40], 10),
        np.repeat(scores[:40], 10),
        folds,
        copies,
        n_bootstrap=300,
        seed=0,
    )
    assert twice.high - twice.low > many.high - many.low
    assert few.auc == many.auc


def test_the_interval_is_the_same_for_the_same_seed():
    labels, scores = np.tile([0, 1], 50), rng().normal(size=100)
    folds, units = np.arange(100) // 50, np.arange(100)
    one, two = (
        auc_interval(labels, scores, folds, units, n_bootstrap=50, seed=3) for _ in range(2)
    )
    assert one == two


def table(labels, *columns, thumbnails=None, units=None):
    n = len(labels)
    if thumbnails is None:
        thumbnails = rng(9).normal(128, 20, (n, 768))
    return Table("made up", labels, np.arange(n) if units is None else units, columns, thumbnails)


def row_of(group, *given, **known):
    """The answer of one group; those after it are not worked out."""
    found = separability(table(*given, **known), seed=0, n_bootstrap=50)
    return next(row for row in found if row.group == group)


def rows_of(*given, **known):
    found = separability(table(*given, **known), seed=0, n_bootstrap=50)
    return {row.group: row for row in found}


LABELS = np.tile([0, 1], 60)


def test_every_group_has_an_answer():
    assert list(rows_of(LABELS)) == list(GROUPS)


def test_a_format_of_its_own_for_each_class_separates_fully():
    row = row_of(
        "format", LABELS, Column("format", "format", LABELS.astype(float), ("jpeg", "png"))
    )
    assert row.auc == 1.0
    assert row.features[0].contrast == "format: png in 100 % of fakes, 0 % of reals"


def test_a_feature_that_is_the_same_for_all_is_exactly_chance():
    row = row_of("size", LABELS, Column("size", "width", np.full(120, 256.0)))
    assert (row.auc, row.low, row.high) == (0.5, 0.5, 0.5)


def test_noise_is_near_chance():
    noise = Column("bytes", "file bytes", rng(5).normal(size=120))
    assert 0.35 < row_of("bytes", LABELS, noise).auc < 0.65


def test_a_width_between_those_of_the_other_class_is_found():
    # Not monotone: fakes are 250 wide, reals 200 or 300; one threshold would not do.
    width = np.where(LABELS == 1, 250.0, np.where(np.arange(120) % 4 == 0, 200.0, 300.0))
    row = row_of("size", LABELS, Column("size", "width", width))
    assert row.auc == 1.0
    assert row.features[0].auc == 1.0


def test_a_feature_of_the_identity_does_not_separate_once_identities_are_kept_apart():
    # Each identity has a number of its own that says nothing about its label beyond itself.
    units = np.repeat(np.arange(30), 8)
    labels = rng(2).integers(0, 2, 30)[units]
    numbers = rng(3).permutation(30)[units].astype(float)
    row = row_of("bytes", labels, Column("bytes", "file bytes", numbers), units=units)
    assert row.auc < 0.75


def test_a_feature_that_does_not_differ_is_not_named():
    # Of twenty columns of noise some are above 0.5 by chance.
    noise = [Column("size", f"noise {n}", rng(n).normal(size=120)) for n in range(20)]
    row = row_of("size", LABELS, Column("size", "width", LABELS + 250.0), *noise)
    assert [feature.name for feature in row.features] == ["width"]


def test_shuffling_a_named_feature_takes_the_groups_auc_away():
    # The check by permutation that the audit itself makes.
    width = Column("size", "width", LABELS + 250.0)
    row = row_of("size", LABELS, width, Column("size", "height", rng(1).normal(size=120)))
    assert row.features[0].fall == pytest.approx(0.5, abs=0.1)
    shuffled = Column("size", "width", rng(2).permutation(width.values))
    assert row_of("size", LABELS, shuffled).auc < 0.65


def test_features_that_tell_only_together_are_named_as_such():
    # Neither width nor height differs between the classes; whether they are alike does.
    width = rng(1).integers(0, 2, 400)
    labels = (width + rng(2).integers(0, 2, 400)) % 2
    height = (labels + width) % 2
    columns = [Column("size", "width", width + 0.0), Column("size", "height", height + 0.0)]
    row = row_of("size", labels, *columns)
    assert row.auc == 1.0
    assert {each.contrast for each in row.features} == {
        "width: only together with other features",
        "height: only together with other features",
    }


def test_all_together_leaves_out_names_and_metadata():
    column = Column("name", "length", LABELS.astype(float))
    rows = rows_of(LABELS, column)
    assert rows["name"].auc == 1.0
    assert rows["all"].auc == 0.5


def test_missing_values_are_values():
    quality = np.where(LABELS == 1, np.nan, 90.0)
    assert row_of("jpeg", LABELS, Column("jpeg", "quality", quality)).auc == 1.0


def test_one_class_alone_gives_no_number_but_a_reason():
    row = row_of("size", np.zeros(50, int))
    assert row.auc is None
    assert row.reason == "one class only: nothing is fake"


def test_too_few_identities_give_no_number_but_a_reason():
    row = row_of("size", LABELS, units=np.arange(120) % 6)
    assert row.auc is None
    assert "at least 10" in row.reason


def test_a_darker_class_is_told_by_its_thumbnail():
    thumbnails = rng(4).normal(128, 20, (120, 768)) - 15 * LABELS[:, None]
    row = row_of("thumbnail", LABELS, thumbnails=thumbnails)
    assert row.auc > 0.95
    assert "mean" in row.features[0].name


def test_thumbnails_of_noise_are_near_chance():
    assert 0.3 < row_of("thumbnail", LABELS).auc < 0.7


def test_a_mirrored_thumbnail_scores_the_same():
    values = rng().normal(128, 20, (80, 768))
    unseen = rng(1).normal(128, 20, (5, 768))
    mirrored = unseen.reshape(-1, 16, 16, 3)[:, :, ::-1].reshape(5, -1)
    labels = np.tile([0, 1], 40)
    one, two = (thumbnail_scores(values, labels, each) for each in (unseen, mirrored))
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


def test_thumbnails_that_are_all_equal_are_chance():
    rows = rows_of(LABELS, thumbnails=np.full((120, 768), 7.0))
    assert rows["thumbnail"].auc == pytest.approx(0.5)


def test_of_many_values_the_range_is_told_in_which_the_classes_differ_most():
    # The medians are alike: fakes are in the middle, reals on both sides.
    values = np.where(LABELS == 1, 60 + np.arange(120.0) / 10, np.tile([0.0, 0.0, 200.0, 0.0], 30))
    said = contrast(Column("bytes", "file bytes", values), LABELS)
    assert said == "file bytes: 60.1 to 71.9 in 100 % of fakes, 0 % of reals"


def test_a_range_that_ends_with_the_values_has_one_end():
    values = np.where(LABELS == 1, np.arange(120.0) * 1000 + 1000, 500.0)
    said = contrast(Column("bytes", "file bytes", values), LABELS)
    assert said == "file bytes: 2,000 and more in 100 % of fakes, 0 % of reals"
    said = contrast(Column("bytes", "file bytes", -values), LABELS)
    assert said == "file bytes: up to -2e+03 in 100 % of fakes, 0 % of reals"


def test_a_feature_that_no_file_has_is_said_to_be_in_none():
    assert contrast(Column("jpeg", "quality", np.full(120, np.nan)), LABELS).endswith("in no file")


def test_a_value_that_one_class_lacks_is_told():
    values = np.where(LABELS == 1, np.nan, np.arange(120.0))
    said = contrast(Column("jpeg", "quality", values), LABELS)
    assert said == "quality: none in 100 % of fakes, 0 % of reals"


def test_a_share_of_a_hundred_per_cent_is_exact():
    values = np.zeros(1000)
    values[0] = 1.0
    labels = np.r_[np.zeros(500, int), np.ones(500, int)]
    said = contrast(Column("size", "width", values), labels)
    assert said == "width: 0 in 100 % of fakes, over 99 % of reals"
