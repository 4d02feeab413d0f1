"""The defects of the original scripts, as docs/compatibility.md numbers them.

Each test fails on what the original did. D21 to D47 are those of Effort's demo, of its residual and
of the code bases around it; those of loading and scoring are here, others where the table says.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil

import unmask.prepare
from scripted import (
    OUTPUT,
    ROOT,
    SIZE,
    cut_short,
    make_clip,
    picture,
    pictures,
    probabilities,
    process,
    score,
)
from unmask.cli.perf import main
from unmask.cli.perf_arguments import parser_for
from unmask.cli.reference_config import ScriptConfig, read_script_config
from unmask.convert import convert
from unmask.models.detector import load
from unmask.models.effort import SVDResidualLinear
from unmask.models.modeling import UnmaskForImageClassification
from unmask.pipeline import Pipeline
from unmask.reference_text import UNTRAINED_WARNING
from unmask.sources import read_sources
from unmask.types import Face

RECORDED = Path(__file__).parent / "fixtures" / "perf_output"
EFFORT = Path(__file__).parent / "fixtures" / "effort"
SOURCE = ROOT / "src" / "unmask"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def run(clip: Path, tmp_path: Path):
    """The lines of the file for one input."""

    def lines(image: Path, *more: str) -> list[str]:
        return score(clip, image, tmp_path / "out.txt", *more)[1]

    return lines


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[UnmaskForImageClassification, object]]:
    """The model and its input at each forward pass."""
    seen: list[tuple[UnmaskForImageClassification, object]] = []
    logit = UnmaskForImageClassification.logit

    def spied(self, pixel_values):
        seen.append((self, pixel_values.clone()))
        return logit(self, pixel_values)

    monkeypatch.setattr(UnmaskForImageClassification, "logit", spied)
    return seen


def true_labels(lines: list[str]) -> dict[str, str]:
    """File name to label, of the picture lines."""
    found = [each.split("|") for each in lines if "| True:" in each]
    return {part[0].split()[-1]: part[1].split()[-1] for part in found}


def yaml(tmp_path: Path, text: str) -> tuple[str, str]:
    path = tmp_path / "detector.yaml"
    path.write_text(text, encoding="utf-8")
    return "--detector_config", str(path)


@pytest.mark.parametrize("case", ["both_classes", "single_file"])
def test_d01_every_picture_is_scored_where_the_first_version_crashed(case, run, tmp_path):
    crashed = (RECORDED / f"b30d6ec__{case}.txt").read_text(encoding="utf-8").splitlines()
    data = pictures(tmp_path / "data", "real/a.png", "fake/b.png")
    lines = run(data if case == "both_classes" else data / "real" / "a.png")
    assert [lines[0], *lines[2:4]] == crashed
    assert len(probabilities(lines)) == (2 if case == "both_classes" else 1)


def test_d02_the_untrained_head_is_seeded_and_marked(run, tmp_path, capsys):
    data = pictures(tmp_path / "data", "a.png", "b.png")
    files = []
    for disturbed in (1, 2):  # as another process would be; test_perf_huggingface.py starts one
        torch.manual_seed(disturbed)
        files.append(run(data))
    assert files[0] == files[1]
    assert files[0][1] == UNTRAINED_WARNING
    assert capsys.readouterr().err.count(UNTRAINED_WARNING) == 2


def test_d03_each_label_stays_with_its_path(run, tmp_path):
    data = pictures(tmp_path / "data", "other/u.png", "real/a.png", "fake/b.png")
    assert true_labels(run(data)) == {"u.png": "N/A", "a.png": "REAL", "b.png": "FAKE"}


def test_d03_an_unlabelled_picture_does_not_prevent_the_auc(run, tmp_path):
    data = pictures(tmp_path / "data", "other/u.png", "real/a.png", "fake/b.png")
    assert any(each.startswith("AUC (") for each in run(data))


def test_d04_without_labels_no_class_is_invented(run, tmp_path):
    lines = run(pictures(tmp_path / "data", "x/a.png", "y/b.png"))
    assert "[WARNING] Cannot calculate AUC - no true labels found" in lines
    assert not any("only FAKE" in each or "only one class" in each for each in lines)


def test_d05_a_label_is_a_word_and_not_a_part_of_one(run, tmp_path):
    data = pictures(tmp_path / "data", "realistic_fakes/a.png", "unreal/b.png", "fake/c.png")
    assert true_labels(run(data)) == {"a.png": "FAKE", "b.png": "N/A", "c.png": "FAKE"}


def test_d05_neither_file_names_nor_folders_above_the_input_decide(run, tmp_path):
    data = pictures(tmp_path / "fake" / "data", "x/real.png", "real/a.png", "fake/real.png")
    data = pictures(data, "x/b.png")
    assert true_labels(run(data / "x")) == {"real.png": "N/A", "b.png": "N/A"}


def test_d06_a_picture_in_the_root_hides_no_sub_directory(run, tmp_path):
    data = pictures(tmp_path / "data", "top.png", "real/a.png", "fake/b.png")
    assert true_labels(run(data)) == {"top.png": "N/A", "a.png": "REAL", "b.png": "FAKE"}


def test_d07_all_pictures_are_scored_in_sorted_order(run, tmp_path, monkeypatch):
    scandir = os.scandir

    class Backwards:
        """A file system that lists in another order."""

        def __init__(self, path) -> None:
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    data = pictures(tmp_path / "data", *[f"{n:03}.png" for n in range(105)])
    monkeypatch.setattr(os, "scandir", Backwards)
    assert list(true_labels(run(data))) == [f"{n:03}.png" for n in range(105)]


def test_d07_a_limited_choice_is_seeded_and_stratified(run, tmp_path):
    names = [f"{kind}/{kind}{n}.png" for kind in ("real", "fake") for n in range(6)]
    data = pictures(tmp_path / "data", *names)
    first = run(data, "--limit", "4", "--seed", "5")
    assert first == run(data, "--limit", "4", "--seed", "5")
    assert sorted(true_labels(first).values()) == ["FAKE", "FAKE", "REAL", "REAL"]


def test_d08_a_single_picture_in_a_labelled_directory_has_its_label(run, tmp_path):
    data = pictures(tmp_path / "data", "real/only.png")
    assert true_labels(run(data)) == {"only.png": "REAL"}
    assert true_labels(run(data / "real" / "only.png")) == {"only.png": "REAL"}


def test_d09_a_directory_named_for_its_class_labels_its_pictures(run, tmp_path):
    data = pictures(tmp_path / "data" / "real", "a.png", "b.png")
    assert true_labels(run(data)) == {"a.png": "REAL", "b.png": "REAL"}


def test_d10_no_grey_level_is_lost_on_the_way_to_the_tower(clip, run, tmp_path, forwards):
    levels = np.arange(SIZE * SIZE * 3).reshape(SIZE, SIZE, 3)
    levels = (levels // 3 + levels % 3 * 85).astype(np.uint8)  # all 256 in each channel
    Image.fromarray(levels).save(tmp_path / "levels.png")
    run(tmp_path / "levels.png")
    [(model, pixels)] = forwards
    own = model.spec.preprocess
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (own.mean, own.std))
    back = ((pixels[0] * std + mean) * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(back.transpose(1, 2, 0), levels)


def test_d10_the_input_is_that_of_the_models_own_processor(clip, run, tmp_path, forwards):
    path = picture(tmp_path / "a.png", size=(71, 95))
    run(path)
    with Image.open(path) as image:
        processor = CLIPImageProcessorPil.from_pretrained(clip)
        expected = processor(image, return_tensors="pt")["pixel_values"]
    level = 1 / 255 / min(processor.image_std)
    assert (forwards[0][1] - expected).abs().max() <= 1.01 * level


def test_d11_the_head_has_the_width_of_the_tower(tmp_path, forwards):
    wide = make_clip(tmp_path / "model", width=768)
    score(wide, picture(tmp_path / "a.png"), tmp_path / "out.txt")
    assert forwards[0][0].head.linear.in_features == 768


def test_d12_a_rank_that_leaves_nothing_to_train_is_refused(clip, tmp_path, capsys):
    config = yaml(tmp_path, "use_svd: true\nsvd_rank: 1023\n")
    image = picture(tmp_path / "a.png")
    code = main(["--weights", str(clip), "--image", str(image), *config,
                 "--output", str(tmp_path / OUTPUT)])  # fmt: skip
    assert code == 2
    assert "SVD rank of 1023 on a layer of width 32 leaves nothing to train" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / OUTPUT).exists()


def test_d13_what_the_file_says_about_the_residual_reaches_the_model(run, tmp_path, forwards):
    run(picture(tmp_path / "a.png"), *yaml(tmp_path, "use_svd: true\nsvd_rank: 30\n"))
    split = [m for m in forwards[0][0].modules() if isinstance(m, SVDResidualLinear)]
    assert len(split) == 2 * 4
    assert {layer.S_residual.numel() for layer in split} == {2}


def test_d13_the_file_is_read_into_typed_fields(tmp_path):
    _, path = yaml(tmp_path, "use_svd: true\nsvd_rank: 30\n")
    config = read_script_config(Path(path), model="huggingface_clip", warn=print)
    assert config == ScriptConfig(use_svd=True, svd_rank=30)


@pytest.mark.parametrize(
    "key", ["mean: [0.1, 0.2, 0.3]", "std: [0.01, 5.0, 5.0]", "resolution: 64"]
)
def test_d14_preprocessing_keys_of_the_file_change_the_score(key, run, tmp_path):
    image = picture(tmp_path / "a.png")
    changed = run(image, *yaml(tmp_path, key))
    assert probabilities(changed) != probabilities(run(image))


def test_d15_several_pictures_go_through_the_tower_at_once(run, tmp_path, forwards):
    run(pictures(tmp_path / "data", *[f"{n}.png" for n in range(6)]))
    assert [tuple(pixels.shape) for _, pixels in forwards] == [(6, 3, SIZE, SIZE)]


def test_d16_no_text_tower_is_built(run, tmp_path, forwards):
    run(picture(tmp_path / "a.png"))
    names = [name for name, _ in forwards[0][0].named_modules()]
    assert [name for name in names if "text" in name or "token_embedding" in name] == []


def test_d16_offline_and_revision_can_be_said():
    arguments = parser_for("perf_huggingface").parse_args(
        ["--image", "x", "--offline", "--revision", "main"]
    )
    assert (arguments.offline, arguments.revision) == (True, "main")


def test_d17_the_output_goes_where_it_is_asked_for(clip, tmp_path):
    image = picture(tmp_path / "a.png")
    code, lines = score(clip, image, tmp_path / "new" / "folder" / "mine.txt")
    assert code == 0
    assert len(probabilities(lines)) == 1


def test_d17_a_crash_leaves_the_old_file_and_no_half_one(clip, tmp_path, monkeypatch):
    def crash(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(UnmaskForImageClassification, "logit", crash)
    (tmp_path / "results").mkdir()
    output = tmp_path / "results" / "out.txt"
    before = "Deepfake Detection Results (HuggingFace Model)\nof an earlier run\n"
    output.write_text(before, encoding="utf-8")
    with pytest.raises(RuntimeError, match="out of memory"):
        score(clip, picture(tmp_path / "a.png"), output)
    assert output.read_text(encoding="utf-8") == before
    assert list((tmp_path / "results").iterdir()) == [output]


def test_d17_nothing_but_unreadable_pictures_exits_with_1(clip, tmp_path):
    cut_short(tmp_path / "data" / "a.png")
    cut_short(tmp_path / "data" / "b.png")
    code, lines = score(clip, tmp_path / "data", tmp_path / "out.txt")
    assert code == 1
    assert len(lines) - lines.index("NOT SCORED:") == 1 + 2


def test_d17_the_file_is_utf_8_whatever_the_locale(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    monkeypatch.setattr("locale.getencoding", lambda: "ascii")
    _, lines = score(clip, picture(tmp_path / "été.png"), tmp_path / "out.txt")
    assert "été.png" in lines[4]


def test_d18_nothing_is_printed_but_the_metrics(run, tmp_path, capsys):
    run(pictures(tmp_path / "data", "real/a.png", "fake/b.png"))
    printed = capsys.readouterr().out.splitlines()
    assert [each.partition(" (")[0] for each in printed] == ["AUC", "PR-AUC"]


def test_d18_the_help_is_english_and_names_only_flags_that_exist():
    text = parser_for("perf_huggingface").format_help()
    assert text.isascii()
    assert "--model_name" not in text
    flags = {word.strip("[],") for word in text.split() if word.startswith(("--", "[--"))}
    known = {name for action in parser_for("perf_huggingface")._actions
             for name in action.option_strings}  # fmt: skip
    assert flags <= known


IMPORT_ONLY = """
import logging, sys
import unmask.cli.perf
print(sorted({"torch", "dlib", "cv2", "transformers", "sklearn"} & set(sys.modules)))
print(logging.root.handlers)
"""


def test_d19_importing_chooses_no_device_and_configures_no_logging(tmp_path):
    done = process(tmp_path, "-c", IMPORT_ONLY)
    assert done.stdout.splitlines() == ["[]", "[]"], done.stderr


def test_d19_dlib_is_not_imported_without_a_landmark_file(run, tmp_path, monkeypatch):
    for name in ("dlib", "unmask.faces.dlib81"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now raises ImportError
    assert probabilities(run(picture(tmp_path / "a.png")))


def test_d20_a_whole_picture_in_place_of_a_face_is_named(run, tmp_path, capsys, monkeypatch):
    class Blind:
        name = "dlib81"

        def find(self, image):
            return []

    monkeypatch.setattr(unmask.prepare, "make_finder", lambda *_, **__: Blind())
    (tmp_path / "points.dat").touch()
    image = picture(tmp_path / "a.png")
    whole = run(image)
    lines = run(image, "--landmark_model", str(tmp_path / "points.dat"))
    assert lines[:-3] == whole
    assert lines[-3:] == [
        "",
        "WHOLE PICTURE SCORED (no face found):",
        f"[1/1] {'a.png':>30} | Path: {image}",
    ]
    assert "pictures without a face that were scored whole: 1" in capsys.readouterr().err


# --- Effort's demo, its files and its residual ----------------------------------------------------


class Faces:
    """A finder of ``count`` faces that counts how often it is asked."""

    name = "dlib81"

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, 0

    def find(self, image):
        self.asked += 1
        points = np.array([[12, 14], [26, 14], [19, 22], [13, 30], [25, 30]], np.float32)
        return [Face((5.0, 5.0, 35.0, 35.0), points, 1.0)] * self.count


@pytest.fixture
def demo(tmp_path: Path, capsys, monkeypatch):
    """The lines of demo.py, with a finder of ``faces`` where a number is given."""

    def lines(image: Path, *more: str, weights: Path | None = None, faces: Faces | None = None):
        given = ["--weights", str(weights or EFFORT / "B_released_layout_module_prefix.pth")]
        given += ["--image", str(image), "--base", str(EFFORT / "tiny_clip"), *more]
        if faces is not None:
            monkeypatch.setattr(unmask.prepare, "make_finder", lambda *_, **__: faces)
            (tmp_path / "points.dat").touch()
            given += ["--landmark_model", str(tmp_path / "points.dat")]
        capsys.readouterr()
        code = main(given, tool="demo", root=ROOT / "DeepfakeBench")
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return lines


def test_d21_a_picture_without_a_face_does_not_end_the_demo(demo, tmp_path):
    code, lines, _ = demo(pictures(tmp_path / "data", "a.png", "b.png"), faces=Faces(0))
    assert code == 0
    assert [line.endswith("so the whole picture was scored") for line in lines] == [True, True]


def test_d21_a_face_is_looked_for_once_and_not_again_in_its_crop(demo, tmp_path):
    faces = Faces(1)
    assert demo(picture(tmp_path / "a.png"), faces=faces)[0] == 0
    assert faces.asked == 1


def test_d21_a_picture_that_cannot_be_read_does_not_end_the_demo(demo, tmp_path):
    cut_short(tmp_path / "data" / "a.png")
    picture(tmp_path / "data" / "b.png")
    code, lines, _ = demo(tmp_path / "data")
    assert code == 1
    assert "a.png | unreadable: " in lines[0]
    assert "b.png | Pred Label: " in lines[1]


def test_d21_the_demo_prints_a_label_and_not_two_logits(demo, tmp_path):
    [line] = demo(picture(tmp_path / "a.png"))[1]
    assert re.search(r"Pred Label: [01] \(0=Real, 1=Fake\) \| Fake Prob: \d\.\d{4}$", line)


def test_d22_a_wholly_wrong_file_is_an_error_and_no_success(demo, tmp_path):
    save_file({"totally.wrong": torch.zeros(2, 2)}, tmp_path / "wrong.safetensors")
    code, lines, error = demo(picture(tmp_path / "a.png"), weights=tmp_path / "wrong.safetensors")
    assert (code, lines) == (2, [])
    assert "totally.wrong" in error


def test_d22_a_file_that_would_run_code_is_not_opened(demo, tmp_path):
    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"backbone.x": Runs()}, tmp_path / "code.pth")
    code, lines, _ = demo(picture(tmp_path / "a.png"), weights=tmp_path / "code.pth")
    assert (code, lines) == (2, [])
    assert not (tmp_path / "ran").exists()


def test_d22_module_is_removed_at_the_start_of_a_key_only(demo, tmp_path):
    tensors = load_file(EFFORT / "B_released_layout.safetensors")
    tensors["backbone.module.encoder.layers.0.layer_norm1.bias"] = tensors.pop(
        "backbone.encoder.layers.0.layer_norm1.bias"
    )
    save_file(tensors, tmp_path / "inner.safetensors")
    code, _, error = demo(picture(tmp_path / "a.png"), weights=tmp_path / "inner.safetensors")
    assert code == 2
    assert "encoder.layers.0.layer_norm1.bias" in error


def test_d22_no_path_of_a_clip_is_written_into_the_code():
    clip = "clip-vit-" + "large-patch14"
    paths = [r"(\.\./|/home/|/mnt/|/data/)", rf"models--openai--{clip}"]
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    assert [text for text in texts for each in paths if re.search(f"[\"']{each}", text)] == []


def test_d25_a_loaded_file_is_merged_and_rebuilds_no_weight_at_a_forward_pass(
    demo, tmp_path, forwards
):
    demo(picture(tmp_path / "a.png"))
    model = forwards[0][0]
    assert [name for name, _ in model.named_parameters() if "residual" in name] == []
    assert sum(each.numel() for each in model.backbone.parameters()) == sum(
        each.numel()
        for name, each in load_file(EFFORT / "B_merged_clipvision_keys.safetensors").items()
        if not name.startswith("head.")
    )


def test_d27_the_layout_of_the_released_files_is_read_strictly(demo, tmp_path):
    code, lines, error = demo(picture(tmp_path / "a.png"))
    assert (code, len(lines)) == (0, 1)
    assert "weight: 2 merged" in error


def test_d36_without_cuda_the_scripts_run_on_the_processor(demo, tmp_path, monkeypatch, forwards):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert demo(picture(tmp_path / "a.png"))[0] == 0
    assert forwards[0][1].device.type != "cuda"


def test_d37_every_way_to_a_detector_resizes_alike(demo, tmp_path, forwards):
    image = picture(tmp_path / "a.png", size=(300, 420))
    weights = EFFORT / "B_released_layout_module_prefix.pth"
    demo(image)
    convert("effort", weights, tmp_path / "folder", base=EFFORT / "tiny_clip", domain="image")
    forwards.clear()
    demo(image)
    list(Pipeline(load(tmp_path / "folder", device="cpu"))(read_sources(image)))
    assert len(forwards) == 2
    assert torch.equal(forwards[0][1], forwards[1][1])


def test_d41_names_with_dots_are_read_and_labelled_as_any_other(run, tmp_path):
    names = ("v1.2_real/a.b.png", "fake.v3/c.tar.PNG", "fake.v3/d...png")
    data = pictures(tmp_path / "data.set", *names)
    labels = {"a.b.png": "REAL", "c.tar.PNG": "FAKE", "d...png": "FAKE"}
    assert true_labels(run(data)) == labels


def test_d44_without_a_label_nothing_is_called_fake(run, tmp_path):
    lines = run(pictures(tmp_path / "data", "x/u.png", "real/a.png", "fake/b.png"))
    assert true_labels(lines)["u.png"] == "N/A"
    assert "Real images: 1" in lines
    assert "Fake images: 1" in lines


def test_d44_an_unreadable_picture_shifts_no_score_against_its_label(run, tmp_path):
    data = pictures(tmp_path / "data", "fake/a.png", "real/b.png", "fake/c.png")
    lines = run(data)
    before = dict(zip(true_labels(lines), probabilities(lines), strict=True))
    cut_short(data / "fake" / "a.png")
    lines = run(data)
    assert true_labels(lines) == {"b.png": "REAL", "c.png": "FAKE"}
    after = dict(zip(true_labels(lines), probabilities(lines), strict=True))
    assert after == {name: before[name] for name in ("b.png", "c.png")}


def test_d46_scikit_image_is_not_used():
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    assert [text for text in texts if re.search(r"^\s*(import|from) skimage", text, re.M)] == []


def test_d47_the_class_that_transformers_dropped_is_not_used():
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    assert [text for text in texts if "CLIPVisionTransformer" in text] == []


def rows() -> dict[str, list[str]]:
    """The tests that the table names, by row."""
    document = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (D\d+) \| .* \| ([^|]*) \|$", document, re.M)
    return {row: re.findall(r"`([^`]+)`", cell) for row, cell in found}


def names_in(file: str) -> list[str]:
    """The tests of one of our files."""
    path = Path(__file__).parent / file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return re.findall(r"^def (test_\w+)\(", text, re.M)


def is_there(test: str) -> bool:
    """Whether ``file::name`` is a test; ``*`` ends a name that several begin with."""
    file, _, name = test.partition("::")
    return bool(fnmatch.filter(names_in(file), name))


def test_the_table_has_a_row_of_every_defect():
    assert list(rows()) == [f"D{number}" for number in range(1, 48)]


@pytest.mark.parametrize("row", [f"D{number}" for number in range(1, 48)])
def test_a_row_of_the_table_names_tests_that_are_there(row):
    assert rows()[row]
    assert [test for test in rows()[row] if not is_there(test)] == []


def test_a_name_without_a_test_is_found():
    assert not is_there("test_reference_defects.py::test_d99_*")
    assert not is_there("test_gone.py::test_d01_*")


def test_each_test_that_has_a_number_stands_in_its_row():
    for file in (Path(__file__).name, "test_benchmark_defects.py"):
        for name in names_in(file):
            if number := re.match(r"test_d(\d+)_", name):
                given = rows()[f"D{int(number[1])}"]
                assert any(fnmatch.fnmatch(f"{file}::{name}", test) for test in given), name
