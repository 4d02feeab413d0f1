"""``unmask calibrate``: a detector folder with thresholds from data of one's own."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from running import Cli
from tiny_detectors import POINTS, WHOLE, noise_image, save_detector, write_picture
from unmask.cli import options
from unmask.errors import ConfigError, IncompatibleWeights, OutputError
from unmask.models import recalibrate
from unmask.models.checkpoint import save
from unmask.models.detector import Detector, load
from unmask.models.recalibrate import is_detector_folder, write_recalibrated
from unmask.models.weights import weights_sha256
from unmask.pipeline import Options, Pipeline
from unmask.types import Image, OperatingPoint, Sample

COUNT = 60
POINT = OperatingPoint("p", fake_at=0.8, real_below=0.2, source="mine")
TEXT = "## Calibration\n\nnew"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, image_detector: Detector) -> Path:
    """A manifest of pictures whose labels follow the detector's logits, not without errors."""
    folder = tmp_path_factory.mktemp("data")
    paths = [write_picture(folder / f"{seed}.png", noise_image(seed)) for seed in range(COUNT)]
    results = Pipeline(image_detector, Options(workers=0))(Sample(str(p), p) for p in paths)
    logits = np.array([result.logit for result in results])
    noise = np.random.default_rng(0).normal(0, 1.5 * logits.std(), COUNT)
    fake = logits + noise > np.median(logits)
    with (folder / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "dataset", "split"))
        rows.writerows(
            (path.name, "fake" if is_fake else "real", "tiny", "train" if number < 4 else "val")
            for number, (path, is_fake) in enumerate(zip(paths, fake, strict=True))
        )
    return folder / "list.csv"


@pytest.fixture
def folder(tmp_path: Path, image_folder: Path) -> Path:
    """A detector of one's own, to be changed."""
    return Path(shutil.copytree(image_folder, tmp_path / "mine"))


def results_of(folder: Path, paths: Sequence[Path]) -> list[object]:
    pipeline = Pipeline(load(folder, device="cpu"), Options(workers=0))
    return list(pipeline([Sample(str(path), path) for path in paths]))


