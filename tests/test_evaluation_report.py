import base64
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as PillowImage

from tiny_evaluation import evaluation
from tiny_results import HOSTILE_NAMES
from unmask.errors import MissingSource, ScoresError
from unmask.evaluate.evaluation import (
    Coverage,
    Measure,
    Robustness,
    Row,
    Shares,
    Stability,
    Verdicts,
)
from unmask.evaluate.intervals import Interval
from unmask.evaluate.plots import AT_ONCE, det_plot, reliability_plot, robustness_plot, roc_plot
from unmask.evaluate.report_facts import headline
from unmask.evaluate.report_html import write_html
from unmask.evaluate.report_json import read_json, write_json
from unmask.evaluate.report_markdown import write_markdown
from unmask.evaluate.thumbnail import thumbnail
from unmask.files import one_line, valid_text

FULL = evaluation("data:image/jpeg;base64,AAAA")
PLAIN = replace(FULL, curves=(), robustness=())
"""Without what takes matplotlib a while."""
EMPTY = replace(
    PLAIN, rows=(), slices=(), worst_slice=None, comparisons=(), stability=(), errors=(),
    missing=(), timing={}, notes=(), settings={}, data={}, versions={},
)  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, and the text; tags must be closed in order."""

    _VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return write_html(FULL)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def one_row(*measures: Measure, **changes) -> Row:
    made = Row("set", "dataset", "picture", 5, 5, 10, Coverage(10, 10), measures)
    return replace(made, **changes)


# JSON


def test_what_was_written_as_json_is_read_back_whole(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(write_json(FULL), encoding="utf-8")
    assert repr(read_json(path)) == repr(FULL)


def test_json_says_its_schema():
    assert json.loads(write_json(FULL))["schema"] == 1


def test_a_bound_that_does_not_exist_is_null_in_json():
    (row,) = (each for each in json.loads(write_json(FULL))["rows"] if each["name"] == "sfhq_t2i")
    interval = next(each for each in row["measures"] if each["name"] == "accuracy")["interval"]
    assert (interval["value"], interval["low"], interval["high"]) == (0.81, None, None)


def test_a_number_that_does_not_exist_is_read_as_nan(tmp_path):
    still = Stability("jpeg", 1, math.nan, math.nan, math.nan, 0)
    path = tmp_path / "report.json"
    path.write_text(write_json(replace(EMPTY, stability=(still,))), encoding="utf-8")
    assert math.isnan(read_json(path).stability[0].flipped)


def test_a_point_of_a_band_that_does_not_exist_is_read_as_nan(tmp_path):
    nothing = (math.nan,) * len(FULL.curves[0].fpr)
    curve = replace(FULL.curves[0], tpr_low=nothing, tpr_high=nothing)
    path = tmp_path / "report.json"
    path.write_text(write_json(replace(EMPTY, curves=(curve,))), encoding="utf-8")
    assert all(math.isnan(each) for each in read_json(path).curves[0].tpr_low)


def test_a_setting_without_value_stays_none(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(write_json(replace(EMPTY, settings={"low": None, "x": [None]})), "utf-8")
    assert read_json(path).settings == {"low": None, "x": [None]}


def test_a_p_value_that_was_not_computed_stays_none(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(write_json(FULL), encoding="utf-8")
    assert [each.p_value for each in read_json(path).comparisons] == [0.0004, None]


def test_a_list_of_numbers_is_one_line_of_json():
    assert max(len(line.split()) for line in write_json(FULL).splitlines()) > 50


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_any_name_can_stand_in_json(name):
    given = replace(EMPTY, missing=((name, "unreadable", name),))
    (line,) = json.loads(write_json(given).encode())["missing"]
    assert line[0] == valid_text(name)


def test_a_report_that_is_not_there_is_a_missing_source(tmp_path):
    with pytest.raises(MissingSource, match="no such file"):
        read_json(tmp_path / "report.json")


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe"], ids=["cut short", "not utf-8"])
def test_what_is_no_json_is_refused(tmp_path, data):
    (tmp_path / "report.json").write_bytes(data)
    with pytest.raises(ScoresError, match="not a report that unmask wrote"):
        read_json(tmp_path / "report.json")


@pytest.mark.parametrize("text", ["[]", "{}"])
def test_json_without_a_schema_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ScoresError, match="without a schema"):
        read_json(tmp_path / "report.json")


def test_a_report_of_another_schema_is_refused(tmp_path):
    (tmp_path / "report.json").write_text('{"schema": 99}')
    with pytest.raises(ScoresError, match="schema 99; this version reads 1"):
        read_json(tmp_path / "report.json")


def test_a_report_whose_fields_were_changed_is_refused_by_the_field(tmp_path):
    fields = json.loads(write_json(FULL))
    fields["rows"][0]["n_real"] = "many"
    (tmp_path / "report.json").write_text(json.dumps(fields))
    with pytest.raises(ScoresError, match=r"rows\.0\.n_real is not as a report has it"):
        read_json(tmp_path / "report.json")


# HTML


def test_every_part_has_a_heading_and_a_link_to_it(page):
    anchors = {each["id"] for each in page.all("h2")}
    assert {each["href"] for each in page.all("a")} == {f"#{anchor}" for anchor in anchors}
    assert len(anchors) == 12


def test_the_same_evaluation_gives_the_same_page(html):
    assert write_html(FULL) == html


def test_the_page_loads_nothing_from_elsewhere(html, page):
    assert not re.search(r"https?:|<link|<script|@import|xmlns", html)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert all(each["src"].startswith("data:image/") for each in page.all("img"))
    (policy,) = (each["content"] for each in page.all("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'")


def test_no_id_stands_twice_and_each_that_is_used_is_there(html, page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([\w.-]+)', html)) <= set(ids)


def test_the_page_says_its_language_and_describes_its_pictures(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(each["alt"] for each in page.all("img"))
    plots = [each for each in page.all("svg") if each.get("class") == "plot"]
    assert len(plots) == 11
    assert all(each["role"] == "img" and each["aria-label"] for each in plots)


def test_the_page_is_small(html):
    assert len(html.encode()) < 300_000


def test_a_number_stands_with_its_interval(page):
    interval = FULL.rows[0].measures[0].interval
    assert f"{interval.value:.3f}[{interval.low:.3f}, {interval.high:.3f}]" in page.words


def test_a_metric_without_value_has_a_footnote_with_the_reason(page):
    assert "n/a1" in page.words
    assert "needs reals, and the data have none" in page.words


def test_a_reason_that_several_columns_share_is_one_footnote(page):
    notes = page.words.split("Decisions")[0]
    assert notes.count("needs reals, and the data have none") == 1


def test_another_reason_is_told_as_it_is_and_a_missing_one_as_missing():
    row = one_row(Measure("auc", None, "two groups are needed"), Measure("eer", None))
    text = write_html(replace(EMPTY, rows=(row,)))
    assert "<li>two groups are needed</li><li>no reason was recorded</li>" in text


def test_an_interval_without_bounds_is_shown_as_such_with_the_reason(page):
    assert "0.8101[n/a]" in page.words
    assert "a class comes from a single group" in page.words
    assert not re.search(r"\bnan\b", page.words)


@pytest.mark.parametrize(
    ("interval", "bootstraps", "said"),
    [
        (Interval(0.8, math.nan, math.nan), 0, "no interval: no resamples were drawn"),
        (Interval(0.8, math.nan, math.nan, 0.95, 0, 60), 60, "no value in any of 60 resamples"),
        (Interval(0.8, 0.7, 0.9, 0.95, 50, 10), 60, "leaves out 10 of 60 resamples"),
    ],
)
def test_a_doubtful_interval_says_why(interval, bootstraps, said):
    given = replace(EMPTY, rows=(one_row(Measure("auc", interval)),), bootstraps=bootstraps)
    assert said in write_html(given)


def test_an_interval_that_leaves_out_few_resamples_says_nothing():
    row = one_row(Measure("auc", Interval(0.8, 0.7, 0.9, 0.95, 59, 1)))
    assert "leaves out" not in write_html(replace(EMPTY, rows=(row,)))


def test_a_metric_that_a_row_lacks_is_not_available():
    rows = (one_row(Measure("auc", Interval(0.8, 0.7, 0.9))), one_row(name="other"))
    assert "not measured for this row" in write_html(replace(EMPTY, rows=rows))


def test_a_metric_of_unknown_name_is_shown_by_it():
    row = one_row(Measure("own_metric", Interval(0.8, 0.7, 0.9)))
    words = Page(write_html(replace(EMPTY, rows=(row,)))).words
    assert "Further metrics" in words
    assert "own metric ↑" in words.replace("\xa0", " ")


def test_what_was_not_scored_is_counted_beside_the_numbers(page):
    assert "97.5 %230 of 236" in page.words
    assert "not scored: 4 no face, 2 unreadable" in page.words


def test_a_row_that_was_given_nothing_says_so():
    row = one_row(coverage=Coverage(0, 0), n_real=0, n_fake=0, n_groups=0)
    assert "none given" in write_html(replace(EMPTY, rows=(row,)))


def test_the_mean_over_data_sets_is_the_row_to_quote():
    assert headline(FULL).kind == "mean"


def test_the_videos_are_quoted_rather_than_the_pictures():
    known = Measure("auc", Interval(0.8, 0.7, 0.9))
    rows = (one_row(known), one_row(known, unit="video"))
    assert headline(replace(EMPTY, rows=rows)).unit == "video"


def test_a_mean_without_auc_is_not_quoted_where_another_row_has_one():
    mean = one_row(Measure("auc", None, "one has none"), kind="mean")
    pooled = one_row(Measure("auc", Interval(0.8, 0.7, 0.9)), kind="all")
    assert headline(replace(EMPTY, rows=(mean, pooled))).kind == "all"


def test_without_rows_there_is_nothing_to_quote():
    assert headline(EMPTY) is None


def test_six_numbers_are_quoted_and_how_much_was_scored():
    cards = re.findall(r'class="card"><span>([^<]*)', write_html(PLAIN))
    assert cards == ["AUC", "EER", "TPR at FPR 1 %", "FPR", "TPR", "ECE", "Scored"]


def test_a_row_without_those_numbers_quotes_what_it_has():
    row = one_row(Measure("accuracy", Interval(0.8125, math.nan, math.nan)))
    text = write_html(replace(EMPTY, rows=(row,), protocol="deepfakebench"))
    assert re.search("<span>Accuracy</span><b>0.812<", text)


def test_a_card_without_number_points_to_the_reason():
    row = one_row(Measure("auc", None, "no reals here"))
    text = write_html(replace(EMPTY, rows=(row,)))
    assert "<b>n/a<sup>1</sup></b></div>" in text
    assert '</div>\n<ol class="foot"><li>no reals here</li></ol>' in text


def test_notes_and_an_untrained_head_stand_before_the_numbers():
    given = replace(PLAIN, detector=replace(PLAIN.detector, trained=False))
    text = write_html(given)
    assert text.index("was never trained") < text.index(PLAIN.notes[0]) < text.index("<nav")


def test_the_worst_slice_is_named_and_marked(page):
    assert "Worst slice: face_px = [20, 64), where 22.5 %" in page.words
    assert [each["class"] for each in page.all("tr") if each.get("class") == "worst"] == ["worst"]


def test_without_a_worst_slice_none_is_named():
    assert "Worst slice" not in write_html(replace(PLAIN, worst_slice=None))


def test_a_slice_without_reals_says_so(page):
    assert "n/ano reals" in page.words


def test_a_share_without_interval_has_a_bar_without_line():
    part = replace(FULL.slices[0], fpr=Interval(0.5, math.nan, math.nan), fnr=None)
    text = write_html(replace(EMPTY, slices=(part,)))
    assert 'width="130.0"' in text
    assert "M0.0 7H" not in text


@pytest.mark.parametrize(("high", "end"), [(0.04, 5), (0.15, 20), (0.7, 100)])
def test_bars_end_at_a_round_share_that_holds_all(high, end):
    part = replace(FULL.slices[0], fpr=Interval(0.02, 0.01, high), fnr=None)
    assert f"bar: 0 to {end}\xa0%" in write_html(replace(EMPTY, slices=(part,)))


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("auc", 0.01, 0.2, "first is better"),
        ("auc", -0.2, -0.01, "second is better"),
        ("eer", 0.01, 0.2, "second is better"),
        ("auc", -0.1, 0.2, "no difference shown"),
        ("auc", math.nan, math.nan, "no interval, nothing shown"),
    ],
)
def test_a_difference_is_told_in_words(metric, low, high, said):
    found = replace(FULL.comparisons[0], metric=metric, difference=Interval(0.1, low, high))
    assert said in write_html(replace(EMPTY, comparisons=(found,)))


def test_a_missing_p_value_says_why(page):
    assert "DeLong's test is for the AUC of items that are independent" in page.words


FEW_REALS = Measure("tpr_at_fpr_1", Interval(0.5, 0.2, 0.7), caution="with 40 reals it is another")


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_a_number_that_says_less_than_its_name_has_a_footnote(write):
    text = write(replace(EMPTY, rows=(one_row(FEW_REALS),)))
    assert "with 40 reals it is another" in text
    assert "<sup>1</sup>" in text or "]¹" in text


def test_a_number_that_is_doubtful_in_two_ways_has_both_in_one_footnote():
    doubtful = replace(FEW_REALS, interval=Interval(0.5, math.nan, math.nan))
    text = write_markdown(replace(EMPTY, rows=(one_row(doubtful),), bootstraps=9))
    assert "1. with 40 reals it is another; no interval: a class" in text


def test_a_card_says_what_its_number_is_in_a_footnote():
    # Sentences in a card made it seven lines high.
    (cards,) = re.findall(
        r'<div class="cards">(.*?)</div>\n<ol class="foot"><li>with 40 reals it is another</li>',
        write_html(replace(EMPTY, rows=(one_row(FEW_REALS),))),
    )
    assert "<b>0.500<sup>1</sup></b><small>[0.200, 0.700]</small>" in cards
    assert "with 40 reals" not in cards


def test_a_caution_is_read_back_and_an_older_report_has_none(tmp_path):
    given = replace(EMPTY, rows=(one_row(FEW_REALS),))
    path = tmp_path / "report.json"
    path.write_text(write_json(given), encoding="utf-8")
    assert read_json(path).rows == given.rows
    fields = json.loads(write_json(given))
    del fields["rows"][0]["measures"][0]["caution"]
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert read_json(path).rows[0].measures[0].caution == ""


MANY = tuple(f"d{number:02}" for number in range(14))


def test_of_many_data_sets_the_page_says_which_are_drawn():
    rows = tuple(replace(one_row(FEW_REALS), name=name) for name in MANY)
    said = "Drawn are the 12 data sets with the lowest AUC"
    curves = FULL.curves[:1]
    assert said in write_html(replace(EMPTY, rows=rows, curves=curves))
    assert said not in write_html(replace(EMPTY, rows=rows[:12], curves=curves))


def test_of_many_matrices_the_mean_and_the_lowest_are_drawn_and_all_are_tables():
    def cell(name: str, value: float, severity: int) -> Robustness:
        auc = Measure("auc", Interval(value, value, value))
        return Robustness(name, "jpeg" if severity else "none", severity, auc, Coverage(2, 2))

    cells = [
        cell(name, 0.99 - 0.01 * number, severity)
        for number, name in enumerate(("mean", *MANY))
        for severity in (0, 1)
    ]
    rows = tuple(replace(one_row(FEW_REALS), name=name) for name in MANY)
    text = write_html(replace(EMPTY, rows=rows, robustness=tuple(cells)))
    assert text.count("AUC by alteration and severity") == 13
    assert text.count("<summary>d0") == 2
    assert "<summary>d00</summary>" in text
    assert "<h3>Mean over data sets</h3>" in text
    assert "Drawn are the 12 data sets" in text


def test_an_alteration_without_auc_gives_the_reason(page):
    assert "AUC, FPR n/a at social 5: no face was found in any real" in page.words


def test_each_data_set_has_a_matrix_of_auc_fpr_and_tpr(page):
    labels = [each["aria-label"] for each in page.all("svg") if each.get("role") == "img"]
    for metric in ("AUC", "FPR", "TPR"):
        assert labels.count(f"{metric} by alteration and severity") == 2


REALS_ONLY = tuple(
    replace(
        each,
        auc=Measure("auc", None, "AUC needs fakes, and the data have none"),
        tpr=Measure("true_positive_rate", None, "the rate needs fakes, and the data have none"),
    )
    for each in FULL.robustness
    if each.dataset == "celebdf"
)


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_reals_alone_have_the_matrix_of_their_false_alarms(write):
    text = write(replace(EMPTY, robustness=REALS_ONLY))
    assert "AUC, TPR n/a everywhere: needs fakes, and the data have none" in text
    assert "0.270 [0.230, 0.300]" in text or "0.270<small>[0.230, 0.300]</small>" in text


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_a_matrix_says_what_is_counted(write):
    mixed = tuple(replace(each, dataset="mean", mixed=True) for each in FULL.robustness[:2])
    text = write(replace(EMPTY, robustness=(*FULL.robustness[:2], *mixed)))
    assert "celebdf (videos)" in text
    assert "Mean over data sets (mixed units)" in text


@pytest.mark.parametrize(
    ("real_below", "words"),
    [(0.2, "Share of verdicts that change (real, inconclusive, fake)"),
     (None, "Share of verdicts that change (real, fake)")],
)  # fmt: skip
@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_it_is_said_what_changes(write, real_below, words):
    given = replace(EMPTY, stability=FULL.stability, threshold=replace(
        FULL.threshold, real_below=real_below))  # fmt: skip
    assert words in write(given)


def test_stability_counts_verdicts_and_tells_crossings_apart():
    text = write_markdown(replace(EMPTY, stability=FULL.stability))
    assert "| 4.0 %, of 690, 2.4 % across, median 0.02, 95 % below 0.10 |" in text


def test_stability_has_a_table_for_each_class():
    text = write_markdown(replace(EMPTY, stability=FULL.stability))
    assert re.findall(r"^\*\*(.*)\*\*$", text, re.MULTILINE) == ["All items", "Reals", "Fakes"]
    assert "| 6.0 %, of 270, 0.0 % across, median 0.04, 95 % below 0.12 |" in text


def test_a_report_of_before_has_no_rates_and_no_count_of_verdicts(tmp_path):
    fields = json.loads(write_json(replace(EMPTY, robustness=FULL.robustness[:1],
                                           stability=FULL.stability[:1])))  # fmt: skip
    for name in ("fpr", "tpr", "unit", "mixed"):
        del fields["robustness"][0][name]
    for name in ("changed", "reals", "fakes"):
        del fields["stability"][0][name]
    (tmp_path / "report.json").write_text(json.dumps(fields), encoding="utf-8")
    old = read_json(tmp_path / "report.json")
    assert old.robustness[0].fpr is None
    assert "### celebdf\n" in write_markdown(old)
    assert "n/a, of 690" in write_markdown(old)


def test_rates_of_a_comparison_name_their_thresholds_and_call_neither_better():
    found = tuple(
        replace(FULL.comparisons[0], metric=metric, thresholds=(0.5, 0.8125),
                difference=Interval(0.1, 0.05, 0.2))
        for metric in ("false_positive_rate", "true_positive_rate")
    )  # fmt: skip
    text = write_markdown(replace(EMPTY, comparisons=found))
    assert "FPR, at 0.5 and 0.8125" in text
    assert "second calls fewer reals fake" in text
    assert "first calls more fakes fake" in text


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_times_after_an_interruption_are_those_of_the_last_run(write):
    resumed = replace(EMPTY, timing={"scoring": 1.0, "resumed_from": 1200})
    said = "Times of the last run only; it went on from 1,200 scored items."
    assert said in write(resumed)
    assert "resumed" not in write(resumed)
    assert said not in write(replace(EMPTY, timing={"scoring": 1.0}))


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_a_data_set_without_any_auc_says_why_once(write):
    cells = tuple(
        Robustness("fakes", "jpeg", severity, Measure("auc", None, "no reals"), Coverage(1, 1))
        for severity in range(6)
    )
    text = write(replace(EMPTY, robustness=cells))
    assert text.count("n/a everywhere: no reals") == 1
    assert "severity 1" not in text


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_the_matrix_of_the_mean_is_called_so(write):
    cells = tuple(replace(each, dataset="mean") for each in FULL.robustness[:2])
    assert "Mean over data sets" in write(replace(EMPTY, robustness=cells))


def test_errors_are_shown_with_picture_and_reasons(page):
    assert page.all("img")[0]["alt"] == "a.png: real, called fake, P(fake) 0.981"
    assert "the face is 31 px wide" in page.words
    assert "picture not available" in page.words


def test_a_picture_from_elsewhere_is_never_loaded():
    item = replace(FULL.errors[0], thumbnail="//example.org/a.png")
    text = write_html(replace(EMPTY, errors=(item,)))
    assert "example.org" not in text
    assert "picture not available" in text


def test_of_many_reasons_some_are_shown_and_the_rest_counted():
    item = replace(FULL.errors[0], reasons=tuple("abcdef"))
    assert "and 2 more" in write_html(replace(EMPTY, errors=(item,)))


def test_of_many_items_without_score_some_are_listed_and_the_rest_counted():
    missing = tuple((f"{number}.png", "no_face", "none found") for number in range(503))
    page = Page(write_html(replace(EMPTY, missing=missing)))
    assert "503 items: 503 no face." in page.words
    assert "And 3 more" in page.words
    assert "499.png" in page.words
    assert "500.png" not in page.words


def test_provenance_names_weights_seed_command_and_data(page):
    for part in ("cd" * 32, "7, 60", "unmask evaluate data", "torch 2.13", "01" * 32, "float32"):
        assert part in page.words


def test_an_evaluation_of_nothing_makes_a_page():
    page = Page(write_html(EMPTY))
    assert "Nothing was measured" in page.words
    assert [each["id"] for each in page.all("h2")] == ["results", "not-scored", "provenance"]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_name_is_text_and_never_markup(name):
    given = replace(
        PLAIN,
        detector=replace(PLAIN.detector, id=name),
        threshold=replace(PLAIN.threshold, source=name),
        command=name,
        rows=(one_row(Measure(name, None, name), name=name, notes=(name,)),),
        slices=(replace(PLAIN.slices[0], column=name, value=name),),
        comparisons=(replace(PLAIN.comparisons[0], dataset=name, first=name, metric=name),),
        errors=(replace(PLAIN.errors[0], source=name, dataset=name, reasons=(name,)),),
        missing=((name, name, name),),
        notes=(name,),
        settings={name: name},
    )
    text = write_html(given)
    page = Page(text)
    assert page.all("script") == []
    assert valid_text(one_line(name)) in page.words
    assert "\x1b" not in text
    assert text.encode()


# Plots


def test_more_curves_than_one_plot_holds_are_drawn_in_two():
    short = replace(
        FULL.curves[0], fpr=(0, 1), tpr=(0, 1), tpr_low=(), tpr_high=(), bin_p_fake=(),
        bin_share_fake=(), bin_count=(), histogram_edges=(0, 1), histogram_real=(0,),
        histogram_fake=(1,),
    )  # fmt: skip
    text = write_html(replace(EMPTY, curves=(short,) * (AT_ONCE + 1)))
    assert text.count('aria-label="ROC curves') == 2


def test_the_legend_names_the_row_of_a_curve_and_its_auc():
    interval = Interval(0.8, 0.7, 0.9)
    pooled = one_row(Measure("auc", interval), name="all", kind="all", unit="video")
    curve = replace(FULL.curves[0], name="all")
    words = Page(write_html(replace(EMPTY, rows=(pooled,), curves=(curve,)))).words
    assert "All pooled videos, AUC 0.800 [0.700, 0.900]" in words
    assert "All pooled (videos)" in words


def test_a_curve_without_row_keeps_its_name():
    words = Page(write_html(replace(EMPTY, curves=FULL.curves[:1]))).words
    assert "celebdf videos" in words


def test_a_curve_of_one_class_has_no_roc_but_a_histogram():
    curve = replace(FULL.curves[0], fpr=(), tpr=(), tpr_low=(), tpr_high=())
    text = write_html(replace(EMPTY, curves=(curve,)))
    assert "ROC curves: " not in text
    assert "Reliability: " in text


def test_the_reliability_of_one_class_is_not_drawn():
    curve = replace(FULL.curves[0], histogram_real=(0,) * 20)
    assert "one class only" in reliability_plot(curve, 0.5, "a")
    assert "one class only" not in reliability_plot(FULL.curves[0], 0.5, "a")


def test_a_band_is_drawn_where_there_is_one():
    curve = FULL.curves[0]
    nothing = (math.nan,) * len(curve.fpr)
    without = replace(curve, tpr_low=nothing, tpr_high=nothing)
    assert "fill-opacity: 0.14" in roc_plot([curve], "a")
    assert "fill-opacity: 0.14" not in roc_plot([without], "a")
    assert "fill-opacity: 0.14" not in det_plot([without], "a")


def test_a_plot_takes_its_colours_from_the_page():
    text = roc_plot(FULL.curves, "a")
    assert "stroke: var(--s1, #0072b2)" in text
    assert re.findall(r"(?<!, )#[0-9a-f]{6}", text) == []


def test_axes_have_labels_with_units():
    assert "TPR (%)" in roc_plot(FULL.curves, "a")
    assert "FNR (%)" in det_plot(FULL.curves, "a")
    assert "% of class" in reliability_plot(FULL.curves[0], 0.5, "a")


def test_a_cell_of_the_matrix_shows_its_auc_or_that_there_is_none():
    text = robustness_plot([each for each in FULL.robustness if each.dataset != "celebdf"], "a")
    assert text.count(">0.800<") == 3
    assert text.count(">n/a<") == 1


def test_a_combination_that_was_not_run_is_a_dash():
    cells = [
        Robustness("set", kind, severity, Measure("auc", None, "none"), Coverage(1, 0))
        for kind, severity in (("jpeg", 1), ("blur", 2))
    ]
    assert robustness_plot(cells, "a").count(">–<") == 4


def test_the_name_of_an_alteration_is_never_a_formula():
    cell = Robustness("set", "$x^2$<b>", 1, Measure("auc", None, "none"), Coverage(1, 0))
    assert ">$x^2$&lt;b&gt;<" in robustness_plot([cell], "a")


def test_settings_of_the_user_change_no_plot():
    import matplotlib as mpl

    before = roc_plot(FULL.curves, "a")
    with mpl.rc_context({"font.size": 30, "xtick.direction": "in", "svg.fonttype": "path"}):
        assert roc_plot(FULL.curves, "a") == before
        assert mpl.rcParams["font.size"] == 30


def test_plots_need_no_pyplot_and_importing_the_report_no_matplotlib():
    code = (
        "import sys, unmask.evaluate.report_html, unmask.evaluate.report_markdown;"
        "assert 'matplotlib' not in sys.modules;"
        "from unmask.evaluate.plots import robustness_plot;"
        "robustness_plot([], 'a');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Markdown


def test_tables_of_the_markdown_have_as_many_fields_in_each_line():
    tables = re.findall(r"(?:^\|.*\n)+", write_markdown(FULL), re.MULTILINE)
    assert len(tables) == 19
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_gives_values_with_intervals_and_coverage():
    interval = FULL.rows[0].measures[0].interval
    text = write_markdown(FULL)
    assert f"| {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}] |" in text
    assert "| celebdf, videos | 90 / 140, in 77 groups | 97.5 %, 230 of 236 |" in text


WITH_BAND = replace(
    EMPTY,
    threshold=replace(PLAIN.threshold, real_below=0.25),
    rows=(replace(PLAIN.rows[0], verdicts=Verdicts(Shares(0.8, 0.15, 0.05), None)),),
)


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_verdicts_and_their_band_are_shown(write):
    found = write(WITH_BAND)
    assert "below 0.25 is called real" in found
    assert "Verdicts at the operating point" in found
    assert all(share in found for share in ("80.0 %", "15.0 %", "5.0 %"))


def test_verdicts_are_read_back(tmp_path):
    (tmp_path / "report.json").write_text(write_json(WITH_BAND), encoding="utf-8")
    assert read_json(tmp_path / "report.json") == WITH_BAND


@pytest.mark.parametrize("write", [write_html, write_markdown])
def test_a_row_that_mixes_videos_and_pictures_says_so(write):
    row = one_row(unit="video", mixed=True)
    found = write(replace(EMPTY, rows=(row,), curves=(replace(FULL.curves[0], name="set"),)))
    assert "mixed units" in found
    assert "videos or pictures" not in found


def test_legend_and_reliability_call_a_mixed_row_so():
    row = one_row(unit="video", mixed=True, kind="all", name="all")
    curve = replace(FULL.curves[0], name="all", unit="video")
    text = write_html(replace(EMPTY, rows=(row,), curves=(curve,)))
    assert 'All pooled <span class="soft">mixed units</span>' in text
    assert "<h3>All pooled (mixed units)</h3>" in text


def test_the_guide_says_that_the_interval_of_ece_is_biased():
    assert "interval of ECE is biased upwards" in write_markdown(PLAIN)


def test_without_a_band_there_is_no_table_of_verdicts():
    assert "Verdicts" not in write_markdown(PLAIN)


def test_markdown_gives_reasons_as_footnotes():
    text = write_markdown(FULL)
    assert "| n/a¹ |" in text
    assert "0.810 [n/a]¹" in text
    assert "\n1. needs reals, and the data have none\n" in text


def test_the_same_evaluation_gives_the_same_markdown():
    assert write_markdown(FULL) == write_markdown(evaluation("data:image/jpeg;base64,AAAA"))


def test_markdown_has_no_empty_parts():
    assert re.findall(r"^## (.*)", write_markdown(EMPTY), re.MULTILINE) == [
        "Results",
        "Not scored",
        "Provenance",
    ]


def test_markdown_names_every_part():
    assert len(re.findall(r"^## ", write_markdown(FULL), re.MULTILINE)) == 11


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "a|b", "[x](y)", "*a* `b`"], ids=ascii)
def test_a_name_stays_in_its_field_of_the_markdown(name):
    given = replace(EMPTY, missing=((name, "unreadable", "damaged"),))
    (line,) = (each for each in write_markdown(given).splitlines() if "| unreadable |" in each)
    assert len(re.findall(r"(?<!\\)\|", line)) == 4
    assert not re.search(r"(?<!\\)[<*`]|\]\(", line)
    assert line.encode()


def test_markdown_lists_some_of_many_items_without_score():
    missing = tuple((f"{number}.png", "no_face", "none found") for number in range(52))
    text = write_markdown(replace(EMPTY, missing=missing))
    assert "And 2 more" in text
    assert "50.png" not in text


# Thumbnails


def test_a_thumbnail_is_a_small_jpeg_in_a_data_url(tmp_path):
    path = tmp_path / "a.png"
    PillowImage.fromarray(np.full((300, 600, 3), 90, np.uint8)).save(path)
    data = base64.b64decode(thumbnail(path, 100).removeprefix("data:image/jpeg;base64,"))
    assert PillowImage.open(io.BytesIO(data)).size == (100, 50)


def test_a_picture_that_cannot_be_read_has_no_thumbnail(tmp_path):
    assert thumbnail(tmp_path / "gone.png") == ""
