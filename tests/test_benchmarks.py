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

import numpy as np
import pytest
from PIL import Image as PillowImage

from tiny_detectors import write_picture
from tiny_results import FAKE, NO_FACE, REAL
from unmask.faces.align import similarity
from unmask.images import read_frame
from unmask.models.detector import Detector, load
from unmask.pipeline import Options
from unmask.types import Image, Result, Sample

ROOT = Path(__file__).resolve().parents[1]
ALIGN = ROOT / "tests" / "fixtures" / "align"


@pytest.fixture(autouse=True, scope="module")
def found() -> Iterator[None]:
    """The scripts import each other by their bare names, as they do when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield
    for name in ("compare", "reference_flow", "throughput", "validate"):
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
