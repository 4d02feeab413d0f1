"""``unmask evaluate``: what it prints, writes and refuses."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from running import Cli, Outcome, process
from tiny_detectors import noise_image, save_detector, write_picture
from unmask.cli import app
from unmask.cli.evaluate_outputs import default_folder
from unmask.evaluate import report_html
from unmask.evaluate.report_json import read_json
from unmask.evaluate.table_file import read_scores, write_scores
from unmask.pipeline import Pipeline

FILES = ["report.html", "report.json", "report.md", "scores.parquet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten reals and ten fakes in a manifest, half of them from each of two data sets."""
    folder = tmp_path_factory.mktemp("data")
    rows = ["path,label,dataset,generator,split,camera"]
    for number in range(20):
        label = "fake" if number % 2 else "real"
        name = f"{label}{number}.png"
        write_picture(folder / name, noise_image(number, (24, 24)))
        dataset = "ab"[number // 10]
        generator = "gan" if number % 2 else ""
        rows.append(f"{name},{label},{dataset},{generator},val,c{number % 3}")
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "list.csv"


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory) -> Path:
    """A detector whose head is the opposite of the first one's, nearly."""
    return save_detector(tmp_path_factory.mktemp("other") / "other", domain="image")


@pytest.fixture(autouse=True)
def plain(scored, monkeypatch) -> None:
    """Pages without plots, which take most of the time; the one of ``scored`` has them."""
    monkeypatch.setattr(report_html, "write_html", lambda _evaluation: "<html></html>")


@pytest.fixture
def evaluate(cli: Cli, image_folder: Path, data: Path, tmp_path: Path) -> Cli:
    """``unmask evaluate`` of the tiny detector on the data, into ``out``."""

    def run(*arguments: object, **changed: object) -> Outcome:
        given = {"-d": image_folder, "-o": tmp_path / "out", "--device": "cpu", "--bootstraps": 20}
        given |= {f"--{name}": value for name, value in changed.items()}
        flat = [part for pair in given.items() for part in pair]
        return cli("evaluate", data, *flat, *arguments)

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="module")
def scored(tmp_path_factory, image_folder, data) -> Path:
    """The whole report of the tiny detector."""
    folder = tmp_path_factory.mktemp("scored") / "out"
    given = ["evaluate", data, "-d", image_folder, "-o", folder, "--device", "cpu"]
    arguments = [str(each) for each in (*given, "--bootstraps", 20)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["unmask", *arguments])
        assert app(arguments, standalone_mode=False) == 0
    return folder


@pytest.fixture
def table(scored: Path, tmp_path: Path) -> Path:
    """A copy of the scores in a folder of its own."""
    (tmp_path / "kept").mkdir()
    return Path(shutil.copy(scored / "scores.parquet", tmp_path / "kept" / "scores.parquet"))


# What it writes and prints


def test_the_folder_holds_the_report_in_three_forms_and_the_scores(scored):
    assert sorted(path.name for path in scored.iterdir()) == FILES


def test_the_page_is_whole(scored):
    text = (scored / "report.html").read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    assert "<svg" in text


def test_the_report_has_rows_of_data_sets_mean_all_and_generators(scored):
    found = read_json(scored / "report.json")
    assert [(row.name, row.kind) for row in found.rows] == [
        ("a", "dataset"), ("b", "dataset"), ("mean", "mean"), ("all", "all"), ("gan", "generator"),
    ]  # fmt: skip


def test_the_report_says_by_whom_with_what_and_how_long(scored):
    found = read_json(scored / "report.json")
    assert found.detector.trained
    assert found.command.startswith("unmask evaluate")
    assert found.settings["reading"]["split"] == "all"
    assert {"reading", "loading", "scoring", "measuring", "items_per_s"} <= set(found.timing)
    assert found.threshold.source.startswith("operating point fpr5, from made up")


def test_the_scores_hold_the_manifests_columns(scored):
    scores = read_scores(scored / "scores.parquet")
    assert scores.extra["camera"].tolist()[:3] == ["c0", "c1", "c2"]
    assert set(scores.extra["format"]) == {"png"}


def test_the_table_on_the_terminal_fits_100_columns(evaluate):
    found = evaluate()
    assert found.code == 0
    assert max(map(len, found.out.splitlines())) <= 100
    assert found.out.splitlines()[0].split()[:3] == ["data", "set", "unit"]
    assert any(line.startswith("threshold 0.6") for line in found.out.splitlines())


