"""The parts of the loop: losses, optimiser, schedule, checkpoints, logs, choice, page."""

import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tiny_detectors import noise_image, sample
from tuned_models import plain_model, save_base
from unmask.cli.train_progress import step_report
from unmask.errors import ConfigError, CorruptWeights, OutputError
from unmask.models.heads import new_head
from unmask.models.tuning import Tuning, trained_parameters, tune
from unmask.train import state as state_module
from unmask.train.config import TrainConfig
from unmask.train.crops import CachedCrop
from unmask.train.logs import Step, TrainingLog, read_log
from unmask.train.losses import alignment, cross_entropy, feature_losses, uniformity
from unmask.train.optimizer import (
    Plan,
    RunningMean,
    freeze_blocks,
    lr_factor,
    new_optimizer,
    set_lr,
)
from unmask.train.page import training_page
from unmask.train.place import deterministic, everyone, new_place, reseed, stop_asked
from unmask.train.probe import Row, Validation, fit_temperature
from unmask.train.selection import Evaluation, Selection
from unmask.train.start import over_crops, warm_head
from unmask.train.state import Checkpoint, RunFolder, Setting

# Losses

FEATURES = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
LABELS = torch.tensor([0, 1, 1, 0, 1, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_cross_entropy_is_that_of_two_outputs(smoothing):
    outputs = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(outputs, LABELS, reduction="sum", label_smoothing=smoothing)
    logits = outputs[:, 1] - outputs[:, 0]
    torch.testing.assert_close(cross_entropy(logits, LABELS, smoothing), expected)


def unit() -> Tensor:
    return F.normalize(FEATURES.float(), dim=1)


def test_the_uniformity_is_the_log_of_the_mean_potential_of_pairs():
    x = unit()
    terms = [math.exp(-2 * float((x[i] - x[j]).square().sum())) for i in range(6) for j in range(i)]
    assert float(uniformity(FEATURES)) == pytest.approx(math.log(np.mean(terms)), abs=1e-5)


def test_the_uniformity_of_opposite_features_is_the_least_there_is():
    assert float(uniformity(torch.tensor([[1.0, 0], [-1, 0]]))) == pytest.approx(-8)


def test_the_alignment_is_the_mean_squared_distance_within_a_class():
    x = unit()
    squares = [
        float((x[i] - x[j]).square().sum())
        for i in range(6)
        for j in range(i)
        if LABELS[i] == LABELS[j]
    ]
    assert float(alignment(FEATURES, LABELS)) == pytest.approx(np.mean(squares), abs=1e-5)


def test_without_pairs_both_are_zero_and_still_have_a_gradient():
    one = FEATURES[:2].clone().requires_grad_()
    for loss in (uniformity(one[:1]), alignment(one, LABELS[:2])):
        assert loss.item() == 0
        loss.backward()


def test_only_the_losses_that_have_a_weight_are_computed():
    config = TrainConfig(uniformity=0.5)
    found = feature_losses(config, FEATURES, LABELS)
    assert list(found) == ["uniformity"]
    assert float(found["uniformity"]) == pytest.approx(0.5 * float(uniformity(FEATURES)))


# Steps and learning rates


@pytest.mark.parametrize(
    ("samples", "settings", "steps", "per_epoch"),
    [
        (64, {"epochs": 2}, 4, 2),
        (65, {"epochs": 2}, 6, 3),
        (5, {"epochs": 3}, 3, 1),
        (64, {"epochs": 0.1}, 1, 2),
        (64, {"steps": 7}, 7, 2),
    ],
)
def test_epochs_are_counted_in_steps(samples, settings, steps, per_epoch):
    assert Plan.of(TrainConfig(**settings), samples) == Plan(steps, per_epoch)


@pytest.mark.parametrize(
    ("times", "per_epoch", "steps", "expected"),
    [
        (1, 3, 7, [3, 6, 7]),
        (2, 4, 8, [2, 4, 6, 8]),
        (2, 3, 6, [2, 3, 5, 6]),
        (5, 2, 4, [1, 2, 3, 4]),
        (1, 50, 3, [3]),
    ],
)
def test_evaluations_come_at_even_parts_of_an_epoch_and_at_the_end(
    times, per_epoch, steps, expected
):
    plan, config = Plan(steps, per_epoch), TrainConfig(evaluations_per_epoch=times)
    assert [step for step in range(1, steps + 1) if plan.evaluates(step, config)] == expected


def test_a_constant_rate_is_constant_after_the_warm_up():
    config = TrainConfig(warmup_epochs=1)
    factors = [lr_factor(config, Plan(8, 3), step) for step in range(8)]
    assert factors == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_a_cosine_falls_from_the_rate_to_the_least_one():
    config = TrainConfig(schedule="cosine", lr=1e-2, min_lr=1e-3)
    factors = [lr_factor(config, Plan(4, 1), step) for step in range(5)]
    assert factors == pytest.approx(
        [1, 0.1 + 0.9 * (2 + 2**0.5) / 4, 0.55, 0.1 + 0.9 * (2 - 2**0.5) / 4, 0.1]
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("towers") / "clip", "clip")


def groups(base: Path, **settings: object) -> tuple[dict[str, dict], torch.optim.Optimizer]:
    """By name of a trained weight, the group that it is in."""
    config = TrainConfig(**settings)
    model, _ = plain_model(base)
    tune(model, config.tuning())
    optimizer = new_optimizer(model, config)
    names = {id(value): name for name, value in trained_parameters(model).items()}
    found = {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}
    assert found.keys() == set(names.values())
    return found, optimizer


def test_the_head_may_have_a_rate_of_its_own(base):
    found, _ = groups(base, recipe="lora", lr=0.1, head_lr=0.3)
    assert {g["lr"] for name, g in found.items() if name.startswith("head.")} == {0.3}
    assert {g["lr"] for name, g in found.items() if not name.startswith("head.")} == {0.1}


def test_only_matrices_may_decay(base):
    found, _ = groups(base, recipe="full", weight_decay=0.1, decay_only_matrices=True)
    for name, group in found.items():
        decays = not (name.endswith("bias") or "norm" in name or "class_embedding" in name)
        assert group["weight_decay"] == (0.1 if decays else 0), name


def test_each_block_learns_slower_than_the_next(base):
    found, _ = groups(base, recipe="full", lr=1.0, layer_decay=0.5)
    expected = {
        "head.linear.weight": 1, "backbone.post_layernorm.weight": 1,
        "backbone.encoder.layers.2.mlp.fc1.bias": 1 / 2,
        "backbone.encoder.layers.0.self_attn.q_proj.weight": 1 / 8,
        "backbone.embeddings.patch_embedding.weight": 1 / 16,
        "backbone.pre_layrnorm.weight": 1 / 16,
    }  # fmt: skip
    assert {name: found[name]["lr"] for name in expected} == expected


def test_frozen_blocks_and_what_comes_before_them_do_not_train(base):
    model, _ = plain_model(base)
    everything = set(tune(model, Tuning("full")))
    freeze_blocks(model, 0)
    assert set(trained_parameters(model)) == everything
    freeze_blocks(model, 2)
    still = ("backbone.encoder.layers.2.", "backbone.post_layernorm.", "head.")
    assert set(trained_parameters(model)) == {n for n in everything if n.startswith(still)}


def test_a_block_must_be_left_to_train(base):
    model, _ = plain_model(base)
    with pytest.raises(ConfigError, match="frozen_blocks is 3, and the tower has 3 blocks"):
        freeze_blocks(model, 3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_an_optimiser_is_torch_s_of_that_name(base, name, kind):
    found, optimizer = groups(base, recipe="lora", optimizer=name, lr=0.2, weight_decay=0.01)
    assert type(optimizer) is kind
    assert {group["weight_decay"] for group in found.values()} == {0.01}
    set_lr(optimizer, 0.5)
    set_lr(optimizer, 0.25)
    assert {group["lr"] for group in found.values()} == {0.05}


def test_a_running_mean_soon_forgets_the_first_weights_and_then_decays_slowly():
    weight = {"w": torch.nn.Parameter(torch.zeros(1))}
    mean = RunningMean(weight, 0.5)
    with torch.no_grad():
        weight["w"].fill_(1.0)
    mean.update(weight, 0)
    assert mean.mean["w"].item() == pytest.approx(0.9)
    mean.update(weight, 1000)
    assert mean.mean["w"].item() == pytest.approx(0.95)
    with mean.used(weight):
        assert weight["w"].item() == pytest.approx(0.95)
    assert weight["w"].item() == 1


# The choice


def evaluation(step: int, auc: float) -> Evaluation:
    rows = (Row("a", 3, 4, auc, by_video=True), Row("b", 3, 4, 0.5, by_video=False))
    return Evaluation(step, Validation(rows, 0.25))


def test_the_score_is_the_mean_over_data_sets():
    assert evaluation(1, 0.9).score == pytest.approx(0.7)


def test_a_selection_knows_its_best_and_when_it_is_over():
    selection = Selection()
    assert (selection.best, selection.is_best, selection.is_over(1)) == (None, False, False)
    said = []
    for step, auc in enumerate([0.6, 0.8, 0.8, 0.7], start=1):
        selection = selection.after(evaluation(step, auc))
        said.append((selection.is_best, selection.is_over(2), selection.is_over(None)))
    assert said == [(True, False, False), (True, False, False), (False, False, False),
                    (False, True, False)]  # fmt: skip
    assert selection.best == evaluation(2, 0.8)


def test_a_selection_comes_back_from_json():
    selection = Selection((evaluation(1, 0.6), evaluation(2, 0.7)))
    assert Selection.from_list(json.loads(json.dumps(selection.to_list()))) == selection


# The folder of a training


SETTING = Setting(TrainConfig(), "data", "tower", "unmask train", {"torch": "2"})


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    assert found.begin(SETTING, resume=False, overwrite=False) is False
    return found


def checkpoint(step: int = 3, **changed: object) -> Checkpoint:
    weights = {"w": torch.tensor([1.0, 2.0])}
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}}
    return replace(
        Checkpoint(step, weights, optimizer, Selection((evaluation(2, 0.6),))), **changed
    )


def test_a_checkpoint_comes_back(folder):
    folder.save(checkpoint(mean={"w": torch.tensor([0.5])}))
    found = folder.load(torch.device("cpu"))
    assert found.step == 3
    assert torch.equal(found.parameters["w"], torch.tensor([1.0, 2.0]))
    assert torch.equal(found.optimizer["state"][0]["exp_avg"], torch.ones(2))
    assert torch.equal(found.mean["w"], torch.tensor([0.5]))
    assert found.selection == checkpoint().selection


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(folder, monkeypatch):
    folder.save(checkpoint(3))

    def full(_content: object, file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module.torch, "save", full)
    with pytest.raises(OutputError, match=r"No space left on device.*--resume"):
        folder.save(checkpoint(4))
    monkeypatch.undo()
    assert folder.load(torch.device("cpu")).step == 3
    assert list(folder.path.glob(".*")) == []


WHOLE = {"format": 1, "parameters": {}, "selection": "[]", "mean": None}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"rubbish", None, {"format": 0}, {"format": 1}),
        {**WHOLE, "step": -5, "optimizer": {"state": {}}},
        {**WHOLE, "step": "x", "optimizer": {"state": {}}},
        {**WHOLE, "step": 1, "optimizer": None},
        {**WHOLE, "step": 1, "optimizer": {}},
    ],
)
def test_a_damaged_checkpoint_is_refused(folder, content):
    if isinstance(content, dict):
        torch.save(content, folder.checkpoint)
    else:
        folder.save(checkpoint())
        whole = folder.checkpoint.read_bytes()
        folder.checkpoint.write_bytes(whole[:-200] if content is None else content)
    with pytest.raises(CorruptWeights, match=r"checkpoint\.pt is damaged.*--overwrite"):
        folder.load(torch.device("cpu"))


