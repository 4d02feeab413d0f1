"""The loop: steps, evaluations, checkpoints. It knows nothing of files, faces or data sets.

Every step is the same function of seed, step and weights, so that a training that went on from a
checkpoint, or ran on several processes, is the one that ran through on one.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unmask.errors import CorruptWeights, UnmaskWarning
from unmask.models.backbone import extract
from unmask.models.modeling import UnmaskForImageClassification
from unmask.models.penalties import Original, originals
from unmask.models.tuning import trained_parameters
from unmask.train.attention import trained_attention
from unmask.train.batches import Batch, Batches, Share
from unmask.train.config import TrainConfig
from unmask.train.logs import Step, TrainingLog
from unmask.train.losses import cross_entropy, feature_losses, penalties
from unmask.train.optimizer import Plan, RunningMean, lr_factor, new_optimizer, put, set_lr
from unmask.train.place import deterministic, everyone, reseed, share_of, stop_asked
from unmask.train.probe import Validation
from unmask.train.selection import Evaluation, Selection
from unmask.train.state import Checkpoint, RunFolder, refuse_unlike

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Forward", "Interrupted", "Report", "fit"]

Report = Callable[[Step, Evaluation | None], None]
"""Told about every step, with the evaluation after it where there was one."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came between two steps, and a checkpoint was written."""