def test_stderr_says_where_it_is(evaluate, out):
    # Without a terminal there is no bar: nothing was said for hours.
    assert evaluate().err.splitlines() == ["scoring: 20 items", f"wrote {out}"]


def test_stderr_says_how_often_altered_pictures_are_scored_and_each_that_begins(evaluate, out):
    assert evaluate("--perturb", "jpeg@3,blur@1").err.splitlines() == [
        "--perturb: 2 further passes over 20 items, one per alteration",
        "scoring: 20 items",
        "scoring, jpeg@3: 20 items",
        "scoring, blur@1: 20 items",
        f"wrote {out}",
    ]


def test_json_on_stdout_is_the_report(evaluate, out):
    found = evaluate("--json")
    assert json.loads(found.out) == json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_a_folder_name_is_made_of_detector_and_data():
    found = default_folder("org/model", ["x/a b.csv", "y", "z", "w"])
    assert found == Path("evaluation/model-a_b-y-z-and-1-more")


# Choices


def test_a_fixed_threshold_is_used_and_named(evaluate, out):
    evaluate("--threshold", "0.3")
    threshold = read_json(out / "report.json").threshold
    assert (threshold.value, threshold.source) == (0.3, "fixed")


def test_an_operating_point_is_chosen_by_name(evaluate, out):
    evaluate("--operating-point", "fpr1")
    assert read_json(out / "report.json").threshold.value == 0.9


def test_a_split_can_be_chosen_and_one_without_samples_is_an_error(evaluate):
    assert evaluate("--split", "val").code == 0
    found = evaluate("--split", "test", "--overwrite")
    assert found.code == 2
    assert "no sample of the split 'test'" in found.err


def test_a_manifests_column_is_sliced_by(evaluate, out):
    evaluate("--slice", "camera")
    slices = read_json(out / "report.json").slices
    assert [each.value for each in slices if each.column == "camera"] == ["c0", "c1", "c2"]


def test_the_published_protocol_can_be_chosen(evaluate, out):
    assert evaluate("--protocol", "deepfakebench").code == 0
    assert read_json(out / "report.json").protocol == "deepfakebench"


def test_top_k_says_how_many(evaluate, out):
    evaluate("--video-aggregation", "top-k:5")
    assert read_json(out / "report.json").aggregation == "top-5"


def test_altered_pictures_are_scored_where_asked(evaluate, out):
    evaluate("--perturb", "jpeg@3,blur@1")
    kinds = {(each.kind, each.severity) for each in read_json(out / "report.json").robustness}
    assert kinds == {("none", 0), ("jpeg", 3), ("blur", 1)}
    assert sorted(path.name for path in (out / "altered").iterdir()) == [
        "blur-1.parquet", "jpeg-3.parquet",
    ]  # fmt: skip


def with_damage(data: Path, tmp_path: Path) -> Path:
    """A copy of the data with one picture that cannot be read."""
    own = Path(shutil.copytree(data.parent, tmp_path / "own"))
    (own / "real0.png").write_bytes(b"no picture")
    return own / data.name


def test_items_without_score_are_exit_code_1_and_counted_by_reason(
    cli, data, image_folder, tmp_path
):
    common = ("-d", image_folder, "-o", tmp_path / "out", "--device", "cpu", "--bootstraps", 0)
    found = cli("evaluate", with_damage(data, tmp_path), *common)
    assert found.code == 1
    assert found.err.splitlines()[1] in {"not scored: 1 unreadable", "not scored: 1 unsupported"}
    assert (tmp_path / "out" / "report.json").exists()


def test_a_gate_that_holds_is_exit_code_3_also_where_items_have_no_score(
    cli, data, image_folder, tmp_path
):
    common = ("-d", image_folder, "-o", tmp_path / "out", "--device", "cpu", "--bootstraps", 0)
    found = cli("evaluate", with_damage(data, tmp_path), *common, "--fail-if", "coverage@all<1")
    assert found.code == 3


# Gates


