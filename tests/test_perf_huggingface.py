"""The documented command: recorded output files, flags, YAML keys, and the script as a process."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import unmask.prepare
from scripted import (
    OUTPUT,
    ROOT,
    SIZE,
    cut_short,
    make_clip,
    make_detector_folder,
    picture,
    pictures,
    probabilities,
    process,
    score,
)
from unmask.cli.perf import main, stratified
from unmask.cli.perf_arguments import TOOLS
from unmask.pipeline import Pipeline
from unmask.reference_text import UNTRAINED_WARNING
from unmask.types import Face, Sample

RECORDED = Path(__file__).parent / "fixtures" / "perf_output"
RULE = 80 * "="


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    return make_detector_folder(tmp_path_factory.mktemp("trained") / "detector", clip)


@pytest.fixture(scope="module")
def trained_on_faces(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    return make_detector_folder(tmp_path_factory.mktemp("t") / "detector", clip, faces=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return pictures(tmp_path / "data", "real/a.png", "real/b.png", "fake/c.png", "fake/d.png")


@pytest.fixture
def configured(tmp_path: Path):
    def arguments(text: str) -> list[str]:
        path = tmp_path / "detector.yaml"
        path.write_text(text, encoding="utf-8")
        return ["--detector_config", str(path)]

    return arguments


# --- The ten recorded files of the last version of the original script ---------------------------

LAYOUTS = {
    "both_classes": ["real/a.png", "real/b.jpg", "fake_gan/c.png", "fake_gan/sub/d.png"],
    "corrupt": ["real/a.png", "real/bad.png", "fake/b.png"],
    "limit_120_images": [f"{kind}/{n:03}.png" for kind in ("real", "fake") for n in range(60)],
    "no_labels": ["x/a.png", "y/b.png"],
    "one_class": ["fake/a.png", "fake/b.png"],
    "real_in_fake_name": ["realistic_fakes/a.png", "fake/b.png"],
    "root_image_hides_subdirs": ["top.png", "real/a.png", "fake/b.png"],
    "single_dir": ["real/only.png"],
    "single_file": ["one.png"],
    "unlabelled_shift": ["other/u.png", "real/a.png", "fake/b.png"],
}


def line(place: str, name: str, true: str, path: str) -> str:
    tail = f"Pred: # (0=Real, 1=Fake) | Prob: # | Path: $ROOT/{path}"
    return f"[#/{place}] {name:>30} | True: {true:>4} | {tail}"


def label(name: str, true: str) -> str:
    return f"[#] {name:>30} -> {true}"


HINTS = [
    "",
    "For AUC calculation, the dataset should contain both:",
    "- Images with 'real' or 'fake' in directory names",
    "",
    "Sample filenames from your dataset:",
]
AREAS = ["AUC (Area Under ROC Curve): #", "PR-AUC (Area Under Precision-Recall Curve): #"]

# Every place where our file differs from the recorded one, because the original is wrong there:
# (row of the table in docs/compatibility.md, its lines, our lines). Paths, scores and the order of
# the pictures (sorted here, shuffled there: D7) are made equal before; every file also has the
# warning about its untrained head in the second line (D2).
DIFFERENCES: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "corrupt": [
        (
            "D17",
            AREAS,
            [
                *AREAS,
                "",
                "NOT SCORED:",
                f"[#/3] {'bad.png':>30} | unreadable: # | Path: $ROOT/corrupt/real/bad.png",
            ],
        )
    ],
    "limit_120_images": [
        (
            "D7",
            ["Real images: 51", "Fake images: 49"],
            ["Real images: 50", "Fake images: 50"],
        )
    ],
    "no_labels": [
        (
            "D4",
            [
                "[WARNING] Cannot calculate AUC - only one class present in true labels",
                "Classes found: []",
                "This means the dataset appears to contain only FAKE images",
            ],
            [
                "[WARNING] Cannot calculate AUC - no true labels found",
                "Classes found: []",
                "This means no image lies in a directory whose name says real or fake",
            ],
        )
    ],
    "real_in_fake_name": [
        (
            "D5",
            [line("2", "a.png", "REAL", "real_in_fake_name/realistic_fakes/a.png")],
            [line("2", "a.png", "FAKE", "real_in_fake_name/realistic_fakes/a.png")],
        ),
        ("D5", [label("a.png", "REAL")], [label("a.png", "FAKE")]),
        (
            "D5",
            [
                "Unique true labels found: {0, 1}",
                "",
                "Total images processed: 2",
                "Real images: 1",
                "Fake images: 1",
                *AREAS,
            ],
            [
                "Unique true labels found: {1}",
                "",
                "[WARNING] Cannot calculate AUC - only one class present in true labels",
                "Classes found: [1]",
                "This means the dataset appears to contain only FAKE images",
                *HINTS,
                "  b.png",
                "  a.png",
            ],
        ),
    ],
    "root_image_hides_subdirs": [
        (
            "D6",
            [line("1", "top.png", "N/A", "root_image_hides_subdirs/top.png")],
            [
                line("3", "a.png", "REAL", "root_image_hides_subdirs/real/a.png"),
                line("3", "b.png", "FAKE", "root_image_hides_subdirs/fake/b.png"),
                line("3", "top.png", "N/A", "root_image_hides_subdirs/top.png"),
            ],
        ),
        (
            "D6",
            ["Single image processed - AUC calculation not applicable."],
            [
                "TRUE LABELS (for verification):",
                label("a.png", "REAL"),
                label("b.png", "FAKE"),
                "",
                "Unique true labels found: {0, 1}",
                "",
                "Total images processed: 3",
                "Real images: 1",
                "Fake images: 1",
                "Images without a label: 1 (not part of the AUC)",
                *AREAS,
            ],
        ),
    ],
    "single_dir": [
        (
            "D8",
            [line("1", "only.png", "N/A", "single_dir/real/only.png")],
            [line("1", "only.png", "REAL", "single_dir/real/only.png")],
        )
    ],
    "unlabelled_shift": [
        (
            "D3",
            [
                line("3", "a.png", "FAKE", "unlabelled_shift/real/a.png"),
                line("3", "b.png", "N/A", "unlabelled_shift/fake/b.png"),
                line("3", "u.png", "REAL", "unlabelled_shift/other/u.png"),
            ],
            [
                line("3", "a.png", "REAL", "unlabelled_shift/real/a.png"),
                line("3", "b.png", "FAKE", "unlabelled_shift/fake/b.png"),
                line("3", "u.png", "N/A", "unlabelled_shift/other/u.png"),
            ],
        ),
        (
            "D3",
            [label("a.png", "FAKE"), label("u.png", "REAL")],
            [label("a.png", "REAL"), label("b.png", "FAKE")],
        ),
        (
            "D3",
            [
                "[Warning] Could not calculate AUC: Found input variables with inconsistent "
                "numbers of samples: [2, 3]",
                "AUC calculation may require:",
                "- Images with 'real' or 'fake' in directory names",
            ],
            [
                "Total images processed: 3",
                "Real images: 1",
                "Fake images: 1",
                "Images without a label: 1 (not part of the AUC)",
                *AREAS,
            ],
        ),
    ],
}


def normalised(text: str, case: str) -> list[str]:
    """The file without what is another at each run: scores, order and numbers of the pictures."""
    for pattern, instead in (
        (r"Pred: [01]", "Pred: #"),
        (r"Prob: \d\.\d{4}", "Prob: #"),
        (r"^\[\d+(?=[/\]])", "[#"),
        (r"(?<=Curve\): )\d\.\d{4}$", "#"),
        (r"(?<=unreadable: ).*(?= \| Path)", "#"),
    ):
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    lines = text.splitlines()
    if case == "limit_120_images":  # another choice of pictures: every kind of line once
        masked = [re.sub(r"\b\d{3}\.png", "NNN.png", each) for each in lines]
        lines = [
            each for i, each in enumerate(masked) if each[:2] != "[#" or each not in masked[:i]
        ]
    start = 0
    while start < len(lines):  # each run of picture lines in the order of their text
        end = start
        while end < len(lines) and lines[end][:2] == "[#":
            end += 1
        lines[start:end] = sorted(lines[start:end])
        start = end + 1
    return lines


def replaced(lines: list[str], old: list[str], new: list[str]) -> list[str]:
    places = [i for i in range(len(lines)) if lines[i : i + len(old)] == old]
    assert len(places) == 1, f"{old} must stand once in {lines}"
    return [*lines[: places[0]], *new, *lines[places[0] + len(old) :]]


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_file_equals_the_recorded_one_line_by_line(case: str, clip: Path, tmp_path: Path):
    root = tmp_path / "root"
    folder = root if case == "single_file" else root / case.replace("limit_120_images", "many")
    pictures(folder, *LAYOUTS[case])
    if case == "corrupt":
        cut_short(folder / "real" / "bad.png")
    image = folder / "one.png" if case == "single_file" else folder
    more = ["--limit", "100"] if case == "limit_120_images" else []
    code, _ = score(clip, image, tmp_path / "out.txt", *more)
    assert code == (1 if case == "corrupt" else 0)

    ours = (tmp_path / "out.txt").read_text(encoding="utf-8").replace(str(root), "$ROOT")
    recorded = (RECORDED / f"f5679fd__{case}.txt").read_text(encoding="utf-8")
    expected = normalised(recorded, case)
    expected.insert(1, UNTRAINED_WARNING)
    for _row, old, new in DIFFERENCES.get(case, []):
        expected = replaced(expected, old, new)
    assert normalised(ours, case) == expected


def test_each_difference_has_its_row_in_the_documentation():
    document = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    rows = {row for differences in DIFFERENCES.values() for row, _, _ in differences}
    assert [row for row in rows if f"| {row} |" not in document] == []


def test_the_position_counts_inputs_that_cannot_be_read(clip: Path, tmp_path: Path):
    data = pictures(tmp_path / "data", "real/a.png", "real/c.png")
    cut_short(data / "real" / "b.png")
    _, lines = score(clip, data, tmp_path / "out.txt")
    assert [each[:5] for each in lines if "| Prob:" in each] == ["[1/3]", "[3/3]"]


# --- As a process ---------------------------------------------------------------------------------


def test_the_documented_command_runs_from_the_repository_root(clip, data, tmp_path):
    done = process(
        ROOT,
        "DeepfakeBench/training/perf_huggingface.py",
        *("--detector_config", "DeepfakeBench/training/config/detector/huggingface_clip.yaml"),
        *("--weights", str(clip), "--image", str(data), "--output", str(data / OUTPUT)),
    )
    assert done.returncode == 0, done.stderr
    assert [each.partition(":")[0] for each in done.stdout.splitlines()] == [
        "AUC (Area Under ROC Curve)",
        "PR-AUC (Area Under Precision-Recall Curve)",
    ]
    assert UNTRAINED_WARNING in done.stderr
    # The head of the other process is the same (D2), and so is all else.
    lines = (data / OUTPUT).read_text(encoding="utf-8").splitlines()
    assert score(clip, data, tmp_path / "here.txt") == (0, lines)


def test_the_defaults_are_found_from_the_folder_of_the_script(clip: Path, data: Path):
    done = process(
        ROOT / "DeepfakeBench",
        "training/perf_huggingface.py",
        *("--weights", str(clip), "--image", str(data), "--output", str(data / OUTPUT)),
    )
    assert done.returncode == 0, done.stderr
    assert f"Results written to {data / OUTPUT}" in done.stderr


# --- Flags ----------------------------------------------------------------------------------------


def test_the_output_is_by_default_in_the_working_directory(clip, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--weights", str(clip), "--image", "data"], root=ROOT / "DeepfakeBench") == 0
    assert "Path: data/fake/c.png" in (tmp_path / OUTPUT).read_text(encoding="utf-8")


def test_without_weights_the_model_of_the_yaml_is_used(clip, data, tmp_path, configured):
    config = configured(f"huggingface_model_name: {clip}\n")
    output = tmp_path / "out.txt"
    assert main([*config, "--image", str(data), "--output", str(output)]) == 0
    assert probabilities(output.read_text(encoding="utf-8").splitlines())


def test_another_seed_is_another_head(clip, data, tmp_path):
    first = score(clip, data, tmp_path / "1.txt", "--seed", "1")[1]
    second = score(clip, data, tmp_path / "2.txt", "--seed", "2")[1]
    assert probabilities(first) != probabilities(second)


def test_the_seed_is_by_default_that_of_the_yaml(clip, data, tmp_path, configured):
    given = score(clip, data, tmp_path / "1.txt", "--seed", "7")[1]
    from_file = score(clip, data, tmp_path / "2.txt", *configured("manualSeed: 7\n"))[1]
    assert from_file == given


@pytest.mark.parametrize("spelling", ["--batch-size", "--batch_size"])
def test_the_batch_size_changes_no_score(spelling, clip, data, tmp_path):
    alone = score(clip, data, tmp_path / "1.txt", spelling, "1")[1]
    assert alone == score(clip, data, tmp_path / "2.txt")[1]


@pytest.mark.parametrize("spelling", ["--no-recursive", "--no_recursive"])
def test_without_recursion_only_the_directory_itself_is_read(spelling, clip, data, tmp_path):
    picture(data / "top.png")
    _, lines = score(clip, data, tmp_path / "out.txt", spelling)
    assert [each.split("/")[-1] for each in lines if "| Path:" in each] == ["top.png"]


def test_a_limit_takes_that_many_of_each_class_in_proportion(clip, data, tmp_path):
    _, lines = score(clip, data, tmp_path / "out.txt", "--limit", "2")
    assert {"Total images processed: 2", "Real images: 1", "Fake images: 1"} <= set(lines)


@pytest.mark.parametrize(
    "wrong",
    [["--limit", "-1"], ["--batch-size", "0"], ["--head", "mlp"], ["--seed", "x"], ["--lim"]],
)
def test_wrong_flags_exit_with_2(wrong, clip, data):
    with pytest.raises(SystemExit) as caught:
        main(["--weights", str(clip), "--image", str(data), *wrong])
    assert caught.value.code == 2


def test_the_image_is_required(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "--image" in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main([*arguments], root=ROOT / "DeepfakeBench")
    assert code == 2
    return capsys.readouterr().err


def test_a_configuration_that_is_nowhere_is_named_with_the_places(capsys, data):
    message = refused(capsys, "--image", str(data), "--detector_config", "missing.yaml")
    assert "no detector configuration missing.yaml" in message
    assert str(ROOT / "DeepfakeBench") in message


def test_an_image_that_is_nowhere_is_refused(capsys, tmp_path):
    message = refused(capsys, "--image", str(tmp_path / "no"), "--output", str(tmp_path / "o"))
    assert "no such file or directory" in message


def test_a_file_that_is_no_picture_by_its_name_is_refused(capsys, tmp_path):
    (tmp_path / "list.csv").write_text("path\n", encoding="utf-8")
    message = refused(
        capsys, "--image", str(tmp_path / "list.csv"), "--output", str(tmp_path / "o")
    )
    assert "list.csv: not the name of a picture" in message


def test_standard_input_is_left_to_scan(capsys, tmp_path):
    message = refused(capsys, "--image", "-", "--output", str(tmp_path / "o"))
    assert "unmask scan -" in message


def test_a_directory_without_pictures_is_refused(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tif").touch()
    message = refused(capsys, "--image", str(tmp_path / "data"), "--output", str(tmp_path / "o"))
    assert "no files ending in" in message


def test_an_output_that_is_a_directory_is_refused_before_any_work(capsys, tmp_path):
    message = refused(capsys, "--image", "anything", "--output", str(tmp_path))
    assert f"{tmp_path} is a directory" in message


def test_an_output_that_is_an_input_is_refused_and_stays(capsys, data):
    picture = next(path for path in sorted(data.rglob("*")) if path.is_file())
    before = picture.read_bytes()
    message = refused(capsys, "--image", str(picture), "--output", str(picture))
    assert f"{picture} exists and is no results file" in message
    assert picture.read_bytes() == before


def test_an_output_that_is_no_regular_file_is_refused(capsys):
    assert "no results file" in refused(capsys, "--image", "x", "--output", os.devnull)


def test_an_empty_output_and_former_results_are_replaced(clip, data, tmp_path):
    output = tmp_path / "o.txt"
    output.touch()
    arguments = ["--weights", str(clip), "--image", str(data), "--output", str(output)]
    assert main(arguments) == main(arguments) == 0
    assert output.read_text(encoding="utf-8").startswith("Deepfake Detection Results")


def test_an_output_below_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "file").touch()
    message = refused(capsys, "--image", "x", "--output", str(tmp_path / "file" / "o.txt"))
    assert "cannot be made" in message


def test_an_output_that_fails_at_the_end_is_an_error(clip, data, tmp_path, capsys, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unmask.cli.perf.write_reference_text", full)
    arguments = ["--weights", str(clip), "--image", str(data), "--output", str(tmp_path / "o")]
    assert "o cannot be written: No space left" in refused(capsys, *arguments)


def test_an_unknown_device_is_refused(clip, data, tmp_path, capsys):
    arguments = ["--weights", str(clip), "--image", str(data), "--output", str(tmp_path / "o")]
    assert "abacus" in refused(capsys, *arguments, "--device", "abacus")


# --- The sample of --limit ------------------------------------------------------------------------

SAMPLES = [
    Sample(source=f"{n:02}", path=Path(f"{n:02}"), label=kind)
    for n, kind in enumerate([0] * 12 + [1] * 6 + [None] * 2)
]


def test_a_sample_holds_each_label_in_proportion():
    labels = [sample.label for sample in stratified(SAMPLES, 10, 0)]
    assert [labels.count(kind) for kind in (0, 1, None)] == [6, 3, 1]


@pytest.mark.parametrize("limit", range(1, 20))
def test_a_sample_has_exactly_the_size_asked_for(limit):
    assert len(stratified(SAMPLES, limit, 3)) == limit


def test_a_sample_keeps_the_order():
    chosen = [sample.source for sample in stratified(SAMPLES, 10, 5)]
    assert chosen == sorted(chosen)


def test_a_sample_is_the_same_for_the_same_seed():
    assert stratified(SAMPLES, 10, 1) == stratified(SAMPLES, 10, 1)
    assert stratified(SAMPLES, 10, 1) != stratified(SAMPLES, 10, 2)


def test_a_limit_above_the_number_of_samples_takes_all():
    assert stratified(SAMPLES, 99, 0) == SAMPLES


# --- Interruption ---------------------------------------------------------------------------------


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    score_all = Pipeline.__call__

    def stopped(self, samples, *, memory=None):
        results = score_all(self, samples, memory=memory)
        for _ in range(count):
            yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "__call__", stopped)


def test_an_interrupted_run_writes_what_is_done(clip, data, tmp_path, monkeypatch):
    stop_after(2, monkeypatch)
    code, lines = score(clip, data, tmp_path / "out.txt")
    assert code == 130
    assert len(probabilities(lines)) == 2
    assert lines[-1] == "INTERRUPTED: 2 of 4 inputs were processed."


def test_a_run_interrupted_at_once_leaves_the_old_file(clip, data, tmp_path, monkeypatch):
    stop_after(0, monkeypatch)
    before = TOOLS["perf_huggingface"].title
    (tmp_path / "out.txt").write_text(f"{before}\n", encoding="utf-8")
    assert score(clip, data, tmp_path / "out.txt") == (130, [before])


# --- The YAML's keys ------------------------------------------------------------------------------


def test_a_resolution_is_honoured_and_told(clip, data, tmp_path, configured, capsys):
    own = score(clip, data, tmp_path / "1.txt", *configured("resolution: null\n"))[1]
    assert "resolution is" not in capsys.readouterr().err
    other = score(clip, data, tmp_path / "2.txt", *configured("resolution: 64\n"))[1]
    assert probabilities(own) != probabilities(other)
    message = capsys.readouterr().err
    assert "resolution is 64 and the model's own is 32" in message
    assert "64x64" in message


def test_the_shipped_configuration_changes_nothing_of_a_clip(clip, data, tmp_path, configured):
    shipped = score(clip, data, tmp_path / "1.txt")[1]
    assert score(clip, data, tmp_path / "2.txt", *configured("cuda: true\n"))[1] == shipped


def test_the_batch_size_of_the_yaml_is_used(clip, data, tmp_path, configured, monkeypatch):
    seen = batch_sizes(monkeypatch)
    score(clip, data, tmp_path / "1.txt", *configured("test_batchSize: 3\n"))
    assert seen == [3]


def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    start = Pipeline.__init__

    def told(self, detector, options=None):
        seen.append(options.batch_size)
        start(self, detector, options)

    monkeypatch.setattr(Pipeline, "__init__", told)
    return seen


def test_the_flag_for_the_batch_size_wins(clip, data, tmp_path, configured, monkeypatch):
    seen = batch_sizes(monkeypatch)
    score(clip, data, tmp_path / "1.txt", "--batch-size", "2", *configured("test_batchSize: 3\n"))
    assert seen == [2]


def test_cuda_false_keeps_to_the_cpu(clip, data, tmp_path, configured, monkeypatch):
    asked: list[str] = []
    choose = unmask.models.detector.choose_device
    monkeypatch.setattr(
        "unmask.models.detector.choose_device", lambda name: asked.append(name) or choose("cpu")
    )
    score(clip, data, tmp_path / "1.txt", *configured("cuda: false\n"))
    score(clip, data, tmp_path / "1.txt", *configured("cuda: true\n"))
    score(clip, data, tmp_path / "1.txt", "--device", "cuda:3", *configured("cuda: false\n"))
    assert asked == ["cpu", "auto", "cuda:3"]


def test_a_fresh_residual_changes_no_score(clip, data, tmp_path, configured):
    without = score(clip, data, tmp_path / "1.txt", *configured("use_svd: false\n"))[1]
    split = score(clip, data, tmp_path / "2.txt", *configured("use_svd: true\nsvd_rank: 31\n"))[1]
    assert np.allclose(probabilities(split), probabilities(without), atol=2e-4)


def test_an_unknown_key_is_warned_about(clip, data, tmp_path, configured, capsys):
    score(clip, data, tmp_path / "1.txt", *configured("svd_rang: 31\n"))
    assert "Did you mean 'svd_rank'?" in capsys.readouterr().err


# --- Trained detectors ----------------------------------------------------------------------------


def test_a_trained_detector_has_no_warning(trained, data, tmp_path, capsys):
    code, lines = score(trained, data, tmp_path / "out.txt")
    assert code == 0
    assert lines[1] == RULE
    assert "WARNING" not in capsys.readouterr().err


def test_a_trained_detector_takes_no_residual(trained, data, tmp_path, configured, capsys):
    arguments = ["--weights", str(trained), "--image", str(data), "--output", str(tmp_path / "o")]
    message = refused(capsys, *arguments, *configured("use_svd: true\n"))
    assert "is a trained detector" in message


def test_a_trained_detector_keeps_its_own_preprocessing(
    trained, data, tmp_path, configured, capsys
):
    own = score(trained, data, tmp_path / "1.txt")[1]
    assert "not applied" not in capsys.readouterr().err
    config = configured("mean: [0.1, 0.2, 0.3]\nresolution: 64\n")
    assert score(trained, data, tmp_path / "2.txt", *config)[1] == own
    assert "mean, resolution of the YAML are not applied" in capsys.readouterr().err


def test_a_detector_trained_on_faces_finds_them_itself(trained_on_faces, data, tmp_path, capsys):
    _, lines = score(trained_on_faces, data, tmp_path / "out.txt")
    assert "all faces by yunet, 32 px, scale 1.5" in capsys.readouterr().err
    start = lines.index("WHOLE PICTURE SCORED (no face found):")
    assert len(lines) - start == 1 + 4


# --- The landmark file ----------------------------------------------------------------------------

LANDMARKS = "shape_predictor_81_face_landmarks.dat"


class OneFace:
    """Finds two faces in every picture but a narrow one; the first is the larger."""

    name = "dlib81"

    def find(self, image):
        if image.shape[1] < 48:
            return []
        points = np.array([[12, 14], [26, 14], [19, 22], [13, 30], [25, 30]], np.float32)
        first = Face((5.0, 5.0, 35.0, 35.0), points, 1.0)
        return [first, replace(first, box_xyxy=(0.0, 0.0, 9.0, 9.0))]


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path | None]]:
    asked: list[tuple[str, Path | None]] = []

    def make(name: str, *, landmark_model: Path | None = None) -> OneFace:
        asked.append((name, landmark_model))
        return OneFace()

    monkeypatch.setattr(unmask.prepare, "make_finder", make)
    return asked


def test_a_landmark_file_gives_the_crop_of_the_original(clip, data, tmp_path, finder, capsys):
    whole = score(clip, data, tmp_path / "1.txt")[1]
    assert finder == []
    (tmp_path / "points.dat").touch()
    more = ["--landmark_model", str(tmp_path / "points.dat")]
    code, lines = score(clip, data, tmp_path / "2.txt", *more)
    assert code == 0  # although the faces are small
    assert set(finder) == {("dlib81", tmp_path / "points.dat")}
    assert f"largest faces by dlib81, {SIZE} px, scale 1.3;" in capsys.readouterr().err
    assert probabilities(lines) != probabilities(whole)


def test_the_crop_has_the_resolution_of_the_yaml(clip, data, tmp_path, finder, configured, capsys):
    (tmp_path / "points.dat").touch()
    config = configured("resolution: 64\n")
    score(clip, data, tmp_path / "o", "--landmark_model", str(tmp_path / "points.dat"), *config)
    assert "largest faces by dlib81, 64 px, scale 1.3;" in capsys.readouterr().err


def test_faces_are_cut_as_the_detector_was_trained(
    trained_on_faces, data, tmp_path, finder, capsys
):
    (tmp_path / "points.dat").touch()
    more = ["--landmark_model", str(tmp_path / "points.dat")]
    score(trained_on_faces, data, tmp_path / "o", *more)
    assert "largest faces by dlib81, 32 px, scale 1.5;" in capsys.readouterr().err


def test_a_missing_landmark_file_is_refused(clip, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("UNMASK_LANDMARKS", str(tmp_path / "nothing.dat"))
    arguments = ["--weights", str(clip), "--image", str(data), "--output", str(tmp_path / "o")]
    message = refused(capsys, *arguments, "--landmark_model", f"elsewhere/{LANDMARKS}")
    assert f"no landmark file at elsewhere/{LANDMARKS}" in message
    assert "unmask fetch landmarks" in message


def test_a_fetched_landmark_file_stands_in_for_the_documented_path(
    clip, data, tmp_path, finder, capsys, monkeypatch
):
    fetched = tmp_path / LANDMARKS
    fetched.touch()
    monkeypatch.setenv("UNMASK_LANDMARKS", str(fetched))
    documented = f"elsewhere/{LANDMARKS}"
    score(clip, data, tmp_path / "o", "--landmark_model", documented)
    assert set(finder) == {("dlib81", fetched)}
    assert f"{documented} is not there; using the fetched {fetched}" in capsys.readouterr().err


def test_a_fetched_file_does_not_stand_in_for_another_name(
    clip, data, tmp_path, finder, capsys, monkeypatch
):
    (tmp_path / LANDMARKS).touch()
    monkeypatch.setenv("UNMASK_LANDMARKS", str(tmp_path / LANDMARKS))
    arguments = ["--weights", str(clip), "--image", str(data), "--output", str(tmp_path / "o")]
    assert "no landmark file" in refused(capsys, *arguments, "--landmark_model", "my_points.dat")


def test_the_output_is_a_plain_readable_file(clip, data, tmp_path):
    score(clip, data, tmp_path / "out.txt")
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) & stat.S_IRUSR
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.txt"]
