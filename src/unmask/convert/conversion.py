"""A published detector into a detector folder that is proved to compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from unmask.convert.card import conversion_card
from unmask.convert.parity import (
    FILE,
    Parity,
    SavedAs,
    compared,
    logits_of,
    parity_inputs,
)
from unmask.convert.settings import read_settings
from unmask.convert.source import Source, read_source
from unmask.errors import ConfigError, IncompatibleWeights, OutputError
from unmask.files import valid_text
from unmask.models.adapter import load_adapter, save_adapter
from unmask.models.backbone import load_backbone
from unmask.models.catalog import UNKNOWN, Published
from unmask.models.checkpoint import WeightsDtype, check_free, load_model, new_folder, save
from unmask.models.configuration import BackboneSource, DetectorSpec, Domain, Recipe, Tuning
from unmask.models.fingerprint import content_sha256, tensor_digests
from unmask.models.locate import Located
from unmask.models.modeling import UnmaskForImageClassification, assemble
from unmask.models.published.imported import Imported, KeyFate, Kind
from unmask.models.published.known import by_name_only, known_as
from unmask.models.weights import weights_sha256
from unmask.types import FaceSpec
from unmask.versions import versions

__all__ = ["Conversion", "SavedAs", "convert"]

_RECIPES: Mapping[Kind, Recipe] = {"effort": "effort", "univfd": "probe", "gend": "layernorm"}
"""What the publisher trained, for an adapter."""
_SAME_WEIGHT = 1e-4
"""Of a tensor's largest value: how far the tower of an adapter may be from the source's. The split
in a published file was computed in float32, which rounds to some 1e-6 of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """What :func:`convert` did."""

    folder: Path
    keys: tuple[KeyFate, ...]
    """What became of each tensor of the source."""
    parity: Parity
    notes: tuple[str, ...]
    """What was decided without the source saying so."""
    spec: DetectorSpec
    """What the folder's configuration says."""


def convert(
    kind: Kind,
    source: str | Path,
    folder: str | Path,
    *,
    base: str | Path | None = None,
    fake_labels: Sequence[str] = (),
    domain: Domain | None = None,
    name: str | None = None,
    license: str | None = None,  # noqa: A002, RUF100  # the key's name in model cards
    as_: SavedAs = "merged",
    weights_dtype: WeightsDtype = "float32",
    overwrite: bool = False,
    offline: bool = False,
    token: str | None = None,
    progress: Callable[[str], None] = lambda _step: None,
) -> Conversion:
    """Write ``folder``, and prove that it gives the logits of ``source``.

    The folder appears when it is saved, loaded again and compared, or not at all.

    Args:
        kind: The format of the source, see :func:`read_source`.
        source: File, folder or Hub id.
        folder: The new detector folder.
        base: As :func:`read_source`; an adapter needs the tower that was trained.
        fake_labels: As :func:`read_source`.
        domain: ``face`` or ``image``, instead of what the source or its kind says.
        name: Title of the model card.
        license: Of the weights; None takes that of the list of published detectors.
        as_: ``merged`` saves a whole tower, ``adapter`` only what training changed.
        weights_dtype: Of the tower in the file; an adapter is always float32.
        overwrite: Whether another detector folder may be replaced.
        offline: Do not ask the Hub; cached copies are used.
        token: For the Hub, instead of ``HF_TOKEN``.
        progress: Told each step as it begins.

    Raises:
        ConfigError: If options contradict each other.
        IncompatibleWeights: If the folder does not compute what the source does, or the source
            cannot be an adapter of the base.
        OutputError: If the folder may not be written.
        UnmaskError: Its kinds that reading and saving raise.
    """
    folder = Path(folder)
    if as_ != "merged":
        _check_adapter(kind, as_, weights_dtype, base)
    if valid_text(str(folder)) != str(folder):
        raise OutputError(
            f"the name {valid_text(str(folder))} is not valid UTF-8; name another folder"
        )
    name, license = (text and valid_text(text) for text in (name, license))  # noqa: A001, RUF100
    check_free(folder, overwrite=overwrite)
    progress("reading the source")
    read = read_source(
        kind, source, base=base, fake_labels=fake_labels, domain=domain,
        base_weights=as_ == "adapter", offline=offline, token=token,
    )  # fmt: skip
    published, doubts = _published(read)
    notes = (*read.imported.notes, *doubts)
    model = _described(read, domain, license, published)
    with _no_empty_parents(folder), new_folder(folder, overwrite=overwrite) as new:
        parity = _saved(model, read, new, as_, weights_dtype, progress)
        # Only now: the card has the numbers of the comparison, and that needs the saved weights.
        card = conversion_card(parity, model.spec, notes, published, name=name)
        (new / "README.md").write_text(card, encoding="utf-8")
        (new / FILE).write_text(parity.to_json(), encoding="utf-8")
    return Conversion(folder.absolute(), read.imported.keys, parity, notes, model.spec)


def _saved(
    model: UnmaskForImageClassification,
    read: Source,
    folder: Path,
    as_: SavedAs,
    weights_dtype: WeightsDtype,
    progress: Callable[[str], None],
) -> Parity:
    """The comparison of the source with the folder, which is written here and loaded again."""
    inputs = parity_inputs(model.spec.preprocess)
    progress("computing with the source's own tensors")
    original = logits_of(read.imported.original, inputs, read.name)
    progress("saving")
    if as_ == "merged":
        save(model, folder, card="", weights_dtype=weights_dtype)
    else:
        _save_adapter(model, read, folder)
    progress("comparing the saved folder with the source")
    loaded = load_model(folder) if as_ == "merged" else _loaded_adapter(folder, read)
    converted = logits_of(loaded, inputs, "the converted folder")
    parity = Parity(
        kind=read.imported.kind,
        source=read.name,
        files=read.files,
        base=read.base_name,
        fake_labels=read.fake_labels,
        saved_as=as_,
        weights_dtype=weights_dtype,
        weights_sha256=weights_sha256(folder),
        settings=read_settings(folder),
        inputs=compared(inputs, original, converted),
        versions=versions(),
    )
    _check_parity(parity)
    return parity


