"""A published detector, read by the reader of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from unmask.errors import ConfigError, near_names
from unmask.files import valid_text
from unmask.models.configuration import Domain
from unmask.models.locate import Located, locate
from unmask.models.published.classifier import read_classifier
from unmask.models.published.effort import read_effort
from unmask.models.published.gend import read_gend
from unmask.models.published.imported import Imported, Kind
from unmask.models.published.univfd import read_univfd
from unmask.models.weights import file_sha256, read_config

__all__ = ["Source", "read_source"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What was read, and what it is called in reports: never a path of this machine."""

    imported: Imported
    name: str
    """Of the file or folder, or ``org/name@commit`` of the Hub."""
    hub_id: str | None
    files: Mapping[str, str]
    """SHA-256 of each weights file, by its name."""
    base: Located | None
    """The model that ``base`` named."""
    fake_labels: tuple[str, ...]
    """Those that were given."""

    @property
    def base_name(self) -> str | None:
        """Hub id of the base, or the name of its folder."""
        if self.base is None:
            return None
        return self.base.id if self.base.hub_id else self.base.folder.absolute().name


def read_source(
    kind: Kind,
    source: str | Path,
    *,
    base: str | Path | None = None,
    fake_labels: Sequence[str] = (),
    domain: Domain | None = None,
    base_weights: bool = False,
    offline: bool = False,
    token: str | None = None,
) -> Source:
    """The published detector that ``source`` names.

    Args:
        kind: ``effort`` and ``univfd`` are files; ``gend`` and ``hf`` folders or Hub ids.
        source: The file, folder or Hub id ``org/name[@revision]``.
        base: A model folder or Hub id: the CLIP that a ``univfd`` head belongs to; of ``effort``
            and ``gend`` one whose configuration says what the weights do not.
        fake_labels: Of ``hf``: the labels that mean fake, where their names do not say so.
        domain: ``face`` or ``image`` for ``effort`` and ``hf``, whose weights do not say it.
        base_weights: Whether more of the base is needed than its configuration, as for an adapter.
        offline: Do not ask the Hub; cached copies are used.
        token: For the Hub, instead of ``HF_TOKEN``.

    Raises:
        ConfigError: If the kind is not known, or an option does not belong to it.
        UnmaskError: Its kinds that the reader of this kind raises.
    """
    _check_options(kind, base, fake_labels)
    for one in (source, base):
        if one is not None and valid_text(str(one)) != str(one):
            raise ConfigError(
                f"the name {valid_text(str(one))} is not valid UTF-8, and weights are only read "
                "from names that are; rename it"
            )
    located = None
    if base is not None:
        located = locate(
            base, offline=offline, token=token, weights=base_weights or kind == "univfd"
        )
    config = None if located is None or kind == "univfd" else read_config(located.folder)
    if kind in ("effort", "univfd"):
        path = Path(source).expanduser()
        if kind == "effort":
            imported = read_effort(path, base_config=config, domain=domain)
        else:
            if located is None:
                raise ConfigError(
                    "univfd is a head alone: give the CLIP that it belongs to, a folder or Hub id "
                    "(--base openai/clip-vit-large-patch14 for the published one)"
                )
            imported = read_univfd(path, located.folder)
        return _source(imported, path.name, None, located, ())
    found = locate(source, offline=offline, token=token)
    if kind == "gend":
        imported = read_gend(found.folder, base_config=config)
    else:
        imported = read_classifier(found.folder, fake_labels=fake_labels, domain=domain or "image")
    name = found.id if found.hub_id else found.folder.absolute().name
    return _source(imported, name, found.hub_id, located, tuple(fake_labels))


def _source(
    imported: Imported,
    name: str,
    hub_id: str | None,
    base: Located | None,
    fake_labels: tuple[str, ...],
) -> Source:
    files = {path.name: file_sha256(path) for path in imported.files}
    return Source(imported, name, hub_id, files, base, fake_labels)


def _check_options(kind: Kind, base: str | Path | None, fake_labels: Sequence[str]) -> None:
    if kind not in get_args(Kind):
        raise ConfigError(f"the kind {kind!r} is not known. {near_names(kind, get_args(Kind))}")
    if fake_labels and kind != "hf":
        raise ConfigError(
            f"--fake-label belongs to the kind hf, whose models name their labels; {kind} does not"
        )
    if base is not None and kind == "hf":
        raise ConfigError("--base does not belong to an image classifier (hf), which is whole")
