"""The loop: the recorded trainings, accumulation, running mean, choice, interruption, resume."""

import json
import math
import os
import signal
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tuned_models import plain_model, save_base
from unmask.errors import ConfigError, CorruptWeights
from unmask.models.backbone import load_backbone
from unmask.models.configuration import DetectorSpec, HeadSpec, backbone_config_of
from unmask.models.effort import residual_layers
from unmask.models.heads import Head
from unmask.models.modeling import assemble
from unmask.models.tuning import merge, trained_parameters, tune
from unmask.preprocess import Preprocess
from unmask.train.batches import Batch, Share, tensor_batches
from unmask.train.config import TrainConfig, make_config
from unmask.train.logs import read_log
from unmask.train.loop import Forward, Interrupted, fit
from unmask.train.optimizer import Plan
from unmask.train.place import new_place
from unmask.train.probe import Row, Validation
from unmask.train.state import RunFolder, Setting

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
RECORDED = json.loads((FIXTURES / "recorded.json").read_text())["trainings"]


# The recorded trainings of the published implementation

TRAININGS = {
    "C1": ("A_full_layout", "C1_from_init_CE", {}),
    "C2": ("B_released_layout", "C2_from_B_CE", {}),
    "C3": (
        "B_released_layout",
        "C3_from_B_CE_plus_reg",
        {"orthogonality": 1, "kept_singular_values": 1},
    ),
}


def recorded_model(begin: str):
    """The recorded tower and head, and the residuals that a training began from."""
    state = load_file(FIXTURES / f"{begin}.safetensors")
    tower = load_backbone(FIXTURES / "tiny_clip", ("pooler",))
    head = Head(64, 2)
    head.linear.load_state_dict({"weight": state["head.weight"], "bias": state["head.bias"]})
    spec = DetectorSpec(
        backbone_config=backbone_config_of(tower.config),
        features=("pooler",),
        head=HeadSpec(outputs=2),
        preprocess=Preprocess.effort(),
    )
    return assemble(tower, head, spec), state


@pytest.mark.parametrize("training", TRAININGS)
def test_the_effort_recipe_takes_the_recorded_steps(training, tmp_path):
    begin, end, losses = TRAININGS[training]
    config = make_config("effort", losses, {"batch_size": 4, "steps": 3}, where="test")
    model, state = recorded_model(begin)
    tune(model, config.tuning())
    if begin != "A_full_layout":  # the residuals of A are those of a fresh split
        with torch.no_grad():
            for name, layer in residual_layers(model.backbone).items():
                for part in ("U_residual", "S_residual", "V_residual"):
                    layer.get_parameter(part).copy_(state[f"backbone.{name}.{part}"])
    stored = np.load(FIXTURES / "inputs.npz")
    pixels, labels = (torch.from_numpy(stored[key]) for key in ("pixel_values", "labels"))
    folder = begun(tmp_path / "run", config)
    fit(
        model,
        tensor_batches(pixels, labels),
        config,
        Plan.of(config, 4),
        place=new_place("cpu"),
        folder=folder,
    )
    expected = RECORDED[training]["loss_total_and_ce_before_each_step"]
    curve = [[line["loss"], line["cross_entropy"]] for line in read_log(folder.log)]
    np.testing.assert_allclose(curve, expected, atol=1e-4)
    names = list(residual_layers(model.backbone))
    merge(model)
    recorded = load_file(FIXTURES / f"{end}.safetensors")
    for name in names:
        weight = recorded[f"final_effective.{name}.weight"]
        torch.testing.assert_close(
            model.backbone.get_submodule(name).weight, weight, atol=5e-5, rtol=0
        )


# A small training

PIXELS = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(3))
LABELS = (torch.arange(64) % 2).float()


