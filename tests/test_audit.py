"""``unmask audit``: what it says of a set, in words, as JSON and by its exit code."""

import csv
import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tiny_detectors import noise_image, write_picture
from uneven_sets import write_even, write_uneven
from unmask.audit.columns import GROUPS
from unmask.audit.document import to_document
from unmask.audit.leaks import Copy, SharedGroup
from unmask.audit.profile import Cell
from unmask.audit.run import AuditOptions, audit
from unmask.audit.separability import FeatureScore, Separability
from unmask.audit.verdict import findings, summary, worst
from unmask.errors import ConfigError, MissingSource
from unmask.sources import read_sources

FAST = AuditOptions(n_bootstrap=50)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    return write_uneven(tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="module")
def found(uneven):
    return audit(read_sources([uneven]), FAST)


def row(auc, group="format", **known):
    spread = {"low": auc - 0.05, "high": min(1.0, auc + 0.05)}
    return Separability("", group, auc, **{**spread, **known})


def said(rows=(), copies=(), shared=(), cells=()):
    """By code; of data that could be tested unless rows say otherwise."""
    return {each.code: each for each in findings(cells, rows or [row(0.5)], copies, shared)}


def test_png_fakes_and_jpeg_reals_are_a_leak(found):
    assert found.level == "leak"
    format_row = next(each for each in found.separability if each.group == "format")
    assert format_row.auc == 1.0


def test_the_verdict_says_which_format_and_what_to_do(found):
    message = next(each.message for each in found.findings if each.code == "file_shortcut")
    assert "of fakes" in message
    assert "unmask equalize SRC DST" in message


@pytest.mark.parametrize("group", ["metadata", "name"])
def test_what_no_detector_sees_goes_by_equalize_too(group):
    message = said([row(0.95, group)])[f"{group}_hint"].message
    assert "unmask equalize SRC DST" in message


def test_the_document_names_the_features_that_separate(found):
    document = json.loads(to_document(found, FAST, inputs=["in"]))
    assert document["separability"][0]["features"][0]["name"] == "format"


def test_an_even_set_has_no_shortcut_in_its_files(tmp_path):
    even = audit(read_sources([write_even(tmp_path / "even")]), FAST)
    assert [each.code for each in even.findings if each.level == "leak"] == []


def test_the_fits_use_one_thread_whatever_the_environment_says(tmp_path):
    threads = set()

    @contextmanager
    def seen(what, _total):
        def advance():
            if what == "separating":
                threads.update(each["num_threads"] for each in threadpool_info())

        yield advance

    with threadpool_limits(2):
        audit(read_sources([write_even(tmp_path / "in", n=4)]), FAST, progress=seen)
        after = {each["num_threads"] for each in threadpool_info()}
    assert threads == {1}
    assert 2 in after


def test_the_same_data_and_seed_give_the_same_audit(uneven, found):
    again = audit(read_sources([uneven]), FAST)
    assert again == found


def test_each_data_set_is_told_apart_from_all_together(tmp_path):
    write_even(tmp_path / "in", n=4)
    rows = [
        [path.relative_to(tmp_path), path.parent.name, f"set{number % 2}"]
        for number, path in enumerate(sorted((tmp_path / "in").rglob("*.*g")))
    ]
    manifest = tmp_path / "m.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "dataset"], *rows])
    both = audit(read_sources([manifest]), FAST)
    assert [each.dataset for each in both.separability[:: len(GROUPS)]] == ["", "set0", "set1"]


def test_a_set_of_one_class_is_held_against_the_other_class_of_the_others(tmp_path):
    folder = write_even(tmp_path / "in", n=4)
    lines = ["path,label,dataset"]
    for path in sorted(folder.rglob("*.*g")):
        lines.append(f"{path},{path.parent.name},{path.parent.name}s")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    both = audit(read_sources([tmp_path / "m.csv"]), FAST)
    against = {each.dataset: each.against for each in both.separability}
    assert against == {"": "", "fakes": "reals", "reals": "fakes"}
    assert {"one_class"} <= {each.code for each in both.findings}


