"""Adapter folders: what a training changed, and which tower it changed.

The folder has ``adapter.safetensors`` in the place of the whole weights, and its ``config.json`` an
``adapter`` section; ``docs/detector-folder.md`` describes both. Loading takes the tower from where
it was published, checks that it is the same one by its content, and merges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unmask.errors import (
    ConfigError,
    CorruptWeights,
    HubUnreachable,
    IncompatibleWeights,
    UnknownDetector,
)
from unmask.models import effort
from unmask.models.backbone import build_backbone, feature_width, load_backbone
from unmask.models.checkpoint import load_model, new_folder, write_beside_weights
from unmask.models.configuration import (
    AdapterSpec,
    BackboneSource,
    DetectorSpec,
    Tuning,
    UnmaskConfig,
    read_spec,
    tower_config,
)
from unmask.models.fingerprint import content_sha256, published_names, tensor_digests
from unmask.models.heads import Head
from unmask.models.locate import Located, locate
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.models.tuning import adapted_weight
from unmask.models.weights import (
    ADAPTER_FILE,
    FLOATING,
    check_finite,
    read_config,
    weights_files,
    weights_sha256,
)

__all__ = ["FILE", "load_adapter", "save_adapter"]

FILE = ADAPTER_FILE
_BACKBONE, _HEAD = "backbone.", "head."
_PARTS: Mapping[str, tuple[str, ...]] = {
    "effort": effort.RESIDUAL,
    "lora": ("lora_A", "lora_B"),
}
"""What is stored of a layer; of the other recipes whole tensors are."""
_GIVE_BASE = "Give the folder of the right tower with --base (base= in Python)."


def save_adapter(
    model: UnmaskForImageClassification,
    folder: Path,
    *,
    state: Mapping[str, Tensor],
    tuning: Tuning,
    base: BackboneSource,
    card: str,
    overwrite: bool = False,
    parity: str | None = None,
) -> Path:
    """Write an adapter folder and return it; it appears complete or not at all.

    Args:
        model: Whose configuration and head the detector has. Of its tower only the kind is used,
            so it may be tuned still, merged, or on the meta device.
        folder: The new folder.
        state: What training changed, and the head: ``trained_state(model, tuning)``, taken before
            the model is merged.
        tuning: How the tower was trained.
        base: The tower that was trained: its id (of a folder only its name is kept), its
            revision, and the hash of its content
            (``content_sha256(tensor_digests(tower))``, taken before it was tuned).
        card: Text of ``README.md``, the model card.
        overwrite: Whether another detector folder may be replaced.
        parity: Text of ``parity.json``, how a converted detector was compared with its source.

    Raises:
        ConfigError: If ``base`` has no hash.
        CorruptWeights: If a value is not finite.
        IncompatibleWeights: If ``state`` is not what ``tuning`` changes of this model.
        OutputError: As :func:`unmask.models.checkpoint.check_free`.
    """
    if not base.sha256:
        raise ConfigError(
            f"the base {base.id!r} of the adapter has no sha256; give the hash of its content, "
            "content_sha256(tensor_digests(tower)), taken before it was tuned"
        )
    names, shapes = _plain(model.spec)
    tensors = {
        _renamed(key, names): value.detach().float().cpu().contiguous()
        for key, value in state.items()
    }
    changed = tuple(sorted({one for key in tensors for one in _changed_by(key, tuning)}))
    adapter = AdapterSpec(tuning, _without_path(base), changed)
    spec = replace(model.spec, adapter=adapter)
    _check(f"the state for {folder}", tensors, _expected(spec, adapter, tensors, shapes))
    with new_folder(folder, overwrite=overwrite) as temporary:
        save_file(tensors, temporary / FILE, metadata={"format": "pt"})
        write_beside_weights(temporary, spec, card=card, parity=parity)
    return folder.absolute()


def load_adapter(
    folder: Path,
    *,
    base: str | Path | None = None,
    offline: bool = False,
    token: str | None = None,
    cache: Path | None = None,
) -> UnmaskForImageClassification:
    """The detector of an adapter folder, merged, float32, in evaluation mode.

    Args:
        folder: The adapter folder.
        base: The tower that it was made on, instead of the id that it names.
        offline: Do not ask the Hub for the tower; a cached copy is used.
        token: For the Hub, instead of ``HF_TOKEN``.
        cache: A folder for the singular triples of the base, which ``effort`` needs again.

    Raises:
        ConfigError: If ``config.json`` is missing, damaged or contradicts itself.
        CorruptWeights: If the file is damaged or holds values that are not finite.
        IncompatibleWeights: If the folder is no adapter, its tensors are not those that it
            names, or the base is another tower than it was made on; names both hashes.
        UnknownDetector: If the base is not found, or its Hub cannot be asked (HubUnreachable).
    """
    config = read_config(folder)
    spec = read_spec(config) if isinstance(config, UnmaskConfig) else None
    if spec is None or spec.adapter is None:
        raise IncompatibleWeights(f"{folder} is no adapter folder; load it with unmask.load")
    adapter, plain = spec.adapter, replace(spec, adapter=None)
    tensors = _read(folder / FILE)
    names, shapes = _plain(plain)
    _check(str(folder / FILE), tensors, _expected(plain, adapter, tensors, shapes))
    made_on = f"the adapter {folder} was made on {adapter.base.id}, whose tower has the hash"
    located = _locate_base(made_on, adapter.base, base, folder=folder, offline=offline, token=token)
    tower = _base_tower(made_on, adapter.base, located, plain)
    _apply(tower, adapter, tensors, {published: own for own, published in names.items()}, cache)
    model = assemble(tower, _head(tensors, plain), plain)
    check_finite(model, folder)
    return model


def _without_path(base: BackboneSource) -> BackboneSource:
    """The same; a folder of this machine goes by its own name alone."""
    path = Path(base.id).expanduser()
    is_local = base.revision is None and (path.is_absolute() or path.is_dir())
    return replace(base, id=path.resolve().name) if is_local else base


def _plain(spec: DetectorSpec) -> tuple[dict[str, str], dict[str, torch.Size]]:
    """Of the detector's plain tower: own name to published one, and that to a shape."""
    with torch.device("meta"):
        tower = build_backbone(tower_config(spec.backbone_config), spec.features)
    names = published_names(tower)
    return names, {names[name]: value.shape for name, value in tower.state_dict().items()}


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """A key of ``trained_state`` with the published name of its layer or tensor."""
    if not key.startswith(_BACKBONE):
        return key
    name = key.removeprefix(_BACKBONE)
    layer, _, part = name.rpartition(".")
    if name not in names and f"{layer}.weight" in names:
        return f"{_BACKBONE}{names[f'{layer}.weight'].removesuffix('weight')}{part}"
    return _BACKBONE + names.get(name, name)