def other_each_step(first: int, share: Share) -> Generator[Batch, None, None]:
    """Eight of 64 noise pictures, others in each step."""
    step = first
    while True:
        start = 8 * (step % 8) + share.number * (8 // share.count)
        chosen = slice(start, start + 8 // share.count)
        yield Batch(PIXELS[chosen], LABELS[chosen])
        step += 1


def begun(path: Path, config: TrainConfig) -> RunFolder:
    folder = RunFolder(path)
    folder.begin(Setting(config, "data", "tower"), resume=False, overwrite=False)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("towers") / "clip", "clip")


SETTINGS = {"batch_size": 8, "steps": 6, "lr": 0.01, "head_start": "random"}


def small(**changed: object) -> TrainConfig:
    return TrainConfig(**({"recipe": "lora", "lora_rank": 2, "outputs": 2} | SETTINGS | changed))


class Watched:
    """A training on noise pictures, and what is left of it."""

    def __init__(self, base: Path, path: Path, config: TrainConfig) -> None:
        self.config = config
        self.folder = RunFolder(path)
        self.resume = path.exists() and self.folder.begin(
            Setting(config, "data", "tower"), resume=True, overwrite=False
        )
        if not path.exists():
            begun(path, config)
        self.model, _ = plain_model(base)
        torch.manual_seed(0)
        tune(self.model, config.tuning())

    def run(self, batches=other_each_step, **options: object):
        plan = Plan(self.config.steps, 2)
        self.selection = fit(
            self.model, batches, self.config, plan, place=new_place("cpu"),
            folder=self.folder, resume=self.resume, **options,
        )  # fmt: skip
        return self

    @property
    def losses(self) -> list[float]:
        return [line["loss"] for line in read_log(self.folder.log) if "loss" in line]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        named = trained_parameters(self.model).items()
        return {name: value.detach().clone() for name, value in named}


@pytest.fixture
def watched(base, tmp_path):
    def make(name: str = "run", **changed: object) -> Watched:
        return Watched(base, tmp_path / name, small(**changed))

    return make


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 0) -> bool:
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], atol=atol, rtol=0) for name in one)


@pytest.mark.parametrize("recipe", ["effort", "layernorm", "lora", "full", "probe"])
def test_every_recipe_learns_the_same_pictures_by_heart(watched, recipe):
    training = watched(recipe=recipe, steps=12, lr=0.003 if recipe == "full" else 0.02)
    training.run(tensor_batches(PIXELS[:8], LABELS[:8]))
    assert training.losses[-1] < training.losses[0]


def test_two_trainings_give_the_same_weights(watched):
    one, two = watched("one").run(), watched("two").run()
    assert one.losses == two.losses
    assert same(one.weights, two.weights)


@pytest.mark.parametrize("parts", [2, 8])
def test_a_step_in_parts_is_the_step_in_one(watched, parts):
    whole, divided = watched("whole").run(), watched("parts", accumulation=parts).run()
    assert divided.losses == pytest.approx(whole.losses, abs=1e-5)
    assert same(whole.weights, divided.weights, atol=1e-4)


def test_the_length_of_the_gradient_is_that_before_clipping(watched):
    free, clipped = watched("free").run(), watched("clipped", clip_norm=1e-3).run()
    norms = [read_log(each.folder.log)[0]["gradient_norm"] for each in (free, clipped)]
    assert norms[0] == norms[1] > 1e-3
    assert not same(free.weights, clipped.weights)


def test_bfloat16_leaves_the_weights_and_the_head_in_float32(watched):
    training = watched(precision="bfloat16").run()
    assert {value.dtype for value in training.model.parameters()} == {torch.float32}
    exact = watched("exact").run()
    assert training.losses == pytest.approx(exact.losses, abs=0.2)
    assert training.losses != exact.losses


def test_the_head_is_not_cast_by_bfloat16(watched):
    model = watched().model
    forward = Forward(model, "bfloat16")
    with torch.no_grad():
        features, logits = forward(PIXELS[:4])
        assert torch.equal(logits, model.head(features))


def test_what_no_gradient_reaches_does_not_train(base, tmp_path):
    config = small(recipe="full", features=("mean@1",), layer_decay=0.5, lr=1e-3)
    training = Watched(base, tmp_path / "run", config)
    training.model, _ = plain_model(base, ("mean@1",))
    tune(training.model, config.tuning())
    training.run()
    frozen = {name for name, one in training.model.named_parameters() if not one.requires_grad}
    assert frozen == {"backbone.post_layernorm.weight", "backbone.post_layernorm.bias"}


# The choice among evaluations


def judged(*scores: float):
    """An evaluation that gives one AUC after the other, and remembers the weights."""
    left = iter(scores)
    seen = []

    def evaluate(forward: Forward) -> Validation:
        assert not forward.model.training
        seen.append({n: p.detach().clone() for n, p in trained_parameters(forward.model).items()})
        return Validation((Row("d", 5, 5, next(left), by_video=False),), 0.5)

    return evaluate, seen


def test_the_weights_of_the_best_evaluation_are_kept(watched):
    evaluate, seen = judged(0.6, 0.9, 0.7)
    training = watched().run(evaluate=evaluate)
    assert [one.step for one in training.selection.evaluations] == [2, 4, 6]
    assert training.selection.best.step == 4
    assert same(training.weights, seen[1])
    assert not same(training.weights, seen[2])
    assert len(list(training.folder.path.glob("best-*"))) == 1


def test_of_equal_evaluations_the_first_is_kept(watched):
    evaluate, _ = judged(0.8, 0.8, 0.8)
    assert watched().run(evaluate=evaluate).selection.best.step == 2