def test_an_unreadable_file_is_listed_with_its_reason(tmp_path):
    folder = write_even(tmp_path / "in", n=3)
    (folder / "real" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    with_bad = audit(read_sources([folder]), FAST)
    (unread,) = with_bad.unread
    assert unread.sample.path.name == "bad.jpg"
    assert unread.reason.message
    assert sum(cell.n_unread for cell in with_bad.cells) == 1


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(MissingSource, match="none of 1 files"):
        audit(read_sources([tmp_path]), FAST)


def test_without_labels_copies_are_still_found(tmp_path):
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "in" / name, noise_image(0))
    nothing = audit(read_sources([tmp_path / "in"]), FAST)
    assert nothing.separability == ()
    assert [copy.kind for copy in nothing.copies] == ["identical"]


def test_of_very_many_pictures_some_are_learnt_from(monkeypatch, uneven):
    monkeypatch.setattr("unmask.audit.run._MOST", 30)
    some = audit(read_sources([uneven]), FAST)
    assert (some.n_read, some.n_learnt) == (48, 30)


def test_pairs_that_are_copies_anyway_are_no_look_alikes(tmp_path):
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        write_picture(tmp_path / "in" / name, noise_image(seed))
    pairs = np.array([[0, 1], [0, 2]])
    with_pairs = audit(read_sources([tmp_path / "in"]), FAST, look_alikes=lambda _: pairs)
    assert [copy.kind for copy in with_pairs.copies] == ["identical", "embedding"]


