"""An evaluation on a terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiny_evaluation import evaluation
from unmask.cli.evaluate_table import WIDTH, to_text
from unmask.evaluate.evaluation import Evaluation

FULL = evaluation()
WITHOUT = replace(FULL, robustness=(), stability=())


def lines_of(given: Evaluation) -> list[str]:
    return to_text(given).splitlines()


def line_of(given: Evaluation, start: str) -> list[str]:
    (found,) = [line for line in lines_of(given) if line.startswith(start)]
    return found.split()


def test_each_alteration_has_the_auc_of_each_data_set_and_its_stability():
    # 0.93 - 2 * 0.03 and 0.8 - 2 * 0.03; then the stability that the evaluation holds.
    assert line_of(FULL, "jpeg@2") == ["jpeg@2", "0.870+", "0.740+", "0.020", "0.100", "2.4%"]


def test_the_pictures_as_they_are_come_first():
    assert line_of(FULL, "as it is") == ["as", "it", "is", "0.930", "0.800"]
    names = [line.split()[0] for line in lines_of(FULL) if line]
    assert names[names.index("alteration") + 2 :][:2] == ["as", "jpeg@1"]


def test_an_alteration_without_auc_is_not_available():
    assert "n/a+" in line_of(FULL, "social@5")


def test_a_mark_says_that_items_were_lost():
    assert "+ some of the given items have no score, see the report" in lines_of(FULL)
    whole = tuple(
        replace(each, coverage=replace(each.coverage, scored=each.coverage.given))
        for each in FULL.robustness
    )
    assert not any("+" in line for line in lines_of(replace(FULL, robustness=whole)))


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
    (head,) = [line for line in lines if line.startswith("alteration")]
    assert head.split()[1] == "mean"
    assert head.count("a data set …") == 3
    assert "The report has 6 more data sets." in lines


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