def test_only_the_best_weights_are_kept(folder):
    for step in (1, 2, 5):
        folder.save_best(step, {"w": torch.tensor([float(step)])})
    folder.save(checkpoint())
    assert [path.name for path in folder.path.glob("best-*")] == ["best-2.safetensors"]
    assert folder.load_best(2, {"w": torch.zeros(1)})["w"].item() == 2


def test_best_weights_that_are_gone_are_told(folder):
    with pytest.raises(CorruptWeights, match=r"best-7\.safetensors is damaged or gone"):
        folder.load_best(7, {})


@pytest.mark.parametrize("stored", [{"v": torch.zeros(1)}, {"w": torch.zeros(2)}, {}])
def test_best_weights_of_another_training_are_refused(folder, stored):
    folder.save_best(7, stored)
    with pytest.raises(CorruptWeights, match=r"best-7\.safetensors holds other weights"):
        folder.load_best(7, {"w": torch.zeros(1)})


def test_best_weights_may_be_read_by_whoever_may_read_the_settings(folder):
    folder.save_best(1, {"w": torch.zeros(1)})
    modes = {(folder.path / name).stat().st_mode for name in ("best-1.safetensors", "config.yaml")}
    assert len(modes) == 1


def test_two_trainings_do_not_write_to_one_folder(folder):
    refused = pytest.raises(OutputError, match="in use by another training")
    with folder.locked(), refused, folder.locked():
        pass
    with folder.locked():
        pass
    assert [path.name for path in folder.path.parent.iterdir()] == ["run"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    run = RunFolder(tmp_path / "file" / "x.training")
    with pytest.raises(OutputError, match=r"x\.training cannot be made"), run.locked():
        pass
    with pytest.raises(OutputError, match=r"x\.training cannot be written"):
        run.begin(SETTING, resume=False, overwrite=False)


def test_a_file_in_the_place_of_the_curves_is_refused(folder):
    (folder.path / "tensorboard").rmdir()
    (folder.path / "tensorboard").touch()
    with pytest.raises(OutputError, match="tensorboard"):
        folder.begin(SETTING, resume=False, overwrite=True)


def test_going_on_needs_a_checkpoint(folder):
    assert folder.begin(SETTING, resume=True, overwrite=False) is False
    folder.save(checkpoint())
    assert folder.begin(SETTING, resume=True, overwrite=False) is True


def test_a_training_without_a_checkpoint_stands_in_no_way(folder):
    folder.save_best(2, {"w": torch.zeros(1)})
    folder.log.write_text('{"step": 1}\n')
    other = replace(SETTING, config=TrainConfig(lr=0.5))
    assert folder.begin(other, resume=False, overwrite=False) is False
    assert not folder.log.exists()
    assert not list(folder.path.glob("best-*"))
    assert "lr: 0.5\n" in (folder.path / "config.yaml").read_text()


def test_a_folder_in_the_place_of_the_checkpoint_is_refused(folder):
    folder.checkpoint.mkdir()
    with pytest.raises(OutputError, match=r"checkpoint\.pt is a folder"):
        folder.begin(SETTING, resume=True, overwrite=False)


def test_beginning_anew_removes_the_training_that_was_there(folder):
    folder.save(checkpoint())
    folder.save_best(2, {"w": torch.zeros(1)})
    folder.log.write_text('{"step": 1}\n')
    (folder.path / "tensorboard" / "events.out.tfevents.1").touch()
    assert folder.begin(SETTING, resume=False, overwrite=True) is False
    left = {path.name for path in folder.path.rglob("*") if path.is_file()}
    assert left == {"config.yaml", "training.json"}


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(SETTING, data_sha256="x"), "data"),
        (replace(SETTING, tower_sha256="x"), "tower"),
        (replace(SETTING, config=TrainConfig(lr=0.5)), "lr"),
    ],
)
def test_another_training_is_not_gone_on_with(folder, other, what):
    folder.save(checkpoint())
    with pytest.raises(ConfigError, match=rf"different are {what} \("):
        folder.begin(other, resume=True, overwrite=False)