def _changed_by(key: str, tuning: Tuning) -> Iterator[str]:
    """The layer or tensor that a key belongs to; nothing where it is the head's."""
    if key.startswith(_BACKBONE):
        name = key.removeprefix(_BACKBONE)
        parts = _PARTS.get(tuning.recipe)
        yield name if parts is None else name.rpartition(".")[0]


def _expected(
    spec: DetectorSpec,
    adapter: AdapterSpec,
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size],
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that there must be, by key; ``tensors`` only tell how many triples.

    Raises:
        IncompatibleWeights: If something is changed that the tower or the recipe does not have.
    """
    recipe, rank = adapter.tuning.recipe, adapter.tuning.lora_rank
    weight = ".weight" if recipe in _PARTS else ""
    strange = [one for one in adapter.changed if recipe == "probe" or one + weight not in shapes]
    if strange:
        raise IncompatibleWeights(
            f"the adapter changes what the tower, or the recipe {recipe!r}, does not have: "
            f"{_some(strange)}"
        )
    wanted: dict[str, tuple[int, ...]] = {}
    for name in adapter.changed:
        key, shape = _BACKBONE + name, tuple(shapes[name + weight])
        if recipe == "effort":
            values = tensors.get(f"{key}.S_residual")
            k = 0 if values is None else values.numel()
            if values is not None and not 1 <= k <= min(shape):
                raise IncompatibleWeights(
                    f"the adapter holds {k} singular triples of {name}, a layer of "
                    f"{list(shape)}; 1 up to {min(shape)} were expected. Fetch the adapter again."
                )
            sizes = [(shape[0], k), (k,), (k, *shape[1:])]
        elif recipe == "lora":
            sizes = [(rank, *shape[1:]), (shape[0], rank)]
        else:
            wanted[key] = shape
            continue
        named = (f"{key}.{part}" for part in _PARTS[recipe])
        wanted |= dict(zip(named, sizes, strict=True))
    width = feature_width(tower_config(spec.backbone_config), spec.features)
    wanted[f"{_HEAD}linear.weight"] = (spec.head.outputs, width)
    wanted[f"{_HEAD}linear.bias"] = (spec.head.outputs,)
    return wanted


def _check(
    where: str, tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse anything but exactly the tensors that the adapter's description calls for."""
    misshapen = [
        f"{key} {list(tensors[key].shape)} instead of {list(shape)}"
        for key, shape in wanted.items()
        if key in tensors and tuple(tensors[key].shape) != shape
    ]
    for problem, keys in (
        ("lacks tensors", wanted.keys() - tensors.keys()),
        ("holds tensors that do not belong there", tensors.keys() - wanted.keys()),
        ("holds tensors of another shape", misshapen),
    ):
        if keys:
            raise IncompatibleWeights(
                f"{where} {problem}: {_some(keys)}; fetch the adapter again or save it again"
            )
    for key, value in tensors.items():
        if value.dtype not in FLOATING:
            raise IncompatibleWeights(
                f"{where}: {key} holds {value.dtype}, and floating point was expected; fetch the "
                "adapter again or save it again"
            )
        if not value.is_meta and not torch.isfinite(value).all():
            raise CorruptWeights(
                f"{where}: {key} holds values that are not finite; the file is damaged or the "
                "training diverged. Fetch it again or train again."
            )