def test_a_gate_that_holds_is_exit_code_3_after_the_report_is_written(evaluate, out):
    found = evaluate("--fail-if", "auc@mean<=1", "--fail-if", "coverage@all<1")
    assert found.code == 3
    assert "fail: auc@mean<=1: pictures: " in found.err
    assert "pass: coverage@all<1: pictures: 1.000" in found.err
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_a_gate_slices_by_its_column(evaluate, out):
    assert evaluate("--fail-if", "fpr@camera>=0").code == 3
    assert "camera" in {each.column for each in read_json(out / "report.json").slices}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--fail-if", "auc@mean"], "is no condition"),
        (["--fail-if", "auc@meen<1"], "Did you mean 'mean'"),
        (["--slice", "camra"], "Did you mean 'camera'"),
        (["--join", "a+c"], "no data set 'c' to join"),
        (["--threshold", "best"], "None is ever fitted"),
        (["--threshold", "1.5"], "from 0 to 1"),
        (["--threshold", "0.5", "--operating-point", "fpr5"], "contradict"),
        (["--protocol", "deepfakebench", "--threshold", "0.4"], "of its own"),
        (["--protocol", "deepfakebench", "--perturb", "jpeg"], "protocol unmask only"),
        (["--video-aggregation", "mean:3"], "expected mean"),
        (["--video-aggregation", "top-k:0"], "expected mean"),
        (["--label", "cat"], "NAME=real"),
        (["--perturb", "jpg"], "Did you mean 'jpeg'"),
        (["--scores", "x.parquet"], "--detector and --scores"),
        (["--compare", "a", "b"], "--detector and --compare"),
    ],
)
def test_wrong_use_is_exit_code_2_before_any_work(evaluate, monkeypatch, arguments, sentence):
    def worked(*_args: object, **_options: object) -> None:
        raise AssertionError("scoring began")

    monkeypatch.setattr(Pipeline, "__init__", worked)
    found = evaluate(*arguments)
    assert found.code == 2
    assert sentence in found.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--join", "a+a"], "names the data set 'a' twice"),
        (["--join", "a+b", "--join", "b+a"], "names the data set 'b' twice"),
        (["--join", "a"], "A+B was expected"),
        (["--join", "a+"], "A+B was expected"),
        (["--frames", "0"], "0 frames of a video"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--min-face-px", "nan"], "min_face_px is nan"),
        (["--workers", "-1"], "workers is -1"),
        (["--operating-point", "fpr2"], "no operating point 'fpr2'"),
        (["--finder", "yunet", "--faces", "none"], "--faces none"),
    ],
)
def test_wrong_use_leaves_no_folder_behind(evaluate, out, arguments, sentence):
    found = evaluate(*arguments)
    assert found.code == 2
    assert sentence in found.err
    assert not out.exists()


def test_detectors_are_not_compared_by_the_published_protocol(cli, data, image_folder, out):
    # The differences would be those of the other protocol, beside a table of this one.
    given = ["--compare", image_folder, image_folder, "--protocol", "deepfakebench"]
    found = cli("evaluate", data, *given, "-o", out, "--device", "cpu")
    assert found.code == 2
    assert "--compare is measured by the protocol unmask only" in found.err
    assert not out.exists()


def test_a_detector_that_is_not_there_leaves_no_folder_behind(cli, data, tmp_path):
    out = tmp_path / "new" / "out"
    assert cli("evaluate", data, "-d", tmp_path / "gone", "-o", out).code == 2
    assert not out.parent.exists()


def test_a_folder_that_was_there_stays(evaluate, out):
    out.mkdir()
    assert evaluate("--operating-point", "fpr2").code == 2
    assert out.is_dir()


def test_an_unknown_operating_point_is_exit_code_2(evaluate):
    found = evaluate("--operating-point", "fpr2")
    assert found.code == 2
    assert "no operating point 'fpr2'" in found.err


def test_a_finder_without_faces_is_exit_code_2(evaluate):
    found = evaluate("--faces", "none", "--finder", "yunet")
    assert found.code == 2
    assert "--faces none" in found.err


def test_without_data_and_scores_there_is_nothing_to_do(cli):
    found = cli("evaluate")
    assert found.code == 2
    assert "no DATA" in found.err


# What is there is not lost


def test_an_evaluation_is_not_replaced_unasked(evaluate, out):
    evaluate()
    before = (out / "report.json").read_bytes()
    found = evaluate()
    assert found.code == 2
    assert "--overwrite" in found.err
    assert (out / "report.json").read_bytes() == before


