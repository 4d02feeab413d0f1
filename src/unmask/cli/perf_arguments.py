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
    output: str
    title: str
    """First line of the output."""


TOOLS = {
    "perf_huggingface": Tool(
        model="huggingface_clip",
        config="training/config/detector/huggingface_clip.yaml",
        output="inference_results_huggingface.txt",
        title="Deepfake Detection Results (HuggingFace Model)",
    )
}
"""By the name of the script."""


def parser_for(tool: str) -> argparse.ArgumentParser:
    """Reads the command line of one of :data:`TOOLS`."""
    what = TOOLS[tool]
    parser = argparse.ArgumentParser(
        prog=f"{tool}.py",
        description="Score pictures as real or fake, in the original text format.",
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
        help="Hub id org/name[@revision], local CLIP folder, built-in or trained detector; "
        "overrides huggingface_model_name of the YAML",
    )
    parser.add_argument("--image", required=True, help="picture, or directory of pictures")
    parser.add_argument(
        "--landmark_model",
        "--landmark-model",
        type=Path,
        help="dlib file with 81 face landmarks; without it pictures are not cropped, unless the "
        "detector was trained on faces",
    )


def _add_new(parser: argparse.ArgumentParser, what: Tool) -> None:
    add = parser.add_argument
    output, dtypes = Path(what.output), ["auto", "float32", "bfloat16", "float16"]
    add("--output", type=Path, default=output, help="text file to write (default: %(default)s)")
    limit = "score a random choice of this many, stratified by label (default: 0, all)"
    add("--limit", type=_whole_number(0), default=0, help=limit)
    seed = "of --limit and of an untrained head (default: manualSeed of the YAML)"
    add("--seed", type=_whole_number(0), help=seed)
    batch = "pictures per forward pass (default: test_batchSize of the YAML)"
    add("--batch-size", "--batch_size", type=_whole_number(1), help=batch)
    add("--head", choices=["linear"], default="linear", help="untrained head of a bare CLIP")
    recursive = argparse.BooleanOptionalAction
    add("--recursive", action=recursive, default=True, help="enter sub-directories (default: yes)")
    add("--no_recursive", dest="recursive", action="store_false", help=argparse.SUPPRESS)
    add("--device", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--dtype", choices=dtypes, default="auto", help="number format of the tower")
    add("--revision", help="branch, tag or commit of a Hub model")
    add("--offline", action="store_true", help="use cached Hub files only")


def _whole_number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return number
