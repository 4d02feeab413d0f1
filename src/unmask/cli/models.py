"""``unmask models``: what can be loaded by name."""

from __future__ import annotations

import json

import typer

__all__ = ["models"]


def models() -> None:
    """List the detectors that ship with the package, with their measured numbers.

    Example: unmask models
    """
    from unmask.models.builtin import BUILTINS, DEFAULT, builtin_folder

    for name in sorted(set(BUILTINS.values())):
        folder = builtin_folder(name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        default = " (default)" if BUILTINS[DEFAULT] == name else ""
        typer.echo(f"{name}{default}")
        typer.echo(f"  domain {config['domain']}, {megabytes:.0f} MB, licence {config['license']}")
        for row in config["training"]["chosen"]["validation"]["rows"]:
            unit = "videos" if row["by_video"] else "pictures"
            counts = f"{row['n_real']} real, {row['n_fake']} fake {unit}"
            typer.echo(f"  AUC {row['auc']:.3f} on {row['dataset']} ({counts}, validation)")
    typer.echo("Any other detector is named by its folder or Hub id (org/name[@revision]).")
