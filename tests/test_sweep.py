import contextlib
import csv
import io
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPVisionModelWithProjection, ResNetConfig

import unmask
from running import Outcome
from tiny_detectors import noise_image, published, tiny_tower, write_picture
from tiny_towers import CLIP_VISION, TOWERS
from unmask.cli import main
from unmask.errors import ConfigError, IncompatibleWeights, OutputError
from unmask.models.checkpoint import load_model
from unmask.preprocess import Preprocess
from unmask.train.features import features_of
from unmask.train.inputs import describe_input, resized
from unmask.train.sweep.features import FeatureList, feature_lists, poolings_of, read_tower_config
from unmask.train.sweep.result import SweepOptions, Tried
from unmask.train.sweep.write import check_sweep_folder, write_sweep
from unmask.types import Image

# What is tried


def names(lists: tuple[FeatureList, ...]) -> list[str]:
    return [each.name for each in lists]


def test_single_blocks_come_first_then_runs_to_the_last_block_then_everything():
    lists = feature_lists(TOWERS["clip"])
    assert names(lists) == [
        "mean@1", "mean@2", "mean@3", "cls@1", "cls@2", "cls@3", "pooler",
        "mean@1..3", "mean@2..3", "mean+cls@1..3", "mean+cls@2..3", "all",
    ]  # fmt: skip
    assert dict(zip(names(lists), lists, strict=True))["mean+cls@2..3"].features == (
        "mean@2", "mean@3", "cls@2", "cls@3"
    )  # fmt: skip
    assert lists[-1].features[-1] == "pooler"
    assert len(lists[-1].features) == 7


@pytest.mark.parametrize(
    ("tower", "expected"),
    [
        ("clip", ("cls", "mean", "pooler")),
        ("siglip", ("mean", "pooler")),
        ("dinov2", ("cls", "mean", "pooler")),
        ("vit", ("cls", "mean")),  # its published files often lack the pooler
    ],
)
def test_what_a_tower_surely_has_is_tried(tower, expected):
    assert poolings_of(TOWERS[tower]) == expected


def test_of_a_convolutional_tower_the_pooler_is_tried():
    assert names(feature_lists(ResNetConfig())) == ["pooler"]


@pytest.mark.parametrize("asked", [["mean"], ["mean", "mean"]])
def test_one_pooling_alone_can_be_asked_for(asked):
    found = names(feature_lists(TOWERS["clip"], asked))
    assert found == ["mean@1", "mean@2", "mean@3", "mean@1..3", "mean@2..3"]


def test_runs_through_a_deep_tower_start_at_a_dozen_blocks():
    config = type(CLIP_VISION)(**{**CLIP_VISION.to_dict(), "num_hidden_layers": 40})
    runs = [
        name for name in names(feature_lists(config)) if name.startswith("mean@") and ".." in name
    ]
    assert runs[:2] == ["mean@1..40", "mean@4..40"]
    assert len(runs) == 13


@pytest.mark.parametrize(
    ("config", "pooling", "error", "sentence"),
    [
        (TOWERS["siglip"], "cls", IncompatibleWeights, "no CLS token"),
        (ResNetConfig(), "mean", IncompatibleWeights, "layout of the tokens"),
        (TOWERS["clip"], "maen", ConfigError, "'maen' is not known. Did you mean 'mean'"),
    ],
)
def test_a_pooling_that_the_tower_lacks_is_refused(config, pooling, error, sentence):
    with pytest.raises(error, match=sentence):
        feature_lists(config, [pooling])


def test_the_tower_of_a_detector_is_asked_for_its_blocks(face_folder):
    config = read_tower_config(str(face_folder), revision=None, offline=True)
    assert (config.model_type, config.num_hidden_layers) == ("clip_vision_model", 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"views": -1}, "views is -1"),
        ({"views": 101}, "views is 101"),
        ({"seed": -1}, "seed is -1"),
        ({"top": 0}, "top is 0"),
        ({"scales": ()}, "crop scales are"),
        ({"scales": (1.0, 0.0)}, "crop scales are"),
        ({"strengths": (float("nan"),)}, "strengths are"),
        ({"strengths": ()}, "strengths are"),
        ({"shrinkages": (0.0,)}, "shrinkages are"),
        ({"shrinkages": (1.5,)}, "shrinkages are"),
        ({"select": "leave-out"}, "add --leave-out"),
    ],
)
def test_options_outside_their_range_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SweepOptions(**options)