class Forward(nn.Module):
    """Feature and logit of pixels; the tower in the precision of the training, the head float32."""

    def __init__(self, model: UnmaskForImageClassification, precision: str = "float32") -> None:
        super().__init__()
        self.model = model
        self._bfloat16 = precision == "bfloat16"

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, width)`` and ``(b,)``, both float32, from pixels ``(b, 3, H, W)``."""
        own = torch.bfloat16 if self._bfloat16 and torch.is_grad_enabled() else torch.float32
        with (
            torch.autocast(pixels.device.type, torch.bfloat16, enabled=self._bfloat16),
            trained_attention(pixels.device, own),
        ):
            features = extract(self.model.backbone, pixels, self.model.spec.features)
        logits: Tensor = self.model.head(features)
        return features, logits


@dataclass(slots=True, eq=False)
class _Training:
    """What changes while a training runs."""

    config: TrainConfig
    plan: Plan
    place: Accelerator
    share: Share
    model: UnmaskForImageClassification
    forward: nn.Module
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    start: Mapping[str, Original]
    mean: RunningMean | None
    selection: Selection = field(default_factory=Selection)
    step: int = 0


def fit(
    model: UnmaskForImageClassification,
    batches: Batches,
    config: TrainConfig,
    plan: Plan,
    *,
    place: Accelerator,
    folder: RunFolder,
    evaluate: Callable[[Forward], Validation] | None = None,
    resume: bool = False,
    report: Report = lambda _step, _evaluation: None,
) -> Selection:
    """Train a model that :func:`unmask.models.tuning.tune` has prepared; its evaluations.

    Afterwards the model of the first process holds the weights of the best evaluation, or of the
    last step where nothing is evaluated. What no gradient reaches (norms that the features pass by)
    is frozen first.

    Args:
        model: Tuned by ``config.tuning()``.
        batches: The shares of steps.
        config: The settings.
        plan: How many steps there are.
        place: From :func:`unmask.train.place.new_place`.
        folder: Where checkpoints and logs go; made by :meth:`RunFolder.begin`.
        evaluate: Gives the validation of the model in evaluation mode; called by all processes.
        resume: Whether to go on from the checkpoint in the folder.
        report: Told about every step, in the first process.

    Raises:
        ConfigError: If a step cannot be divided evenly among processes and parts.
        CorruptWeights: If the loss is not finite, or the checkpoint is damaged.
        OutputError: If a checkpoint cannot be written.
        Interrupted: After Ctrl-C, with a checkpoint of the last step.
    """
    share = share_of(place, config)
    if config.warmup_epochs * plan.per_epoch > plan.steps and place.is_main_process:
        warnings.warn(
            f"the warm-up takes {config.warmup_epochs * plan.per_epoch:.0f} steps and the training "
            f"{plan.steps}: the learning rate never reaches {config.lr:g}. Give fewer "
            "warmup_epochs, or more steps.",
            UnmaskWarning,
            stacklevel=2,
        )
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(deterministic(place.device, config.deterministic))
        stop = stack.enter_context(stop_asked())
        training = _prepared(model, batches, config, plan, place, share)
        if resume:
            _restore(training, folder)
        log = None
        if place.is_main_process:
            log = stack.enter_context(TrainingLog(folder.log, step=training.step))
        _run(training, batches, folder, log, evaluate, stop, report)
    best = training.selection.best
    if not place.is_main_process:  # the weights that are kept are in its folder alone
        pass
    elif best is not None:
        put(training.parameters, folder.load_best(best.step, training.parameters))
    elif training.mean is not None:
        put(training.parameters, training.mean.mean)
    model.eval()
    return training.selection


def _prepared(
    model: UnmaskForImageClassification,
    batches: Batches,
    config: TrainConfig,
    plan: Plan,
    place: Accelerator,
    share: Share,
) -> _Training:
    penalised = config.orthogonality or config.kept_singular_values
    model.to(place.device)
    start = originals(model.backbone) if penalised else {}
    inner = Forward(model, config.precision)
    with closing(batches(0, share)) as some:
        _freeze_unreached(inner, next(some).on(place.device)[0][:1])
    model.train()
    forward = place.prepare_model(inner)  # several processes take the weights of the first
    parameters = trained_parameters(model)
    optimizer = new_optimizer(model, config)
    mean = RunningMean(parameters, config.ema) if config.ema else None
    return _Training(config, plan, place, share, model, forward, parameters, optimizer, start, mean)


def _freeze_unreached(forward: Forward, pixels: Tensor) -> None:
    """What the output does not depend on does not train; processes need not agree about it."""
    forward(pixels)[1].sum().backward()
    for parameter in forward.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None


def _run(
    training: _Training,
    batches: Batches,
    folder: RunFolder,
    log: TrainingLog | None,
    evaluate: Callable[[Forward], Validation] | None,
    stop: Callable[[], bool],
    report: Report,
) -> None:
    config, plan = training.config, training.plan
    if training.step >= plan.steps or training.selection.is_over(config.patience):
        return
    last = time.perf_counter()
    for batch in batches(training.step, training.share):
        losses, norm, stopping = _step(training, batch, stop())
        training.step += 1
        now = time.perf_counter()
        told = Step(
            step=training.step,
            steps=plan.steps,
            epoch=training.step / plan.per_epoch,
            losses=losses,
            lr=config.lr * lr_factor(config, plan, training.step - 1),
            gradient_norm=norm,
            seconds=now - last,
            crops=config.batch_size,
        )
        last = now
        evaluation = None
        if log is not None:
            log.step(told)
        if evaluate is not None and plan.evaluates(training.step, config):
            evaluation = _evaluate(training, evaluate, folder, log)
            last = time.perf_counter()
        over = training.step >= plan.steps or training.selection.is_over(config.patience)
        due = evaluation is not None or training.step % config.checkpoint_steps == 0
        if due or over or stopping:
            _save(training, folder)
        if log is not None:
            report(told, evaluation)
        if over:
            return
        if stopping:
            raise Interrupted


def _step(training: _Training, batch: Batch, stop: bool) -> tuple[dict[str, float], float, bool]:
    """One change of the weights: the losses and the length of the gradient before it.

    The third value says whether any of the processes was asked to stop.
    """
    config, place = training.config, training.place
    reseed(config.seed, training.step, place.process_index)
    set_lr(training.optimizer, lr_factor(config, training.plan, training.step))
    losses: dict[str, Tensor] = {}
    parts = [each.chunk(config.accumulation) for each in batch.on(place.device)]
    for number, (some, their) in enumerate(zip(*parts, strict=True), start=1):
        last = number == config.accumulation
        with nullcontext() if last else place.no_sync(training.forward):
            for name, value in _backward(training, some, their, penalise=last).items():
                losses[name] = losses.get(name, torch.zeros_like(value)) + value
    totals = torch.stack([*losses.values(), torch.tensor(float(stop), device=place.device)])
    *values, stopping = place.reduce(totals, "sum").tolist()
    told = dict(zip(losses, values, strict=True))
    if not math.isfinite(sum(values)):
        raise CorruptWeights(
            f"the loss of step {training.step + 1} is not finite ({told}): the training has "
            "diverged. Begin anew with a smaller lr (--lr), a longer warm-up or clip_norm."
        )
    longest = math.inf if config.clip_norm is None else config.clip_norm
    norm = place.clip_grad_norm_(list(training.parameters.values()), longest)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    if training.mean is not None:
        training.mean.update(training.parameters, training.step)
    return told, float(norm), stopping > 0


def _backward(
    training: _Training, pixels: Tensor, labels: Tensor, *, penalise: bool
) -> dict[str, Tensor]:
    """Add the gradient of a part of a step; this process's share of each loss, detached.

    Gradients of processes are averaged and losses of crops are summed over all of them, so that
    what counts once per process is multiplied by their number here. Distances of features are
    computed by each process among all features, with a gradient for its own.
    """
    config, place = training.config, training.place
    processes, parts = place.num_processes, config.accumulation
    features, logits = training.forward(pixels)
    entropy = cross_entropy(logits, labels, config.label_smoothing) / config.batch_size
    own = {"cross_entropy": entropy * processes}
    if config.uniformity or config.alignment:
        among = feature_losses(config, everyone(place, features), everyone(place, labels))
        own |= {name: value * processes / parts for name, value in among.items()}
    shared = penalties(config, training.model.backbone, training.start) if penalise else {}
    place.backward(torch.stack([*own.values(), *shared.values()]).sum())
    told = {"cross_entropy": entropy.detach()}
    for name, value in (own | shared).items():
        if name in shared:
            told[name] = value.detach() / processes
        elif name != "cross_entropy":
            told[name] = value.detach() / processes**2
    return told


def _evaluate(
    training: _Training,
    evaluate: Callable[[Forward], Validation],
    folder: RunFolder,
    log: TrainingLog | None,
) -> Evaluation:
    """Score the validation part, and keep the weights if they are the best so far."""
    model, place, mean = training.model, training.place, training.mean
    model.eval()
    with nullcontext() if mean is None else mean.used(training.parameters), torch.no_grad():
        validation = evaluate(Forward(model, training.config.precision))
        evaluation = Evaluation(training.step, validation)
        training.selection = training.selection.after(evaluation)
        if training.selection.is_best and place.is_main_process:
            folder.save_best(training.step, training.parameters)
    if log is not None:
        log.evaluation(evaluation)
    model.train()
    return evaluation


def _save(training: _Training, folder: RunFolder) -> None:
    if training.place.is_main_process:
        folder.save(
            Checkpoint(
                step=training.step,
                parameters={name: value.data for name, value in training.parameters.items()},
                optimizer=_without_groups(training.optimizer.state_dict()),
                selection=training.selection,
                mean=None if training.mean is None else training.mean.mean,
            )
        )
    training.place.wait_for_everyone()


def _without_groups(state: Mapping[str, Any]) -> dict[str, Any]:
    """The optimiser's state; its settings follow from the configuration."""
    return {"state": state["state"]}