def _some(names: Collection[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(sorted(names)[:8]) + more


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise IncompatibleWeights(f"{path} is missing: an adapter folder needs it; fetch it again")
    weights_files(path.parent)  # refuses whole weights beside it
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CorruptWeights(
            f"{path} is damaged or cut short ({error}); delete it and fetch it again"
        ) from error


def _locate_base(
    made_on: str,
    source: BackboneSource,
    given: str | Path | None,
    *,
    folder: Path,
    offline: bool,
    token: str | None,
) -> Located:
    """The folder of the tower that was given, or of the one that the adapter names.

    A name without revision is first that of a folder beside the adapter's own.
    """
    try:
        if given is not None:
            return locate(given, offline=offline, token=token)
        beside = folder.absolute().parent / source.id
        if source.revision is None and (beside / "config.json").is_file():
            return locate(beside)
        return locate(source.id, revision=source.revision, offline=offline, token=token)
    except (UnknownDetector, HubUnreachable) as error:
        raise type(error)(
            f"{made_on} {source.sha256}, and that is not found: {_sentence(error)} {_GIVE_BASE}"
        ) from error


def _sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _base_tower(
    made_on: str, source: BackboneSource, located: Located, spec: DetectorSpec
) -> nn.Module:
    """The tower in a folder, if its content is that of the source."""
    try:
        tower = _tower_in(located.folder, spec)
    except IncompatibleWeights as error:
        raise IncompatibleWeights(
            f"{made_on} {source.sha256}, and {located.id} (file {weights_sha256(located.folder)}) "
            f"has not even its form: {_sentence(error)} {_GIVE_BASE}"
        ) from error
    found = content_sha256(tensor_digests(tower))
    if found != source.sha256:
        raise IncompatibleWeights(
            f"{made_on} {source.sha256}, and the tower of {located.id} has {found}: the changes "
            f"mean nothing there. {_GIVE_BASE}"
        )
    return tower


def _tower_in(folder: Path, spec: DetectorSpec) -> nn.Module:
    """The tower in a folder; it computes what the adapter's own configuration says."""
    config = read_config(folder)
    if isinstance(config, UnmaskConfig):
        return load_model(folder).backbone
    return load_backbone(folder, spec.features, config=tower_config(spec.backbone_config))


def _apply(
    tower: nn.Module,
    adapter: AdapterSpec,
    tensors: Mapping[str, Tensor],
    own: Mapping[str, str],
    cache: Path | None,
) -> None:
    """Put the changes into the tower's weights; ``own`` are its names by published ones."""
    recipe, tuning = adapter.tuning.recipe, adapter.tuning
    if recipe not in _PARTS:
        entries = tower.state_dict()
        with torch.no_grad():
            for name in adapter.changed:
                entries[own[name]].copy_(tensors[_BACKBONE + name])
        return
    layers = {name: own[f"{name}.weight"].removesuffix(".weight") for name in adapter.changed}
    state = {
        f"{mine}.{part}": tensors[f"{_BACKBONE}{name}.{part}"]
        for name, mine in layers.items()
        for part in _PARTS[recipe]
    }
    if recipe == "effort":
        effort.apply_state(tower, state, cache=cache)
        return
    scaling = tuning.lora_alpha / tuning.lora_rank
    for mine in layers.values():
        weight = tower.get_parameter(f"{mine}.weight")
        A, B = (state[f"{mine}.{part}"] for part in _PARTS[recipe])
        weight.data = adapted_weight(weight, A, B, scaling)


def _head(tensors: Mapping[str, Tensor], spec: DetectorSpec) -> Head:
    weight, shape = tensors[f"{_HEAD}linear.weight"], spec.head
    head = Head(weight.shape[1], shape.outputs, normalize=shape.normalize, fakes=shape.fakes)
    parts = {key: value for key, value in tensors.items() if key.startswith(_HEAD)}
    head.load_state_dict({key.removeprefix(_HEAD): value for key, value in parts.items()})
    return head
