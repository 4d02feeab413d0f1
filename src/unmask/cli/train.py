"""``unmask train``: labelled pictures in, a detector folder out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.train_run import Command, run_finetune, run_probe
from unmask.files import one_line, valid_text

__all__ = ["train"]

Recipe = Literal["probe", "effort", "layernorm", "lora", "full"]
Fit = Literal["logistic", "lda"]


def train(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Folder with real/ and fake/, or a manifest (path,label[,dataset,group,split]).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Detector folder to write.")],
    recipe: Annotated[
        Recipe | None,
        typer.Option(help="What is trained: probe (the head alone, the default) or more."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML or TOML file of settings; options go before it.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as lr=0.001; repeat.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Built-in name, model folder, or Hub id; only its tower is used."),
    ] = None,
    faces: Annotated[
        Literal["largest", "none", "both"] | None,
        typer.Option(help="Learn from the largest faces, from whole pictures, or from both."),
    ] = None,
    scale: Annotated[
        list[float] | None,
        typer.Option(help="Crop scale; of a probe several to try: repeat (1.0 and 1.3)."),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(help="Feature list, as mean@6,cls@12; of a probe several to try: repeat."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="How long; not of a probe.")] = None,
    steps: Annotated[int | None, typer.Option(help="How long, instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Crops at once, or per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; not of a probe.")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="How training crops are altered, by name; or none.")
    ] = None,
    sampling: Annotated[
        Literal["balanced", "paired", "shuffled"] | None, typer.Option(help="Order of the samples.")
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many evaluations without a better one.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    kept: Annotated[
        Literal["merged", "adapter"], typer.Option("--as", help="Whole weights, or the changes.")
    ] = "merged",
    views: Annotated[
        int | None, typer.Option(help="Of a probe: altered copies of each picture (2).")
    ] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option(help="Of a probe: C of its regression, or shrinkage; several: repeat."),
    ] = None,
    fit: Annotated[
        Fit | None, typer.Option(help="Of a probe: logistic regression, or a discriminant.")
    ] = None,
    compare_whole: Annotated[
        bool, typer.Option("--compare-whole", help="Of a probe: also measure whole pictures.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of everything left to chance.")] = None,
    name: Annotated[str | None, typer.Option(help="Title of the model card.")] = None,
    terms: Annotated[
        str, typer.Option(help="Terms of the training data, for the card.")
    ] = "Terms of the training data: not stated.",
    license_id: Annotated[str, typer.Option("--license", help="Licence of the weights.")] = "other",
    cache: Annotated[Path | None, typer.Option(help="Folder of cached features and crops.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    workers: options.Workers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    offline: options.Offline = False,
) -> None:
    """Train a detector on labelled pictures: a probe in minutes, a whole tower in hours.

    Example: unmask train data/ -o mine/ --recipe effort --backbone openai/clip-vit-large-patch14
    """
    from unmask.train.towers import feature_cache

    flags: dict[str, object] = {
        "backbone": backbone,
        "faces": faces,
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "augmentation": augmentation,
        "sampling": sampling,
        "resolution": resolution,
        "patience": patience,
        "seed": seed,
    }
    flags = {key: value for key, value in flags.items() if value is not None}
    said = _set(settings or [])
    elsewhere: dict[str, object] = {"recipe": recipe, "crop_scale": scale, "features": feature}
    elsewhere["precision"] = None if dtype == "auto" else dtype
    _once({**flags, **{key: value for key, value in elsewhere.items() if value}}, said)
    command = Command(
        data=data,
        output=output,
        flags={**flags, **said},
        file=_file(config),
        scales=tuple(scale or ()),
        features=tuple(tuple(each.split(",")) for each in feature or ()),
        strengths=tuple(strength or ()),
        fit=fit,
        cache=cache or feature_cache(),
        overwrite=overwrite,
        name=name or valid_text(output.name),
        terms=terms,
        license=license_id,
        workers=workers,
        device=device,
        dtype=dtype,
        revision=revision,
        offline=offline,
    )
    chosen = recipe or str(said.get("recipe", command.file.get("recipe", "probe")))
    if chosen == "probe":
        run_probe(command, views=views, whole=compare_whole, resume=resume, kept=kept)
    else:
        run_finetune(command, chosen, views=views, whole=compare_whole, resume=resume, kept=kept)


def _file(config: Path | None) -> Mapping[str, object]:
    """The settings in the file; what has no effect is told."""
    from unmask.train.bench_config import read_config_file

    if config is None:
        return {}
    given = read_config_file(config)
    for sentence in given.ignored:
        sys.stderr.write(f"{one_line(sentence)}\n")
    return given.values


def _set(settings: list[str]) -> dict[str, object]:
    """What ``--set`` says, each value read as YAML."""
    from unmask.errors import ConfigError
    from unmask.train.config_file import parse_yaml

    found: dict[str, object] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: expected a name and a value, as lr=0.001")
        try:
            said = {key.strip(): parse_yaml(value)}
        except ConfigError as error:
            raise ConfigError(f"--set {text!r}: the value is no YAML ({error}); quote it") from None
        found = _once(found, said)
    return found


def _once(options: Mapping[str, object], said: Mapping[str, object]) -> dict[str, object]:
    """Both together; neither silently instead of the other.

    Raises:
        ConfigError: One name is in both.
    """
    from unmask.errors import ConfigError

    if twice := sorted({*options} & {*said}):
        raise ConfigError(f"{twice[0]} is given twice; leave one of the options")
    return {**options, **said}
