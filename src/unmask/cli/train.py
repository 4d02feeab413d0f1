"""``unmask train``: labelled pictures in, a detector folder out."""

from __future__ import annotations

import shlex
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli import options
from unmask.cli.progress import progress
from unmask.files import one_line, valid_text

if TYPE_CHECKING:
    from unmask.train.recipe import Probe

__all__ = ["train"]

_FEW = 5
"""Validation units of a class below which an AUC is mostly chance."""


def train(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Folder with real/ and fake/, or a manifest (path,label[,dataset,group,split]).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Detector folder to write.")],
    recipe: Annotated[Literal["probe"], typer.Option(help="What is trained.")] = "probe",
    backbone: Annotated[
        str, typer.Option(help="Built-in name, model folder, or Hub id; only its tower is used.")
    ] = "builtin",
    faces: Annotated[
        Literal["largest", "none"], typer.Option(help="Learn from faces or whole pictures.")
    ] = "largest",
    scale: Annotated[
        list[float] | None, typer.Option(help="Crop scale to try; repeat. Default: 1.0 and 1.3.")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(help="Feature list to try, as mean@6,cls@12; repeat. Default: three lists."),
    ] = None,
    views: Annotated[int, typer.Option(help="Altered copies of each training picture.")] = 2,
    compare_whole: Annotated[
        bool, typer.Option("--compare-whole", help="Also measure whole pictures, for the card.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the split and the altered copies.")] = 0,
    name: Annotated[str | None, typer.Option(help="Title of the model card.")] = None,
    terms: Annotated[
        str, typer.Option(help="Terms of the training data, for the card.")
    ] = "Terms of the training data: not stated.",
    license_id: Annotated[str, typer.Option("--license", help="Licence of the weights.")] = "other",
    cache: Annotated[Path | None, typer.Option(help="Folder of the feature cache.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    batch_size: options.BatchSize = 32,
    workers: options.Workers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    offline: options.Offline = False,
) -> None:
    """Train a detector on labelled pictures, in minutes on a CPU.

    Example: unmask train data/ -o mine/
    """
    from unmask.train.card import probe_card
    from unmask.train.data import read_labelled
    from unmask.train.recipe import ProbeOptions, train_probe
    from unmask.train.towers import feature_cache, load_tower

    cache = cache or feature_cache()
    check_output(output, data, cache, overwrite=overwrite)
    samples = read_labelled(data, seed=seed)
    lists = tuple(tuple(each.split(",")) for each in feature or ())
    tower, preprocess, source = load_tower(
        backbone,
        features=list(chain.from_iterable(lists)),
        revision=revision,
        offline=offline,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        workers=workers,
    )
    probe = train_probe(
        samples,
        tower,
        preprocess,
        source,
        ProbeOptions(
            faces=faces == "largest",
            scales=tuple(scale or (1.0, 1.3)),
            features=lists,
            views=views,
            compare_whole=compare_whole,
            seed=seed,
            license=license_id,
            cache=cache,
        ),
        data_name=valid_text(_named(data, {sample.dataset for sample in samples})),
        progress=progress,
    )
    command = valid_text(shlex.join(["unmask", *sys.argv[1:]]))
    card = probe_card(probe, name=name or valid_text(output.name), terms=terms, command=command)
    _write(probe, output, card, overwrite=overwrite)


def check_output(output: Path, data: list[str], cache: Path, *, overwrite: bool) -> None:
    """Nothing, if the folder may be written: before hours of work, not after.

    Raises:
        ConfigError: it is, holds or lies in one of the inputs or the cache.
        OutputError: it holds something that is no detector, or ``overwrite`` is not set.
    """
    from unmask.errors import ConfigError
    from unmask.models.checkpoint import check_free

    place = output.resolve()
    for what, path in [*(("input", Path(each)) for each in data), ("cache", cache)]:
        other = path.resolve()
        if place.is_relative_to(other) or other.is_relative_to(place):
            raise ConfigError(
                f"the output {output} and the {what} {path} are the same or one lies in the other; "
                "give another output folder"
            )
    check_free(output, overwrite=overwrite)


def _named(data: list[str], datasets: set[str]) -> str:
    """What thresholds say they come from: the data sets by name, else the files given."""
    names = sorted(datasets - {""}) or [Path(each).name for each in data]
    return ", ".join(names)


def _write(probe: Probe, output: Path, card: str, *, overwrite: bool) -> None:
    from unmask.models.checkpoint import save

    save(probe.model, output, card=card, overwrite=overwrite)
    for row in probe.chosen.validation.rows:
        unit = "videos" if row.by_video else "pictures"
        typer.echo(
            f"{row.dataset:32} AUC {row.auc:.3f}  ({row.n_real} real, {row.n_fake} fake {unit})"
        )
        if min(row.n_real, row.n_fake) < _FEW:
            sys.stderr.write(
                f"warning: {one_line(row.dataset)}: an AUC of {row.n_real} real and {row.n_fake} "
                f"fake {unit} says little; give more data\n"
            )
    typer.echo(f"{'mean':32} AUC {probe.chosen.validation.macro_auc:.3f}")
    for source, code in probe.left_out:
        sys.stderr.write(f"left out: {one_line(source)} ({code})\n")
    sys.stderr.write(f"wrote {one_line(str(output))}\n")