def test_a_training_stops_when_it_gets_no_better(watched):
    evaluate, _ = judged(0.9, 0.6, 0.7, 0.8)
    training = watched(steps=8, patience=2).run(evaluate=evaluate)
    assert len(training.losses) == 6


def test_the_running_mean_is_what_is_evaluated_and_kept(watched):
    evaluate, seen = judged(0.6, 0.7, 0.8)
    mean = watched("mean", ema=0.9).run(evaluate=evaluate)
    plain = watched("plain").run()
    assert mean.losses == plain.losses  # it changes no step
    assert same(mean.weights, seen[2])
    assert not same(mean.weights, plain.weights)


def test_without_evaluations_the_running_mean_is_kept_too(watched):
    evaluate, seen = judged(0.6, 0.7, 0.8)
    watched("judged", ema=0.9).run(evaluate=evaluate)
    assert same(watched("alone", ema=0.9).run().weights, seen[2])


# Stopping and going on


class Killed(Exception):
    pass


def killed_at(step: int):
    """Something that ends a training without giving it time for anything."""

    def report(told, _evaluation) -> None:
        if told.step == step:
            raise Killed

    return report


@pytest.mark.parametrize(
    ("recipe", "ema"), [("effort", 0.9), ("layernorm", 0.0), ("lora", 0.0), ("full", 0.9)]
)
def test_going_on_is_the_uninterrupted_training(watched, recipe, ema):
    changed = {"recipe": recipe, "ema": ema, "checkpoint_steps": 3, "optimizer": "adam"}
    through = watched("through", **changed).run()
    with pytest.raises(Killed):
        watched("killed", **changed).run(report=killed_at(5))
    resumed = watched("killed", **changed).run()
    assert resumed.resume
    assert resumed.losses == through.losses
    assert same(resumed.weights, through.weights)


def test_evaluations_before_the_end_of_the_first_attempt_count(watched):
    changed = {"steps": 8}
    with pytest.raises(Killed):
        watched(**changed).run(evaluate=judged(0.9, 0.6)[0], report=killed_at(4))
    resumed = watched(**changed).run(evaluate=judged(0.7, 0.8)[0])
    assert [one.score for one in resumed.selection.evaluations] == [0.9, 0.6, 0.7, 0.8]
    assert resumed.selection.best.step == 2


def test_a_finished_training_is_not_gone_on_with(watched):
    evaluate, seen = judged(0.6, 0.9, 0.7)
    watched().run(evaluate=evaluate)
    again = watched().run(evaluate=None)
    assert same(again.weights, seen[1])
    assert len(again.losses) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_last_whole_step(watched, number):
    def report(told, _evaluation) -> None:
        if told.step == 3:
            os.kill(os.getpid(), number)

    through = watched("through").run()
    stopped = watched("stopped")
    with pytest.raises(Interrupted):
        stopped.run(report=report)
    assert stopped.folder.load(torch.device("cpu")).step == 4
    assert watched("stopped").run().losses == through.losses


def test_a_second_signal_does_not_wait(watched):
    def report(told, _evaluation) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        watched().run(report=report)
    assert not isinstance(caught.value, Interrupted)


def test_a_training_leaves_signals_and_chance_as_they_were(watched):
    handler, state = signal.getsignal(signal.SIGINT), None
    training = watched()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    training.run()
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.equal(torch.get_rng_state(), state)


def test_a_checkpoint_of_other_weights_is_refused(watched):
    with pytest.raises(Killed):
        watched(checkpoint_steps=1).run(report=killed_at(2))
    training = watched(checkpoint_steps=1)
    checkpoint = training.folder.load(torch.device("cpu"))
    fewer = dict(list(checkpoint.parameters.items())[1:])
    training.folder.save(replace(checkpoint, parameters=fewer))
    with pytest.raises(CorruptWeights, match="holds other weights than this training changes"):
        training.run()


# What cannot go on


def test_a_loss_that_is_not_finite_ends_the_training(watched):
    pixels = PIXELS[:8].clone()
    pixels[0, 0, 0, 0] = math.nan
    with pytest.raises(CorruptWeights, match=r"loss of step 1 is not finite .*smaller lr"):
        watched().run(tensor_batches(pixels, LABELS[:8]))


def test_a_step_that_cannot_be_divided_among_processes_is_refused(watched, monkeypatch):
    training = watched(accumulation=4)
    place = new_place("cpu")
    monkeypatch.setattr(type(place), "num_processes", 4)
    with pytest.raises(ConfigError, match=r"batch_size of 8 .* 4 processes times .* 4"):
        fit(training.model, other_each_step, training.config, Plan(6, 2), place=place,
            folder=training.folder)  # fmt: skip
