"""The text file of the original scripts, from results made by hand."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.reference_text import UNTRAINED_WARNING, metric_lines, write_reference_text
from unmask.types import DetectorRef, FrameCount, OperatingPoint, Reason, Result

RULE = 80 * "="
HEAD = ["Title", RULE, ""]
METRICS = ["", RULE, "PERFORMANCE METRICS", RULE]
HINT = "- Images with 'real' or 'fake' in directory names"


def result(
    source: str, logit: float | None = 1.0, label: int | None = None, **changes: object
) -> Result:
    p_fake = None if logit is None else 1 / (1 + math.exp(-logit))
    made = Result(
        source=source,
        sha256="0" * 64,
        kind="image",
        status="ok" if logit is not None else "unreadable",
        label=label,
        logit=logit,
        p_fake=p_fake,
        verdict="inconclusive",
        reasons=() if logit is not None else (Reason("unreadable", "cut short"),),
        faces=(),
        frames=FrameCount(1, int(logit is not None)),
        detector=DetectorRef("d", "0" * 64, trained=True),
        preprocessing="",
        operating_point=OperatingPoint("fixed", 0.5, 0.5, "fixed"),
        elapsed_ms=1.0,
    )
    return replace(made, **changes)


@pytest.fixture
def write(tmp_path: Path):
    def lines(*results: Result, **options: object) -> list[str]:
        path = tmp_path / "out.txt"
        write_reference_text(path, results, title="Title", **options)
        text = path.read_bytes().decode("utf-8")
        assert text.endswith("\n")
        return text[:-1].split("\n")

    return lines


def scored_line(place: str, name: str, true: str, pred: int, prob: str, path: str) -> str:
    tail = f"Pred: {pred} (0=Real, 1=Fake) | Prob: {prob} | Path: {path}"
    return f"[{place}] {name:>30} | True: {true:>4} | {tail}"


def test_a_single_picture_has_its_line_and_no_auc(write):
    assert write(result("x/one.png", 0.0)) == [
        *HEAD,
        scored_line("1/1", "one.png", "N/A", 0, "0.5000", "x/one.png"),
        *METRICS,
        "",
        "Single image processed - AUC calculation not applicable.",
    ]


def test_two_classes_give_auc_and_pr_auc(write):
    lines = write(
        result("real/a.png", -1.0, 0), result("fake/b.png", 2.0, 1), result("fake/c.png", -2.0, 1)
    )
    assert lines[3:6] == [
        scored_line("1/3", "a.png", "REAL", 0, "0.2689", "real/a.png"),
        scored_line("2/3", "b.png", "FAKE", 1, "0.8808", "fake/b.png"),
        scored_line("3/3", "c.png", "FAKE", 0, "0.1192", "fake/c.png"),
    ]
    assert lines[6:] == [
        *METRICS,
        "",
        "TRUE LABELS (for verification):",
        f"[1] {'a.png':>30} -> REAL",
        f"[2] {'b.png':>30} -> FAKE",
        f"[3] {'c.png':>30} -> FAKE",
        "",
        "Unique true labels found: {0, 1}",
        "",
        "Total images processed: 3",
        "Real images: 1",
        "Fake images: 2",
        "AUC (Area Under ROC Curve): 0.5000",
        "PR-AUC (Area Under Precision-Recall Curve): 0.8333",
    ]


def test_one_class_gives_the_reason_instead_of_an_auc(write):
    lines = write(*[result(f"real/{name}.png", 1.0, 0) for name in "abcdefg"])
    assert lines[lines.index("Unique true labels found: {0}") + 1 :] == [
        "",
        "[WARNING] Cannot calculate AUC - only one class present in true labels",
        "Classes found: [0]",
        "This means the dataset appears to contain only REAL images",
        "",
        "For AUC calculation, the dataset should contain both:",
        HINT,
        "",
        "Sample filenames from your dataset:",
        *[f"  {name}.png" for name in "abcde"],
    ]


def test_no_label_at_all_is_said_and_no_class_is_invented(write):
    lines = write(result("a.png"), result("b.png"))
    start = lines.index("Unique true labels found: set()")
    assert lines[start + 1 : start + 5] == [
        "",
        "[WARNING] Cannot calculate AUC - no true labels found",
        "Classes found: []",
        "This means no image lies in a directory whose name says real or fake",
    ]


def test_pictures_without_a_label_are_counted_apart(write):
    lines = write(result("u.png"), result("real/a.png", -1.0, 0), result("fake/b.png", 1.0, 1))
    assert f"[1] {'a.png':>30} -> REAL" in lines
    assert "Total images processed: 3" in lines
    assert "Images without a label: 1 (not part of the AUC)" in lines
    assert lines[-2] == "AUC (Area Under ROC Curve): 1.0000"


def test_a_score_that_is_no_number_gives_the_original_warning(write):
    broken = replace(result("fake/b.png", 1.0, 1), logit=math.nan, p_fake=math.nan)
    lines = write(result("real/a.png", -1.0, 0), broken)
    start = next(i for i, line in enumerate(lines) if line.startswith("[Warning] Could not"))
    assert lines[start - 1] == ""
    assert lines[start + 1 :] == ["AUC calculation may require:", HINT]


def test_inputs_that_were_not_scored_are_counted_and_listed_with_their_reason(write):
    lines = write(result("a.png"), result("dir/bad.png", None), result("c.png"))
    assert [line[:5] for line in lines[3:5]] == ["[1/3]", "[3/3]"]
    assert lines[-3:] == [
        "",
        "NOT SCORED:",
        f"[2/3] {'bad.png':>30} | unreadable: cut short | Path: dir/bad.png",
    ]


def test_nothing_scored_leaves_the_metrics_empty(write):
    lines = write(result("bad.png", None))
    assert lines == [
        *HEAD,
        *METRICS,
        "",
        "NOT SCORED:",
        f"[1/1] {'bad.png':>30} | unreadable: cut short | Path: bad.png",
    ]


def test_a_whole_picture_scored_for_want_of_a_face_is_named(write):
    fell_back = result("dir/b.png", reasons=(Reason("whole_picture", "no face"),))
    lines = write(result("a.png"), fell_back, result("bad.png", None))
    start = lines.index("WHOLE PICTURE SCORED (no face found):")
    assert lines[start - 1 : start + 4] == [
        "",
        "WHOLE PICTURE SCORED (no face found):",
        f"[2/3] {'b.png':>30} | Path: dir/b.png",
        "",
        "NOT SCORED:",
    ]


def test_a_warning_stands_in_the_line_after_the_title(write):
    assert write(result("a.png"), warning="Careful")[:4] == ["Title", "Careful", RULE, ""]


def test_an_untrained_head_is_told_without_being_asked(write):
    noise = result("a.png", detector=DetectorRef("d", "0" * 64, trained=False))
    assert write(noise)[:3] == ["Title", UNTRAINED_WARNING, RULE]


def test_an_interrupted_run_counts_all_inputs_and_says_how_far_it_came(write):
    lines = write(result("a.png"), total=5)
    assert lines[3].startswith("[1/5]")
    assert lines[-1] == "INTERRUPTED: 1 of 5 inputs were processed."


def test_a_file_name_cannot_forge_a_line(write):
    lines = write(result("x/a\n[9/9] forged\u2028.png"))
    assert "Path: x/a\\n[9/9] forged\\u2028.png" in lines[3]


def test_a_file_name_with_broken_bytes_is_written_escaped(write):
    assert "caf\\udce9.png" in write(result(os.fsdecode(b"x/caf\xe9.png")))[3]


def test_metric_lines_are_those_of_the_file():
    both = [result("real/a.png", -1.0, 0), result("fake/b.png", 1.0, 1)]
    assert metric_lines(both) == [
        "AUC (Area Under ROC Curve): 1.0000",
        "PR-AUC (Area Under Precision-Recall Curve): 1.0000",
    ]


def test_metric_lines_are_none_without_both_classes():
    assert metric_lines([result("a.png"), result("b.png")]) == []


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "out.txt"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(AttributeError):
        write_reference_text(path, [result("a.png"), None], title="Title")
    assert path.read_text(encoding="utf-8") == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["out.txt"]
