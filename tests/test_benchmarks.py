"""The arithmetic of the benchmark scripts, and each of them on a handful of pictures."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from PIL import Image as PillowImage

from tiny_detectors import noise_image, write_picture
from tiny_results import FAKE, NO_FACE, REAL
from unmask.errors import IncompatibleWeights, MissingSource
from unmask.evaluate.evaluation import Comparison, Coverage, Measure, Robustness
from unmask.evaluate.intervals import Interval
from unmask.evaluate.summary import Choices
from unmask.faces.align import similarity
from unmask.images import read_frame
from unmask.models.detector import Detector, load
from unmask.pipeline import Options, Pipeline
from unmask.train.towers import load_tower
from unmask.types import FaceSpec, Image, Result, Sample

ROOT = Path(__file__).resolve().parents[1]
ALIGN = ROOT / "tests" / "fixtures" / "align"


@pytest.fixture(autouse=True, scope="module")
def found() -> Iterator[None]:
    """The scripts import each other by their bare names, as they do when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield
    for name in ("compare", "detection", "mesonet", "reference_flow", "throughput", "validate"):
        sys.modules.pop(name, None)


@pytest.fixture
def compare() -> ModuleType:
    import compare

    return compare


@pytest.fixture
def validate() -> ModuleType:
    import validate

    return validate


@pytest.fixture
def throughput() -> ModuleType:
    import throughput

    return throughput


@pytest.fixture
def mesonet() -> ModuleType:
    import mesonet

    return mesonet


@pytest.fixture
def detection() -> ModuleType:
    import detection

    return detection


def test_the_ratio_is_the_median_of_the_rounds_with_its_extremes(compare: ModuleType) -> None:
    assert compare.ratios([8.0, 6.0, 9.0], [2.0, 3.0, 3.0]) == (3.0, 2.0, 4.0)


def test_the_largest_difference_is_taken_picture_by_picture(compare: ModuleType) -> None:
    assert compare.largest_difference([0.1, 0.9, 0.5], [0.1, 0.6, 0.7]) == pytest.approx(0.3)


def test_the_flows_take_turns(compare: ModuleType) -> None:
    calls: list[str] = []
    flows = {name: lambda name=name: calls.append(name) or [0.5] for name in "AB"}
    timings = compare.interleaved(flows, 2)
    assert calls == ["A", "B", "A", "B"]
    assert [(each.name, len(each.seconds), each.scores) for each in timings] == [
        ("A", 2, (0.5,)),
        ("B", 2, (0.5,)),
    ]


def test_scenes_fill_the_square_and_repeated_pictures_give_other_ones(
    compare: ModuleType, tmp_path: Path, portrait: Path
) -> None:
    sample = Sample(source="portrait", path=portrait)
    paths = compare.make_scenes([sample], tmp_path, 3, 384)
    scenes = [read_frame(path)[0].image for path in paths]
    assert {scene.shape for scene in scenes} == {(384, 384, 3)}
    assert len({scene.tobytes() for scene in scenes}) == 3


def test_the_spread_head_gives_logits_around_zero(
    compare: ModuleType, tmp_path: Path, portrait: Path
) -> None:
    from unmask.models.detector import untrained_detector
    from unmask.preprocess import Preprocess

    paths = compare.make_scenes([Sample("portrait", portrait)], tmp_path, 4, 256)
    compare.make_tower(tmp_path / "tower", "tiny")
    detector = untrained_detector(tmp_path / "tower", preprocess=Preprocess.effort(), device="cpu")
    compare.spread_head(detector, paths)
    pixels = np.stack([detector.preprocess.resize(read_frame(path)[0].image) for path in paths])
    logits = detector.logits(pixels)
    assert logits.mean() == pytest.approx(0, abs=1e-3)
    assert logits.std() == pytest.approx(compare.SPREAD, rel=1e-2)