def test_the_new_folder_has_the_fitted_temperature_and_points(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    outcome = cli("calibrate", folder, data, "-o", tmp_path / "out", "--fpr", 0.2, "--fpr", 0.1)
    assert outcome.code == 0, outcome.err
    spec = load(tmp_path / "out", device="cpu").model.spec
    assert spec.temperature != 1.7
    assert [point.name for point in spec.operating_points] == ["fpr20", "fpr10"]
    assert {point.source for point in spec.operating_points} == {"tiny"}
    assert spec.calibration_record["n_real"] == spec.operating_points[0].n_real


def test_results_carry_the_operating_point_with_its_source(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    cli("calibrate", folder, data, "-o", tmp_path / "out", "--fpr", 0.2, "--name", "my data")
    (result,) = results_of(tmp_path / "out", [data.parent / "0.png"])
    point = result.operating_point
    assert (point.name, point.source, point.target_fpr) == ("fpr20", "my data", 0.2)
    assert len(point.sha256) == 64


def test_the_temperature_is_applied_once(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    cli("calibrate", folder, data, "-o", tmp_path / "out", "--fpr", 0.2)
    (before,) = results_of(folder, [data.parent / "0.png"])
    (after,) = results_of(tmp_path / "out", [data.parent / "0.png"])
    temperature = load(tmp_path / "out", device="cpu").model.spec.temperature
    assert after.logit == before.logit
    assert after.p_fake == pytest.approx(1 / (1 + np.exp(-before.logit / temperature)), abs=1e-12)


def test_reals_called_fake_in_use_are_those_that_the_point_allows(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    for method in ("temperature", "platt"):
        out = tmp_path / method
        cli("calibrate", folder, data, "-o", out, "--fpr", 0.2, "--method", method)
        rows = list(csv.DictReader(data.open(newline="")))
        reals = [data.parent / row["path"] for row in rows if row["label"] == "real"]
        verdicts = [result.verdict for result in results_of(out, reals)]
        assert 0.1 < verdicts.count("fake") / len(reals) <= 0.2


def test_the_weights_stay_as_they_are(cli: Cli, folder: Path, data: Path, tmp_path: Path) -> None:
    before = weights_sha256(folder)
    cli("calibrate", folder, data, "-o", tmp_path / "out", "--fpr", 0.2)
    assert weights_sha256(tmp_path / "out") == before == weights_sha256(folder)


def test_platt_changes_the_bias_of_the_head_and_nothing_else(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    cli("calibrate", folder, data, "-o", tmp_path / "out", "--fpr", 0.2, "--method", "platt")
    before, after = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "out"))
    changed = [name for name in before if not before[name].equal(after[name])]
    assert changed == ["head.linear.bias"]
    record = load(tmp_path / "out", device="cpu").model.spec.calibration_record
    moved = (after["head.linear.bias"] - before["head.linear.bias"]).item()
    assert moved == pytest.approx(record["bias_added"], abs=1e-5)


def test_in_place_changes_the_folder_itself(cli: Cli, folder: Path, data: Path) -> None:
    before = weights_sha256(folder)
    outcome = cli("calibrate", folder, data, "--in-place", "--fpr", 0.2)
    assert outcome.code == 0, outcome.err
    assert load(folder, device="cpu").operating_points[0].source == "tiny"
    assert weights_sha256(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_without_an_output_nothing_is_done(cli: Cli, folder: Path, data: Path) -> None:
    outcome = cli("calibrate", folder, data)
    assert outcome.code == 2
    assert "either -o DIR for a new detector folder, or --in-place" in outcome.err


def test_the_builtin_is_never_changed_in_place(cli: Cli, data: Path) -> None:
    outcome = cli("calibrate", "builtin", data, "--in-place")
    assert outcome.code == 2
    assert "builtin is never changed in place; give a new folder by -o DIR" in outcome.err


def test_a_model_of_somebody_elses_is_to_be_converted_first(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values["backbone_config"]))
    outcome = cli("calibrate", folder, data, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "unmask convert" in outcome.err


@pytest.mark.parametrize("output", ["mine", "mine/new", "."])
def test_an_output_that_is_or_holds_the_detector_is_refused(
    cli: Cli, folder: Path, data: Path, output: str
) -> None:
    outcome = cli("calibrate", folder, data, "-o", folder.parent / output)
    assert outcome.code == 2
    assert "are the same or one lies in the other" in outcome.err


def test_an_output_is_not_replaced_unless_asked(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    other = save_detector(tmp_path / "out", domain="image")
    asked = ("calibrate", folder, data, "-o", other, "--fpr", 0.2)
    assert "exists already" in cli(*asked).err
    assert load(other, device="cpu").operating_points == POINTS
    assert cli(*asked, "--overwrite").code == 0
    assert load(other, device="cpu").operating_points != POINTS


def test_a_finder_without_faces_is_refused(cli: Cli, folder: Path, data: Path) -> None:
    outcome = cli("calibrate", folder, data, "--in-place", "--faces", "none", "--finder", "yunet")
    assert "there is no --finder to choose" in outcome.err


def test_the_split_is_chosen_and_named(cli: Cli, folder: Path, data: Path) -> None:
    cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--split", "val")
    point = load(folder, device="cpu").operating_points[0]
    assert point.source == "val split of tiny"
    assert (point.n_real or 0) + (point.n_fake or 0) == COUNT - 4


def test_a_folder_of_reals_alone_gives_points(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    for number in range(25):
        write_picture(tmp_path / "own" / "real" / f"{number}.png", noise_image(number))
    outcome = cli("calibrate", folder, tmp_path / "own", "--in-place", "--fpr", 0.05)
    assert outcome.code == 0, outcome.err
    assert "note: reals only" in outcome.out
    spec = load(folder, device="cpu").model.spec
    assert spec.temperature == 1.7
    assert (spec.operating_points[0].n_real, spec.operating_points[0].n_fake) == (25, 0)


def test_a_shift_takes_unlabelled_pictures(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    write_picture(few / "a.png", noise_image(0))
    outcome = cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--shift", few)
    assert outcome.code == 2
    assert "cannot be told from 1 scores" in outcome.err
    assert load(folder, device="cpu").operating_points == POINTS


def test_the_table_and_the_card_mark_the_default_point(cli: Cli, folder: Path, data: Path) -> None:
    out = cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--fpr", 0.1).out
    marked = [line.split()[:2] for line in out.splitlines() if "(default)" in line]
    assert marked == [["fpr20", "(default)"]]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| `fpr20` (default) |" in card
    assert "| `fpr10` |" in card


def test_how_another_point_is_used_is_said_as_a_command_that_works(
    cli: Cli, folder: Path, data: Path
) -> None:
    out = cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--fpr", 0.1).out
    (said,) = (line for line in out.splitlines() if line.startswith("another point: unmask "))
    words = shlex.split(said.removeprefix("another point: unmask "))
    picture = str(data.parent / "0.png")
    outcome = cli(*[picture if word == "PATH" else word for word in words], "--json")
    assert json.loads(outcome.out)["operating_point"]["name"] == "fpr10"
    assert "--operating-point NAME" in (folder / "README.md").read_text(encoding="utf-8")


def test_of_one_point_no_other_is_offered(cli: Cli, folder: Path, data: Path) -> None:
    out = cli("calibrate", folder, data, "--in-place", "--fpr", 0.2).out
    assert "another point" not in out
    assert "--operating-point" not in (folder / "README.md").read_text(encoding="utf-8")


def test_reals_of_one_source_are_told_in_output_and_card(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    for number in range(25):
        write_picture(tmp_path / "own" / "real" / f"{number}.png", noise_image(number))
    sentence = (
        "all reals are of one source, so the thresholds hold for pictures like these, and without "
        "fakes nothing is known of the share of fakes that is called real"
    )
    outcome = cli("calibrate", folder, tmp_path / "own", "--in-place", "--fpr", 0.05)
    assert f"note: {sentence}" in outcome.out.splitlines()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"- {sentence}" in card.splitlines()


def test_without_labels_it_is_said_that_reals_alone_are_enough(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    write_picture(tmp_path / "photos" / "a.png", noise_image(0))
    outcome = cli("calibrate", folder, tmp_path / "photos", "--in-place")
    assert outcome.code == 2
    assert "a folder named real/ alone is enough" in outcome.err


def test_an_error_leaves_no_folder(cli: Cli, folder: Path, data: Path, tmp_path: Path) -> None:
    outcome = cli("calibrate", folder, data, "-o", tmp_path / "out", "--fpr", 0.001)
    assert (outcome.code, (tmp_path / "out").exists()) == (2, False)
    assert "needs at least 1000 reals" in outcome.err


def test_too_few_reals_are_refused_before_anything_is_scored(
    cli: Cli, folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worked(*_args: object, **_options: object) -> None:
        raise AssertionError("scoring began")

    monkeypatch.setattr(Pipeline, "__init__", worked)
    outcome = cli("calibrate", folder, data, "-o", tmp_path / "out", "--fpr", 0.01)
    assert outcome.code == 2
    assert "needs at least 100 reals" in outcome.err
    assert "Give more reals, or a larger target (--fpr 0.05)." in outcome.err


def write_list(folder: Path, rows: Sequence[tuple[Path, str]]) -> Path:
    with (folder / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return folder / "mine.csv"


def test_one_picture_listed_often_is_refused_before_anything_is_scored(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    listed = write_list(tmp_path, [(data.parent / "0.png", "real")] * 200)
    outcome = cli("calibrate", folder, listed, "--in-place", "--fpr", 0.01)
    assert outcome.code == 2
    assert "needs at least 100 reals; 1 are there" in outcome.err
    assert "scoring" not in outcome.err


def test_copies_of_one_picture_are_refused_once_they_are_read(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    for number in range(20):
        shutil.copy(data.parent / "0.png", tmp_path / "real" / f"{number}.png")
    outcome = cli("calibrate", folder, tmp_path / "real", "--in-place", "--fpr", 0.05)
    assert outcome.code == 2
    assert "needs at least 20 reals; 1 are there" in outcome.err


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\tb", "\x1b[31m", "a\u202eb", "a\u2028b", "x" * 201]
)
def test_a_name_that_is_not_one_visible_line_is_refused(
    cli: Cli, folder: Path, data: Path, name: str
) -> None:
    outcome = cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--name", name)
    assert outcome.code == 2
    assert "visible" in outcome.err


def test_a_name_with_markup_is_text_in_the_card(cli: Cli, folder: Path, data: Path) -> None:
    name = "<img src=x onerror=alert(1)> [a](b) ```"
    cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--name", name)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Data: \\<img src=x onerror=alert(1)\\> \\[a\\](b) \\`\\`\\`;" in card
    assert card.rstrip().endswith("````")


def test_a_map_that_is_no_better_is_told_and_not_stored(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    cli("calibrate", folder, data, "-o", first, "--fpr", 0.2)
    outcome = cli("calibrate", first, data, "-o", second, "--fpr", 0.2)
    assert outcome.code == 0
    assert "the map to P(fake) stays as it was" in outcome.err
    assert "not stored (--force stores it)" in (second / "README.md").read_text(encoding="utf-8")
    cli("calibrate", first, data, "-o", second, "--fpr", 0.2, "--force", "--overwrite")
    record = load(second, device="cpu").model.spec.calibration_record
    assert (record["method"], record["fitted"]["is_better"]) == ("temperature", False)


def test_what_was_not_scored_is_told(cli: Cli, folder: Path, data: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(data.parent, tmp_path / "own"))
    (own / "7.png").write_bytes(b"no picture")
    outcome = cli("calibrate", folder, own / "list.csv", "--in-place", "--fpr", 0.2)
    assert outcome.code == 0, outcome.err
    assert "not scored, and not counted: 1 un" in outcome.err


def test_videos_without_frames_are_told(cli: Cli, folder: Path, data: Path, tmp_path: Path) -> None:
    listed: dict[str, dict[str, dict[str, object]]] = {
        name: {"train": {}, "val": {}, "test": {"empty": {"label": name, "frames": []}}}
        for name in ("real", "fake")
    }
    picture = write_picture(tmp_path / "frame.png", noise_image(COUNT))
    listed["real"]["test"]["full"] = {"label": "real", "frames": [str(picture)]}
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"other": listed}))
    outcome = cli("calibrate", folder, data, other, "-o", tmp_path / "out", "--fpr", 0.2)
    assert outcome.code == 0, outcome.err
    assert "not counted: 2 videos without any frame" in outcome.err


def test_an_evaluation_on_the_data_of_a_calibration_says_so(
    cli: Cli, folder: Path, data: Path, tmp_path: Path
) -> None:
    # Videos without frames were in the hash of the one and not in that of the other.
    listed: dict[str, dict[str, object]] = {
        name: {"test": {"empty": {"label": name, "frames": []}}} for name in ("real", "fake")
    }
    picture = write_picture(tmp_path / "frame.png", noise_image(COUNT))
    listed["real"]["test"] = {"full": {"label": "real", "frames": [str(picture)]}}
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"other": listed}))
    given = ("--device", "cpu")
    calibrated = cli("calibrate", folder, data, other, "--in-place", "--fpr", 0.2, *given)
    assert "not counted: 1 videos" in calibrated.err
    point = load(folder, device="cpu").operating_points[0]
    assert point.datasets == ("tiny", "other")
    given = ("-o", tmp_path / "out", "--bootstraps", 0, "--no-thumbnails", *given)
    found = cli("evaluate", data, other, "-d", folder, *given)
    assert "the threshold was chosen on these very data" in found.out


def test_json_has_what_was_found(cli: Cli, folder: Path, data: Path) -> None:
    outcome = cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--json")
    values = json.loads(outcome.out)
    assert values["operating_points"][0]["point"]["name"] == "fpr20"
    assert values["temperature"] == load(folder, device="cpu").model.spec.temperature


def test_a_calibrated_folder_answers_the_same_in_transformers(
    cli: Cli, folder: Path, data: Path
) -> None:
    import torch
    from transformers import AutoModelForImageClassification

    cli("calibrate", folder, data, "--in-place", "--fpr", 0.2, "--method", "platt")
    detector = load(folder, device="cpu")
    images = np.stack([noise_image(seed, (32, 32)) for seed in range(3)])
    model = AutoModelForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = model(torch.from_numpy(detector.preprocess.normalize(images))).logits
    expected = detector.p_fake(detector.logits(images))
    assert logits.softmax(-1)[:, 1].numpy() == pytest.approx(expected, abs=1e-6)


def test_a_record_survives_saving_again(cli: Cli, folder: Path, data: Path, tmp_path: Path) -> None:
    cli("calibrate", folder, data, "--in-place", "--fpr", 0.2)
    model = load(folder, device="cpu").model
    again = load(save(model, tmp_path / "again", card=""), device="cpu").model
    assert again.spec.calibration_record == model.spec.calibration_record


def test_a_second_calibration_replaces_the_section_of_the_card(folder: Path) -> None:
    (folder / "README.md").write_text("# Tiny\n\n## Calibration\n\nold\n\n## Limits\n\nmany\n")
    write(folder, folder)
    card = (folder / "README.md").read_text()
    assert card == "# Tiny\n\n## Calibration\n\nnew\n\n## Limits\n\nmany\n"


def test_a_card_without_the_section_gets_it_at_its_end(folder: Path) -> None:
    write(folder, folder)
    assert (folder / "README.md").read_text() == "# Tiny\n\n## Calibration\n\nnew\n"


def test_a_folder_without_card_gets_one(folder: Path) -> None:
    (folder / "README.md").unlink()
    write(folder, folder)
    assert (folder / "README.md").read_text() == "## Calibration\n\nnew\n"


def write(folder: Path, output: Path, **changed: object) -> Path:
    given = {"temperature": 2.0, "points": [POINT], "record": {}, "section": TEXT, **changed}
    return write_recalibrated(folder, output, overwrite=True, **given)  # type: ignore[arg-type]


def test_parity_is_kept_with_the_weights_it_was_made_of(folder: Path, tmp_path: Path) -> None:
    (folder / "parity.json").write_text("{}")
    assert (write(folder, tmp_path / "same") / "parity.json").exists()
    assert not (write(folder, tmp_path / "other", bias=1.0) / "parity.json").exists()


def test_all_fake_outputs_of_a_head_get_the_bias(tmp_path: Path, folder: Path) -> None:
    from torch import nn

    model = load(folder, device="cpu").model
    spec = model.spec
    head = nn.Linear(64, 3)
    images = np.stack([noise_image(seed, (32, 32)) for seed in range(3)])
    three = many_outputs(model, spec, head)
    saved = save(three, tmp_path / "three", card="")
    moved = write(saved, tmp_path / "moved", bias=0.75)
    before, after = (load(each, device="cpu").logits(images) for each in (saved, moved))
    assert after - before == pytest.approx(0.75, abs=1e-5)


def many_outputs(model: object, spec: object, linear: object) -> object:
    from dataclasses import replace

    from unmask.models.configuration import HeadSpec
    from unmask.models.heads import Head
    from unmask.models.modeling import assemble

    head = Head(64, 3, fakes=2)
    head.linear = linear  # type: ignore[assignment]
    new = replace(spec, head=HeadSpec(outputs=3, fakes=2))  # type: ignore[type-var]
    return assemble(model.backbone, head, new)  # type: ignore[attr-defined]


def test_a_bias_needs_a_head_in_safetensors(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(IncompatibleWeights, match=r"has no head\.linear\.bias"):
        write(folder, tmp_path / "out", bias=1.0)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_in_it_is_not_changed(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else than a detector"):
        write(folder, folder)


def test_a_file_system_without_links_gets_copies(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(recalibrate.os, "link", refused)
    before = weights_sha256(folder)
    assert weights_sha256(write(folder, folder)) == before


def test_a_failure_in_place_leaves_the_folder_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError("disk full")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(recalibrate, "_with_section", full)
    with pytest.raises(OutputError, match="disk full"):
        write(folder, folder, bias=1.0)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name", "count"),
    [
        (recalibrate, "_same", 1),
        (recalibrate, "_same", 2),
        (Path, "write_text", 1),
        (Path, "write_text", 2),
        (recalibrate, "read_spec", 2),
        (Path, "chmod", 1),
        (Path, "replace", 1),
        (Path, "rename", 1),
    ],
)
def test_a_run_that_is_broken_off_leaves_the_old_folder_or_the_new_one(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    count: int,
    when: str,
    error: BaseException,
) -> None:
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    write(folder, tmp_path / "whole")
    new = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    work, calls = getattr(owner, name), []

    def broken(*given: object, **named: object) -> object:
        calls.append(given)
        if len(calls) == count and when == "before":
            raise error
        result = work(*given, **named)
        if len(calls) == count:
            raise error
        return result

    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write(folder, folder)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} in (old, new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "whole"]


def test_the_configuration_is_written_last(folder: Path, tmp_path: Path) -> None:
    # What was cut short by a loss of power does not load.
    written: list[str] = []
    work = Path.write_text

    def noted(path: Path, *given: object, **named: object) -> object:
        written.append(path.name)
        return work(path, *given, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", noted)
        write(folder, tmp_path / "out")
    assert written == ["README.md", "config.json"]


def test_a_detector_folder_is_told_from_other_models(folder: Path) -> None:
    assert is_detector_folder(folder)


def test_an_adapter_keeps_its_file_and_base(tmp_path: Path, folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["adapter"] = {
        "tuning": {"recipe": "probe"},
        "base": {"id": "tower", "revision": None, "sha256": "ab"},
        "changed": [],
    }
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "model.safetensors").rename(folder / "adapter.safetensors")
    out = write(folder, tmp_path / "out")
    assert (out / "adapter.safetensors").is_file()
    assert json.loads((out / "config.json").read_text())["adapter"] == values["adapter"]


def test_a_record_that_is_no_object_is_refused(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["calibration"]["record"] = 7
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"calibration\.record is 7"):
        load(folder, device="cpu")


def test_labels_are_named_by_name_and_meaning() -> None:
    assert options.labels(["Deepfakes=fake", "original=real"]) == {"Deepfakes": 1, "original": 0}
    with pytest.raises(ConfigError, match="NAME=real or NAME=fake was expected"):
        options.labels(["Deepfakes"])


# Of a detector of faces that learnt from whole pictures too


@pytest.fixture
def both(tmp_path: Path, both_folder: Path) -> Path:
    """A detector of one's own, to be changed."""
    return Path(shutil.copytree(both_folder, tmp_path / "both"))


@pytest.fixture
def real_faces(tmp_path: Path, astronaut: Image) -> Path:
    for number in range(6):
        photo = astronaut[: 300 + number, :400]
        write_picture(tmp_path / "faces" / "real" / f"{number}.png", photo)
    return tmp_path / "faces"


def test_without_faces_the_reading_of_whole_pictures_is_fitted(
    cli: Cli, both: Path, data: Path
) -> None:
    outcome = cli("calibrate", both, data, "--in-place", "--fpr", 0.2, "--faces", "none")
    assert outcome.code == 0, outcome.err
    whole = load(both, device="cpu").whole_pictures
    assert whole is not None
    assert whole.temperature != WHOLE.temperature
    assert [(point.name, point.source) for point in whole.operating_points] == [("fpr20", "tiny")]
    assert whole.record["temperature_before"] == WHOLE.temperature


def test_without_faces_the_reading_of_faces_stays(cli: Cli, both: Path, data: Path) -> None:
    before = load(both, device="cpu").model.spec
    cli("calibrate", both, data, "--in-place", "--fpr", 0.2, "--faces", "none")
    after = load(both, device="cpu").model.spec
    assert after.whole_pictures != before.whole_pictures
    assert replace(after, whole_pictures=WHOLE) == before


def test_with_faces_their_reading_is_fitted_and_that_of_whole_pictures_stays(
    cli: Cli, both: Path, real_faces: Path
) -> None:
    outcome = cli("calibrate", both, real_faces, "--in-place", "--fpr", 0.2)
    assert outcome.code == 0, outcome.err
    detector = load(both, device="cpu")
    assert [(point.name, point.n_real) for point in detector.operating_points] == [("fpr20", 6)]
    assert detector.whole_pictures == WHOLE


def test_without_a_reading_of_whole_pictures_that_of_faces_is_fitted(
    cli: Cli, face_folder: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = cli("calibrate", face_folder, data, "-o", out, "--fpr", 0.2, "--faces", "none")
    assert outcome.code == 0, outcome.err
    detector = load(out, device="cpu")
    assert detector.operating_points[0].source == "tiny"
    assert detector.whole_pictures is None


def test_the_fitted_reading_of_whole_pictures_is_that_of_a_scan(
    cli: Cli, both: Path, data: Path
) -> None:
    cli("calibrate", both, data, "--in-place", "--fpr", 0.2, "--faces", "none")
    detector = load(both, device="cpu")
    whole = detector.whole_pictures
    assert whole is not None
    path = data.parent / "0.png"
    (result,) = Pipeline(detector, Options(faces="none"))([Sample(str(path), path)])
    assert result.operating_point == whole.operating_points[0]
    assert result.p_fake == pytest.approx(1 / (1 + np.exp(-result.logit / whole.temperature)))


def test_the_card_has_a_section_for_each_reading(
    cli: Cli, both: Path, data: Path, real_faces: Path
) -> None:
    for _ in range(2):
        cli("calibrate", both, data, "--in-place", "--fpr", 0.2, "--faces", "none")
        cli("calibrate", both, real_faces, "--in-place", "--fpr", 0.2)
    card = (both / "README.md").read_text()
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert headings == ["## Calibration of whole pictures", "## Calibration"]


@pytest.mark.parametrize("faces", ["auto", "none"])
@pytest.mark.parametrize(
    "asked", [("--method", "platt"), ("--shift", "{data}")], ids=["platt", "shift"]
)
def test_a_bias_that_would_move_both_readings_is_refused(
    cli: Cli, both: Path, data: Path, asked: tuple[str, str], faces: str
) -> None:
    more = [each.format(data=data.parent / "0.png") for each in asked]
    outcome = cli("calibrate", both, data, "--in-place", "--fpr", 0.2, "--faces", faces, *more)
    assert outcome.code == 2
    assert f"{asked[0]}" in outcome.err
    assert "a bias in it would move both" in outcome.err


def test_no_bias_is_written_where_there_are_two_readings(both: Path) -> None:
    with pytest.raises(ConfigError, match="a bias in it would move both"):
        write(both, both, bias=0.5)


def test_another_point_of_whole_pictures_is_offered_with_the_option_that_reaches_it(
    cli: Cli, both: Path, data: Path
) -> None:
    outcome = cli("calibrate", both, data, "--in-place", "--fpr", 0.2, "--fpr", 0.1, "--faces",
                  "none")  # fmt: skip
    assert "--faces none --operating-point fpr10" in outcome.out