@pytest.mark.parametrize("side", [0, -8, 30, 7])
def test_a_resolution_that_cuts_patches_is_refused(side):
    with pytest.raises(ConfigError, match=r"multiples of its patches of 8 pixels, such as"):
        resized(Preprocess(32, 32), side, CLIP_VISION)


def test_a_resolution_changes_the_size_and_nothing_else():
    before = Preprocess(32, 32, "squash", "bilinear")
    assert resized(before, None, CLIP_VISION) == before
    assert resized(before, 40, CLIP_VISION) == Preprocess(40, 40, "squash", "bilinear")


def test_the_score_counts_altered_copies_as_much_as_originals():
    tried = Tried(1.3, 224, FeatureList("cls@1", ("cls@1",)), "lda", 0.1, {"a": 1.0, "b": 0.8})
    assert tried.score == pytest.approx(0.9)
    assert tried.transfer is None
    assert tried.input == f"{describe_input(1.3)}, 224 px"


# The whole


def striped(seed: int) -> Image:
    image = noise_image(seed).astype(int)
    image[:, ::2] += 45
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> Path:
    model = CLIPVisionModelWithProjection(CLIP_VISION)
    model.vision_model.load_state_dict(tiny_tower().state_dict())
    return published(model, tmp_path_factory.mktemp("towers") / "tinyclip")


def write_list(
    folder: Path, *rows: tuple[str, str, str], columns: str = "path,label,dataset,split"
):
    """A list of pictures, one per (label, data set, split)."""
    folder.mkdir(exist_ok=True)
    lines = [columns]
    for number, (label, dataset, split) in enumerate(rows):
        image = striped(number) if label == "fake" else noise_image(number)
        write_picture(folder / f"{number}.png", image)
        lines.append(f"{number}.png,{label},{dataset},{split}")
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