def _check_adapter(
    kind: Kind, as_: SavedAs, weights_dtype: WeightsDtype, base: str | Path | None
) -> None:
    if as_ != "adapter":
        raise ConfigError(f"as {as_!r} is not one of {', '.join(get_args(SavedAs))}")
    if kind == "hf":
        raise ConfigError(
            "an image classifier does not say which of its weights training changed, so it cannot "
            "be an adapter; save it merged"
        )
    if weights_dtype != "float32":
        raise ConfigError("an adapter is always float32; leave out --float16, or save it merged")
    if base is None:
        raise ConfigError(
            "an adapter holds only what training changed: give the model that was trained, a "
            "folder or Hub id (--base)"
        )


def _published(read: Source) -> tuple[Published | None, tuple[str, ...]]:
    """The entry of the source in the list of published detectors, and how sure that is."""
    imported = read.imported
    config = imported.model.backbone.config
    known = known_as(imported.kind, read.files, config, hub_id=read.hub_id)
    if known is None:
        return None, ()
    entry, how = known
    return entry, (by_name_only(entry),) if how == "name" else ()


@contextmanager
def _no_empty_parents(folder: Path) -> Iterator[None]:
    """Remove the folders above ``folder`` that this block made and left empty."""
    new = [one for one in folder.absolute().parents if not one.exists()]
    try:
        yield
    except BaseException:
        for one in new:  # the innermost first
            with suppress(OSError):  # it is not there, or something else is in it by now
                one.rmdir()
        raise


def _described(
    read: Source, domain: Domain | None, license_: str | None, published: Published | None
) -> UnmaskForImageClassification:
    """The model with what is known of it in its configuration."""
    model = read.imported.model
    spec = model.spec
    if license_ is None:
        known = published is not None and published.licence_weights != UNKNOWN
        license_ = published.licence_weights if published is not None and known else ""
    if domain is not None and domain != spec.domain:
        face = FaceSpec(size=spec.preprocess.height) if domain == "face" else None
        spec = replace(spec, domain=domain, face=face)
    source = spec.backbone_source
    if source is not None and read.base is not None:  # the Hub's name for it, where it has one
        source = replace(source, id=read.base.hub_id or source.id, revision=read.base.revision)
    record = {"kind": read.imported.kind, "source": read.name, "files": dict(read.files)}
    spec = replace(
        spec, license=license_, training={"converted_from": record}, backbone_source=source
    )
    return assemble(model.backbone, model.head, spec)


def _save_adapter(model: UnmaskForImageClassification, read: Source, folder: Path) -> None:
    imported, base = read.imported, cast(Located, read.base)  # see _check_adapter
    if not imported.trained:
        raise IncompatibleWeights(
            f"{read.name} cannot be saved as an adapter: it does not say which of its weights "
            "training changed. Save it merged."
        )
    recipe = _RECIPES[imported.kind]
    tuning = Tuning(recipe)
    if recipe == "effort":
        tuning = Tuning(recipe, keep=-_triples(imported))
    digest = content_sha256(tensor_digests(load_backbone(base.folder, model.spec.features)))
    where = BackboneSource(base.hub_id or base.id, base.revision, digest)
    save_adapter(model, folder, state=imported.trained, tuning=tuning, base=where, card="")


def _triples(imported: Imported) -> int:
    """How many singular triples of each layer were trained."""
    counts = {
        value.shape[0] for key, value in imported.trained.items() if key.endswith(".S_residual")
    }
    if len(counts) != 1:
        raise IncompatibleWeights(
            f"the layers were trained in {sorted(counts)} singular directions; an adapter has one "
            "number for all of them. Save it merged."
        )
    return counts.pop()


def _loaded_adapter(folder: Path, read: Source) -> UnmaskForImageClassification:
    """The adapter on its base, which must be the tower that the source was trained from."""
    base = cast(Located, read.base)  # see _check_adapter
    loaded = load_adapter(folder, base=base.folder)
    given = loaded.backbone.state_dict()
    for name, expected in read.imported.model.backbone.state_dict().items():
        off = float((given[name] - expected).abs().max())
        allowed = _SAME_WEIGHT * float(expected.abs().max())
        if off > allowed:
            raise IncompatibleWeights(
                f"{base.id} is not the model that {read.name} was trained from: {name} differs by "
                f"up to {off:.2g}, {allowed:.2g} allowed. Give the right one (--base), or save it "
                "merged."
            )
    return loaded


def _check_parity(parity: Parity) -> None:
    if not parity.holds:
        rounded = parity.weights_dtype == "float16"
        worst = max(parity.inputs, key=lambda one: abs(one.original - one.converted))
        raise IncompatibleWeights(
            f"the folder does not compute what {parity.source} does: {parity.summary()}; worst is "
            f"{worst.name!r} with a logit of {worst.original:.6g} in the source and "
            f"{worst.converted:.6g} in the folder. Nothing was written; "
            + ("try without --float16." if rounded else "please report it with these numbers.")
        )
