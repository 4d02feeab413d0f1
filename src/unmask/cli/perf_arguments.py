"""The flags of the documented commands: those of the original scripts, and what was missing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TOOLS", "Tool", "parser_for"]


@dataclass(frozen=True, slots=True)
class Tool:
    """What differs between the scripts."""

    model: str
    """``model_name`` of the YAML files that it reads."""
    config: str
    """The file it reads where none is named."""
    output: str | None
    """The text file it writes where no other is named; None prints a line per picture instead."""
    title: str
    """First line of the output."""
    trained_only: bool
    """Whether ``--weights`` must name a trained detector. Else the YAML may name the model, and one
    without a head gets a random one."""
    recursive: bool = True
    """Whether sub-directories are read where nothing is said."""


TOOLS = {
    "perf_huggingface": Tool(
        model="huggingface_clip",
        config="training/config/detector/huggingface_clip.yaml",
        output="inference_results_huggingface.txt",
        title="Deepfake Detection Results (HuggingFace Model)",
        trained_only=False,
    ),
    "perf": Tool(
        model="effort",
        config="training/config/detector/effort.yaml",
        output="inference_results.txt",
        title="Deepfake Detection Results",
        trained_only=True,
    ),
    "demo": Tool(
        model="effort",
        config="training/config/detector/effort.yaml",
        output=None,
        title="",
        trained_only=True,
        recursive=False,
    ),
}
"""By the name of the script."""

_WEIGHTS = (
    "Hub id org/name[@revision], local CLIP folder, built-in or trained detector, or published "
    "Effort file; overrides huggingface_model_name of the YAML"
)
_WEIGHTS_TRAINED = (
    "published Effort file (.pth), or a trained detector: built-in, folder or Hub id "
    "org/name[@revision]"
)


def parser_for(tool: str) -> argparse.ArgumentParser:
    """Reads the command line of one of :data:`TOOLS`."""
    what = TOOLS[tool]
    parser = argparse.ArgumentParser(
        prog=f"{tool}.py",
        description="Score pictures as real or fake, "
        + ("in the original text format." if what.output else "one line for each."),
    )
    _add_documented(parser, what)
    _add_new(parser, what)
    return parser


def _add_documented(parser: argparse.ArgumentParser, what: Tool) -> None:
    parser.add_argument(
        "--detector_config",
        "--detector-config",
        type=Path,
        default=Path(what.config),
        help="YAML file of the detector (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        required=what.trained_only,
        help=_WEIGHTS_TRAINED if what.trained_only else _WEIGHTS,
    )
    parser.add_argument("--image", required=True, help="picture, or directory of pictures")
    parser.add_argument(
        "--landmark_model",
        "--landmark-model",
        type=Path,
        help="dlib file with 81 face landmarks; without it pictures are not cropped, unless the "
        "detector was trained on faces that another finder finds",
    )


def _add_new(parser: argparse.ArgumentParser, what: Tool) -> None:
    add = parser.add_argument
    if what.output is not None:
        path, written = Path(what.output), "text file to write (default: %(default)s)"
        add("--output", type=Path, default=path, help=written)
    limit = "score a random choice of this many, stratified by label (default: 0, all)"
    add("--limit", type=_whole_number(0), default=0, help=limit)
    heads = "" if what.trained_only else " and of an untrained head"
    seed = f"of --limit{heads} (default: manualSeed of the YAML)"
    add("--seed", type=_whole_number(0), help=seed)
    batch = "pictures per forward pass (default: test_batchSize of the YAML)"
    add("--batch-size", "--batch_size", type=_whole_number(1), help=batch)
    if not what.trained_only:
        add("--head", choices=["linear"], default="linear", help="untrained head of a bare CLIP")
    base = "CLIP folder or Hub id whose config says what the Effort file cannot: heads, activation"
    add("--base", help=f"{base} (default: base of the YAML)")
    fake = "label that means fake, of somebody else's classifier whose names do not say it"
    add("--fake-label", "--fake_label", action="append", default=[], help=f"{fake}; repeatable")
    action, how = argparse.BooleanOptionalAction, "yes" if what.recursive else "no"
    add("--recursive", action=action, default=what.recursive,
        help=f"enter sub-directories (default: {how})")  # fmt: skip
    add("--no_recursive", dest="recursive", action="store_false", help=argparse.SUPPRESS)
    add("--device", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    dtypes = ["auto", "float32", "bfloat16", "float16"]
    add("--dtype", choices=dtypes, default="auto", help="number format of the tower")
    add("--revision", help="branch, tag or commit of a Hub model")
    add("--offline", action="store_true", help="use cached Hub files only")


def _whole_number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return number