SETS = (("real", "a"), ("fake", "a"), ("real", "b"), ("fake", "b"), ("real", "c"), ("fake", "d"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two data sets of both classes, one of reals and one of fakes, and a damaged file."""
    rows = [(*each, split) for each in SETS for split in ["train"] * 5 + ["val"] * 4]
    path = write_list(tmp_path_factory.mktemp("sweep") / "set", *rows)
    (path.parent / "0.png").write_bytes(b"GIF89a")
    return path


def run(*arguments: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["unmask", *map(str, arguments)])
        streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with streams[0], streams[1], pytest.raises(SystemExit) as left:
            main()
    code = left.value.code
    return Outcome(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def few(tower: Path) -> list[object]:
    """Options of a small search."""
    return ["--backbone", tower, "--faces", "none", "--device", "cpu", "--pooling", "mean,pooler",
            "--strength", "0.01,1", "--shrinkage", "0.1"]  # fmt: skip


@pytest.fixture(scope="module")
def done(data, tower, tmp_path_factory) -> tuple[Path, Outcome]:
    """A search with everything, and what it said."""
    folder = tmp_path_factory.mktemp("done")
    more = ["--views", 1, "--leave-out", "--top", 3, "--resolution", "32,40", "--json"]
    outcome = run("sweep", data, "-o", folder / "out", *few(tower), "--cache", folder / "c", *more)
    assert outcome.code == 0, outcome.err
    return folder / "out", outcome


@pytest.fixture(scope="module")
def document(done) -> dict:
    return json.loads((done[0] / "sweep.json").read_text(encoding="utf-8"))


def test_the_folder_holds_tables_and_the_winner(done):
    assert sorted(each.name for each in done[0].iterdir()) == [
        "best", "sweep.csv", "sweep.json", "sweep.md"
    ]  # fmt: skip
    assert sorted(each.name for each in done[0].parent.iterdir()) == ["c", "out"]


def test_json_on_stdout_is_the_file(done):
    assert done[1].out == (done[0] / "sweep.json").read_text(encoding="utf-8")


def test_every_combination_is_in_both_tables(done, document):
    # 4 single features x (2 + 1) heads, 2 runs and everything x 2, two resolutions.
    assert len(document["candidates"]) == 2 * (4 * 3 + 3 * 2)
    with (done[0] / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(document["candidates"])
    for row, each in zip(rows, document["candidates"], strict=True):
        assert row["features"].split() == each["features"]
        assert float(row["score"]) == each["score"]
        assert float(row["auc:a"]) == each["auc"]["a"]
        assert float(row["auc_altered:c + d"]) == each["auc_altered"]["c + d"]


def test_the_table_stands_in_the_order_of_what_decides(document):
    scores = [each["score"] for each in document["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert document["winner"]["score"] == scores[0]


def test_what_is_needed_to_judge_the_search_is_written(document):
    assert document["schema"] == 1
    assert document["command"].startswith("unmask sweep ")
    assert document["versions"]["unmask"] == unmask.__version__
    assert len(document["data"]["sha256"]) == len(document["tower"]["weights_sha256"]) == 64
    assert [reason for _, reason in document["data"]["left_out"]] == ["damaged"]
    assert document["data"]["samples"]["val/c/real"] == 4
    assert document["seeds"]["split_and_copies"] == 0
    assert set(document["seconds"]) == {"features", "search", "leave_out", "winner"}
    assert document["selection"]["by"] == "validation"
    assert document["selection"]["optimism"] == pytest.approx(
        document["selection"]["best_validation_score"] - document["selection"]["cross_fit"]
    )
    line = document["winner"]["data_sets"][-1]
    assert (line["name"], line["n_real"], line["n_fake"], line["unit"]) == (
        "c + d",
        4,
        4,
        "picture",
    )
    low, value, high = (document["winner"]["mean_auc"][each] for each in ("low", "value", "high"))
    assert low <= value <= high


def test_the_lists_that_validate_best_are_measured_on_data_sets_left_out(document):
    measured = [each for each in document["candidates"] if each["leave_out"] is not None]
    assert len({(each["resolution"], each["list"]) for each in measured}) == 3
    assert document["candidates"][0] in measured
    for each in measured:
        assert set(each["leave_out_auc"]) == {"a", "b", "c + d"}
        assert each["leave_out"] == pytest.approx(
            np.mean(list(each["leave_out_auc"].values())), abs=1e-5
        )


def test_the_winner_is_a_detector_that_scans(done, document, data):
    detector = unmask.load(done[0] / "best", device="cpu")
    assert detector.ref.trained
    assert list(detector.model.spec.features) == document["winner"]["features"]
    assert detector.preprocess.height == document["winner"]["resolution"]
    outcome = run("scan", "-d", done[0] / "best", data.parent / "1.png")
    assert outcome.code == 0, outcome.err


def test_the_numbers_of_the_search_are_those_of_the_detector(document):
    winner = document["winner"]
    assert winner["as_written"] == pytest.approx(winner["auc"], abs=0.1)
    assert winner["mean_auc"]["value"] == pytest.approx(
        np.mean(list(winner["auc"].values())), abs=1e-5
    )


def test_the_card_tells_of_the_search(done, document):
    card = (done[0] / "best" / "README.md").read_text(encoding="utf-8")
    assert f"among {len(document['candidates'])} combinations" in card
    assert "## Search" in card
    assert "is optimistic, since it was chosen by" in card
    assert document["winner"]["train_command"] in card


def test_the_page_shows_the_best_and_each_block(done, document):
    page = (done[0] / "sweep.md").read_text(encoding="utf-8")
    assert f"| 1 | whole picture, {document['winner']['resolution']} px |" in page
    assert "| block | mean |" in page
    assert "Trained without a data set and tested on all of it" in page
    assert document["winner"]["train_command"] in page


def test_the_command_of_the_winner_gives_the_same_weights(done, document, tmp_path):
    words = shlex.split(document["winner"]["train_command"])
    outcome = run(*words[1:], "-o", tmp_path / "again")
    assert outcome.code == 0, outcome.err
    ours, theirs = done[0] / "best", tmp_path / "again"
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    first, second = load_model(ours).spec, load_model(theirs).spec
    assert first.operating_points == second.operating_points
    assert first.temperature == second.temperature


@pytest.fixture
def sweep(data, tower, tmp_path):
    """A small search without altered copies."""

    def search(*more: object, given: Path = data) -> Outcome:
        return run("sweep", given, "-o", tmp_path / "out", *few(tower),
                   "--cache", tmp_path / "cache", *more)  # fmt: skip

    return search


def read(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "sweep.json").read_text(encoding="utf-8"))


def test_the_table_on_stdout_names_the_winner(sweep, tmp_path):
    outcome = sweep()
    assert outcome.code == 0, outcome.err
    first = read(tmp_path)["candidates"][0]
    assert f"{first['score']:.3f}         -  {first['fit']}" in outcome.out.splitlines()[1]
    assert "Chosen by validation among 18 heads" in outcome.out
    assert "18 heads fitted and judged in" in outcome.err
    assert f"left out: {Path(read(tmp_path)['data']['left_out'][0][0])} (damaged)" in outcome.err
    assert "the same again: unmask train" in outcome.err


def test_data_sets_left_out_decide_where_that_is_asked_for(sweep, tmp_path):
    assert sweep("--leave-out", "--select", "leave-out", "--top", 5).code == 0
    found = read(tmp_path)
    measured = [each["leave_out"] for each in found["candidates"] if each["leave_out"] is not None]
    assert found["winner"]["leave_out"] == max(measured)
    count = len(measured)
    assert [each["leave_out"] for each in found["candidates"][:count]] == sorted(
        measured, reverse=True
    )


def test_two_searches_are_alike_and_the_second_computes_no_features(sweep, tmp_path, monkeypatch):
    assert sweep("--seed", 3).code == 0
    first = read(tmp_path)
    monkeypatch.setattr("unmask.train.features.extract", None)
    assert sweep("--seed", 3, "--overwrite").code == 0
    second = read(tmp_path)
    for each in (first, second):
        del each["seconds"], each["command"]
    assert first == second


def test_an_interrupted_search_keeps_its_features_and_goes_on(sweep, tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return features_of(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("unmask.train.inputs.features_of", interrupted)
        outcome = sweep()
    assert outcome.code == 130
    assert (
        f"the features so far are in {tmp_path / 'cache'}; the same command goes on" in outcome.err
    )
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert sweep().code == 0


def test_a_data_set_of_one_class_alone_is_told(sweep, tower, tmp_path):
    rows = [(*each, split) for each in SETS[:5] for split in ["train"] * 3 + ["val"] * 3]
    assert sweep(given=write_list(tmp_path / "in", *rows)).code == 0
    assert list(read(tmp_path)["data"]["unmeasured"]) == ["c"]
    assert "c is not measured: validation has one of its classes only" in (
        tmp_path / "out" / "sweep.md"
    ).read_text(encoding="utf-8")


def test_a_data_set_without_which_a_class_is_gone_has_no_such_number(sweep, tmp_path):
    # Without a there are no fakes to learn from; without b there are.
    rows = [("real", "a", "train"), ("fake", "a", "train"), ("real", "b", "train")] * 4
    rows += [
        ("real", "a", "val"),
        ("fake", "a", "val"),
        ("real", "b", "val"),
        ("fake", "b", "val"),
    ] * 3
    assert sweep("--leave-out", given=write_list(tmp_path / "in", *rows)).code == 0
    found = read(tmp_path)
    assert found["data"]["unmeasured"] == {"a": "without it a class has nothing to learn from"}
    assert set(found["winner"]["leave_out_auc"]) == {"b"}


def test_one_data_set_alone_cannot_be_left_out(sweep, tmp_path):
    rows = [
        (label, "a", split) for label in ("real", "fake") for split in ["train"] * 4 + ["val"] * 4
    ]
    outcome = sweep("--leave-out", given=write_list(tmp_path / "in", *rows))
    assert outcome.code == 2
    assert (
        "no data set can be left out: without it a class has nothing to learn from (a)"
        in outcome.err
    )


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("real", "a", "train"), ("fake", "a", "train")] * 2, "the part 'val' must hold real and"),
        ([("real", "a", "train"), ("real", "a", "val")] * 2, "the part 'train' must hold real and"),
        ([("real", "a", "train"), ("fake", "a", "")], "name the splits"),
    ],
)
def test_data_without_validation_or_without_a_class_are_refused(sweep, tmp_path, rows, sentence):
    outcome = sweep(given=write_list(tmp_path / "in", *rows))
    assert outcome.code == 2
    assert sentence in outcome.err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--crop-scale", "1.3"], "--faces none asks for whole pictures"),
        (["--strength", "0.1,much"], "--strength is '0.1,much'; numbers between commas"),
        (["--shrinkage", ""], "--shrinkage is ''; numbers between commas"),
        (["--resolution", "32.5"], "--resolution is '32.5'; whole numbers between commas"),
        (["--resolution", "33"], "multiples of its patches of 8"),
        (["--pooling", "middle"], "the pooling 'middle' is not known"),
        (["--faces", "largest"], "gave no crop, and none is left"),
        (["--select", "leave-out"], "add --leave-out"),
        (["--top", "0"], "top is 0"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--backbone", "no-such-tower"], "no detector 'no-such-tower'"),
    ],
)
def test_wrong_use_is_exit_code_2_and_writes_nothing(sweep, tmp_path, more, sentence):
    outcome = sweep(*more)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.err
    assert not (tmp_path / "out").exists()


def test_no_discriminants_need_be_tried(sweep, tmp_path):
    assert sweep("--shrinkage", "none").code == 0
    assert {each["fit"] for each in read(tmp_path)["candidates"]} == {"logistic"}


def test_faces_are_searched_over_crop_scales(tower, astronaut, tmp_path):
    lines = ["path,label,split"]
    for number in range(16):
        face = astronaut[: 300 + number, 80:380]
        write_picture(tmp_path / f"{number}.png", face // 2 + 60 if number % 2 else face)
        lines.append(f"{number}.png,{number % 2},{'val' if number % 4 < 2 else 'train'}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    outcome = run(
        "sweep", tmp_path / "list.csv", "-o", tmp_path / "out", "--backbone", tower, "--device",
        "cpu", "--cache", tmp_path / "cache", "--crop-scale", "1.3,1.0", "--pooling", "pooler",
        "--strength", "0.1", "--shrinkage", "none",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = read(tmp_path)
    assert {each["crop_scale"] for each in found["candidates"]} == {1.0, 1.3}
    assert load_model(tmp_path / "out" / "best").spec.face.scale == found["winner"]["crop_scale"]
    assert f"--scale {found['winner']['crop_scale']:g}" in found["winner"]["train_command"]
    assert "no blocks whose tokens could be pooled" in (tmp_path / "out" / "sweep.md").read_text(
        encoding="utf-8"
    )


# The folder


@pytest.mark.parametrize("place", ["cache", "cache/in"])
def test_the_output_is_kept_apart_from_the_cache(data, tower, tmp_path, place):
    outcome = run("sweep", data, "-o", tmp_path / place, *few(tower), "--cache", tmp_path / "cache")
    assert outcome.code == 2
    assert "and the cache" in outcome.err


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputError, match="something else than a search"):
        check_sweep_folder(tmp_path, overwrite=True)


def test_a_search_with_something_beside_it_is_never_replaced(tmp_path):
    for name in ("sweep.json", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(OutputError, match="something else than a search"):
        check_sweep_folder(tmp_path, overwrite=True)


def test_a_search_is_replaced_only_where_that_is_asked_for(tmp_path):
    (tmp_path / "sweep.json").touch()
    with pytest.raises(OutputError, match="--overwrite"):
        check_sweep_folder(tmp_path, overwrite=False)
    check_sweep_folder(tmp_path, overwrite=True)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="is not a folder"):
        check_sweep_folder(tmp_path / "out", overwrite=True)


def test_a_full_disk_leaves_the_former_search(image_folder, tmp_path, monkeypatch):
    model = load_model(image_folder)
    write_sweep(tmp_path / "out", {"sweep.json": "1"}, model, card="", overwrite=False)

    def full(self: Path, target: Path) -> None:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        renamed(self, target)

    renamed = Path.rename
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OutputError, match="make room"):
        write_sweep(tmp_path / "out", {"sweep.json": "2"}, model, card="", overwrite=True)
    assert (tmp_path / "out" / "sweep.json").read_text(encoding="utf-8") == "1"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


# What a probe is told


@pytest.fixture
def train(data, tower, tmp_path):
    return lambda *more: run(
        "train", data, "-o", tmp_path / "mine", "--backbone", tower, "--faces", "none",
        "--device", "cpu", "--cache", tmp_path / "cache", "--views", 0, *more,
    )  # fmt: skip


def test_a_probe_can_be_told_strength_head_and_input_size(train, tmp_path):
    outcome = train("--feature", "mean@2", "--fit", "lda", "--strength", 0.2, "--strength", 0.4,
                    "--resolution", 40)  # fmt: skip
    assert outcome.code == 0, outcome.err
    spec = load_model(tmp_path / "mine").spec
    assert spec.training["fit"] == "lda"
    assert [each["strength"] for each in spec.training["tried"]] == [0.2, 0.4]
    assert (spec.preprocess.height, spec.preprocess.width) == (40, 40)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--strength", "0"], "a strength (C) is 0; it must be above 0"),
        (["--fit", "lda", "--strength", "2"], "a shrinkage is 2; it must be above 0"),
        (["--resolution", "33"], "multiples of its patches of 8"),
    ],
)
def test_a_probe_refuses_numbers_outside_their_range(train, tmp_path, more, sentence):
    outcome = train("--feature", "mean@2", *more)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("more", [["--strength", "0.1"], ["--fit", "lda"]])
def test_other_recipes_have_no_strength_and_no_fit(data, tower, tmp_path, more):
    outcome = run("train", data, "-o", tmp_path / "mine", "--backbone", tower, "--recipe", "lora",
                  *more)  # fmt: skip
    assert outcome.code == 2
    assert "--strength and --fit are for a probe" in outcome.err