@pytest.mark.parametrize(
    "wrong", [{"n_bootstrap": 0}, {"workers": 0}, {"workers": 1000}, {"seed": -1}, {"seed": 2**32}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be"):
        AuditOptions(**wrong)


# What numbers mean.


@pytest.mark.parametrize(
    ("auc", "low", "level"),
    [(0.95, 0.9, "leak"), (0.7, 0.6, "caution"), (0.55, 0.52, "clean"), (0.8, 0.45, "clean")],
)
def test_the_level_follows_from_auc_and_interval(auc, low, level):
    rows = [row(auc, low=low, high=0.89 if auc < 0.9 else 1.0)]
    assert worst(findings([], rows, [], [])) == level


def test_a_name_that_tells_all_is_no_more_than_a_caution():
    assert said([row(1.0, "name")])["name_hint"].level == "caution"


def test_groups_of_one_set_are_one_finding_best_first():
    rows = [row(0.95, "size"), row(1.0, "format")]
    message = said(rows)["file_shortcut"].message
    assert message.startswith("File format (AUC 1.00")
    assert "each alone tell real from fake" in message


def test_all_together_is_told_only_where_it_adds():
    parts = [row(0.7, "size"), row(0.7, "jpeg")]
    assert "together" not in said([*parts, row(0.72, "all")])["file_shortcut"].message
    assert "together" in said([*parts, row(0.95, "all")])["file_shortcut"].message


def test_equal_files_of_unequal_detail_are_not_sent_to_equalize():
    assert "does not mend this" in said([row(0.7, "bytes")])["file_shortcut"].message
    both = said([row(0.7, "bytes"), row(0.7, "jpeg")])["file_shortcut"].message
    assert "run 'unmask equalize" in both


def test_groups_that_do_not_all_tell_alone_help_to_tell():
    message = said([row(0.7, "size"), row(1.0, "format")])["file_shortcut"].message
    assert "each help to tell" in message


def test_the_best_feature_is_named():
    features = (FeatureScore("width", 0.9, 0.8, 1.0, 0.4, "width: 250 in 0 % of fakes"),)
    assert "width: 250" in said([row(0.9, "size", features=features)])["file_shortcut"].message


def test_a_feature_that_has_little_of_what_the_group_has_is_not_named():
    features = (FeatureScore("width", 0.55, 0.51, 0.6, 0.0, "width: 250"),)
    assert "width" not in said([row(0.9, "size", features=features)])["file_shortcut"].message


def test_what_tells_the_sets_but_nothing_within_them_is_said_to():
    alone = replace(row(0.5), dataset="a"), replace(row(0.5), dataset="b")
    message = said([row(0.8), *alone])["file_shortcut"].message
    assert "Within no set does file format tell" in message
    within = replace(row(0.8), dataset="a")
    assert "Within no set" not in said([row(0.8), within])["file_shortcut"].message


def test_one_class_only_is_not_tested_and_not_clean():
    none = Separability("", "format", None, reason="one class only: nothing is fake")
    finding = said([none], cells=[cell(0, 10)])["not_tested"]
    assert (finding.level, worst([finding])) == ("not_tested", "not_tested")
    assert "nothing is fake" in finding.message


def test_files_that_could_not_be_read_are_a_reason_for_what_is_not_tested():
    none = Separability("", "format", None, reason="one class only: nothing is fake")
    lost = replace(cell(1, 0), n_unread=7)
    assert (
        "7 fake could not be read" in said([none], cells=[cell(0, 9), lost])["not_tested"].message
    )


def test_a_set_of_which_nothing_could_be_read_is_not_tested():
    lost = replace(cell(1, 0, "e"), n_unread=7)
    finding = said([row(0.5)], cells=[cell(0, 9), cell(1, 9), lost])["not_tested"]
    assert (finding.dataset, "none of 7 files" in finding.message) == ("e", True)


def test_data_without_labels_are_not_tested():
    assert {each.code for each in findings([], [], [], [])} == {"not_tested"}


def test_an_interval_from_chance_to_a_leak_is_too_few_to_tell():
    assert said([row(0.7, low=0.4, high=0.95)])["too_few_to_tell"].level == "not_tested"
    assert said([row(0.7, "name", low=0.4, high=0.95)]) == {}


def test_the_verdict_is_a_sentence_that_says_where_a_part_was_not_tested():
    none = Separability("b", "format", None, reason="few")
    found = findings([], [replace(row(1.0), dataset="a"), none], [], [])
    assert summary(worst(found), found).endswith("Not all was tested; see above")
    assert summary("clean", []).startswith("verdict: clean")


def copy(kind="near", **crossed):
    flags = {"across_splits": False, "across_labels": False, "across_groups": True}
    return Copy(kind, "a.jpg", "b.jpg", **{**flags, **crossed})


@pytest.mark.parametrize(
    ("given", "code", "level"),
    [
        (copy("identical", across_labels=True), "identical_both_labels", "leak"),
        (copy("near", across_labels=True), "near_both_labels", "caution"),
        (copy("identical", across_splits=True), "identical_across_splits", "leak"),
        (copy("near", across_splits=True), "near_across_splits", "leak"),
        (copy("embedding", across_splits=True), "embedding_across_splits", "caution"),
        (copy("near"), "near_ungrouped", "caution"),
    ],
)
def test_a_copy_has_its_level(given, code, level):
    assert said(copies=[given])[code].level == level


def test_identical_files_of_one_group_and_label_are_no_finding():
    assert said(copies=[copy("identical", across_groups=False)]) == {}


def test_a_group_in_two_splits_is_a_leak():
    shared = [SharedGroup("d", "id7", ("train", "val"), 4)]
    assert said(shared=shared)["group_across_splits"].level == "leak"


def cell(label, n, dataset="d"):
    return Cell(dataset, "", label, n, 0, n, (), None, None, None, None)


def test_a_lopsided_set_is_a_caution():
    assert "unbalanced" in said(cells=[cell(0, 10), cell(1, 41)])
    assert "unbalanced" not in said(cells=[cell(0, 10), cell(1, 40)])


def test_one_class_is_a_caution_only_beside_other_sets():
    assert "one_class" not in said(cells=[cell(0, 10)])
    assert "one_class" in said(cells=[cell(0, 10), cell(1, 10, "e")])


# The command, on so few pictures that no classifier is fitted.


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A leak: one file is real and fake."""
    folder = write_even(tmp_path_factory.mktemp("few") / "in", n=4)
    shutil.copy(next((folder / "real").iterdir()), folder / "fake" / "same.jpg")
    return folder


def test_the_command_prints_tables_and_verdict(cli, few):
    out = cli("audit", few).out
    assert "bytes" in out
    assert "thumbnail" in out
    assert "verdict: leak" in out.splitlines()[-1]


def test_the_command_ends_with_3_where_asked_to_fail(cli, few):
    assert cli("audit", few, "--fail-on", "leak").code == 3


def test_without_a_terminal_each_stage_is_a_line(cli, few):
    lines = cli("audit", few).err.splitlines()
    assert lines == ["reading: 9 items", "comparing", "separating: 8 items"]


@pytest.mark.parametrize("columns", [60, 100])
def test_tables_keep_within_the_width(cli, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "a data set with a name of nearly forty"
    rows = [["path", "label", "dataset", "split"]]
    for number in range(12):
        size = (16 + 8 * number, 1000 + number)
        path = write_picture(tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}",
                             noise_image(number, size))  # fmt: skip
        rows.append([path.name, str(number % 2), name if number else "b", "train"])
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    out = cli("audit", tmp_path / "m.csv").out
    tables = out[: out.index("caution")].splitlines()
    assert {len(line) > 0.9 * columns for line in tables} == {True, False}
    assert max(map(len, tables)) <= columns
    assert "…" not in out


def test_a_table_has_no_sentence_in_a_cell(cli, few):
    # The reason stands in a finding.
    out = cli("audit", few).out
    assert out.count("at least 10 are needed") == 1
    assert any(line.startswith("in ") and line.endswith("n/a") for line in out.splitlines())


@pytest.mark.parametrize("level", ["caution", "leak"])
def test_a_gate_does_not_pass_what_was_not_tested(cli, tmp_path, level):
    write_even(tmp_path / "in", n=4)
    outcome = cli("audit", tmp_path / "in", "--fail-on", level)
    assert outcome.code == 3
    assert "not all was tested" in outcome.err
    assert "verdict: not tested" in outcome.out


def test_what_was_not_tested_is_exit_code_1_without_a_gate(cli, tmp_path):
    write_even(tmp_path / "in", n=4)
    assert cli("audit", tmp_path / "in").code == 1


def test_folders_given_together_are_sets_of_their_own(cli, tmp_path):
    # Pooled by folders, formats separate; within each folder both classes have the same.
    for name, (n_real, n_fake), suffix in (("a", (24, 12), "png"), ("b", (12, 24), "bmp")):
        for label, n in (("real", n_real), ("fake", n_fake)):
            for seed in range(n):
                path = tmp_path / name / label / f"{label}{seed}.{suffix}"
                write_picture(path, noise_image(len(name + label) * 100 + seed + n, (24, 24)))
    outcome = cli("audit", tmp_path / "a", tmp_path / "b", "--json", "--bootstraps", 50)
    assert outcome.code == 0
    rows = json.loads(outcome.out)["separability"]
    formats = {each["dataset"]: each["auc"] for each in rows if each["group"] == "format"}
    assert formats == {"": pytest.approx(0.67, abs=0.05), "a": 0.5, "b": 0.5}


def test_a_deepfakebench_list_is_read_with_its_data_set_videos_and_split(cli, tmp_path):
    videos = {"FF-real": {}, "FF-DF": {}}
    for number, kind in enumerate(videos):
        path = tmp_path / kind / "frames" / "v0" / "0.png"
        write_picture(path, noise_image(number))
        frames = [path.relative_to(tmp_path).as_posix()]
        videos[kind] = {"train": {"c23": {"v0": {"label": kind, "frames": frames}}}}
    (tmp_path / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": videos}))
    document = json.loads(cli("audit", tmp_path / "FaceForensics++.json", "--json").out)
    cells = [
        (each["dataset"], each["split"], each["label"], each["n"]) for each in document["cells"]
    ]
    assert cells == [("FaceForensics++", "train", 0, 1), ("FaceForensics++", "train", 1, 1)]


def test_an_unknown_class_of_a_list_can_be_named(cli, tmp_path):
    videos = {"odd": {"train": {"v0": {"label": "odd", "frames": ["a.png"]}}}}
    write_picture(tmp_path / "a.png", noise_image(0))
    (tmp_path / "s.json").write_text(json.dumps({"s": videos}))
    assert cli("audit", tmp_path / "s.json").code == 2
    outcome = cli("audit", tmp_path / "s.json", "--label", "odd=fake", "--json")
    assert json.loads(outcome.out)["cells"][0]["label"] == 1


def test_files_that_cannot_be_read_are_exit_code_1(cli, tmp_path):
    folder = write_even(tmp_path / "in", n=2)
    (folder / "fake" / "x.jpg").write_bytes(b"\xff\xd8\xff")
    outcome = cli("audit", folder)
    assert outcome.code == 1
    assert "not read" in outcome.err


def test_many_files_that_cannot_be_read_are_counted(cli, tmp_path):
    folder = write_even(tmp_path / "in", n=2)
    for number in range(12):
        (folder / "fake" / f"x{number}.jpg").write_bytes(b"\xff\xd8\xff")
    assert "2 more" in cli("audit", folder).err


def test_the_json_has_all_parts(cli, few, tmp_path):
    cli("audit", few, "-o", tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["schema_version"] == 1
    assert document["level"] == "leak"
    assert {"findings", "cells", "separability", "copies", "shared_groups", "unread"} <= set(
        document
    )
    assert (
        document["separability"][0]["reason"] == "4 real and 5 fake units; at least 10 are needed"
    )


def test_the_json_on_stdout_is_all_there_is(cli, few):
    assert json.loads(cli("audit", few, "--json").out)["n_read"] == 9


def test_a_file_name_that_is_no_unicode_is_spelt_out(tmp_path):
    folder = write_even(tmp_path / "in", n=2)
    odd = folder / "real" / "odd\udcff.jpg"
    odd.write_bytes(b"\xff\xd8\xff")
    with_odd = audit(read_sources([folder]), FAST)
    text = to_document(with_odd, FAST, inputs=[str(folder)])
    assert "odd\\udcff.jpg" in json.loads(text)["unread"][0]["source"]


def test_an_output_that_exists_is_kept(cli, few, tmp_path):
    (tmp_path / "a.json").write_text("mine")
    outcome = cli("audit", few, "-o", tmp_path / "a.json")
    assert (outcome.code, (tmp_path / "a.json").read_text()) == (2, "mine")
    assert "--overwrite" in outcome.err


@pytest.mark.parametrize("name", ["a.txt", "missing/a.json", "folder.json"])
def test_an_output_that_cannot_be_is_refused_before_the_work(cli, few, tmp_path, name):
    (tmp_path / "folder.json").mkdir()
    assert cli("audit", few, "-o", tmp_path / name).code == 2


def test_an_input_is_never_replaced(cli, tmp_path):
    path = tmp_path / "in.json"
    path.write_text("{}")
    outcome = cli("audit", path, "-o", path, "--overwrite")
    assert outcome.code == 2
    assert "would replace an input" in outcome.err


def test_a_disk_that_is_full_is_told(cli, few, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unmask.files.replacing", full)
    outcome = cli("audit", few, "-o", tmp_path / "a.json")
    assert outcome.code == 2
    assert "No space left" in outcome.err


def test_look_alikes_are_sought_among_the_features_of_a_detectors_tower(
    cli, few, image_folder, monkeypatch
):
    given = []

    def first_two(rows):
        given.append(rows.shape)
        return np.array([[0, 1]])

    monkeypatch.setattr("unmask.audit.embedding.alike_pairs", first_two)
    out = cli("audit", few, "--embed", "-d", image_folder, "--json").out
    assert json.loads(out)["copies"]["counts"]["embedding"] == 1
    assert given == [(9, 64)]
