"""Models of the Hugging Face Hub: fetched once, checked, then taken from the cache.

``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean everywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from unmask.errors import (
    CorruptWeights,
    GatedModel,
    HubUnreachable,
    IncompatibleWeights,
    UnknownDetector,
)
from unmask.models.weights import file_sha256, weights_files

__all__ = ["HubModel", "fetch_model"]

_TIMEOUT_S = 10.0
_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")
# One of these, the first that the model has: a single file, or an index and its shards.
_WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?"),
    re.compile(r"adapter\.safetensors"),
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
# The transport's own error, whichever of its clients huggingface_hub uses: the first base of its
# HTTP error that is neither its own nor Python's.
_TransportError: type[Exception] = next(
    base for base in HfHubHTTPError.__mro__ if base.__module__.startswith("httpx")
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model in the cache."""

    folder: Path
    id: str
    revision: str
    """The commit, also where a branch or tag was asked for."""


def fetch_model(
    model_id: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    token: str | None = None,
    weights: bool = True,
) -> HubModel:
    """The model's configuration and weights (one format of them), downloaded where need be.

    Args:
        model_id: ``org/name``.
        revision: Branch, tag or commit; ``main`` if None.
        offline: Take the cached copy and ask nobody.
        token: Instead of ``HF_TOKEN`` and of the one that ``hf auth login`` stored.
        weights: Whether they are needed; without them a few kilobytes are fetched.

    Raises:
        UnknownDetector: If the Hub has no such model or revision, or hides it.
        GatedModel: If the model wants a token or an accepted licence.
        HubUnreachable: If the Hub cannot be asked and the cache has no copy.
        CorruptWeights: If the file in the cache is not what the Hub says it is.
        IncompatibleWeights: If the model has no weights that torch reads.
    """
    if offline or constants.HF_HUB_OFFLINE:
        model = _cached(model_id, revision, weights=weights)
        if model is None:
            raise HubUnreachable(
                f"{_named(model_id, revision)} is not in the cache ({constants.HF_HUB_CACHE}) and "
                f"offline use is asked for (--offline or HF_HUB_OFFLINE). {_how_to_fetch(model_id)}"
            )
        return _verified(model, weights=weights)
    try:
        return _verified(_download(model_id, revision, token, weights=weights), weights=weights)
    except GatedRepoError as error:
        raise GatedModel(
            f"{model_id} is gated: accept its licence at {constants.ENDPOINT}/{model_id}, and give "
            "a token of that account in HF_TOKEN (or run 'hf auth login')"
        ) from error
    except RevisionNotFoundError as error:
        raise UnknownDetector(
            f"{model_id} has no revision {revision!r}; expected a branch, tag or commit listed at "
            f"{constants.ENDPOINT}/{model_id}/commits/main"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UnknownDetector(
            f"there is no model {model_id!r} at {constants.ENDPOINT}, or it is private; check the "
            "spelling (org/name), or give a token that may see it in HF_TOKEN"
        ) from error
    except (_TransportError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        model = _cached(model_id, revision, weights=weights)
        if model is None:
            raise HubUnreachable(
                f"{constants.ENDPOINT} cannot be reached ({_short(error)}) and "
                f"{_named(model_id, revision)} is not in the cache ({constants.HF_HUB_CACHE}). "
                f"{_how_to_fetch(model_id)}"
            ) from error
        return _verified(model, weights=weights)


def _download(model_id: str, revision: str | None, token: str | None, *, weights: bool) -> HubModel:
    info = huggingface_hub.HfApi(token=token).model_info(
        model_id, revision=revision, timeout=_TIMEOUT_S
    )
    there = [sibling.rfilename for sibling in info.siblings or ()]
    names = _wanted(there, model_id) if weights else [name for name in there if name in _CONFIGS]
    with _bars_on_terminals():
        folder = huggingface_hub.snapshot_download(
            model_id, revision=revision, allow_patterns=names, token=token
        )
    return HubModel(Path(folder), model_id, Path(folder).name)


def _wanted(names: Sequence[str], model_id: str) -> list[str]:
    """Configuration and one format of weights; no tokenizer, no other framework's files."""
    for pattern in _WEIGHTS:
        weights = [name for name in names if pattern.fullmatch(name)]
        if weights:
            return [name for name in names if name in _CONFIGS] + weights
    raise IncompatibleWeights(
        f"{model_id} has no weights that torch reads; expected model.safetensors or "
        f"pytorch_model.bin, found {', '.join(sorted(names)[:10]) or 'no files'}"
    )


def _cached(model_id: str, revision: str | None, *, weights: bool) -> HubModel | None:
    """The copy in the cache, if there is one that is complete."""
    try:
        path = huggingface_hub.try_to_load_from_cache(model_id, "config.json", revision=revision)
    except HFValidationError as error:
        raise UnknownDetector(f"{model_id!r} is not a model id of the form org/name") from error
    if not isinstance(path, str):
        return None
    folder = Path(path).parent
    if not weights:
        return HubModel(folder, model_id, folder.name)
    try:
        weights_files(folder)
    except (IncompatibleWeights, CorruptWeights):
        return None
    return HubModel(folder, model_id, folder.name)


def _verified(model: HubModel, *, weights: bool) -> HubModel:
    """The model, if each weights file has the hash under which the Hub published it."""
    for path in weights_files(model.folder) if weights else ():
        blob = path.resolve()
        # The cache names a file by its ETag, which is the SHA-256 for large ones.
        if _SHA256.fullmatch(blob.name) and file_sha256(blob) != blob.name:
            raise CorruptWeights(
                f"{path} is damaged or cut short: its SHA-256 is not {blob.name}. "
                f"Delete {blob} and run again to fetch it anew."
            )
    return model


def _named(model_id: str, revision: str | None) -> str:
    return model_id if revision is None else f"{model_id} at revision {revision!r}"


def _how_to_fetch(model_id: str) -> str:
    return (
        f"Fetch it where there is a network ('hf download {model_id}', then copy the folder that "
        "HF_HOME names), or name a local folder, or use the built-in detector."
    )


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _bars_on_terminals() -> Iterator[None]:
    silence = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if silence:
        disable_progress_bars()
    try:
        yield
    finally:
        if silence:
            enable_progress_bars()
