"""An evaluation on a terminal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tiny_evaluation import evaluation
from unmask.cli.evaluate_table import WIDTH, to_text
from unmask.evaluate.evaluation import Evaluation, Measure
from unmask.evaluate.intervals import Interval

FULL = evaluation()
WITHOUT = replace(FULL, robustness=(), stability=())


def lines_of(given: Evaluation) -> list[str]:
    return to_text(given).splitlines()


def line_of(given: Evaluation, start: str) -> list[str]:
    (found,) = [line for line in lines_of(given) if line.startswith(start)]
    return found.split()


def test_each_alteration_has_the_auc_of_each_data_set_and_its_stability():
    # 0.93 - 2 * 0.03 and 0.8 - 2 * 0.03; then the stability that the evaluation holds.
    found, _ = tables_of(FULL, "jpeg@2")
    assert found == ["jpeg@2", "0.870+", "0.740+", "0.020", "0.100", "4.0%"]


def test_each_alteration_has_the_rates_of_the_first_and_what_each_class_does():
    _, found = tables_of(FULL, "jpeg@2")
    assert found == [
        "jpeg@2", "0.180", "[0.140,", "0.210]", "0.670", "[0.630,", "0.700]", "6.0%", "2.0%",
    ]  # fmt: skip


def test_the_rates_of_the_mean_are_shown_and_of_a_set_of_reals_that_is_no_part_of_it():
    mean = [replace(each, dataset="mean") for each in FULL.robustness if each.dataset != "celebdf"]
    alone = [
        replace(each, dataset="lfw", tpr=Measure("true_positive_rate", None, "no fakes"))
        for each in mean
    ]
    fakes = [
        replace(each, dataset="sfhq", tpr=each.fpr, fpr=Measure("false_positive_rate", None, "no"))
        for each in mean
    ]
    text = to_text(replace(FULL, robustness=(*FULL.robustness, *fakes, *alone, *mean)))
    (head,) = [line for line in text.splitlines() if "FPR mean" in line]
    assert re.split(r"\s{2,}", head.strip()) == [
        "FPR mean", "TPR mean", "FPR lfw", "reals", "fakes",
    ]  # fmt: skip
    assert "The report has FPR and TPR of every data set." in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_report_without_rates_has_no_table_of_them():
    cells = tuple(replace(each, fpr=None, tpr=None) for each in FULL.robustness)
    assert "FPR and TPR of altered" not in to_text(replace(FULL, robustness=cells))


@pytest.mark.parametrize(
    ("real_below", "words"), [(0.2, "(real, inconclusive, fake)"), (None, "(real, fake)")]
)
def test_the_words_for_what_changes_are_those_of_the_page(real_below, words):
    given = replace(FULL, threshold=replace(FULL.threshold, real_below=real_below))
    assert f"share of verdicts that change {words}" in " ".join(to_text(given).split())


def test_columns_of_alterations_say_what_is_counted():
    mixed = tuple(replace(each, mixed=each.dataset != "celebdf") for each in FULL.robustness)
    lines = lines_of(replace(FULL, robustness=mixed))
    (number,) = [index for index, line in enumerate(lines) if "median shift" in line]
    assert lines[number - 1].split() == ["celebdf", "ffpp_reenact"]
    assert lines[number].split()[1:3] == ["video", "mixed"]


def test_a_comparison_shows_how_auc_and_both_rates_differ():
    one = replace(FULL.comparisons[0], difference=Interval(-0.111, -0.222, -0.1))
    pair = tuple(
        replace(one, dataset="a name that is longer than that", metric=metric)
        for metric in ("auc", "false_positive_rate", "true_positive_rate")
    )
    text = to_text(replace(WITHOUT, comparisons=pair))
    (line,) = [line for line in text.splitlines() if line.startswith("a name")]
    assert line.count("-0.111 [-0.222, -0.100]") == 3
    assert line.endswith("0.0004")
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_pictures_as_they_are_come_first():
    found, rates = tables_of(FULL, "as it is")
    assert found == ["as", "it", "is", "0.930", "0.800"]
    assert len(rates) == 9
    names = [line.split()[0] for line in lines_of(FULL) if line]
    assert names[names.index("alteration") + 2 :][:2] == ["as", "jpeg@1"]


def test_an_alteration_without_auc_is_not_available():
    assert "n/a+" in tables_of(FULL, "social@5")[0]


def test_a_mark_says_that_items_were_lost():
    assert "+ some of the given items have no score, see the report" in lines_of(FULL)
    whole = tuple(
        replace(each, coverage=replace(each.coverage, scored=each.coverage.given))
        for each in FULL.robustness
    )
    assert not any("+" in line for line in lines_of(replace(FULL, robustness=whole)))


def tables_of(given: Evaluation, start: str) -> list[list[str]]:
    """The line of an alteration in the table of AUC and in that of rates."""
    return [line.split() for line in lines_of(given) if line.startswith(start)]


def many(count: int) -> Evaluation:
    """The same cells for more data sets, of long names, and for their mean."""
    cells = [each for each in FULL.robustness if each.dataset == "celebdf"]
    names = [*(f"a data set of a long name, number {number}" for number in range(count)), "mean"]
    return replace(
        FULL, robustness=tuple(replace(each, dataset=name) for name in names for each in cells)
    )


@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_table_fits_the_terminal(count):
    assert max(map(len, lines_of(many(count)))) <= WIDTH


def test_of_many_data_sets_the_mean_and_the_first_are_shown():
    lines = lines_of(many(9))
    number = next(index for index, line in enumerate(lines) if line.startswith("alteration"))
    assert lines[number - 1].split()[0] == "mean"
    assert lines[number - 1].count("a data set …") == 3
    others = ", ".join(f"a data set of a long name, number {number}" for number in range(3, 9))
    assert f"The report also has {others}." in " ".join(lines)


def test_a_single_data_set_that_did_not_fit_is_named():
    # "The report has 1 more data sets." told neither which nor in the right number.
    lines = lines_of(many(4))
    assert "The report also has a data set of a long name, number 3." in lines


def test_without_alterations_nothing_is_said_of_them():
    assert "altered" not in to_text(WITHOUT)


def test_a_row_that_mixes_videos_and_pictures_says_so():
    rows = tuple(replace(each, mixed=each.kind == "mean") for each in FULL.rows)
    assert line_of(replace(WITHOUT, rows=rows), "mean")[1] == "mixed"
    assert line_of(replace(WITHOUT, rows=rows), "ciplab")[1] == "video"


def test_a_tpr_that_too_few_reals_resolve_is_marked():
    first = FULL.rows[0]
    measures = tuple(
        replace(each, caution="too few") if each.name == "tpr_at_fpr_5" else each
        for each in first.measures
    )
    text = to_text(replace(WITHOUT, rows=(replace(first, measures=measures),)))
    assert "0.757*" in text
    assert "* too few reals for this FPR: the TPR at FPR 0" in text
    assert "*" not in to_text(WITHOUT)
