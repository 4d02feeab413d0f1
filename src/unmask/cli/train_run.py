"""The two kinds of training that ``unmask train`` runs: a probe, and weights of the tower."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from unmask.cli.progress import stage
from unmask.cli.train_progress import step_report
from unmask.files import one_line, replacing, valid_text

if TYPE_CHECKING:
    from unmask.train.config import TrainConfig
    from unmask.train.finetune import Finetuned
    from unmask.train.probe import Fit, Validation
    from unmask.train.recipe import Probe, ProbeOptions
    from unmask.types import Sample

__all__ = ["Command", "check_apart", "data_name", "run_finetune", "run_probe", "tell_left_out"]

_FEW = 5
"""Validation units of a class below which an AUC is mostly chance."""

_OF_A_PROBE = frozenset(
    {"recipe", "backbone", "faces", "crop_scale", "resolution", "features", "seed", "batch_size"}
)
"""The settings that mean something to a probe too."""


@dataclass(frozen=True, slots=True)
class Command:
    """What both kinds of training are told."""

    data: list[str]
    output: Path
    flags: Mapping[str, object]
    """By setting, what options say."""
    file: Mapping[str, object]
    """By setting, what the file says."""
    scales: tuple[float, ...]
    features: tuple[tuple[str, ...], ...]
    strengths: tuple[float, ...]
    """Of a probe; empty tries the usual ones."""
    fit: Fit | None
    """Of a probe; None is logistic."""
    cache: Path
    overwrite: bool
    name: str
    terms: str
    license: str
    workers: int | None
    device: str
    dtype: str
    revision: str | None
    offline: bool

    @property
    def line(self) -> str:
        """As it was typed, from the beginning on."""
        typed = (each for each in sys.argv[1:] if each != "--resume")
        return valid_text(shlex.join(["unmask", *typed]))

    def samples(self, seed: int) -> tuple[list[Sample], str]:
        """The samples, and what thresholds say they come from."""
        from unmask.train.data import read_labelled

        found = read_labelled(self.data, seed=seed)
        return found, data_name(self.data, {sample.dataset for sample in found})


def run_probe(command: Command, *, views: int | None, whole: bool, resume: bool, kept: str) -> None:
    """Fit a head to a frozen tower."""
    from unmask.errors import ConfigError
    from unmask.train.card import probe_card
    from unmask.train.config import checked_keys, make_config
    from unmask.train.inputs import resized
    from unmask.train.recipe import train_probe
    from unmask.train.towers import load_tower

    checked_keys(command.flags, "the options")
    for key in sorted({*command.file} - _OF_A_PROBE):
        sys.stderr.write(f"{key} has no effect on a probe\n")
    if others := sorted({*command.flags} - _OF_A_PROBE):
        raise ConfigError(f"{', '.join(others)} has no meaning for a probe; name another --recipe")
    if resume or kept == "adapter":
        raise ConfigError("a probe has neither --resume nor --as adapter; name another --recipe")
    given = {key: value for key, value in command.file.items() if key in _OF_A_PROBE}
    said = make_config("probe", given, command.flags, where="the file of settings")
    given |= command.flags
    if said.faces == "both":
        raise ConfigError(
            "a probe learns from faces or from whole pictures, not from both; name another "
            "--recipe, or --faces largest (--compare-whole measures whole pictures beside it)"
        )
    _check_output(command, command.output)
    lists = command.features or ((said.features,) if "features" in given else ())
    scales = command.scales or ((said.crop_scale,) if "crop_scale" in given else ())
    samples, data_name = command.samples(said.seed)
    tower, preprocess, source = load_tower(
        said.backbone,
        features=list(chain.from_iterable(lists)),
        revision=command.revision,
        offline=command.offline,
        device=command.device,
        dtype=command.dtype,
        batch_size=said.batch_size,
        workers=command.workers,
    )
    probe_options = _probe_options(command, said, lists, scales, views=views, whole=whole)
    probe = train_probe(
        samples,
        tower,
        resized(preprocess, said.resolution, tower.model.config),
        source,
        probe_options,
        data_name=data_name,
        progress=stage,
    )
    card = probe_card(probe, name=command.name, terms=command.terms, command=command.line)
    _write_probe(command, probe, card)


def _probe_options(
    command: Command,
    said: TrainConfig,
    lists: tuple[tuple[str, ...], ...],
    scales: tuple[float, ...],
    *,
    views: int | None,
    whole: bool,
) -> ProbeOptions:
    from unmask.train.recipe import ProbeOptions

    usual = ProbeOptions()
    return ProbeOptions(
        faces=said.faces == "largest",
        scales=scales or usual.scales,
        features=lists,
        strengths=command.strengths or usual.strengths,
        fit=command.fit or usual.fit,
        views=usual.views if views is None else views,
        compare_whole=whole,
        seed=said.seed,
        license=command.license,
        cache=command.cache,
    )


def run_finetune(
    command: Command,
    recipe: str,
    *,
    views: int | None,
    whole: bool,
    resume: bool,
    kept: Literal["merged", "adapter"],
) -> None:
    """Train weights of the tower."""
    from unmask.errors import ConfigError
    from unmask.train.state import RunFolder

    if views is not None or whole:
        raise ConfigError(
            "--views and --compare-whole are for a probe; of other recipes --augmentation says "
            "how crops are altered, anew in every epoch"
        )
    if command.strengths or command.fit:
        raise ConfigError("--strength and --fit are for a probe, whose head alone is fitted")
    if resume and command.overwrite:
        raise ConfigError("--resume and --overwrite contradict each other; give one of them")
    config = _config(command, recipe)
    first = os.environ.get("RANK", "0") == "0"  # of several processes only one speaks
    run = RunFolder(command.output.with_name(f"{command.output.name}.training"))
    with run.locked() if first else nullcontext():
        if resume and run.checkpoint.is_file():
            command = replace(command, overwrite=True)  # what it wrote itself, when it was finished
        elif resume and first:
            sys.stderr.write(
                f"no checkpoint in {one_line(str(run.path))}: it begins at the first step\n"
            )
        _check_output(command, command.output)
        _finetune(command, config, run.path, first=first, resume=resume, kept=kept)


def _finetune(
    command: Command,
    config: TrainConfig,
    folder: Path,
    *,
    first: bool,
    resume: bool,
    kept: Literal["merged", "adapter"],
) -> None:
    from unmask.train.finetune import FinetuneOptions, finetune
    from unmask.train.loop import Interrupted

    samples, data_name = command.samples(config.seed)
    finetune_options = FinetuneOptions(
        folder=folder,
        cache=command.cache,
        data_name=data_name,
        command=command.line,
        license=command.license,
        device=command.device,
        workers=command.workers,
        revision=command.revision,
        offline=command.offline,
        resume=resume,
        overwrite=command.overwrite and not resume,
        adapter=kept == "adapter",
    )
    try:
        with step_report(quiet=not first) as report:
            trained = finetune(
                samples,
                config,
                finetune_options,
                progress=stage if first else _silent,
                report=report,
            )
    except Interrupted:
        if first:
            _write_page(folder, command.name, config)
            sys.stderr.write(
                f"a checkpoint is in {one_line(str(folder))}; go on with: {command.line} --resume\n"
            )
        raise
    if trained is not None:
        _write_page(folder, command.name, config)
        _write_finetuned(command, trained)


def _config(command: Command, recipe: str) -> TrainConfig:
    from unmask.errors import ConfigError
    from unmask.train.config import make_config

    flags = dict(command.flags)
    if len(command.scales) > 1 or len(command.features) > 1:
        raise ConfigError(
            f"the recipe {recipe!r} trains with one --scale and one --feature list; several are "
            "tried by a probe only"
        )
    if command.scales:
        flags["crop_scale"] = command.scales[0]
    if command.features:
        flags["features"] = command.features[0]
    if command.dtype == "float16":
        raise ConfigError("trainings compute in float32 or bfloat16; float16 needs loss scaling")
    if command.dtype != "auto":
        flags["precision"] = command.dtype
    return make_config(recipe, command.file, flags, where="the file of settings")


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def _check_output(command: Command, output: Path) -> None:
    """Nothing, if the folder may be written: before hours of work, not after.

    Raises:
        ConfigError: it is, holds or lies in one of the inputs or the cache.
        OutputError: it holds something that is no detector, or may not be replaced.
    """
    from unmask.models.checkpoint import check_free

    check_apart(output, command.data, command.cache)
    check_free(output, overwrite=command.overwrite)


def check_apart(output: Path, data: list[str], cache: Path) -> None:
    """Nothing, if the output neither is, nor holds, nor lies in, an input or the cache.

    Raises:
        ConfigError: it does.
    """
    from unmask.errors import ConfigError

    place = output.resolve()
    inputs = [("input", Path(each)) for each in data]
    for what, path in [*inputs, ("cache", cache)]:
        other = path.resolve()
        if place.is_relative_to(other) or other.is_relative_to(place):
            raise ConfigError(
                f"the output {output} and the {what} {path} are the same or one lies in the other; "
                "give another output folder"
            )


def data_name(data: list[str], datasets: set[str]) -> str:
    """What thresholds say they come from: the data sets by name, else the files given."""
    names = sorted(datasets - {""}) or [Path(each).name for each in data]
    return valid_text(", ".join(names))


def _write_page(folder: Path, name: str, config: TrainConfig) -> None:
    from unmask.train.config_file import to_yaml
    from unmask.train.logs import read_log
    from unmask.train.page import training_page

    page = training_page(read_log(folder / "log.jsonl"), name=name, settings=to_yaml(config))
    with replacing(folder / "training.html") as file:
        file.write(page)


def _write_finetuned(command: Command, trained: Finetuned) -> None:
    from unmask.models.adapter import save_adapter
    from unmask.models.checkpoint import save
    from unmask.train.card import finetuned_card

    card = finetuned_card(trained, name=command.name, terms=command.terms, command=command.line)
    if trained.state is None:
        save(trained.model, command.output, card=card, overwrite=command.overwrite)
    else:
        save_adapter(
            trained.model,
            command.output,
            state=trained.state,
            tuning=trained.config.tuning(),
            base=trained.base,
            card=card,
            overwrite=command.overwrite,
        )
    _tell(command, trained.validation, trained)


def _write_probe(command: Command, probe: Probe, card: str) -> None:
    from unmask.models.checkpoint import save

    save(probe.model, command.output, card=card, overwrite=command.overwrite)
    _tell(command, probe.chosen.validation, probe)


def _tell(command: Command, validation: Validation, trained: Probe | Finetuned) -> None:
    """What was measured, on stdout; what was left out, on stderr."""
    for row in validation.rows:
        unit = "videos" if row.by_video else "pictures"
        typer.echo(
            f"{row.dataset:32} AUC {row.auc:.3f}  ({row.n_real} real, {row.n_fake} fake {unit})"
        )
        if min(row.n_real, row.n_fake) < _FEW:
            sys.stderr.write(
                f"warning: {one_line(row.dataset)}: an AUC of {row.n_real} real and {row.n_fake} "
                f"fake {unit} says little; give more data\n"
            )
    typer.echo(f"{'mean':32} AUC {validation.macro_auc:.3f}")
    tell_left_out(trained)
    sys.stderr.write(f"wrote {one_line(str(command.output))}\n")


def tell_left_out(trained: Probe | Finetuned) -> None:
    """Every operating point that is missing, and every sample that gave no crop or is a repeat."""
    for sentence in trained.points_left_out:
        sys.stderr.write(f"warning: {sentence}\n")
    for source, code in trained.left_out:
        sys.stderr.write(f"left out: {one_line(source)} ({code})\n")
