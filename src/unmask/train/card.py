"""Model cards: what a detector learnt from, what it measured, what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from unmask.models.configuration import DetectorSpec, Recipe
from unmask.train.config import TrainConfig
from unmask.train.config_file import to_yaml
from unmask.train.finetune import Finetuned
from unmask.train.probe import Validation
from unmask.train.recipe import Probe
from unmask.types import OperatingPoint

__all__ = ["finetuned_card", "probe_card"]

_RECALL = "share of fakes found at 5 % false alarms"
_REALS_FOR_5 = 20
"""One of so many is 5 %."""
_RECIPES: Mapping[Recipe, str] = {
    "probe": "its head alone was trained",
    "effort": "the smallest singular directions of its attention projections were trained (Effort, "
    "arXiv:2411.15633)",
    "layernorm": "its layer norms were trained, as in GenD (arXiv:2508.06248)",
    "lora": "low-rank changes of its attention projections were trained (LoRA, arXiv:2106.09685)",
    "full": "all of its weights were trained",
}


def probe_card(probe: Probe, *, name: str, terms: str, command: str) -> str:
    """Markdown with the metadata block of the Hub.

    Args:
        probe: The trained detector.
        name: Title of the card.
        terms: What may be done with weights that learnt from this data.
        command: What trains it again.
    """
    spec = probe.model.spec
    return (
        "\n\n".join(
            [
                _metadata(spec),
                f"# {name}",
                _what(spec),
                "## Measured on validation",
                _table(probe),
                _notes(probe, spec),
                "## Data and terms",
                _of_data(spec, probe.counts, len(probe.left_out), terms),
                "## What it cannot do",
                _limits(spec),
                "## Reproduce",
                f"```\n{command}\n```",
            ]
        )
        + "\n"
    )


def finetuned_card(trained: Finetuned, *, name: str, terms: str, command: str) -> str:
    """As :func:`probe_card`, of a detector whose tower was trained too."""
    spec = trained.model.spec
    return (
        "\n\n".join(
            [
                _metadata(spec),
                f"# {name}",
                _what_was_trained(trained),
                "## Measured on validation",
                _rows(trained.validation),
                _choice(trained),
                "## Data and terms",
                _of_data(spec, trained.counts, len(trained.left_out), terms, trained.config),
                "## What it cannot do",
                _limits(spec),
                "## Reproduce",
                f"```\n{command}\n```",
                "All settings:",
                f"```yaml\n{to_yaml(trained.config)}```",
            ]
        )
        + "\n"
    )


def _metadata(spec: DetectorSpec) -> str:
    return (
        "---\npipeline_tag: image-classification\nlibrary_name: transformers\n"
        f"license: {json.dumps(spec.license or 'other')}\ntags: [unmask, deepfake-detection]\n---"
    )


def _what(spec: DetectorSpec) -> str:
    return (
        f"A linear head on {len(spec.features)} features of a frozen vision tower "
        f"({_tower(spec)}). {_input(spec)}"
    )


def _what_was_trained(trained: Finetuned) -> str:
    spec = trained.model.spec
    config = trained.config
    changed = _RECIPES[config.recipe]
    if config.frozen_blocks:
        changed = (
            f"all of its weights but those of the first {config.frozen_blocks} blocks, and of what "
            "comes before them, were trained"
        )
    return f"A vision tower ({_tower(spec)}) with a linear head; {changed}. {_input(spec)}"


def _tower(spec: DetectorSpec) -> str:
    source = spec.backbone_source
    return f"{f'`{source.id}`' if source else 'unnamed'}, {spec.backbone_config['model_type']}"


def _input(spec: DetectorSpec) -> str:
    given = "whole picture, squashed"
    if spec.face is not None:
        given = (
            f"face found by {spec.face.finder}, aligned to five points, crop scale "
            f"{spec.face.scale:g}"
        )
    if spec.whole_pictures is not None:
        given += "; or the whole picture, squashed (`--faces none`)"
    return (
        f"Input: {given}, {spec.preprocess.height} x {spec.preprocess.width} pixels. Features: "
        f"{', '.join(f'`{feature}`' for feature in spec.features)}."
    )


def _rows(validation: Validation) -> str:
    lines = ["| data set | real | fake | unit | AUC |", "|---|---|---|---|---|"]
    for row in validation.rows:
        unit = "video" if row.by_video else "picture"
        lines.append(f"| {row.dataset} | {row.n_real} | {row.n_fake} | {unit} | {row.auc:.3f} |")
    lines.append(_last("mean AUC", [validation.macro_auc]))
    lines.append(_last(_RECALL, [validation.recall_at_fpr5]))
    return "\n".join([*lines, *_few_reals(validation)])


def _few_reals(validation: Validation) -> list[str]:
    """A note on the share of fakes that are found, if it was measured on too few reals."""
    few = [row.dataset for row in validation.rows if row.n_real < _REALS_FOR_5]
    if not few:
        return []
    return [
        "",
        f"Of {', '.join(few)} there are fewer than {_REALS_FOR_5} reals, so 5 % of them cannot be "
        "told from none: the share found is that without a false alarm.",
    ]


def _choice(trained: Finetuned) -> str:
    spec, best = trained.model.spec, trained.selection.best
    kept = (
        "the weights of the last step were kept"
        if best is None
        else (
            f"those after step {best.step} were kept, the best by mean AUC of all evaluations "
            f"({len(trained.selection.evaluations)}) on these same validation samples, so the "
            "numbers are slightly optimistic"
        )
    )
    return (
        "Frames of one video count once, by their mean; the crop of each picture is scored, "
        "where a scan takes the most suspicious of several faces. "
        f"Of the weights {kept}.\n\n"
        f"{_reading(spec, trained.points_left_out)}"
    )


def _reading(spec: DetectorSpec, left_out: Sequence[str]) -> str:
    """Temperature and operating points, of whole pictures apart where there are some of theirs."""
    whole = spec.whole_pictures
    if whole is None:
        return (
            f"Temperature {spec.temperature:.3f}. Operating points:\n\n"
            f"{_points(spec.operating_points, left_out)}"
        )
    parts = [
        f"Temperature of faces {spec.temperature:.3f}. Operating points of faces:",
        _points(spec.operating_points) or "- none",
        f"Temperature of whole pictures {whole.temperature:.3f}. Operating points of whole "
        "pictures:",
        _points(whole.operating_points) or "- none",
        f"Left out:\n\n{_points((), left_out)}" if left_out else "",
    ]
    return "\n\n".join(filter(None, parts))


def _table(probe: Probe) -> str:
    columns = [("as it is", probe.chosen.validation)]
    if probe.chosen.altered:
        columns.append(("altered copies", probe.chosen.altered))
    if probe.whole:
        columns.append(("whole picture instead of the face", probe.whole.validation))
    header = "| data set | real | fake | unit | " + " | ".join(f"AUC, {c}" for c, _ in columns)
    lines = [header + " |", "|---|---|---|---|" + "---|" * len(columns)]
    for row in probe.chosen.validation.rows:
        cells = " | ".join(_auc(found, row.dataset) for _, found in columns)
        unit = "video" if row.by_video else "picture"
        lines.append(f"| {row.dataset} | {row.n_real} | {row.n_fake} | {unit} | {cells} |")
    lines.append(_last("mean AUC", [found.macro_auc for _, found in columns]))
    lines.append(_last(_RECALL, [found.recall_at_fpr5 for _, found in columns]))
    return "\n".join([*lines, *_few_reals(probe.chosen.validation)])


def _auc(found: Validation, dataset: str) -> str:
    """A dash where this input left no crop of one of the classes."""
    return next((f"{row.auc:.3f}" for row in found.rows if row.dataset == dataset), "-")


def _last(name: str, values: list[float]) -> str:
    return f"| {name} | | | | " + " | ".join(f"{value:.3f}" for value in values) + " |"


def _notes(probe: Probe, spec: DetectorSpec) -> str:
    shares = "; ".join(f"{name} {share:.1%}" for name, share in probe.outcomes.items())
    whole = (
        " The last column is a probe fitted to whole pictures: part of what it sees is framing "
        "and resampling that differ between sources, not forgery."
        if probe.whole
        else ""
    )
    return (
        "Frames of one video count once, by their mean. Input scale, features and penalty were "
        "chosen on these same validation samples, among "
        f"{len(probe.tried) + probe.searched} combinations, so the numbers are slightly "
        "optimistic. Altered copies are mirrored, shrunk, blurred, lightened and recompressed by "
        "chance, as sharing does."
        f"{whole}\n\nTemperature {spec.temperature:.3f}. Operating points:\n\n"
        f"{_points(spec.operating_points, probe.points_left_out)}\n\n"
        f"At {'the first one' if spec.operating_points else 'P(fake) 0.5'}, of single validation "
        f"pictures: {shares}."
    )


def _points(points: Sequence[OperatingPoint], left_out: Sequence[str] = ()) -> str:
    """A line for each, and for each that is missing."""
    found = [
        f"- `{point.name}`: fake from P(fake) {point.fake_at:.3f}, real below "
        f"{point.real_below:.3f}, inconclusive between ({point.source})"
        for point in points
    ]
    return "\n".join([*found, *(f"- {sentence}" for sentence in left_out)])


def _of_data(
    spec: DetectorSpec,
    counts: Mapping[str, int],
    left: int,
    terms: str,
    config: TrainConfig | None = None,
) -> str:
    listed = "\n".join(f"- {name}: {count}" for name, count in counts.items())
    paragraphs = [
        terms,
        f"Samples with a crop (part/data set/class):\n\n{listed}",
        f"{left} samples were left out: they gave no crop, or their bytes are in validation too.",
    ]
    if spec.backbone_source is not None:
        paragraphs.insert(
            1,
            f"The tower began as that of `{spec.backbone_source.id}`: the terms of its weights, "
            "and of what these learnt from, hold for this detector too.",
        )
    if config is not None and config.self_blended + config.composites:
        kinds = {"faces blended with themselves": config.self_blended}
        kinds["faces with parts of another one"] = config.composites
        made = " and ".join(f"{share:.0%} {kind}" for kind, share in kinds.items() if share)
        paragraphs.append(f"Of the fake faces shown in training, {made} were made of the reals.")
    return "\n\n".join(paragraphs)


def _limits(spec: DetectorSpec) -> str:
    domain = _judges(spec)
    return (
        f"- {domain}\n"
        "- It knows the kinds of forgery in its training data. A new generator, a careful edit or "
        "a strong filter can pass as real.\n"
        "- A score is a likelihood under the validation mix above, not proof. P(fake) shifts with "
        "other shares of fakes and other picture quality; calibrate on data of your own.\n"
        "- Where a network and labelled data are at hand, a larger tower sees more: `unmask train "
        "DATA -o DIR --backbone openai/clip-vit-large-patch14`. A published, fine-tuned CLIP "
        "detector in this format is to be preferred to one on a small tower."
    )


def _judges(spec: DetectorSpec) -> str:
    if spec.domain == "image":
        return "It judges whole pictures; a small altered part may not move it."
    if spec.whole_pictures is None:
        return "It judges faces only; it says nothing about the rest of a picture."
    return (
        "It judges faces, and whole pictures when asked (`--faces none`, `--no-face "
        "whole-picture`). The whole pictures that it learnt from and was measured on are the same "
        "ones that its faces were cut from: it knows what these data show, portraits for the most "
        "part where the data are of faces, and nothing is known of its answers to other motifs."
    )