def test_overwrite_replaces_it_and_what_belonged_to_it(evaluate, out):
    evaluate("--perturb", "jpeg@1")
    (out / "compared.parquet").write_bytes(b"old")
    assert evaluate("--overwrite", seed=1).code == 0
    assert read_json(out / "report.json").seed == 1
    assert not (out / "compared.parquet").exists()
    assert list((out / "altered").iterdir()) == []


def test_a_file_in_place_of_the_folder_is_an_error(evaluate, out):
    out.write_text("mine", encoding="utf-8")
    found = evaluate()
    assert found.code == 2
    assert "is a file" in found.err


def test_an_interrupted_evaluation_goes_on(evaluate, out, monkeypatch, crops):
    real = Pipeline.__call__

    def interrupted(self, samples, **options):
        for number, result in enumerate(real(self, samples, **options)):
            if number == 8:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "__call__", interrupted)
        found = evaluate("--batch-size", 4)
    assert found.code == 130
    assert "goes on" in found.err
    assert not (out / "report.json").exists()
    before = sum(crops)
    assert evaluate("--batch-size", 4).code == 0
    assert sum(crops) - before == 12
    assert sorted(path.name for path in out.iterdir()) == FILES
    timing = read_json(out / "report.json").timing
    assert timing["resumed_from"] == 8
    assert "items_per_s" not in timing


def test_an_evaluation_interrupted_in_an_alteration_counts_what_was_scored(
    evaluate, out, monkeypatch
):
    real, calls = Pipeline.__call__, []

    def interrupted(self, samples, **options):
        calls.append(self)
        for number, result in enumerate(real(self, samples, **options)):
            if (len(calls), number) == (3, 8):
                raise KeyboardInterrupt
            yield result

    given = ("--batch-size", 4, "--perturb", "jpeg@3,blur@1")
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "__call__", interrupted)
        assert evaluate(*given).code == 130
    found = evaluate(*given)
    assert found.code == 0
    assert found.err.startswith(
        "--perturb: 2 further passes over 20 items, one per alteration; 1 of them done before\n"
    )
    assert read_json(out / "report.json").timing["resumed_from"] == 20 + 20 + 8


def test_a_run_without_interruption_has_the_times_of_everything(scored):
    assert "resumed_from" not in read_json(scored / "report.json").timing


def test_an_interrupted_evaluation_does_not_go_on_with_other_options(evaluate, monkeypatch):
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "__call__", interrupted)
        assert evaluate().code == 130
    found = evaluate("--min-face-px", 50)
    assert found.code == 2
    assert "begun with other settings" in found.err


def test_a_report_that_cannot_be_written_names_the_scores(evaluate, out):
    out.mkdir()
    (out / "report.md").mkdir()
    found = evaluate("--overwrite")
    assert found.code == 2
    assert f"--scores {out / 'scores.parquet'}" in found.err
    assert read_scores(out / "scores.parquet").meta.detector


# From scores


def test_scores_give_the_same_numbers_without_a_model(cli, scored, table, monkeypatch):
    monkeypatch.setattr("unmask.models.detector.load", None)
    found = cli("evaluate", "--scores", table, "--bootstraps", 20)
    assert found.code == 0
    again = read_json(table.parent / "report.json")
    assert again.rows == read_json(scored / "report.json").rows


def test_a_report_from_scores_keeps_the_settings_and_the_command_of_the_first_run(
    cli, scored, table
):
    assert cli("evaluate", "--scores", table, "--bootstraps", 0).code == 0
    first = read_json(scored / "report.json")
    again = read_json(table.parent / "report.json")
    assert again.settings == {**first.settings, "scored by": first.command}
    assert first.settings["reading"]["data"]
    assert again.command != first.command


def test_scores_are_reported_without_torch(table):
    code = (
        "import sys; from unmask.cli import app; from unmask.evaluate import report_html;"
        "report_html.write_html = lambda _: '';"
        f"app(['evaluate', '--scores', {str(table)!r}, '--bootstraps', '5', '--no-thumbnails'],"
        "standalone_mode=False); assert 'torch' not in sys.modules"
    )
    done = process("-c", code)
    assert done.returncode == 0, done.stderr


