"""Compares a converted detector with its source again: by the record, or by the source itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from unmask.convert.parity import Parity, compared, logits_of, parity_inputs
from unmask.convert.parity_file import read_parity
from unmask.convert.settings import read_settings, settings_differences
from unmask.convert.source import read_source
from unmask.errors import ConfigError, CorruptWeights
from unmask.models.adapter import load_adapter
from unmask.models.checkpoint import load_model
from unmask.models.published.tensors import some
from unmask.models.weights import weights_files, weights_sha256
from unmask.versions import versions

__all__ = ["Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What :func:`verify` found."""

    folder: Path
    parity: Parity
    """With the logits of now; those of the source are the recorded ones where it was not read."""
    source_read: bool
    """Whether the source itself computed again."""
    problems: tuple[str, ...]
    """What differs, one sentence each; empty where all is as it was."""
    notes: tuple[str, ...] = ()
    """What was changed on purpose: the calibration, which no source has."""


def verify(
    folder: str | Path,
    *,
    source: str | Path | None = None,
    base: str | Path | None = None,
    offline: bool = False,
    token: str | None = None,
) -> Verification:
    """Run the comparison of a converted folder again.

    Without ``source`` the folder's logits are compared with those that the source gave when it was
    converted; with it, the source is read and computes again.

    Args:
        folder: Written by :func:`unmask.convert.convert`.
        source: The file, folder or Hub id that was converted.
        base: The base that the conversion was given, where it is not on the Hub: to read the
            source, or for an adapter.
        offline: Do not ask the Hub; cached copies are used.
        token: For the Hub, instead of ``HF_TOKEN``.

    Raises:
        ConfigError: If the folder has no report, or one of other inputs.
        CorruptWeights: If its weights are damaged.
        UnmaskError: Its kinds that reading folder and source raise.
    """
    folder = Path(folder)
    recorded = read_parity(folder)
    problems = _other_weights(recorded, folder)
    calibrated, changed = settings_differences(recorded.settings, read_settings(folder))
    problems += [f"config.json was changed: {one}" for one in changed]
    if recorded.saved_as == "merged":
        model = load_model(folder)
    else:
        model = load_adapter(folder, base=base, offline=offline, token=token)
    problems += _other_record(recorded, model.spec.training)
    inputs = parity_inputs(model.spec.preprocess)
    converted = logits_of(model, inputs, str(folder))
    if source is None:
        problems += _other_inputs(recorded, inputs)
        known = {one.name: one.original for one in recorded.inputs}
        original = [known[name] for name in inputs]
    else:
        read = read_source(
            recorded.kind, source, base=base or _on_hub(recorded.base),
            fake_labels=recorded.fake_labels, domain=model.spec.domain, offline=offline,
            token=token,
        )  # fmt: skip
        problems += _other_files(recorded.files, read.files)
        original = logits_of(read.imported.original, inputs, read.name)
    now = replace(recorded, inputs=compared(inputs, original, converted), versions=versions())
    if not now.holds:
        problems.append(f"the folder does not compute what its source did: {now.summary()}")
    notes = tuple(f"calibrated since: {one}" for one in calibrated)
    return Verification(folder.absolute(), now, source is not None, tuple(problems), notes)


def _other_weights(recorded: Parity, folder: Path) -> list[str]:
    """Sentences where the weights are not the recorded ones, or not in the recorded precision."""
    problems = []
    sha256 = weights_sha256(folder)
    if sha256 != recorded.weights_sha256:
        problems.append(
            f"the weights are not those that were compared: SHA-256 {sha256[:12]}..., "
            f"{recorded.weights_sha256[:12]}... recorded"
        )
    names = [key for key, dtype in _dtypes(folder).items() if dtype != _dtype(recorded, key)]
    if names:
        problems.append(
            f"the weights are not saved in {recorded.weights_dtype}, as recorded: {some(names)}"
        )
    return problems


def _dtypes(folder: Path) -> dict[str, str]:
    """Of the tensors that are no whole numbers, as safetensors writes them, by name."""
    found = {}
    for path in weights_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  # not a mapping
                    found[key] = str(file.get_slice(key).get_dtype())
        except SafetensorError as error:
            raise CorruptWeights(
                f"{path} is damaged or cut short ({error}); convert the detector again"
            ) from error
    return {key: dtype for key, dtype in found.items() if "F" in dtype}


def _dtype(recorded: Parity, key: str) -> str:
    half = recorded.weights_dtype == "float16" and not key.startswith("head.")
    return "F16" if half else "F32"


def _other_record(recorded: Parity, training: Mapping[str, Any]) -> list[str]:
    """A sentence where ``config.json`` tells of another source than the report."""
    report = {"kind": recorded.kind, "source": recorded.source, "files": dict(recorded.files)}
    said = training.get("converted_from")
    if said == report:
        return []
    return [f"config.json was converted from {said}, and the report is of {report}"]


def _other_inputs(recorded: Parity, inputs: Mapping[str, Tensor]) -> list[str]:
    """A sentence where the inputs of now are not those of the record.

    Raises:
        ConfigError: If they have not even the same names.
    """
    zeros = [0.0] * len(inputs)
    now = {one.name: one.sha256 for one in compared(inputs, zeros, zeros)}
    then = {one.name: one.sha256 for one in recorded.inputs}
    if now.keys() != then.keys():
        raise ConfigError(
            f"the report has the inputs {', '.join(then)}; {', '.join(now)} were expected. Convert "
            "the detector again."
        )
    other = [name for name in now if now[name] != then[name]]
    if not other:
        return []
    changed = [
        f"{name} {recorded.versions.get(name, 'unknown')} then, {version} now"
        for name, version in versions().items()
        if recorded.versions.get(name) != version
    ]
    why = "; ".join(changed) or "all versions are the same"
    return [
        f"the inputs {', '.join(other)} are prepared in another way than then ({why}), so their "
        "recorded logits say nothing; give the source (--source) to compare with it"
    ]


def _other_files(recorded: Mapping[str, str], read: Mapping[str, str]) -> list[str]:
    if sorted(recorded.values()) == sorted(read.values()):
        return []
    return [
        "the source is not the one that was converted: "
        + ", ".join(f"{name} {sha256[:12]}..." for name, sha256 in read.items())
        + " given, "
        + ", ".join(f"{name} {sha256[:12]}..." for name, sha256 in recorded.items())
        + " recorded"
    ]


def _on_hub(base: str | None) -> str | None:
    """The recorded base where it can be found again without being told: an id of the Hub."""
    return base if base is not None and "/" in base else None
