"""The model card of a converted detector: where it came from, on what terms, and the proof."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from unmask.convert.parity import Parity
from unmask.files import one_line
from unmask.models.catalog import UNKNOWN, Published
from unmask.models.configuration import DetectorSpec
from unmask.models.published.imported import Kind

__all__ = ["conversion_card"]

_WHAT: Mapping[Kind, str] = {
    "effort": "A CLIP vision tower whose attention was trained in its smallest singular "
    "directions (Effort), with a head of two outputs, real and fake.",
    "univfd": "A linear head on the projected feature of a frozen CLIP (UnivFD).",
    "gend": "A vision tower whose layer norms were trained (GenD), with a head of two outputs, "
    "real and fake.",
    "hf": "An image classifier of transformers whose labels say real or fake.",
}
_METADATA: Mapping[str, str] = {"MIT": "mit", "Apache-2.0": "apache-2.0"}
"""Terms by the names that model cards have for them."""


def conversion_card(
    parity: Parity,
    spec: DetectorSpec,
    notes: Sequence[str],
    published: Published | None,
    *,
    name: str | None = None,
) -> str:
    """Markdown with the metadata block of the Hub.

    Args:
        parity: Of the folder that the card is for.
        spec: What its configuration says.
        notes: What was decided without the source saying so.
        published: Its entry in the list of published detectors, if it has one.
        name: Title; the source's name where it is None.
    """
    parts = [
        _metadata(spec),
        f"# {one_line(name or (published.id if published else parity.source))}",
        f"{_WHAT[parity.kind]} Converted by unmask from {_code(parity.source)}.",
        "## Source and terms",
        _source(parity, spec, published),
        "## What it looks at",
        _input(spec),
        "## The same numbers as the source",
        _numbers(parity),
        "## Use",
        _use(spec, parity),
        "## Limits",
        _limits(spec, notes),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(spec: DetectorSpec) -> str:
    terms = _METADATA.get(spec.license, spec.license) or "other"
    return (
        "---\npipeline_tag: image-classification\nlibrary_name: transformers\n"
        f"license: {json.dumps(terms)}\ntags: [unmask, deepfake-detection]\n---"
    )


def _source(parity: Parity, spec: DetectorSpec, published: Published | None) -> str:
    lines = [f"- file {_code(name)}, SHA-256 `{sha256}`" for name, sha256 in parity.files.items()]
    if parity.base is not None:
        lines.append(f"- base: {_code(parity.base)}")
    if published is not None:
        lines.append(f"- paper: {published.paper}")
        lines += [f"- {published.paper_url}"] if published.paper_url else []
        lines.append(f"- about it: {published.note}")
    terms = {
        "code": published.licence_code if published else UNKNOWN,
        "weights": one_line(spec.license) or UNKNOWN,
        "training data": published.licence_data if published else UNKNOWN,
    }
    lines += [f"- licence of the {part}: {text}" for part, text in terms.items()]
    return "\n".join(lines) + (
        "\n\nConverting changes no terms: those of the source hold for this folder too. Terms that "
        "are unknown allow nothing."
    )


def _code(text: str) -> str:
    """As code on one line: between more backticks than stand in it."""
    line = one_line(text)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"


def _input(spec: DetectorSpec) -> str:
    given = "The whole picture"
    if spec.face is not None:
        given = (
            f"A face, found by `{spec.face.finder}`, aligned to five points, crop scale "
            f"{spec.face.scale:g}, {spec.face.size} px"
        )
    return (
        f"{given}; prepared as `{spec.preprocess.describe()}`. The head reads "
        f"{', '.join(f'`{feature}`' for feature in spec.features)} of a "
        f"`{spec.backbone_config['model_type']}` tower. Domain: `{spec.domain}`."
    )


def _numbers(parity: Parity) -> str:
    rows = "\n".join(
        f"| {one.name} | {one.original:.6f} | {one.converted:.6f} |" for one in parity.inputs
    )
    saved = f"saved {parity.saved_as} in {parity.weights_dtype}"
    return (
        f"Logits (positive = fake) of inputs made from a seed, by the source's own tensors and by "
        f"this folder, {saved}, after it was loaded again: {parity.summary()}. Hashes of inputs "
        "and weights, and versions, are in `parity.json`; `unmask verify` on this folder runs it "
        f"again.\n\n| input | source | this folder |\n|---|---|---|\n{rows}"
    )


def _use(spec: DetectorSpec, parity: Parity) -> str:
    adapter = parity.saved_as == "adapter"
    lines = [f"unmask scan PICTURES -d FOLDER{' --base BASE' if adapter else ''}"]
    if spec.face is not None and spec.face.finder == "dlib81":
        lines.insert(0, "unmask fetch landmarks    # once: the file its face finder needs")
    commands = "```\n" + "\n".join(lines) + "\n```"
    if not adapter:
        return commands
    return (
        f"{commands}\n\nBASE is the folder or Hub id of {_code(parity.base or 'the base')}: this "
        "folder holds only what training changed, so transformers alone does not read it."
    )


def _limits(spec: DetectorSpec, notes: Sequence[str]) -> str:
    domain = (
        "It judges faces only; it says nothing about the rest of a picture."
        if spec.domain == "face"
        else "It judges whole pictures; a small altered part may not move it."
    )
    lines = [
        domain,
        "Nothing was measured here but that it computes what its source does. How well it tells "
        "real from fake on pictures like yours, measure on pictures of yours.",
        "It has no thresholds of its own: P(fake) of a half separates the verdicts, as in the "
        "source. A score is not proof.",
        *map(one_line, notes),
    ]
    return "\n".join(f"- {line}" for line in lines)