def _restore(training: _Training, folder: RunFolder) -> None:
    """Put the latest checkpoint in place.

    Raises:
        CorruptWeights: If it is damaged, or does not fit the model.
    """
    found = folder.load(training.place.device)
    done = [found.step, *(one.step for one in found.selection.evaluations)]
    if max(done) > training.plan.steps:
        raise CorruptWeights(
            f"{folder.checkpoint} is damaged: it stands at step {max(done)} of a training of "
            f"{training.plan.steps}; begin anew with --overwrite"
        )
    refuse_unlike(found.parameters, training.parameters, folder.checkpoint)
    put(training.parameters, found.parameters)
    _restore_optimizer(training.optimizer, found.optimizer, folder)
    if training.mean is not None:
        refuse_unlike(found.mean, training.parameters, folder.checkpoint)
        training.mean.mean = dict(found.mean or {})
    training.selection, training.step = found.selection, found.step


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], folder: RunFolder
) -> None:
    """Give it the state of the checkpoint; the settings follow from the configuration."""
    groups = optimizer.state_dict()["param_groups"]
    try:
        optimizer.load_state_dict({**state, "param_groups": groups})
        for parameter, values in optimizer.state.items():
            for value in values.values():
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    raise ValueError(f"{tuple(value.shape)} in place of {tuple(parameter.shape)}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptWeights(
            f"{folder.checkpoint} is damaged: its optimiser does not fit ({error}); begin anew "
            "with --overwrite"
        ) from error
