"""The command line: one verb per arrow, one file per verb. Results on stdout, the rest on stderr.

Exit codes: 0 all inputs scored, 1 some were not (each is in the output with its reason), 2 wrong
use, 3 a condition of ``evaluate --fail-if`` holds, 130 interrupted (what is done is saved), by
Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from unmask import __version__
from unmask.cli.align import align
from unmask.cli.audit import audit
from unmask.cli.calibrate import calibrate
from unmask.cli.convert import convert
from unmask.cli.equalize import equalize
from unmask.cli.evaluate import evaluate
from unmask.cli.fetch import fetch
from unmask.cli.models import models
from unmask.cli.scan import scan
from unmask.cli.streams import open_closed_streams, plain_warnings, terminable
from unmask.cli.sweep import sweep
from unmask.cli.train import train
from unmask.cli.verify import verify
from unmask.errors import UnmaskError

__all__ = ["app", "main"]

app = typer.Typer(
    name="unmask",
    help="Tells whether faces and images are real or fake.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"unmask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tells whether faces and images are real or fake."""


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb; Ctrl-C or SIGTERM anywhere in it is one word and exit code 130."""

    @wraps(verb)
    def run(**arguments: object) -> None:
        try:
            with terminable():
                verb(**arguments)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise typer.Exit(130) from None

    return run


class _Verb(TyperCommand):
    """A verb whose complaints about a value begin with the value.

    typer checks values by pydantic, whose messages begin with the kind of the exception.
    """

    def parse_args(self, *args: Any, **kwargs: Any) -> list[str]:  # noqa: ANN401  # typer's own types differ by version
        try:
            return super().parse_args(*args, **kwargs)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


for verb in (
    scan,
    train,
    sweep,
    evaluate,
    calibrate,
    audit,
    equalize,
    convert,
    verify,
    align,
    models,
    fetch,
):
    app.command(cls=_Verb)(_interruptible(verb))


def main() -> None:
    """Run the command line; an error of ours is a sentence on stderr and exit code 2."""
    open_closed_streams()
    plain_warnings()
    if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal cannot show is spelt out
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except UnmaskError as error:
        sys.stderr.write(f"unmask: {error}\n")
        raise SystemExit(2) from None
