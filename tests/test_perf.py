"""``perf.py``: published Effort files through the script, against what the original computed."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification, ViTImageProcessorPil

import unmask.prepare
from scripted import ROOT, cut_short, make_clip, picture, pictures, probabilities, process
from tiny_towers import TOWERS
from unmask.cli.perf import main
from unmask.cli.perf_arguments import parser_for
from unmask.cli.perf_detector import make_detector
from unmask.cli.reference_config import ScriptConfig
from unmask.models import catalog
from unmask.models.catalog import find_published
from unmask.models.checkpoint import save
from unmask.models.detector import Detector, untrained_detector
from unmask.models.published.effort import read_effort
from unmask.models.weights import file_sha256, read_config
from unmask.types import Face

EFFORT = Path(__file__).parent / "fixtures" / "effort"
WEIGHTS = EFFORT / "B_released_layout_module_prefix.pth"
CLIP = EFFORT / "tiny_clip"
OUTPUT = "inference_results.txt"
RULE = 80 * "="
ASTRONAUT = 2
"""Row of the recorded arrays: two of noise, scikit-image's astronaut, zeros."""


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    """What the original computed with these weights, and from what."""
    arrays, inputs = np.load(EFFORT / "arrays.npz"), np.load(EFFORT / "inputs.npz")
    return {"p": arrays["B_prob"], "logits": arrays["B_logits"], "pixels": inputs["pixel_values"]}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same detector as a folder."""
    folder = tmp_path_factory.mktemp("converted") / "effort"
    model = read_effort(WEIGHTS, base_config=read_config(CLIP)).model
    return save(model, folder, card="# Test\n", weights_dtype="float32")


@pytest.fixture
def portrait(tmp_path: Path, astronaut) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(astronaut).save(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return pictures(tmp_path / "data", "real/a.png", "real/b.png", "fake/c.png", "fake/d.png")


@pytest.fixture
def run(tmp_path: Path):
    """Exit code and lines of the file."""

    def lines(image: Path, *more: str, weights: Path = WEIGHTS) -> tuple[int, list[str]]:
        output = tmp_path / "out.txt"
        given = ["--weights", str(weights), "--image", str(image), "--output", str(output), *more]
        if weights.is_file() and "--base" not in more:
            given += ["--base", str(CLIP)]
        code = main(given, tool="perf", root=ROOT / "DeepfakeBench")
        return code, output.read_text(encoding="utf-8").splitlines() if code != 2 else []

    return lines


@pytest.fixture
def configured(tmp_path: Path):
    def arguments(text: str) -> list[str]:
        path = tmp_path / "detector.yaml"
        path.write_text(text, encoding="utf-8")
        return ["--detector_config", str(path)]

    return arguments


def detector(*more: str, config: ScriptConfig | None = None) -> tuple[Detector, list[str]]:
    """What the script scores with, and what it says of it."""
    said: list[str] = []
    given = ["--weights", str(WEIGHTS), "--image", "x", "--base", str(CLIP), *more]
    arguments = parser_for("perf").parse_args([*given, "--device", "cpu"])
    settings = config or ScriptConfig()
    return make_detector(arguments, settings, 0, said.append, trained_only=True), said


# --- The numbers of the original ------------------------------------------------------------------


def test_every_recorded_input_has_the_recorded_probability(recorded):
    model = detector()[0].model
    with torch.no_grad():
        logits = model.logit(torch.from_numpy(recorded["pixels"])).numpy()
    difference = recorded["logits"][:, 1] - recorded["logits"][:, 0]
    np.testing.assert_allclose(logits, difference, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), recorded["p"], atol=1e-5)


def test_a_picture_becomes_the_recorded_input(recorded, astronaut):
    preprocess = detector()[0].preprocess
    np.testing.assert_allclose(preprocess(astronaut), recorded["pixels"][ASTRONAUT], atol=1e-6)


def test_the_script_prints_the_probability_of_the_original(portrait, recorded):
    done = process(
        ROOT,
        "DeepfakeBench/training/perf.py",
        *("--detector_config", "DeepfakeBench/training/config/detector/effort.yaml"),
        *("--weights", str(WEIGHTS), "--base", str(CLIP)),
        *("--image", str(portrait), "--output", str(portrait.parent / OUTPUT)),
    )
    assert done.returncode == 0, done.stderr
    lines = (portrait.parent / OUTPUT).read_text(encoding="utf-8").splitlines()
    assert lines == [
        "Deepfake Detection Results",
        RULE,
        "",
        f"[1/1] {'portrait.png':>30} | True:  N/A | Pred: {int(recorded['p'][ASTRONAUT] > 0.5)} "
        f"(0=Real, 1=Fake) | Prob: {recorded['p'][ASTRONAUT]:.4f} | Path: {portrait}",
        "",
        RULE,
        "PERFORMANCE METRICS",
        RULE,
        "",
        "Single image processed - AUC calculation not applicable.",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "B_released_layout_wrapped.pth",
        "B_released_layout.safetensors",
        "B_full_layout.safetensors",
    ],
)
def test_other_layouts_of_the_same_weights_give_the_same_file(run, data, name):
    assert run(data, weights=EFFORT / name) == run(data)


def test_a_converted_folder_gives_the_same_file(run, data, converted):
    assert run(data, weights=converted) == run(data)


def test_half_precision_gives_nearly_the_same(run, data):
    ours, half = run(data)[1], run(data, "--dtype", "bfloat16")[1]
    np.testing.assert_allclose(probabilities(half), probabilities(ours), atol=0.02)


# --- The command ----------------------------------------------------------------------------------


def test_the_output_is_by_default_in_the_working_directory(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--weights", str(WEIGHTS), "--base", str(CLIP), "--image", "data"]
    assert main(given, tool="perf", root=ROOT / "DeepfakeBench") == 0
    assert "Path: data/fake/c.png" in (tmp_path / OUTPUT).read_text(encoding="utf-8")


def test_but_for_the_title_the_file_is_that_of_the_other_script(run, data, converted, tmp_path):
    other = tmp_path / "other.txt"
    main(["--weights", str(converted), "--image", str(data), "--output", str(other)],
         root=ROOT / "DeepfakeBench")  # fmt: skip
    title, *rest = other.read_text(encoding="utf-8").splitlines()
    assert title == "Deepfake Detection Results (HuggingFace Model)"
    assert run(data, weights=converted)[1] == ["Deepfake Detection Results", *rest]


def test_the_other_script_reads_an_effort_file_too(run, data, tmp_path):
    other = tmp_path / "other.txt"
    given = ["--weights", str(WEIGHTS), "--base", str(CLIP), "--image", str(data)]
    assert main([*given, "--output", str(other)], root=ROOT / "DeepfakeBench") == 0
    assert other.read_text(encoding="utf-8").splitlines()[1:] == run(data)[1][1:]


def test_the_built_in_detector_can_be_named(run, tmp_path):
    code, lines = run(picture(tmp_path / "a.png"), weights=Path("builtin"))
    assert code == 0
    assert len(probabilities(lines)) == 1


def test_a_picture_that_cannot_be_read_is_told_in_the_file(run, data):
    cut_short(data / "real" / "bad.png")
    code, lines = run(data)
    assert code == 1
    assert len(probabilities(lines)) == 4
    assert "NOT SCORED:" in lines


@pytest.mark.parametrize("missing", ["--weights", "--image"])
def test_weights_and_image_are_required(missing, capsys):
    given = {"--weights": "x", "--image": "y"}
    del given[missing]
    with pytest.raises(SystemExit) as caught:
        main([word for pair in given.items() for word in pair], tool="perf")
    assert caught.value.code == 2
    assert missing in capsys.readouterr().err


def test_there_is_no_flag_for_a_head_that_is_not_trained(capsys):
    with pytest.raises(SystemExit):
        main(["--weights", "x", "--image", "y", "--head", "linear"], tool="perf")
    assert "--head" in capsys.readouterr().err


# --- What is said of a file -----------------------------------------------------------------------


def test_what_became_of_every_tensor_is_said_in_groups():
    _, said = detector()
    tensors = load_file(EFFORT / "B_released_layout.safetensors")
    assert said[0] == f"{WEIGHTS}: {len(tensors)} tensors"
    for layer in ("q_proj", "k_proj", "v_proj", "out_proj"):
        [line] = [line for line in said if f"self_attn.{layer}.weight:" in line]
        assert line.endswith("layers.*.self_attn." + f"{layer}.weight: 2 merged")
    assert any(line.endswith("head.linear.weight: 1 mapped") for line in said)


def test_what_is_dropped_is_said_with_the_reason(run, data, capsys):
    run(data, weights=EFFORT / "B_full_layout.safetensors")
    assert "dropped (frozen factor of weight_main" in capsys.readouterr().err


def test_what_was_decided_without_the_file_saying_it_is_said():
    _, said = detector()
    assert any("faces or on whole pictures" in line for line in said)


def test_the_detector_is_known_by_its_file_and_its_hash():
    ref = detector()[0].ref
    assert (ref.id, ref.trained) == (str(WEIGHTS), True)
    assert len(ref.sha256) == 64


# --- The YAML -------------------------------------------------------------------------------------


def test_the_shipped_configuration_changes_nothing_of_a_file(run, data, configured):
    assert run(data) == run(data, *configured("cuda: true\n"))


def test_the_base_may_stand_in_the_yaml(run, data, tmp_path, configured):
    config = configured(f"base: {CLIP}\n")
    given = ["--weights", str(WEIGHTS), "--image", str(data), *config]
    assert main([*given, "--output", str(tmp_path / "o.txt")], tool="perf") == 0
    assert (tmp_path / "o.txt").read_text(encoding="utf-8").splitlines() == run(data)[1]


def test_the_flag_for_the_base_wins(run, data, configured):
    assert run(data, "--base", str(CLIP), *configured("base: /nowhere\n"))[0] == 0


def test_mean_and_std_of_the_yaml_are_applied_to_a_file(run, data, configured):
    own = probabilities(run(data)[1])
    for text in ("mean: [0.1, 0.2, 0.3]\n", "std: [0.1, 0.5, 0.9]\n"):
        assert probabilities(run(data, *configured(text))[1]) != own


def test_a_resolution_is_applied_to_a_file_and_its_crops_and_told():
    made, said = detector(config=ScriptConfig(resolution=112))
    assert (made.preprocess.height, made.preprocess.width) == (112, 112)
    assert made.face is not None
    assert made.face.size == 112
    assert any("resolution is 112 and the model's own is 224" in line for line in said)
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    assert made.logits(crops).shape == (1,)


def test_a_folder_keeps_its_own_preprocessing(run, data, converted, configured, capsys):
    own = run(data, weights=converted)
    assert run(data, *configured("mean: [0.1, 0.2, 0.3]\n"), weights=converted) == own
    assert "mean of the YAML is not applied" in capsys.readouterr().err


# --- Faces ----------------------------------------------------------------------------------------


@pytest.fixture
def landmarks(tmp_path, monkeypatch) -> list[str]:
    """A landmark file whose finder finds one face in pictures that are wide enough."""

    class OneFace:
        name = "dlib81"

        def find(self, image):
            if image.shape[1] < 48:
                return []
            points = np.array([[12, 14], [26, 14], [19, 22], [13, 30], [25, 30]], np.float32)
            first = Face((5.0, 5.0, 35.0, 35.0), points, 1.0)
            return [first, replace(first, box_xyxy=(0.0, 0.0, 9.0, 9.0))]

    monkeypatch.setattr(unmask.prepare, "make_finder", lambda *_, **__: OneFace())
    (tmp_path / "points.dat").touch()
    return ["--landmark_model", str(tmp_path / "points.dat")]


def test_without_a_landmark_file_the_whole_picture_is_scored_and_told(run, data, capsys):
    run(data)
    error = capsys.readouterr().err
    assert "without --landmark_model whole pictures are scored, as the original does" in error
    assert ": whole picture; 224x224 squash cv2_linear" in error


def test_with_a_landmark_file_the_largest_face_is_cut(run, data, landmarks, capsys):
    whole = probabilities(run(data)[1])
    code, lines = run(data, *landmarks)
    assert code == 0
    assert "largest faces by dlib81, 224 px, scale 1.3; 224x224 squash" in capsys.readouterr().err
    assert probabilities(lines) != whole


def test_a_picture_without_a_face_is_scored_whole_and_named(run, tmp_path, landmarks):
    narrow = picture(tmp_path / "narrow.png", size=(48, 40))
    code, lines = run(narrow, *landmarks)
    assert code == 0
    assert lines[-2:] == [
        "WHOLE PICTURE SCORED (no face found):",
        f"[1/1] {'narrow.png':>30} | Path: {narrow}",
    ]
    assert lines[:-3] == run(narrow)[1]


def test_that_faces_are_cut_for_a_detector_of_whole_pictures_is_told(
    run, data, tmp_path, landmarks, capsys, monkeypatch
):
    genimage = tmp_path / "genimage.pth"
    shutil.copy(WEIGHTS, genimage)
    listed = replace(
        find_published(file_name="effort_clip_L14_trainOn_sdv14.pth"),
        where=genimage.name,
        sha256=file_sha256(genimage),
    )
    monkeypatch.setattr(catalog, "PUBLISHED", (listed,))
    run(data, weights=genimage)
    assert "learnt from" not in capsys.readouterr().err
    run(data, *landmarks, weights=genimage)
    assert "learnt from whole pictures, and faces are cut" in capsys.readouterr().err


# --- Classifiers of others ------------------------------------------------------------------------


def classifier(folder: Path, *labels: str) -> Path:
    """An image classifier of transformers with random weights and these labels."""
    config = copy.deepcopy(TOWERS["vit"])
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ViTForImageClassification(config)
        torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tool", ["perf", "perf_huggingface"])
def test_a_published_classifier_is_scored_with_as_it_is(tool, data, tmp_path):
    scores = []
    for labels in (("Real", "Fake"), ("Fake", "Real")):
        folder = classifier(tmp_path / labels[0], *labels)
        output = tmp_path / f"{labels[0]}.txt"
        given = ["--weights", str(folder), "--image", str(data), "--output", str(output)]
        assert main(given, tool=tool, root=ROOT / "DeepfakeBench") == 0
        lines = output.read_text(encoding="utf-8").splitlines()
        assert lines[1] == RULE  # no warning of an untrained head
        scores.append(np.array(probabilities(lines)))
    np.testing.assert_allclose(scores[0], 1 - scores[1], atol=1.01e-4)


def test_labels_that_say_nothing_ask_for_the_one_that_means_fake(run, data, tmp_path, capsys):
    folder = classifier(tmp_path / "model", "LABEL_0", "LABEL_1")
    assert run(data, weights=folder)[0] == 2
    assert "--fake-label" in capsys.readouterr().err
    assert run(data, "--fake-label", "LABEL_1", weights=folder)[0] == 0


# --- What is refused ------------------------------------------------------------------------------


@pytest.fixture
def refused(run, data, capsys):
    def message(*more: str, weights: Path = WEIGHTS) -> str:
        assert run(data, *more, weights=weights) == (2, [])
        return capsys.readouterr().err

    return message


def test_a_tower_that_is_not_openais_asks_for_the_base(data, tmp_path, capsys):
    given = ["--weights", str(WEIGHTS), "--image", str(data), "--output", str(tmp_path / "o.txt")]
    assert main(given, tool="perf", root=ROOT / "DeepfakeBench") == 2
    assert "(--base)" in capsys.readouterr().err
    assert not (tmp_path / "o.txt").exists()


def test_another_base_is_refused(refused, tmp_path):
    assert "the base is another tower" in refused("--base", str(make_clip(tmp_path / "clip")))


def test_a_base_for_a_folder_is_refused(refused, converted):
    assert "so it has no base" in refused("--base", str(CLIP), weights=converted)


def test_a_base_for_a_bare_clip_is_refused(data, tmp_path, capsys):
    given = ["--weights", str(CLIP), "--base", str(CLIP), "--image", str(data)]
    assert main([*given, "--output", str(tmp_path / "o")], root=ROOT / "DeepfakeBench") == 2
    assert "tiny_clip is a whole model; leave it out" in capsys.readouterr().err


def test_a_revision_of_a_file_is_refused(refused):
    assert f"{WEIGHTS} is a file" in refused("--revision", "main")


def test_a_residual_on_a_trained_file_is_refused(refused, configured):
    assert "is a trained detector" in refused(*configured("use_svd: true\n"))


def test_the_yaml_of_another_script_is_refused(refused, configured):
    message = refused(*configured("model_name: huggingface_clip\n"))
    assert "this script reads 'effort'" in message


def test_a_bare_clip_is_refused(refused):
    message = refused(weights=CLIP)
    assert "has no head that was trained" in message
    assert "--allow-untrained" not in message


def test_a_folder_whose_head_was_never_trained_is_refused(refused, tmp_path):
    bare = untrained_detector(CLIP, device="cpu")
    folder = save(bare.model, tmp_path / "untrained", card="# Test\n")
    assert "has no head that was trained" in refused(weights=folder)


def test_weights_that_are_nowhere_are_refused(refused, tmp_path):
    assert "no such folder" in refused(weights=tmp_path / "nothing.pth")


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_file_that_is_cut_short_is_refused(refused, tmp_path, size):
    (tmp_path / "cut.pth").write_bytes(WEIGHTS.read_bytes()[:size])
    assert "cut.pth" in refused(weights=tmp_path / "cut.pth")


def test_a_tensor_that_is_missing_is_named(refused, tmp_path):
    tensors = load_file(EFFORT / "B_released_layout.safetensors")
    tensors.pop("head.bias")
    save_file(tensors, tmp_path / "part.safetensors")
    assert "head.bias" in refused(weights=tmp_path / "part.safetensors")


def test_a_label_for_a_file_is_refused(refused):
    assert "has no labels to choose from" in refused("--fake-label", "x")


def test_a_label_for_a_bare_clip_is_refused(data, tmp_path, capsys):
    given = ["--weights", str(CLIP), "--fake-label", "x", "--image", str(data)]
    assert main([*given, "--output", str(tmp_path / "o")], root=ROOT / "DeepfakeBench") == 2
    assert "has no labels to choose from" in capsys.readouterr().err


def test_an_unknown_device_is_refused_before_the_file_is_read(refused):
    assert "abacus" in refused("--device", "abacus")


def test_a_label_for_a_detector_without_labels_is_refused(refused, converted):
    assert "--fake-label" in refused("--fake-label", "x", weights=converted)