def test_both_flows_agree_on_pictures_without_faces(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference_flow = sys.modules["reference_flow"]
    monkeypatch.setattr(reference_flow.dlib, "shape_predictor", lambda _: None)
    for seed in range(3):
        write_picture(tmp_path / "in" / f"{seed}.png", np.full((60, 60, 3), 60 * seed, np.uint8))
    given = compare.parse([str(tmp_path / "in"), "--landmark-model", "none.dat", "--size", "tiny"])
    given = argparse.Namespace(**{**vars(given), "count": 3, "rounds": 1, "finder": "yunet"})
    given.side = 128
    reference, product = compare.compare(given, tmp_path)
    assert len(set(reference.scores)) == 3
    assert compare.largest_difference(reference.scores, product.scores) <= 1e-4


def test_the_reference_fit_is_the_one_of_the_product(compare: ModuleType) -> None:
    rng = np.random.default_rng(0)
    src, dst = rng.normal(size=(2, 5, 2)) * 50
    fit = sys.modules["reference_flow"].umeyama(src, dst)
    assert np.abs(fit - similarity(src, dst)).max() < 1e-9


def test_the_reference_cuts_the_recorded_crop(compare: ModuleType, astronaut: Image) -> None:
    case = json.loads((ALIGN / "align.json").read_text())["points81"]["cases"]["astronaut"]
    five = np.array(case["src5"], np.float32)
    crop = sys.modules["reference_flow"].cut_face(astronaut, five).astype(int)
    recorded = np.asarray(PillowImage.open(ALIGN / "points81_astronaut_224.png").convert("RGB"))
    off = np.abs(crop - recorded)
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.001


def scored(dataset: str, label: int, logit: float | None, video: str = "") -> tuple[Sample, Result]:
    name = f"{dataset}/{label}/{video}/{logit}"
    sample = Sample(name, Path(name), label=label, dataset=dataset, video=video)
    if logit is None:
        return sample, NO_FACE
    return sample, replace(FAKE if logit > 0 else REAL, logit=logit)


def test_a_video_counts_once_and_unscored_pictures_only_as_no_face(validate: ModuleType) -> None:
    pairs = [
        scored("a", 0, -1.0, "v0"),
        scored("a", 0, 3.0, "v0"),
        scored("a", 1, 2.0, "v1"),
        scored("a", 1, None, "v2"),
    ]
    (line,) = validate.table(*zip(*pairs, strict=True))
    assert (line.n_real, line.n_fake, line.auc, line.by_video) == (1, 1, 1.0, True)
    assert line.no_face == 0.25
    assert line.verdicts == {"real": (0.5, 0.0, 0.5), "fake": (0.0, 0.0, 1.0)}


def test_data_sets_of_one_class_are_joined_and_have_a_recall(validate: ModuleType) -> None:
    pairs = [
        *[scored("reals", 0, -1.0 - number / 100) for number in range(20)],
        scored("fakes", 1, 2.0),
        scored("fakes", 1, -2.0),
        scored("both", 0, -1.0),
        scored("both", 1, 1.0),
    ]
    both, joined = validate.table(*zip(*pairs, strict=True))
    assert (both.name, both.recall_at_fpr5) == ("both", None)
    assert (joined.name, joined.n_real, joined.n_fake) == ("fakes + reals", 20, 2)
    assert joined.recall_at_fpr5 == 0.5


@pytest.fixture
def manifest(tmp_path: Path, astronaut: Image) -> Path:
    face = astronaut[:300, 80:380]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "dataset", "split"))
        for number, label in enumerate(("real", "fake", "real", "fake")):
            write_picture(tmp_path / f"{number}.png", face[:, :: 1 if label == "real" else -1])
            rows.writerow((f"{number}.png", label, "faces", "val" if number < 3 else "train"))
    return tmp_path / "manifest.csv"