def test_several_scores_are_joined(cli, data, image_folder, table, tmp_path):
    half = tmp_path / "half.csv"
    lines = data.read_text(encoding="utf-8").splitlines()
    rows = [f"{data.parent / line}".replace(",a,", ",z,") for line in lines[1:5]]
    half.write_text("\n".join([lines[0], *rows]), encoding="utf-8")
    common = ("--device", "cpu", "--bootstraps", 0)
    cli("evaluate", half, "-d", image_folder, "-o", tmp_path / "half", *common)
    scores = ("--scores", table, "--scores", tmp_path / "half" / "scores.parquet")
    assert cli("evaluate", *scores, "-o", tmp_path / "both", "--bootstraps", 0).code == 0
    names = [row.name for row in read_json(tmp_path / "both" / "report.json").rows]
    assert names[:3] == ["a", "b", "z"]


@pytest.mark.parametrize("spelling", ["{0}", "{0.parent}/../{0.parent.name}/{0.name}", "link"])
def test_scores_given_twice_are_an_error(cli, table, tmp_path, spelling):
    link = tmp_path / "link.parquet"
    link.symlink_to(table)
    second = link if spelling == "link" else spelling.format(table)
    found = cli("evaluate", "--scores", table, "--scores", second, "-o", tmp_path / "out")
    assert found.code == 2
    assert "which is given already" in found.err
    assert not (tmp_path / "out").exists()


def test_scores_that_are_a_copy_of_others_count_once_and_are_told(cli, scored, table, tmp_path):
    out = tmp_path / "out"
    given = ("--scores", table, "--scores", scored / "scores.parquet", "-o", out)
    found = cli("evaluate", *given, "--bootstraps", 0)
    assert found.code == 0
    assert "20 rows say word for word what another one says" in " ".join(found.out.split())
    assert len(read_scores(out / "scores.parquet")) == 20


def test_scores_of_two_labels_for_one_file_are_an_error(cli, table, tmp_path):
    scores = read_scores(table)
    scores.label[:] = 1 - scores.label
    write_scores(tmp_path / "other.parquet", scores)
    out = tmp_path / "out"
    found = cli("evaluate", "--scores", table, "--scores", tmp_path / "other.parquet", "-o", out)
    assert found.code == 2
    assert f"real0.png is real by {table}, row 1 and fake by {tmp_path}/other.parqu" in found.err
    assert not out.exists()


def test_a_row_that_stands_twice_counts_once_and_the_report_says_so(
    cli, data, image_folder, tmp_path
):
    lines = data.read_text(encoding="utf-8").splitlines()
    rows = [f"{data.parent / line}" for line in (*lines[1:], lines[1])]
    twice = tmp_path / "twice.csv"
    twice.write_text("\n".join([lines[0], *rows]), encoding="utf-8")
    given = ("-d", image_folder, "-o", tmp_path / "out", "--device", "cpu", "--bootstraps", 0)
    found = cli("evaluate", twice, *given)
    assert found.code == 0
    assert "note: 1 row says word for word" in found.out
    given = ("--scores", tmp_path / "out" / "scores.parquet", "--overwrite", "--bootstraps", 0)
    assert "note: 1 row says word for word" in cli("evaluate", *given).out


def test_a_video_without_frames_is_counted_as_not_scored(cli, data, image_folder, tmp_path):
    def video(label: str, *frames: str) -> dict[str, object]:
        return {"label": label, "frames": [str(data.parent / each) for each in frames]}

    held = {
        "FF-real": {"test": {"1": video("FF-real", "real0.png"), "2": video("FF-real")}},
        "FF-DF": {"test": {"1": video("FF-DF", "fake1.png", "fake3.png")}},
    }
    (tmp_path / "ff.json").write_text(json.dumps({"FF": held}), encoding="utf-8")
    given = ("-d", image_folder, "-o", tmp_path / "out", "--device", "cpu", "--bootstraps", 0)
    found = cli("evaluate", tmp_path / "ff.json", *given, "--perturb", "jpeg@1")
    assert found.code == 1
    assert found.err.splitlines()[-2] == "not scored: 1 no_frames"
    report = read_json(tmp_path / "out" / "report.json")
    (row,) = [each for each in report.rows if each.unit == "video" and each.kind == "dataset"]
    assert (row.coverage.given, row.coverage.missing) == (3, {"no_frames": 1})
    assert {each.coverage.missing["no_frames"] for each in report.robustness} == {1}
    assert read_scores(tmp_path / "out" / "scores.parquet").extra["class"][-1] == "FF-real"