def test_how_often_checkpoints_are_made_may_change(folder):
    other = replace(SETTING, config=TrainConfig(checkpoint_steps=7), command="another")
    folder.save(checkpoint())
    assert folder.begin(other, resume=True, overwrite=False)


def test_a_training_is_not_overwritten_unasked(folder):
    folder.save(checkpoint())
    with pytest.raises(OutputError, match="holds a training already"):
        folder.begin(SETTING, resume=False, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.txt").touch()
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(OutputError, match="something else than a training"):
            RunFolder(place).begin(SETTING, resume=False, overwrite=overwrite)


@pytest.mark.parametrize(
    "content",
    [
        *("{", '{"format": 9}', "[]", "[" * 100_000),
        '{"format": 1, "config": [1], "data_sha256": "", "tower_sha256": ""}',
        '{"format": 1, "config": {}, "tower_sha256": ""}',
    ],
)
def test_a_training_of_another_version_is_refused(folder, content):
    folder.save(checkpoint())
    (folder.path / "training.json").write_text(content)
    with pytest.raises(OutputError, match=r"training\.json .*begin anew with --overwrite"):
        folder.begin(SETTING, resume=True, overwrite=False)


# Logs


def told(step: int, loss: float = 0.5) -> Step:
    return Step(step, 9, step / 3, {"cross_entropy": loss, "alignment": 0.1}, 1e-3, 2.0, 0.5, 8)


def test_a_log_has_a_line_for_each_step_and_evaluation(tmp_path):
    with TrainingLog(tmp_path / "log.jsonl", step=0) as log:
        log.step(told(1))
        log.evaluation(evaluation(1, 0.9))
    step, judged = read_log(tmp_path / "log.jsonl")
    assert step == {
        "step": 1, "epoch": 0.3333, "loss": 0.6, "cross_entropy": 0.5, "alignment": 0.1,
        "lr": 1e-3, "gradient_norm": 2.0, "crops_per_s": 16.0,
    }  # fmt: skip
    assert judged["validation"]["mean_auc"] == pytest.approx(0.7)
    assert list((tmp_path / "tensorboard").glob("events.out.*"))


def test_lines_of_steps_that_were_lost_are_cut_off(tmp_path):
    path = tmp_path / "log.jsonl"
    with TrainingLog(path, step=0) as log:
        for step in (1, 2, 3):
            log.step(told(step))
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    with TrainingLog(path, step=2) as log:
        log.step(told(3, loss=0.7))
    assert [line["cross_entropy"] for line in read_log(path)] == [0.5, 0.5, 0.7]


@pytest.mark.parametrize("line", [b"{", b"\xff", b"[1]", b"{}", b'{"step": "a"}', b"[" * 100_000])
def test_a_damaged_line_of_the_log_is_told_before_any_step(folder, line):
    folder.save(checkpoint())
    folder.log.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(OutputError, match=r"log\.jsonl, line 2 is damaged"):
        folder.begin(SETTING, resume=True, overwrite=False)


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []


# The page


def lines(count: int) -> list[dict]:
    found: list[dict] = [told(step, loss=1 / step).to_dict() for step in range(1, count + 1)]
    found.append({"step": count, "validation": evaluation(count, 0.9).to_dict()})
    return found


def test_the_page_has_curves_a_table_and_the_settings():
    page = training_page(lines(5), name="<mine>", settings="lr: 0.1")
    for part in ("Training of &lt;mine&gt;", "<h2>Losses</h2>", "<h2>Validation</h2>", "lr: 0.1",
                 "<td>0.700</td>", "cross_entropy", "Each step."):  # fmt: skip
        assert part in page
    assert page.count('<svg class="plot"') == 3


def test_many_steps_are_averaged():
    assert "Mean of 4 steps each." in training_page(lines(200), name="x", settings="")


def test_a_training_that_never_stepped_has_a_page():
    page = training_page([], name="x", settings="lr: 1")
    assert "<svg" not in page
    assert "lr: 1" in page


def test_names_from_the_data_are_text():
    rows = (Row("<script>", 3, 4, 0.5, by_video=True),)
    line = {"step": 1, "validation": Evaluation(1, Validation(rows, 0.1)).to_dict()}
    assert "<script>" not in training_page([line], name="x", settings="<script>")


# Where it computes


def test_the_same_step_has_the_same_chance_and_processes_have_their_own():
    drawn = []
    with torch.random.fork_rng():
        for where in ((0, 1, 0), (0, 1, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1)):
            reseed(*where)
            drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 4


def test_one_process_is_everyone():
    values = torch.ones(3)
    assert everyone(new_place("cpu"), values) is values


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="'cuda:77' is not available here"):
        new_place("cuda:77")


