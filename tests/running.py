"""Running the command line: inside this process, and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def environment() -> dict[str, str]:
    """What a process needs to import this checkout, and nothing that would hide its noise."""
    before = os.environ.get("PYTHONPATH")
    path = str(SOURCE) if before is None else os.pathsep.join([str(SOURCE), before])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def process(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, to its end."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,  # type: ignore[call-overload]
    )