def test_scores_need_no_data(cli, data, table):
    found = cli("evaluate", data, "--scores", table)
    assert found.code == 2
    assert "not needed" in found.err


def test_scores_hold_one_operating_point(cli, table):
    chosen = ("evaluate", "--scores", table, "--bootstraps", 0, "--operating-point")
    found = cli(*chosen, "fpr1")
    assert found.code == 2
    assert "judged at the operating point 'fpr5', not 'fpr1'" in found.err
    assert cli(*chosen, "fpr5").code == 0


def test_a_misspelt_name_is_an_error_for_scores_too(cli, table):
    found = cli("evaluate", "--scores", table, "--fail-if", "fpr@camra>0.1")
    assert found.code == 2
    assert "Did you mean 'camera'" in found.err


def test_altered_pictures_without_kept_scores_are_an_error(cli, table):
    found = cli("evaluate", "--scores", table, "--bootstraps", 0, "--perturb", "jpeg@1")
    assert found.code == 2
    assert "was not scored" in found.err


# Comparison


def test_two_detectors_are_compared_on_the_same_data(
    cli, data, image_folder, other_folder, tmp_path
):
    out = tmp_path / "out"
    common = ("-o", out, "--device", "cpu", "--bootstraps", 20)
    found = cli("evaluate", data, "--compare", image_folder, other_folder, *common)
    assert found.code == 0
    comparisons = read_json(out / "report.json").comparisons
    assert {each.dataset for each in comparisons} == {"a", "b", "mean", "all"}
    assert {each.thresholds for each in comparisons if each.metric == "false_positive_rate"} == {
        (0.6, 0.6)
    }
    assert (out / "compared.parquet").exists()
    assert found.err.splitlines()[:2] == [
        f"scoring by {image_folder}: 20 items",
        f"scoring by {other_folder}: 20 items",
    ]
    assert "p (DeLong)" in found.out
    assert max(map(len, found.out.splitlines())) <= 100


def test_a_second_detector_that_is_not_there_is_an_error_before_anything_is_scored(
    cli, data, image_folder, tmp_path, crops
):
    before = sum(crops)
    missing = tmp_path / "none"
    found = cli("evaluate", data, "--compare", image_folder, missing, "-o", tmp_path / "out")
    assert found.code == 2
    assert str(missing) in found.err
    assert sum(crops) == before


def test_two_tables_of_scores_are_compared_without_data(cli, table, tmp_path):
    out = tmp_path / "out"
    found = cli("evaluate", "--compare", table, table, "-o", out, "--bootstraps", 5)
    assert found.code == 0
    first = read_json(out / "report.json").comparisons[0]
    assert first.difference.value == 0
    assert np.isfinite(first.p_value)


def test_each_of_two_tables_is_compared_at_its_own_threshold_or_at_the_one_given(
    cli, table, tmp_path
):
    scores = read_scores(table)
    point = replace(scores.meta.operating_point, name="fpr1", fake_at=0.9, real_below=0.1)
    other = tmp_path / "kept" / "other.parquet"
    write_scores(other, replace(scores, meta=replace(scores.meta, operating_point=point)))

    def thresholds(*more: object) -> set[tuple[float, float] | None]:
        out = tmp_path / f"out{len(more)}"
        given = ("--compare", table, other, "-o", out, "--bootstraps", 5, *more)
        assert cli("evaluate", *given).code == 0
        return {each.thresholds for each in read_json(out / "report.json").comparisons}

    assert thresholds() == {None, (0.6, 0.9)}
    assert thresholds("--threshold", 0.5) == {None, (0.5, 0.5)}
    found = cli("evaluate", "--compare", table, other, "--operating-point", "fpr5")
    assert found.code == 2
    assert "judged at the operating point 'fpr1', not 'fpr5'" in found.err


def test_a_comparison_takes_joined_data_sets_as_one(cli, table, tmp_path):
    out = tmp_path / "out"
    common = ("-o", out, "--bootstraps", 5, "--join", "a+b")
    assert cli("evaluate", "--compare", table, table, *common).code == 0
    assert {each.dataset for each in read_json(out / "report.json").comparisons} == {"a+b"}