def test_on_a_cpu_nothing_needs_to_be_set_for_determinism():
    with deterministic(torch.device("cpu"), wanted=True):
        assert not torch.are_deterministic_algorithms_enabled()


def test_on_a_gpu_deterministic_algorithms_are_asked_for_and_let_go(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with deterministic(torch.device("cuda"), wanted=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(torch.device("cuda"), wanted=False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_signals_are_left_alone_outside_the_main_thread():
    from concurrent.futures import ThreadPoolExecutor

    def ask() -> bool:
        with stop_asked() as stop:
            return stop()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() is False


# The start


class Shown:
    """Crops in memory."""

    n_whole = 0

    def __init__(self, count: int) -> None:
        self.samples = tuple(
            sample(Path(f"{n}"), label=n % 2, dataset="d", split="train") for n in range(count)
        )

    def __getitem__(self, index: int) -> CachedCrop:
        return CachedCrop(noise_image(index, (32, 32)), None)


@pytest.mark.parametrize("size", [1, 4, 7, 50])
def test_rows_are_in_the_order_of_crops_whatever_the_batch(base, size):
    model, _ = plain_model(base)
    preprocess = model.spec.preprocess
    seen: list[int] = []

    def compute(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return pixels.mean(dim=(1, 2, 3))

    rows = over_crops(Shown(7), compute, preprocess, device=torch.device("cpu"), batch_size=size,
                      workers=2, indices=[6, 0, 3, 3, 1, 2, 5])  # fmt: skip
    images = [preprocess(noise_image(n, (32, 32))) for n in (6, 0, 3, 3, 1, 2, 5)]
    np.testing.assert_allclose(rows, [image.mean() for image in images], atol=1e-6)
    assert max(seen) <= size


def test_no_crops_have_no_rows(base):
    preprocess = plain_model(base)[0].spec.preprocess
    rows = over_crops(Shown(0), lambda x: x, preprocess, device=torch.device("cpu"), batch_size=2,
                      workers=0)  # fmt: skip
    assert rows.size == 0


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_warm_head_is_the_probe(base, outputs, normalize):
    model, _ = plain_model(base)
    model.head = new_head(5, outputs, seed=0, normalize=normalize)
    crops = Shown(40)
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).numpy()
    x[1::2, 2] += 3
    assert warm_head(model, crops, crops, (x, x)) > 0.9
    with torch.no_grad():
        logits = model.head(torch.from_numpy(x)).numpy()
    assert np.mean((logits > 0) == (np.arange(40) % 2)) > 0.85


def test_a_warm_head_is_as_sure_as_validation_bears_out(base):
    model, _ = plain_model(base)
    model.head = new_head(60, 1, seed=0)
    train, val = torch.randn(2, 40, 60, generator=torch.Generator().manual_seed(0)).numpy()
    train[1::2, 2] += 1
    val[1::2, 2] += 1
    crops = Shown(40)
    warm_head(model, crops, crops, (train, val))
    with torch.no_grad():
        logits = model.head(torch.from_numpy(val)).double().numpy()
    assert fit_temperature(logits, crops.samples) == pytest.approx(1, abs=0.01)


def test_a_warm_head_has_no_large_weight_for_a_feature_that_hardly_varies(base):
    model, _ = plain_model(base)
    model.head = new_head(5, 1, seed=0)
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).numpy()
    x[1::2, :2] += 2
    x[:, 0] *= 0.001
    crops = Shown(40)
    warm_head(model, crops, crops, (x, x))
    weights = model.head.linear.weight.detach().abs()[0]
    assert weights[0] < weights[1]


def test_what_is_computed_of_a_crop_can_be_another_picture(base):
    preprocess = plain_model(base)[0].spec.preprocess
    rows = over_crops(Shown(3), lambda x: x.mean(dim=(1, 2, 3)), preprocess,
                      device=torch.device("cpu"), batch_size=2, workers=0,
                      picture=lambda n: noise_image(n + 50, (32, 32)))  # fmt: skip
    images = [preprocess(noise_image(n, (32, 32))) for n in (50, 51, 52)]
    np.testing.assert_allclose(rows, [image.mean() for image in images], atol=1e-6)


# What is shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_loss_rate_and_time_left(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    with step_report() as report:
        report(told(1), None)
        report(told(2), evaluation(2, 0.9))
    shown = sys.stderr.getvalue()
    for part in ("2/9", "loss 0.6", "lr 0.001", "16.0 crops/s", "left 0:00:0", "val AUC 0.700"):
        assert part in shown


def test_where_there_is_no_terminal_a_line_comes_once_a_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with step_report() as report:
        for step, at in enumerate((1.0, 30.0, 61.0, 70.0), start=1):
            now[0] = at
            report(told(step), None)
    assert [line[:8] for line in capsys.readouterr().err.splitlines()] == ["step 3/9"]


def test_quiet_it_tells_nothing(capsys):
    with step_report(quiet=True) as report:
        report(told(1), evaluation(1, 0.9))
    assert capsys.readouterr().err == ""
