"""``unmask train`` of towers, from pictures to a folder that is loaded again."""

import io
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

import unmask
from running import Cli, Outcome
from tiny_detectors import noise_image, published, tiny_tower, write_picture
from unmask.cli import main
from unmask.models.checkpoint import load_model
from unmask.train import loop
from unmask.train.logs import read_log
from unmask.train.state import RunFolder
from unmask.types import Image


def tinted(seed: int) -> Image:
    """A picture with a tint that the real ones do not have."""
    image = noise_image(seed).astype(int)
    image[..., 0] += 40
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> Path:
    return published(tiny_tower(), tmp_path_factory.mktemp("towers") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A manifest of 16 pictures of each class, frames of videos, and one that is damaged."""
    folder = tmp_path_factory.mktemp("data") / "set"
    rows = ["path,label,dataset,video,split"]
    for number in range(16):
        split = "val" if number < 6 else "train"
        for label, picture in (("real", noise_image(number)), ("fake", tinted(100 + number))):
            name = f"{label}{number:02}.png"
            write_picture(folder / name, picture)
            rows.append(f"{name},{label},{'ab'[number % 2]},{label}{number // 2},{split}")
    (folder / "damaged.png").write_bytes(b"GIF89a")
    rows.append("damaged.png,real,a,,train")
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "list.csv"


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def arguments_of(data: Path, tower: Path, cache: Path) -> list[str]:
    return [
        *("train", str(data), "--backbone", str(tower), "--faces", "none", "--device", "cpu"),
        *("--cache", str(cache), "--augmentation", "none", "--workers", "0"),
    ]


@pytest.fixture
def arguments(data, tower, cache) -> list[str]:
    return arguments_of(data, tower, cache)


@pytest.fixture
def train(cli: Cli, arguments, monkeypatch) -> Callable[..., Outcome]:
    """``unmask train`` on the made up pictures; curves are drawn by ``short`` only."""
    monkeypatch.setattr("unmask.train.page.training_page", lambda *_, **__: "curves")
    return lambda *more: cli(*arguments, *more)


SHORT = ("--recipe", "lora", "--batch-size", "8", "--steps", "6")


@pytest.fixture(scope="module")
def short(data, tower, cache, tmp_path_factory) -> tuple[Path, Outcome]:
    """One training that ran through: its folder, and what it said."""
    output = tmp_path_factory.mktemp("short") / "mine"
    out, err = io.StringIO(), io.StringIO()
    more = ["-o", str(output), *SHORT, "--name", "Mine", "--terms", "Made up.", "--license", "mit"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["unmask", *arguments_of(data, tower, cache), *more])
        with pytest.raises(SystemExit) as left:
            main()
    return output, Outcome(int(left.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def finished(short, tmp_path) -> Path:
    """A copy of that training, whose detector was taken away."""
    shutil.copytree(short[0].with_name("mine.training"), tmp_path / "mine.training")
    return tmp_path / "mine"


def steps_of(output: Path) -> list[dict]:
    log = read_log(output.with_name(output.name + ".training") / "log.jsonl")
    return [line for line in log if "loss" in line]


def losses_of(output: Path) -> list[float]:
    return [line["loss"] for line in steps_of(output)]


@pytest.mark.parametrize("recipe", ["effort", "layernorm", "lora", "full"])
def test_every_recipe_gives_a_detector_that_tells_the_classes_apart(train, data, tmp_path, recipe):
    output = tmp_path / "mine"
    outcome = train("-o", output, "--recipe", recipe, "--batch-size", 8, "--steps", 4,
                    "--set", "head_start=probe")  # fmt: skip
    assert outcome.code == 0, outcome.err
    detector = unmask.load(output, device="cpu")
    record = detector.model.spec.training
    assert record["recipe"] == record["config"]["recipe"] == recipe
    assert record["validation"]["rows"][0]["dataset"] == "a"
    assert min(row["auc"] for row in record["validation"]["rows"]) > 0.9
    found = list(unmask.Pipeline(detector)(unmask.read_sources([data])))
    scored = [each for each in found if each.status == "ok"]
    assert len(scored) == 32
    assert np.mean([(each.p_fake > 0.5) == each.label for each in scored]) > 0.7


def test_a_warm_head_learns_from_altered_crops_and_is_judged_by_plain_ones(
    train, tmp_path, monkeypatch
):
    found = {}

    def fit(name: str) -> None:
        def kept(_model, _train, _val, features):
            found[name] = features
            return 0.5

        monkeypatch.setattr("unmask.train.finetune.warm_head", kept)
        train("-o", tmp_path / name, *SHORT, "--steps", 1, "--augmentation", name)

    fit("none")
    fit("standard")
    np.testing.assert_array_equal(found["none"][1], found["standard"][1])
    assert np.abs(found["none"][0] - found["standard"][0]).max() > 0.01


def test_the_folders_tell_how_it_came_about(short):
    output, outcome = short
    assert outcome.code == 0
    assert "damaged.png (damaged)" in outcome.err
    record = load_model(output).spec.training
    assert record["seed"] == record["config"]["seed"] == 0
    assert len(record["data_sha256"]) == len(record["tower_sha256"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    assert record["command"].startswith("unmask train ")
    assert record["samples"] == {
        "train/a/fake": 5, "train/a/real": 5, "train/b/fake": 5, "train/b/real": 5,
        "val/a/fake": 3, "val/a/real": 3, "val/b/fake": 3, "val/b/real": 3,
    }  # fmt: skip
    assert record["left_out"] == {"damaged": 1}
    assert [one["step"] for one in record["evaluations"]] == [3, 6]
    assert record["chosen_step"] in (3, 6)
    card = (output / "README.md").read_text(encoding="utf-8")
    for part in ("# Mine", "Made up.", "low-rank changes", "| b | 3 | 3 | video |", "recipe: lora",
                 "1 samples were left out", f"step {record['chosen_step']}"):  # fmt: skip
        assert part in card
    assert "made of the reals" not in card
    run = output.with_name("mine.training")
    assert "lora_rank: 8" in (run / "config.yaml").read_text(encoding="utf-8")
    page = (run / "training.html").read_text(encoding="utf-8")
    for part in ("Training of Mine", "<h2>Losses</h2>", "<svg", "<h2>Validation</h2>"):
        assert part in page
    assert list((run / "tensorboard").glob("events.out.*"))


def test_two_trainings_give_the_same_file(train, short, tmp_path):
    assert train("-o", tmp_path / "two", *SHORT).code == 0
    one, two = (unmask.load(each, device="cpu").ref.sha256 for each in (short[0], tmp_path / "two"))
    assert one == two
    assert losses_of(short[0]) == losses_of(tmp_path / "two")


def test_another_seed_is_another_training(train, short, tmp_path):
    train("-o", tmp_path / "mine", *SHORT, "--seed", 1)
    assert losses_of(tmp_path / "mine") != losses_of(short[0])


def test_threads_change_nothing(train, short, tmp_path):
    train("-o", tmp_path / "mine", *SHORT, "--workers", 3)
    assert losses_of(tmp_path / "mine") == losses_of(short[0])


def test_points_that_the_reals_do_not_resolve_are_left_out_and_told(short):
    output, outcome = short
    assert unmask.load(output, device="cpu").operating_points == ()
    card = (output / "README.md").read_text(encoding="utf-8")
    for text in (card, outcome.err):
        assert "no operating point at 5 % false alarms: it needs 20 reals" in text
        assert "P(fake) from 0.5 is called fake" in text


def test_a_finished_training_is_written_as_an_adapter_of_the_same_logits(
    train, short, finished, tower, monkeypatch
):
    monkeypatch.setattr("unmask.train.probe.TARGETS", (0.5,))  # what 3 reals resolve
    outcome = train("-o", finished, *SHORT, "--resume", "--as", "adapter")
    assert outcome.code == 0, outcome.err
    assert (finished / "adapter.safetensors").stat().st_size < 60_000
    assert len(steps_of(finished)) == 6
    whole = unmask.load(short[0], device="cpu")
    changes = unmask.load(finished, base=tower, device="cpu")
    images = np.stack([whole.preprocess.resize(noise_image(n)) for n in range(4)])
    np.testing.assert_allclose(whole.logits(images), changes.logits(images), atol=0.03)
    assert [(point.name, point.source) for point in changes.operating_points] == [
        ("fpr50", "validation part of a, b")
    ]


def test_an_adapter_of_a_part_of_a_detector_s_tower_is_refused(train, image_folder, tmp_path):
    outcome = train("-o", tmp_path / "mine", *SHORT, "--as", "adapter", "--feature", "mean@1",
                    "--backbone", image_folder)  # fmt: skip
    assert outcome.code == 2
    assert "an adapter needs the tower as it was published" in outcome.err


def test_a_detector_is_as_small_as_its_features_allow(train, tmp_path):
    assert train("-o", tmp_path / "mine", *SHORT, "--feature", "cls@2").code == 0
    spec = load_model(tmp_path / "mine").spec
    assert spec.features == ("cls@2",)
    assert spec.backbone_config["num_hidden_layers"] == 2


def test_a_resolution_that_cuts_patches_is_refused(train, tmp_path):
    outcome = train("-o", tmp_path / "mine", *SHORT, "--resolution", 41)
    assert outcome.code == 2
    assert "the resolution is 41; the tower takes multiples of its patches of 8" in outcome.err
    assert not (tmp_path / "mine").exists()


def test_the_input_can_be_larger_than_the_tower_s_own(train, tmp_path):
    assert train("-o", tmp_path / "mine", *SHORT, "--resolution", 40).code == 0
    preprocess = load_model(tmp_path / "mine").spec.preprocess
    assert (preprocess.height, preprocess.width) == (40, 40)


BLENDED = ("--augmentation", "strong, cutout=1", "--set", "equalise=true", "--set",
           "self_blended=0.5")  # fmt: skip


@pytest.mark.parametrize("blended", [False, True])
def test_faces_are_learnt_from_where_there_are_some(cli, tower, astronaut, tmp_path, blended):
    folder = tmp_path / "set"
    for number in range(6):
        face = astronaut[: 300 + number, 80:380]
        write_picture(folder / "real" / f"{number}.png", face)
        write_picture(folder / "fake" / f"{number}.png", face // 2 + 60)
    write_picture(folder / "real" / "none.png", noise_image(0))
    outcome = cli("train", folder, "-o", tmp_path / "mine", "--recipe", "layernorm", "--steps", 2,
                  "--batch-size", 4, "--backbone", tower, "--augmentation", "none", "--scale", 1.5,
                  "--cache", tmp_path / "cache", "--device", "cpu",
                  *(BLENDED if blended else ()))  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "none.png (no_face)" in outcome.err
    spec = load_model(tmp_path / "mine").spec
    assert (spec.domain, spec.face.scale, spec.face.size) == ("face", 1.5, 32)


@pytest.fixture(scope="module")
def learnt_from_both(tower, astronaut, tmp_path_factory) -> tuple[Path, Outcome]:
    """A training on faces and whole pictures; one picture has no face, and one is damaged."""
    folder = tmp_path_factory.mktemp("both")
    for number in range(10):
        face = astronaut[: 300 + number, 80:380]
        write_picture(folder / "set" / "real" / f"{number}.png", face)
        write_picture(folder / "set" / "fake" / f"{number}.png", face // 2 + 60)
    write_picture(folder / "set" / "real" / "none.png", noise_image(0))
    (folder / "set" / "real" / "damaged.png").write_bytes(b"GIF89a")
    arguments = [*arguments_of(folder / "set", tower, folder / "cache"), "--faces", "both"]
    more = ["-o", str(folder / "mine"), "--recipe", "layernorm", *SHORT[2:4], "--steps", "2"]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("unmask.train.page.training_page", lambda *_, **__: "curves")
        patch.setattr("unmask.train.probe.TARGETS", (0.5,))  # what 2 reals resolve
        patch.setattr(sys, "argv", ["unmask", *arguments, *more])
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code, err.getvalue()
    return folder / "mine", Outcome(0, out.getvalue(), err.getvalue())


def test_faces_and_whole_pictures_are_each_calibrated(learnt_from_both):
    spec = load_model(learnt_from_both[0]).spec
    assert (spec.domain, spec.face.size) == ("face", 32)
    assert spec.whole_pictures is not None
    assert spec.temperature != spec.whole_pictures.temperature
    for points in (spec.operating_points, spec.whole_pictures.operating_points):
        assert [point.name for point in points] == ["fpr50"]
    assert spec.operating_points != spec.whole_pictures.operating_points


def test_a_picture_without_a_face_is_learnt_from_whole(learnt_from_both):
    output, outcome = learnt_from_both
    samples = load_model(output).spec.training["samples"]
    of_faces, of_whole = (
        sum(count for name, count in samples.items() if name.endswith(f"/{data}/real"))
        for data in ("data", "data (whole pictures)")
    )
    assert (of_faces, of_whole) == (10, 11), samples
    assert outcome.err.count("none.png (no_face)") == 1
    assert outcome.err.count("damaged.png (damaged)") == 1


def test_the_card_tells_how_whole_pictures_are_read(learnt_from_both):
    output, _ = learnt_from_both
    whole = load_model(output).spec.whole_pictures
    card = (output / "README.md").read_text(encoding="utf-8")
    _, text = card.split(f"Temperature of whole pictures {whole.temperature:.3f}.")
    assert f"`fpr50`: fake from P(fake) {whole.operating_points[0].fake_at:.3f}" in text
    assert "portraits" in card
    assert card.count("- none") == 0
    assert "faces only" not in card


def test_a_probe_does_not_learn_from_both(cli, data, tower, tmp_path):
    outcome = cli("train", data, "-o", tmp_path / "mine", "--backbone", tower, "--faces", "both")
    assert outcome.code == 2
    assert "a probe learns from faces or from whole pictures, not from both" in outcome.err


def test_a_line_says_how_far_it_is(short):
    line = next(line for line in short[1].err.splitlines() if line.startswith("step 3/6"))
    for part in ("loss 0.", "lr ", "crops/s", "left 0:00:0", "val AUC "):
        assert part in line


# Going on


def in_child(arguments: list[str], *, kill_at: int = 0, **environment: str) -> int:
    """Run the command in a process of its own, that dies of SIGKILL after a step; its exit code."""
    child = multiprocessing.get_context("fork").Process(
        target=_run, args=(arguments, kill_at, environment)
    )
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def _run(arguments: list[str], kill_at: int, environment: dict[str, str]) -> None:
    from accelerate.state import AcceleratorState

    os.environ.update(environment)
    torch.set_num_threads(1)  # the threads of the parent are not there
    AcceleratorState._reset_state(reset_partial_state=True)
    step = loop.TrainingLog.step

    def deadly(self: loop.TrainingLog, told: loop.Step) -> None:
        step(self, told)
        if told.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.TrainingLog.step = deadly  # type: ignore[method-assign]
    sys.argv = ["unmask", *arguments]
    main()


LONG = ("--recipe", "effort", "--batch-size", "8", "--steps", "12", "--augmentation", "strong",
        "--set", "checkpoint_steps=5", "--set", "ema=0.9")  # fmt: skip


def test_a_training_killed_in_the_middle_goes_on_as_if_nothing_had_been(train, arguments, tmp_path):
    assert train("-o", tmp_path / "through", *LONG).code == 0
    killed = tmp_path / "killed"
    assert in_child([*arguments, "-o", str(killed), *LONG], kill_at=9) == -signal.SIGKILL
    assert not killed.exists()
    assert len(steps_of(killed)) == 9
    outcome = train("-o", killed, *LONG, "--resume")
    assert outcome.code == 0, outcome.err
    assert losses_of(killed) == losses_of(tmp_path / "through")
    one, two = (unmask.load(tmp_path / name, device="cpu") for name in ("through", "killed"))
    assert one.ref.sha256 == two.ref.sha256


def test_two_processes_are_one_on_the_same_batches(train, arguments, tmp_path):
    # Layer norms with the losses among all features: each process sees half of every step.
    options = ("--recipe", "layernorm", "--batch-size", "8", "--steps", "6", "--set",
               "clip_norm=0.5", "--set", "precision=float32", "--set", "lr=0.01")  # fmt: skip
    assert train("-o", tmp_path / "one", *options, "--set", "accumulation=1").code == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context = multiprocessing.get_context("fork")
    children = []
    for rank in ("0", "1"):
        environment = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        both = ([*arguments, "-o", str(tmp_path / "two"), *options], 0, environment)
        children.append(context.Process(target=_run, args=both))
    for child in children:
        child.start()
    for child in children:
        child.join(90)
    assert [child.exitcode for child in children] == [0, 0]
    ours, theirs = (steps_of(tmp_path / name) for name in ("one", "two"))
    for name in ("loss", "cross_entropy", "uniformity", "alignment", "gradient_norm"):
        np.testing.assert_allclose(
            [step[name] for step in ours], [step[name] for step in theirs], atol=2e-5, err_msg=name
        )
    one, two = (load_model(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-3, rtol=0, msg=name)  # float16


def test_ctrl_c_says_how_to_go_on(train, short, tmp_path, monkeypatch):
    step = loop.TrainingLog.step

    def interrupting(self, told):
        step(self, told)
        if told.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.TrainingLog, "step", interrupting)
    output = tmp_path / "mine"
    outcome = train("-o", output, *SHORT)
    assert outcome.code == 130
    *_, saying, last = outcome.err.splitlines()
    assert saying.startswith(f"a checkpoint is in {tmp_path}/mine.training; go on with: unmask")
    assert saying.endswith("--resume")
    assert last == "interrupted"
    assert not output.exists()
    assert (tmp_path / "mine.training" / "training.html").is_file()
    assert train("-o", output, *SHORT, "--resume").code == 0
    assert losses_of(output) == losses_of(short[0])


def test_going_on_with_other_settings_is_refused(train, finished):
    outcome = train("-o", finished, *SHORT, "--resume", "--lr", 0.5)
    assert outcome.code == 2
    assert "another training; different are lr (0.0002 there, 0.5 here)" in outcome.err
    again = train("-o", finished, *SHORT)
    assert again.code == 2
    assert "go on with it by --resume, or begin anew with --overwrite" in again.err
    assert train("-o", finished, *SHORT, "--overwrite", "--lr", 0.5).code == 0
    assert losses_of(finished)[0] != losses_of(finished)[-1]


def test_going_on_without_a_checkpoint_is_told(train, tmp_path):
    outcome = train("-o", tmp_path / "mine", *SHORT, "--steps", 1, "--resume")
    assert outcome.code == 0
    assert f"no checkpoint in {tmp_path / 'mine.training'}: it begins at the first" in outcome.err


def test_a_finished_training_replaces_only_what_it_wrote(train, finished):
    assert train("-o", finished, *SHORT, "--resume").code == 0
    again = train("-o", finished, *SHORT, "--resume", "--as", "adapter")
    assert again.code == 0, again.err
    assert (finished / "adapter.safetensors").is_file()
    assert not (finished / "model.safetensors").exists()
    (finished / "thesis.txt").touch()
    refused = train("-o", finished, *SHORT, "--resume")
    assert refused.code == 2
    assert "holds something else than a detector" in refused.err


def test_two_trainings_of_one_output_are_refused(train, tmp_path):
    with RunFolder(tmp_path / "mine.training").locked():
        outcome = train("-o", tmp_path / "mine", *SHORT)
    assert outcome.code == 2
    assert "mine.training is in use by another training" in outcome.err


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"step": 10**9}, "it stands at step 1000000000 of a training of 6"),
        ({"parameters": None}, "checkpoint.pt holds other weights"),
        ({"parameters": "shape"}, "checkpoint.pt holds other weights"),
        ({"optimizer": {"state": {}}}, None),
        ({"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, "its optimiser does not fit"),
        ({"optimizer": {"state": {0: 5}}}, "its optimiser does not fit"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(train, finished, damage, sentence):
    path = finished.with_name("mine.training") / "checkpoint.pt"
    stored = torch.load(path, weights_only=True)
    if damage == {"parameters": "shape"}:
        damage = {"parameters": {name: torch.zeros(1) for name in stored["parameters"]}}
    torch.save({**stored, **damage}, path)
    outcome = train("-o", finished, *SHORT, "--resume")
    assert outcome.code == (2 if sentence else 0), outcome.err
    assert (sentence or "wrote") in outcome.err


def test_a_refused_training_does_not_stand_in_the_way(train, tmp_path):
    wrong = train("-o", tmp_path / "mine", *SHORT, "--steps", 1, "--set", "lora_rank=1000")
    assert wrong.code == 2
    assert "lora_rank is 1000, and a change of these layers has a rank of 32 at most" in wrong.err
    assert train("-o", tmp_path / "mine", *SHORT, "--steps", 1).code == 0


def test_the_card_tells_what_was_frozen_and_what_was_forged(tower, astronaut, cli, tmp_path):
    for number in range(8):
        face = astronaut[: 300 + number, 80:380]
        write_picture(tmp_path / "set" / "real" / f"{number}.png", face)
        write_picture(tmp_path / "set" / "fake" / f"{number}.png", face // 2 + 60)
    outcome = cli(
        *arguments_of(tmp_path / "set", tower, tmp_path / "cache"), "--faces", "largest", "-o",
        tmp_path / "mine", "--recipe", "full", "--batch-size", 4, "--steps", 1, "--set",
        "frozen_blocks=1", "--set", "composites=0.5", "--set", "self_blended=0.25", "--set",
        "warmup_epochs=0",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "warm-up" not in outcome.err
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert "all of its weights but those of the first 1 blocks" in card
    assert "25% faces blended with themselves and 50% faces with parts of another one" in card


def test_a_warm_up_longer_than_the_training_is_told(train, tmp_path):
    outcome = train("-o", tmp_path / "mine", *SHORT, "--steps", 1, "--set", "warmup_epochs=1")
    assert outcome.code == 0
    assert "the warm-up takes 3 steps and the training 1: the learning rate never" in outcome.err


def test_a_recipe_may_be_set_like_any_setting(train, tmp_path):
    outcome = train("-o", tmp_path / "mine", *SHORT[2:4], "--steps", 1, "--set", "recipe=lora")
    assert outcome.code == 0, outcome.err
    assert load_model(tmp_path / "mine").spec.training["recipe"] == "lora"


# Wrong use


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--lr", "0"], "lr is 0.0; it must be above 0"),
        (["--set", "lrr=1"], "'lrr' is not known. Did you mean 'lr'"),
        (["--set", "lr"], "expected a name and a value"),
        (["--set", "lr=[1"], "the value is no YAML"),
        (["--resume", "--overwrite"], "contradict each other"),
        (["--views", "1"], "--views and --compare-whole are for a probe"),
        (["--scale", "1", "--scale", "2"], "one --scale and one --feature"),
        (["--dtype", "float16"], "float16 needs loss scaling"),
        (["--augmentation", "nnoe"], "augmentation is 'nnoe'. Did you mean 'none'"),
        (["--sampling", "paired"], "the column 'pair'"),
        (["--feature", "mean@99"], "block 99"),
        (["--faces", "largest"], "gave no crop, and none is left"),
        (["--recipe", "probe", "--epochs", "2"], "augmentation, epochs has no meaning for a probe"),
        (["--set", "lr=0.1", "--set", "lr=0.2"], "lr is given twice"),
        (["--lr", "0.1", "--set", "lr=0.1"], "lr is given twice"),
        (["--set", "recipe=full"], "recipe is given twice"),
        (["--scale", "1", "--set", "crop_scale=2"], "crop_scale is given twice"),
        (["--feature", "mean@1", "--set", "features=[mean@2]"], "features is given twice"),
        (["--dtype", "float32", "--set", "precision=float32"], "precision is given twice"),
        (["--set", "seed=null"], "seed is None"),
        (["--set", "lr=2020-13-45"], "the value is no YAML (month must be in 1..12"),
        (["--set", "lr=!!int x"], "the value is no YAML"),
    ],
)
def test_wrong_use_is_exit_code_2_and_writes_nothing(train, tmp_path, more, sentence):
    recipe = [] if "--recipe" in more else ["--recipe", "lora"]
    outcome = train("-o", tmp_path / "mine", *recipe, *more)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_settings_is_read_and_options_go_before_it(train, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('recipe = "lora"\nlr = 0.001\nsteps = 2\nbatch_size = 4', encoding="utf-8")
    outcome = train("-o", tmp_path / "mine", "--config", file, "--steps", 3)
    assert outcome.code == 0, outcome.err
    stored = load_model(tmp_path / "mine").spec.training["config"]
    assert [stored[key] for key in ("recipe", "lr", "steps", "batch_size", "lora_rank")] == [
        "lora", 0.001, 3, 4, 8
    ]  # fmt: skip


def test_a_file_of_deepfakebench_says_what_has_no_effect(train, tmp_path):
    file = tmp_path / "effort.yaml"
    file.write_text(
        "model_name: effort\ntrain_batchSize: 8\nnEpochs: 0.1\nsave_ckpt: true\n"
        "optimizer: {type: adam, adam: {lr: 0.001, weight_decay: 0.0005}}\n",
        encoding="utf-8",
    )
    outcome = train("-o", tmp_path / "mine", "--config", file)
    assert outcome.code == 0, outcome.err
    assert "save_ckpt has no effect: what is written, and where" in outcome.err
    stored = load_model(tmp_path / "mine").spec.training["config"]
    assert [stored[key] for key in ("recipe", "optimizer", "lr", "batch_size")] == [
        "effort", "adam", 0.001, 8
    ]  # fmt: skip


@pytest.fixture
def probe(cli, data, tower, cache, tmp_path):
    return lambda *more: cli(
        "train", data, "-o", tmp_path / "mine", "--backbone", tower, "--device", "cpu",
        "--cache", cache, "--views", 0, *more,
    )  # fmt: skip


def test_a_probe_takes_its_settings_from_a_file_too(probe, tmp_path):
    file = tmp_path / "probe.yaml"
    file.write_text(
        "recipe: probe\nfeatures: [mean@1]\nfaces: none\nepochs: 3\nseed: 4", encoding="utf-8"
    )
    outcome = probe("--config", file)
    assert outcome.code == 0, outcome.err
    assert "epochs has no effect on a probe" in outcome.err
    spec = load_model(tmp_path / "mine").spec
    assert (spec.features, spec.training["seed"]) == (("mean@1",), 4)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("faces=xyz", "faces is 'xyz'"),
        ("faces=1", "faces is 1"),
        ("batch_size=2.5", "batch_size is 2.5"),
        ("batch_size=true", "batch_size is True"),
        ("seed=abc", "seed is 'abc'"),
        ("seed=99999999999999999999999", "seed is 99999999999999999999999; it must be 0 to"),
        ("resolution=100000", "resolution is 100000; it must be 16 to 4096"),
        ("crop_scale=foo", "crop_scale is 'foo'"),
        ("features=5", "features is 5"),
        ("features=[]", "features are none; name at least one"),
        ("features=[5]", "features is [5]"),
        ("features=[mean@1, mean@1]", "features are mean@1, mean@1"),
        ("steps=null", "steps has no meaning for a probe"),
        ("seed=null", "seed is None"),
    ],
)
def test_a_probe_takes_no_setting_that_cannot_be(probe, setting, sentence):
    outcome = probe("--set", setting)
    assert outcome.code == 2, outcome.err
    assert sentence in outcome.err


@pytest.mark.parametrize("more", [["--resume"], ["--as", "adapter"]])
def test_a_probe_is_neither_gone_on_with_nor_an_adapter(probe, more):
    outcome = probe("--faces", "none", *more)
    assert outcome.code == 2
    assert "neither --resume nor --as adapter" in outcome.err
