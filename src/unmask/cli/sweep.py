"""``unmask sweep``: which blocks, pooling, head and penalty suit the data, and the best of them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.progress import progress
from unmask.cli.streams import say
from unmask.cli.train_run import check_apart, data_name, tell_left_out
from unmask.errors import ConfigError
from unmask.files import one_line, valid_text

if TYPE_CHECKING:
    from unmask.train.sweep.result import Sweep, SweepOptions
    from unmask.train.sweep.table import About

__all__ = ["sweep"]


def sweep(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Folder with real/ and fake/, or a manifest (path,label[,dataset,group,split]).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    backbone: Annotated[
        str, typer.Option(help="Built-in name, model folder, or Hub id; only its tower is used.")
    ] = "builtin",
    faces: Annotated[
        Literal["largest", "none"], typer.Option(help="Learn from faces or whole pictures.")
    ] = "largest",
    crop_scale: Annotated[
        str | None, typer.Option(help="Crop scales of faces to try; default: 1.0,1.3.")
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(help="Sides of the input to try, as 224,280; default: the tower's."),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="Of cls, mean and pooler; default: all that the tower has.")
    ] = None,
    strength: Annotated[
        str | None, typer.Option(help="C of the regressions; default: 0.0003,0.001,...,0.3.")
    ] = None,
    shrinkage: Annotated[
        str | None,
        typer.Option(help="Of the discriminants; default: 0.01,0.03,0.1,0.3; none tries none."),
    ] = None,
    views: Annotated[int, typer.Option(help="Altered copies of each training picture.")] = 0,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Also train without each data set, and test on it.")
    ] = False,
    top: Annotated[int, typer.Option(help="How many feature lists are measured so.")] = 10,
    select: Annotated[
        Literal["validation", "leave-out"], typer.Option(help="What decides.")
    ] = "validation",
    seed: Annotated[int, typer.Option(help="Of everything left to chance.")] = 0,
    batch_size: options.BatchSize = 32,
    name: Annotated[str | None, typer.Option(help="Title of the table and the card.")] = None,
    terms: Annotated[
        str, typer.Option(help="Terms of the training data, for the card.")
    ] = "Terms of the training data: not stated.",
    license_id: Annotated[str, typer.Option("--license", help="Licence of the weights.")] = "other",
    cache: Annotated[Path | None, typer.Option(help="Folder of cached features.")] = None,
    json_document: Annotated[
        bool, typer.Option("--json", help="sweep.json on stdout, not the table.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    workers: options.Workers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    offline: options.Offline = False,
) -> None:
    """Search the best blocks, pooling, head and penalty on features of a frozen tower.

    Example: unmask sweep data.csv -o search/ --crop-scale 1.3,1.6 --leave-out
    """
    from unmask.train.sweep.result import SweepOptions
    from unmask.train.sweep.write import check_sweep_folder
    from unmask.train.towers import feature_cache

    if crop_scale is not None and faces == "none":
        raise ConfigError("--crop-scale is of faces, and --faces none asks for whole pictures")
    usual = SweepOptions()
    shrinkages = _numbers("--shrinkage", shrinkage) if shrinkage != "none" else ()
    chosen = SweepOptions(
        faces=faces == "largest",
        scales=_numbers("--crop-scale", crop_scale) or usual.scales,
        strengths=_numbers("--strength", strength) or usual.strengths,
        shrinkages=usual.shrinkages if shrinkages is None else shrinkages,
        resolutions=_sides(resolution),
        poolings=tuple(_parts(pooling)),
        views=views,
        leave_out=leave_out,
        top=top,
        select=select,
        seed=seed,
        license=license_id,
        cache=cache or feature_cache(),
    )
    check_apart(output, data, chosen.cache)
    check_sweep_folder(output, overwrite=overwrite)
    again = ["--backbone", backbone, "--faces", faces, "--batch-size", str(batch_size)]
    again += ["--device", device, "--dtype", dtype, "--license", license_id]
    kept = {"--cache": cache, "--revision": revision}
    again += [str(each) for pair in kept.items() if pair[1] is not None for each in pair]
    try:
        found, about = _run(
            data,
            backbone,
            chosen,
            name or valid_text(output.name),
            again,
            batch_size=batch_size,
            workers=workers,
            device=device,
            dtype=dtype,
            revision=revision,
            offline=offline,
        )
    except KeyboardInterrupt:
        sys.stderr.write(
            f"the features so far are in {one_line(str(chosen.cache))}; the same command goes on\n"
        )
        raise
    _write(output, found, about, terms, overwrite=overwrite, json_document=json_document)


def _run(
    data: list[str],
    backbone: str,
    chosen: SweepOptions,
    name: str,
    again: list[str],
    *,
    batch_size: int,
    workers: int | None,
    device: str,
    dtype: str,
    revision: str | None,
    offline: bool,
) -> tuple[Sweep, About]:
    from unmask.train.data import read_labelled
    from unmask.train.sweep.features import feature_lists, read_tower_config
    from unmask.train.sweep.run import sweep as search
    from unmask.train.sweep.table import About
    from unmask.train.towers import load_tower

    config = read_tower_config(backbone, revision=revision, offline=offline)
    lists = feature_lists(config, chosen.poolings)
    samples = read_labelled(data, seed=chosen.seed)
    tower, preprocess, source = load_tower(
        backbone,
        features=list(dict.fromkeys(each for one in lists for each in one.features)),
        revision=revision,
        offline=offline,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        workers=workers,
    )
    found = search(
        samples,
        tower,
        preprocess,
        source,
        chosen,
        data_name=data_name(data, {sample.dataset for sample in samples}),
        progress=progress,
        tell=_told,
    )
    about = About(
        name=name,
        command=valid_text(shlex.join(["unmask", *sys.argv[1:]])),
        data=tuple(data),
        source=source,
        tower_sha256=tower.sha256,
        dtype=str(tower.dtype).removeprefix("torch."),
        options=chosen,
        again=tuple(again),
    )
    return found, about


def _told(line: str) -> None:
    sys.stderr.write(f"{one_line(line)}\n")


def _write(
    output: Path, found: Sweep, about: About, terms: str, *, overwrite: bool, json_document: bool
) -> None:
    from unmask.train.card import probe_card
    from unmask.train.sweep.table import (
        sweep_csv,
        sweep_document,
        sweep_markdown,
        sweep_note,
        sweep_text,
    )
    from unmask.train.sweep.write import DETECTOR, write_sweep

    command = f"{about.train_command(found.winner)} -o NEW"
    card = probe_card(found.probe, name=about.name, terms=terms, command=command)
    card += f"\n## Search\n\n{valid_text(sweep_note(found, about))}\n"
    document = sweep_document(found, about)
    tables = {
        "sweep.json": document,
        "sweep.csv": sweep_csv(found),
        "sweep.md": sweep_markdown(found, about),
    }
    write_sweep(output, tables, found.probe.model, card=card, overwrite=overwrite)
    tell_left_out(found.probe)
    say(document.rstrip("\n") if json_document else sweep_text(found, about), go_on=True)
    _told(f"wrote {output}, the detector in {output / DETECTOR}; the same again: {command}")


def _parts(text: str | None) -> list[str]:
    return [] if text is None else [each.strip() for each in text.split(",")]


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """The numbers between commas, each once; None where the option is not given."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(float(each) for each in _parts(text)))
    except ValueError as error:
        raise ConfigError(
            f"{option} is {text!r}; numbers between commas were expected, as 1.0,1.3"
        ) from error


def _sides(text: str | None) -> tuple[int | None, ...]:
    if text is None:
        return (None,)
    try:
        return tuple(dict.fromkeys(int(each) for each in _parts(text)))
    except ValueError as error:
        raise ConfigError(
            f"--resolution is {text!r}; whole numbers between commas were expected, as 224,280"
        ) from error