@pytest.mark.parametrize("jpeg", [0, 60])
def test_validate_scores_the_split_of_a_manifest(
    validate: ModuleType,
    manifest: Path,
    face_folder: Path,
    capsys: pytest.CaptureFixture[str],
    jpeg: int,
) -> None:
    output = manifest.with_name("scores.csv")
    asked = [str(manifest), "--detector", str(face_folder), "-o", str(output)]
    validate.run(validate.parse([*asked, "--jpeg", str(jpeg)]), manifest.parent)
    assert "| faces | 3 | 2 | 1 | picture |" in capsys.readouterr().out
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["source"]).name, row["label"]) for row in rows] == [
        ("0.png", "0"),
        ("1.png", "1"),
        ("2.png", "0"),
    ]
    assert all(0 < float(row["p_fake"]) < 1 for row in rows)


def test_re_encoding_changes_the_pixels_and_nothing_else(
    validate: ModuleType, portrait: Path, tmp_path: Path
) -> None:
    sample = Sample("name", portrait, label=1, dataset="d")
    broken = Sample("broken", tmp_path / "absent.png")
    changed, same = validate.re_encoded([sample, broken], tmp_path, 60)
    assert same == broken
    assert replace(changed, path=portrait) == sample
    before, after = read_frame(portrait)[0].image, read_frame(changed.path)[0].image
    assert before.shape == after.shape
    assert 0 < np.abs(before.astype(int) - after).mean() < 10


