"""A detector folder with another calibration: configuration and card change, weights stay.

Only a bias touches the weights file, and in it nothing but the bias of the head.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from unmask.errors import ConfigError, IncompatibleWeights
from unmask.models.checkpoint import new_folder
from unmask.models.configuration import UnmaskConfig, read_spec
from unmask.models.weights import read_config, weights_files
from unmask.models.whole_pictures import WholePictures
from unmask.types import OperatingPoint

__all__ = ["NO_BIAS", "is_detector_folder", "write_recalibrated"]

NO_BIAS = "a bias in it would move both, so calibrate the temperature only"
_BIAS = "head.linear.bias"


def is_detector_folder(folder: Path) -> bool:
    """Whether a model folder is one of ours, not a model that somebody else published.

    Raises:
        ConfigError: If ``config.json`` is missing, damaged or of an unknown kind.
    """
    return isinstance(read_config(folder), UnmaskConfig)


def write_recalibrated(
    folder: Path,
    output: Path,
    *,
    temperature: float,
    points: Sequence[OperatingPoint],
    record: Mapping[str, Any],
    section: str,
    bias: float = 0.0,
    whole_pictures: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the detector with its new calibration and return its folder, complete or not at all.

    Args:
        folder: The detector, whole or an adapter.
        output: The new folder; may be ``folder`` itself, with ``overwrite``.
        temperature: ``P(fake) = sigmoid((logit + bias) / temperature)``.
        points: In the place of the present ones; the first is the default.
        record: How they came about, for ``calibration.record`` of the configuration.
        section: Markdown for the card, from its heading on; it takes the place of an earlier one.
        bias: Added to each of the head's outputs that stand for fakes, and so to the logit. A
            record of parity (``parity.json``) is left out then: it was made with other weights.
        whole_pictures: Whether this is how a detector of faces reads whole pictures, so that
            faces keep what they have.
        overwrite: Whether another detector folder may be replaced.

    Raises:
        ConfigError: If the configuration is not sound, or a bias would change what is to stay.
        IncompatibleWeights: If a bias is to be added and there is no head in ``.safetensors``.
        OutputError: As :func:`unmask.models.checkpoint.check_free`.
    """
    folder, output = folder.resolve(), output.resolve()
    spec = read_spec(read_config(folder))
    if bias and (whole_pictures or spec.whole_pictures is not None):
        raise ConfigError(f"{folder} reads faces and whole pictures by one head; {NO_BIAS}")
    with new_folder(output, overwrite=overwrite) as new:
        for path in _files(folder, with_parity=not bias):
            _same(path, new / path.name, share=folder == output)
        if bias:
            _add_bias(new, bias, spec.head.fakes)
        card = folder / "README.md"
        before = card.read_text(encoding="utf-8") if card.is_file() else ""
        (new / "README.md").write_text(_with_section(before, section), encoding="utf-8")
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if whole_pictures:
            values["whole_pictures"] = WholePictures(temperature, tuple(points), record).to_dict()
        else:
            values["calibration"] = {"temperature": temperature, "record": dict(record)}
            values["operating_points"] = [asdict(point) for point in points]
        text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
        # Last: a folder without it does not load.
        (new / "config.json").write_text(text + "\n", encoding="utf-8")
        read_spec(read_config(new))
    return output


def _files(folder: Path, *, with_parity: bool) -> list[Path]:
    """What stays as it is."""
    names = ["preprocessor_config.json", "model.safetensors.index.json"]
    names += ["parity.json"] if with_parity else []
    return [*weights_files(folder), *filter(Path.is_file, (folder / name for name in names))]


def _same(path: Path, new: Path, *, share: bool) -> None:
    """The file under another name; by a link where the old name is about to go."""
    if share:
        try:
            os.link(path, new)
        except OSError:  # a file system without links
            shutil.copy(path, new)
    else:
        shutil.copyfile(path, new)


def _add_bias(folder: Path, bias: float, fakes: int) -> None:
    for path in weights_files(folder):
        if path.suffix != ".safetensors":
            break
        with safe_open(path, framework="pt") as file:
            metadata, found = file.metadata(), _BIAS in file.keys()  # noqa: SIM118 (no mapping)
        if not found:
            continue
        state = load_file(path)
        state[_BIAS] = state[_BIAS].clone()  # the others are views of the file
        state[_BIAS][-fakes:] += bias
        mode = path.stat().st_mode
        path.unlink()  # it may be a link to the file of the folder that is to be replaced
        save_file(state, path, metadata)
        path.chmod(mode)
        return
    raise IncompatibleWeights(
        f"{folder} has no {_BIAS} in a .safetensors file, so that no bias can be added; save the "
        "detector again with unmask.models.checkpoint.save, or calibrate the temperature only"
    )


def _with_section(card: str, section: str) -> str:
    """The card with the section in the place of an earlier one, else at its end."""
    new = section.rstrip("\n") + "\n"
    heading = re.escape(new.partition("\n")[0])
    earlier = re.compile(rf"^{heading}$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if earlier.search(card):
        return earlier.sub(lambda _: f"{new}\n", card).rstrip("\n") + "\n"
    return f"{card.rstrip()}\n\n{new}" if card.strip() else new
