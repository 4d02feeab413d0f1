"""The folder of a training, and the checkpoints in it: whole or not there, and never of another.

A checkpoint holds the trained weights, the optimiser, their running mean and the evaluations. Of
chance only the step is kept, since all of it is drawn from seed and step anew.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask.errors import ConfigError, CorruptWeights, OutputError
from unmask.files import held, replacing
from unmask.train.config import TrainConfig
from unmask.train.config_file import to_yaml
from unmask.train.logs import read_log
from unmask.train.selection import Selection

__all__ = ["Checkpoint", "RunFolder", "Setting", "refuse_unlike"]

_FORMAT = 1
_MAY_CHANGE = frozenset({"checkpoint_steps"})
"""Settings that no result depends on."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What makes two trainings the same one."""

    config: TrainConfig
    data_sha256: str
    """Of content, labels and parts of all samples."""
    tower_sha256: str
    """Of the tower that it starts from."""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def refuse_other(self, stored: Mapping[str, Any], where: Path) -> None:
        """Nothing, if the stored training is this one.

        Raises:
            ConfigError: Names what differs.
        """
        ours = {"data": self.data_sha256, "tower": self.tower_sha256, **_plain(self.config)}
        theirs = {
            "data": stored["data_sha256"],
            "tower": stored["tower_sha256"],
            **stored["config"],
        }
        different = [
            f"{name} ({theirs.get(name)!r} there, {ours.get(name)!r} here)"
            for name in sorted({*ours, *theirs} - _MAY_CHANGE)
            if ours.get(name) != theirs.get(name)
        ]
        if different:
            raise ConfigError(
                f"{where} belongs to another training; different are {', '.join(different)}. Give "
                "the same data and options, or begin anew with --overwrite."
            )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "config": _plain(self.config),
            "data_sha256": self.data_sha256,
            "tower_sha256": self.tower_sha256,
            "command": self.command,
            "versions": dict(self.versions),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a training stands after so many steps."""

    step: int
    parameters: Mapping[str, Tensor]
    """What trains, by name."""
    optimizer: Mapping[str, Any]
    selection: Selection
    mean: Mapping[str, Tensor] | None = None
    """The running mean of the weights, where there is one."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a training keeps its settings, checkpoints, logs and curves."""

    path: Path

    @property
    def log(self) -> Path:
        """One JSON object per step and per evaluation."""
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint."""
        return self.path / "checkpoint.pt"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder while a training writes to it.

        Raises:
            OutputError: If another training does, or no file can be made beside it.
        """
        path = self.path.with_name(f".{self.path.name}.lock")
        with ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(path))
            except Timeout as error:
                raise OutputError(
                    f"{self.path} is in use by another training; wait for its end, or name another "
                    "output"
                ) from error
            except OSError as error:
                raise OutputError(
                    f"{self.path} cannot be made ({error}); name another output"
                ) from error
            yield

    def begin(self, setting: Setting, *, resume: bool, overwrite: bool) -> bool:
        """Make the folder ready; whether there is a checkpoint to go on from.

        A training that ended before its first checkpoint has nothing to go on from, and nothing
        that would be lost: it begins anew.

        Raises:
            OutputError: If a training is there and neither is asked for, the folder holds
                something else, its log is damaged, or it cannot be written.
            ConfigError: If the training to go on with is another one.
        """
        found = self.path / "training.json"
        if self.path.exists() and not found.is_file():
            if not self.path.is_dir() or any(self.path.iterdir()):
                raise OutputError(
                    f"{self.path} holds something else than a training; name another output"
                )
        elif self.checkpoint.is_dir():
            raise OutputError(f"{self.checkpoint} is a folder, not a checkpoint; remove it")
        elif self.checkpoint.is_file() and resume:
            setting.refuse_other(_read_json(found), self.path)
            read_log(self.log)  # so that a damaged one is refused before any step
            return True
        elif self.checkpoint.exists() and not overwrite:
            raise OutputError(
                f"{self.path} holds a training already; go on with it by --resume, or begin anew "
                "with --overwrite"
            )
        try:
            self._clear(setting)
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error}); name another output"
            ) from error
        return False

    def _clear(self, setting: Setting) -> None:
        """Leave nothing of a training that was there before."""
        self.path.mkdir(parents=True, exist_ok=True)
        for old in (self.log, self.checkpoint, *self.path.glob("best-*.safetensors")):
            old.unlink(missing_ok=True)
        (self.path / "tensorboard").mkdir(exist_ok=True)
        for old in self.path.glob("tensorboard/events.out.*"):
            old.unlink()
        with replacing(self.path / "config.yaml") as file:
            file.write(to_yaml(setting.config))
        with replacing(self.path / "training.json") as file:
            json.dump({"format": _FORMAT, **setting.to_dict()}, file, indent=2)

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the latest checkpoint, and remove weights that are not the best any more."""
        content = {
            "format": _FORMAT,
            "step": checkpoint.step,
            "parameters": dict(checkpoint.parameters),
            "optimizer": dict(checkpoint.optimizer),
            "mean": None if checkpoint.mean is None else dict(checkpoint.mean),
            "selection": json.dumps(checkpoint.selection.to_list()),
        }
        part = self.path / f".checkpoint.{os.getpid()}.part"
        try:
            with part.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.checkpoint)
        except OSError as error:
            raise OutputError(
                f"the checkpoint {self.checkpoint} cannot be written ({error}); make room, then "
                "go on with --resume"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        best = checkpoint.selection.best
        for old in self.path.glob("best-*.safetensors"):
            if best is None or old != self._best(best.step):
                old.unlink()

    def load(self, device: torch.device) -> Checkpoint:
        """The latest checkpoint, its tensors on the device.

        Raises:
            CorruptWeights: If the file is damaged.
        """
        try:
            if not zipfile.is_zipfile(self.checkpoint):
                raise EOFError("no end of a checkpoint")
            stored = torch.load(self.checkpoint, map_location=device, weights_only=True)
            if stored["format"] != _FORMAT:
                raise KeyError("format")
            if type(stored["step"]) is not int or stored["step"] < 0:
                raise ValueError(f"step {stored['step']!r}")
            if not isinstance(stored["optimizer"]["state"], dict):
                raise TypeError("no state of an optimiser")
            return Checkpoint(
                step=stored["step"],
                parameters=stored["parameters"],
                optimizer=stored["optimizer"],
                selection=Selection.from_list(json.loads(stored["selection"])),
                mean=stored["mean"],
            )
        except (
            *(OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError),
            *(pickle.UnpicklingError, zipfile.BadZipFile),
        ) as error:
            raise CorruptWeights(
                f"{self.checkpoint} is damaged, or of another version ({error}); begin anew with "
                "--overwrite"
            ) from error

    def save_best(self, step: int, parameters: Mapping[str, Tensor]) -> None:
        """Keep the weights of the best step beside those of the last one."""
        part = self.path / f".best.{os.getpid()}.part"
        tensors = {name: value.detach().cpu().contiguous() for name, value in parameters.items()}
        try:
            save_file(tensors, part)
            part.chmod((self.path / "training.json").stat().st_mode)  # it keeps it from others
            part.replace(self._best(step))
        finally:
            part.unlink(missing_ok=True)

    def load_best(self, step: int, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the best step.

        Args:
            step: Of the best evaluation.
            like: What trains, by name: the file must hold the same names and shapes.

        Raises:
            CorruptWeights: If the file is damaged, gone, or of another training.
        """
        try:
            found = load_file(self._best(step))
        except (SafetensorError, OSError) as error:
            raise CorruptWeights(
                f"{self._best(step)} is damaged or gone ({error}); begin anew with --overwrite"
            ) from error
        refuse_unlike(found, like, self._best(step))
        return found

    def _best(self, step: int) -> Path:
        return self.path / f"best-{step}.safetensors"


def refuse_unlike(found: object, expected: Mapping[str, Tensor], where: Path) -> None:
    """Nothing, if these are tensors of the same names and shapes.

    Raises:
        CorruptWeights: They are not.
    """
    if isinstance(found, Mapping) and {*found} == {*expected}:
        alike = (
            isinstance(value, Tensor) and value.shape == expected[name].shape
            for name, value in found.items()
        )
        if all(alike):
            return
    raise CorruptWeights(
        f"{where} holds other weights than this training changes; begin anew with --overwrite"
    )


def _plain(config: TrainConfig) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(
            f"{path} cannot be read ({error}); begin anew with --overwrite"
        ) from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise OutputError(f"{path} is of another version; begin anew with --overwrite")
    kinds = {"config": dict, "data_sha256": str, "tower_sha256": str}
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            raise OutputError(f"{path} is damaged: no {name}; begin anew with --overwrite")
    return values