def test_an_empty_split_is_refused(validate: ModuleType, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no labelled sample of the split 'other'"):
        validate.run(validate.parse([str(manifest), "--split", "other"]), tmp_path)


def test_time_in_an_inner_stage_is_not_counted_twice(
    throughput: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr(throughput.time, "thread_time", lambda: next(now))
    clock = throughput.Clock()
    inner = clock.timed("normalise", lambda: None)
    clock.timed("tower and head", inner)()
    assert clock.seconds()["normalise"] == 2.0
    assert clock.seconds()["tower and head"] == 8.0


def test_throughput_sees_every_stage_and_leaves_nothing_behind(
    throughput: ModuleType, manifest: Path, face_folder: Path
) -> None:
    detector = load(face_folder, device="cpu")
    before = Detector.logits
    measured = throughput.measure([str(manifest)], detector, Options(batch_size=2), 0)
    assert Detector.logits is before
    assert (measured.statuses, measured.faces) == ({"ok": 4}, 4)
    assert set(measured.cpu) == {*throughput.NAMES, "rest"}
    assert all(measured.cpu[name] > 0 for name in throughput.NAMES)
    assert measured.peak_mib > 50


CONVOLUTIONS = {
    "Meso4": [(3, 3, 3, 8), (5, 5, 8, 8), (5, 5, 8, 16), (5, 5, 16, 16)],
    "MesoInception4": [
        *[(1, 1, 3, 1), (1, 1, 3, 4), (3, 3, 4, 4), (1, 1, 3, 4), (3, 3, 4, 4)],
        *[(1, 1, 3, 2), (3, 3, 2, 2), (1, 1, 11, 2), (1, 1, 11, 4), (3, 3, 4, 4)],
        *[(1, 1, 11, 4), (3, 3, 4, 4), (1, 1, 11, 2), (3, 3, 2, 2)],
        *[(5, 5, 12, 16), (5, 5, 16, 16)],
    ],
}
"""Kernels as the authors' files have them: height, width, inputs, outputs."""

NORMS = {"Meso4": (8, 8, 16, 16), "MesoInception4": (11, 12, 16, 16)}


def write_mesonet(folder: Path, name: str, last: tuple[int, int] = (16, 1)) -> Path:
    """A Keras file with the layers of the network, numbers that are not from 1, drawn weights."""
    rng = np.random.default_rng(0)
    layers: dict[str, dict[str, np.ndarray]] = {}
    for number, shape in enumerate(CONVOLUTIONS[name], start=5):
        weights = {"kernel": rng.normal(0, 0.3, shape), "bias": rng.normal(0, 0.1, shape[-1:])}
        layers[f"conv2d_{number}"] = weights
    for number, width in enumerate(NORMS[name], start=9):
        parts = {part: rng.normal(0, 0.2, width) for part in ("beta", "moving_mean")}
        parts |= {part: rng.uniform(0.5, 1.5, width) for part in ("gamma", "moving_variance")}
        layers[f"batch_normalization_{number}"] = parts
    for number, shape in ((9, (1024, 16)), (10, last)):
        weights = {"kernel": rng.normal(0, 0.1, shape), "bias": rng.normal(0, 0.1, shape[1])}
        layers[f"dense_{number}"] = weights
    path = folder / {"Meso4": "Meso4_DF.h5", "MesoInception4": "MesoInception_DF.h5"}[name]
    with h5py.File(path, "w") as file:
        file.create_group("dropout_1").attrs["weight_names"] = np.array([], "S1")
        for layer, weights in layers.items():
            group = file.create_group(layer)
            names = [f"{layer}/{part}:0" for part in weights]
            group.attrs["weight_names"] = np.array(names, "S64")
            for part, value in weights.items():
                group[f"{layer}/{part}:0"] = value.astype(np.float32)
    return path


def keras(path: Path, picture: np.ndarray, *, inception: bool) -> float:
    """What the network puts into its sigmoid, as Keras would: channels last, in plain numpy."""
    with h5py.File(path) as file:
        weights = {
            layer: {part.split("/")[-1][:-2]: np.array(group[part]) for part in names_of(group)}
            for layer, group in file.items()
        }
    ordered = {
        kind: [weights[f"{kind}_{number}"] for number in range(first, first + count)]
        for kind, first, count in (
            ("conv2d", 5, 16 if inception else 4),
            ("batch_normalization", 9, 4),
            ("dense", 9, 2),
        )
    }
    convolutions = iter(ordered["conv2d"])

    def conv(values: np.ndarray, apart: int = 1) -> np.ndarray:
        layer = next(convolutions)
        side = layer["kernel"].shape[0]
        edge = apart * (side - 1) // 2
        padded = np.pad(values, ((edge, edge), (edge, edge), (0, 0)))
        height, width = values.shape[:2]
        total = layer["bias"] * np.ones((height, width, 1))
        for row in range(side):
            for column in range(side):
                top, left = apart * row, apart * column
                shifted = padded[top : top + height, left : left + width]
                total = total + shifted @ layer["kernel"][row, column]
        return np.maximum(total, 0)

    values = picture
    norms = zip(ordered["batch_normalization"], (2, 2, 2, 4), strict=True)
    for block, (norm, pool) in enumerate(norms):
        if inception and block < 2:
            pairs = [conv(values), *(conv(conv(values), apart) for apart in (1, 2, 3))]
            values = np.concatenate(pairs, axis=2)
        else:
            values = conv(values)
        scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + 1e-3)
        values = (values - norm["moving_mean"]) * scale + norm["beta"]
        height, width, depth = values.shape
        split = values.reshape(height // pool, pool, width // pool, pool, depth)
        values = split.max(axis=(1, 3))
    hidden, last = ordered["dense"]
    flat = values.reshape(-1) @ hidden["kernel"] + hidden["bias"]
    flat = np.where(flat > 0, flat, 0.1 * flat)
    return float((flat @ last["kernel"] + last["bias"])[0])


def names_of(group: h5py.Group) -> list[str]:
    return [name.decode() for name in group.attrs["weight_names"]]


@pytest.mark.parametrize("name", ["Meso4", "MesoInception4"])
def test_mesonet_computes_what_keras_would_and_turns_its_answer_round(
    mesonet: ModuleType, tmp_path: Path, name: str
) -> None:
    path = write_mesonet(tmp_path, name)
    detector = mesonet.load_mesonet(tmp_path, name, FaceSpec(size=256))
    picture = np.asarray(
        PillowImage.fromarray(noise_image(3)).resize((256, 256), PillowImage.Resampling.BICUBIC)
    )
    real = keras(path, picture / 255, inception=name == "MesoInception4")
    assert abs(real) > 0.1
    assert detector.logits(picture[None]) == pytest.approx(-real, rel=1e-4)


def test_mesonet_sees_the_same_crop_at_its_own_size(
    mesonet: ModuleType, tmp_path: Path, portrait: Path
) -> None:
    write_mesonet(tmp_path, "Meso4")
    detector = mesonet.load_mesonet(tmp_path, "Meso4", FaceSpec(scale=1.0, size=256))
    (result,) = Pipeline(detector, Options(faces="largest"))([Sample("portrait", portrait)])
    assert result.status == "ok"
    assert "largest faces by yunet, 256 px, scale 1;" in result.preprocessing
    assert result.detector.id == "Meso4"


def test_a_mesonet_file_that_is_missing_is_named(mesonet: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(MissingSource, match=r"Meso4_DF\.h5: no such file"):
        mesonet.load_mesonet(tmp_path, "Meso4", FaceSpec())


def test_a_file_of_the_other_network_is_refused(mesonet: ModuleType, tmp_path: Path) -> None:
    write_mesonet(tmp_path, "Meso4").rename(tmp_path / "MesoInception_DF.h5")
    with pytest.raises(IncompatibleWeights, match="'conv2d': 4"):
        mesonet.load_mesonet(tmp_path, "MesoInception4", FaceSpec())


def test_a_layer_of_another_shape_is_refused(mesonet: ModuleType, tmp_path: Path) -> None:
    write_mesonet(tmp_path, "Meso4", last=(16, 2))
    with pytest.raises(IncompatibleWeights, match="a layer dense does not fit"):
        mesonet.load_mesonet(tmp_path, "Meso4", FaceSpec())


def test_a_weight_without_keras_name_is_refused(mesonet: ModuleType) -> None:
    with pytest.raises(IncompatibleWeights, match="not named as Keras names it"):
        mesonet.parts_of("kernel")


@pytest.fixture
def benchmark(tmp_path: Path, astronaut: Image) -> Path:
    """A manifest of faces in both splits: one data set of both classes, two of one class."""
    face = astronaut[:300:2, 80:380:2]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "dataset", "split"))
        for number in range(16):
            fake = bool(number % 2)
            name = "both" if number < 8 else ("fakes" if fake else "reals")
            bright = np.clip(face[:, :: -1 if fake else 1] * (0.8 + number / 80), 0, 255)
            write_picture(tmp_path / f"{number}.png", bright.astype(np.uint8))
            split = "val" if number % 4 < 2 else "train"
            rows.writerow((f"{number}.png", "fake" if fake else "real", name, split))
    return tmp_path / "manifest.csv"


@pytest.fixture
def asked(benchmark: Path, tmp_path: Path) -> list[str]:
    for name in ("Meso4", "MesoInception4"):
        write_mesonet(tmp_path, name)
    given = [
        str(benchmark),
        "--tower",
        "tower",
        "--mesonet",
        str(tmp_path),
        "--work",
        str(tmp_path / "work"),
    ]
    given += ["--join", "fakes+reals", "--bootstraps", "5", "--perturb", "jpeg@3", "--workers", "0"]
    return [*given, "-o", str(tmp_path / "page.md")]


def test_the_page_has_every_detector_data_set_and_alteration(
    detection: ModuleType,
    asked: list[str],
    face_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(
        detection, "load", lambda name, **_: load(face_folder if name == "builtin" else name)
    )
    monkeypatch.setattr(
        detection, "load_tower", lambda _name, **rest: load_tower(str(face_folder), **rest)
    )
    monkeypatch.setattr(sys, "argv", ["detection.py", *asked])
    detection.main()
    page = (tmp_path / "page.md").read_text()
    for words in (
        "| data set | unit | real | fake | built-in | raw probe | Meso4 | MesoInception4 |",
        "| both | picture | 2 | 2 | ",
        "| fakes+reals | picture | 2 | 2 | ",
        "| mean | picture | 4 | 4 | ",
        "**JPEG, quality 60 (jpeg@3)**",
        "Mean AUC over the data sets:",
        "| both | 4 of 4 | 4 of 4 |",
        "--join fakes+reals",
        "## MesoNet on wider crops",
        "Where the built-in detector does not win",
    ):
        assert words in page
    assert str(tmp_path) not in page
    assert "not a result" not in page
    monkeypatch.setattr(detection, "score", None)  # nothing is scored again
    monkeypatch.setattr(detection, "train_probe", None)
    detection.main()
    assert (tmp_path / "page.md").read_text() == page


def test_kept_scores_of_another_run_are_refused(
    detection: ModuleType,
    face_detector: Detector,
    portrait: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = Pipeline(face_detector, Options(faces="largest"))
    detection.scored("x", pipeline, [Sample("a", portrait, label=1)], tmp_path)
    with pytest.raises(SystemExit, match="is of another run"):
        detection.scored("x", pipeline, [Sample("b", portrait, label=1)], tmp_path)
    spec = replace(pipeline.detector.model.spec, temperature=9.0)
    monkeypatch.setattr(pipeline.detector.model, "spec", spec)
    with pytest.raises(SystemExit, match="is of another run"):
        detection.scored("x", pipeline, [Sample("a", portrait, label=1)], tmp_path)


def test_a_trial_takes_some_of_every_class(detection: ModuleType) -> None:
    samples = [
        Sample(str(number), Path("x"), label=number % 2, dataset=dataset)
        for dataset, count in (("a", 40), ("b", 10))
        for number in range(count)
    ]
    kept = detection.thinned(samples, 10)
    assert {(each.dataset, each.label) for each in kept} == {(d, y) for d in "ab" for y in (0, 1)}
    assert len(kept) == 10
    assert detection.thinned(samples, 0) == samples


def difference(dataset: str, value: float, low: float, high: float) -> Comparison:
    return Comparison(dataset, "auc", "built-in", "peer", Interval(value, low, high), 0.04)


def test_the_page_says_where_the_builtin_loses(detection: ModuleType) -> None:
    found = {
        "peer": (
            difference("a", -0.1, -0.2, -0.05),
            difference("b", -0.1, -0.2, 0.05),
            difference("c", 0.1, -0.05, 0.2),
            difference("d", 0.1, 0.05, 0.2),
        )
    }
    page = detection.Page((), (), found, Choices(), "float32", {}, "", 0)
    assert detection.honest(page).split("\n")[2:] == [
        "- a: peer is ahead by 0.100, beyond chance",
        "- b: peer is ahead by 0.100, perhaps by chance",
        "- c: its lead of 0.100 over peer may be chance",
    ]


def test_a_lead_everywhere_is_said_too(detection: ModuleType) -> None:
    found = {"peer": (difference("d", 0.1, 0.05, 0.2),)}
    page = detection.Page((), (), found, Choices(), "float32", {}, "", 0)
    assert "leads on every data set" in detection.honest(page)


def test_the_page_says_where_altered_pictures_turn_the_order_round(detection: ModuleType) -> None:
    def system(name: str, *values: float) -> object:
        cells = [
            Robustness("a", kind, severity, Measure("auc", Interval(value, 0, 1)), Coverage(1, 1))
            for (kind, severity), value in zip((("none", 0), ("jpeg", 3)), values, strict=True)
        ]
        return detection.System(name, "", None, (), tuple(cells))

    found = detection.overtaken([system("built-in", 0.8, 0.6), system("peer", 0.9, 0.75)])
    assert found == ["- a, JPEG, quality 60 (jpeg@3): peer is ahead by 0.150"]


def test_a_difference_has_its_interval_and_p(detection: ModuleType) -> None:
    found = difference("a", 0.1, 0.05, 0.2)
    assert detection.difference(found) == "+0.100 [0.050, 0.200], p 0.04"
