"""The smallest singular triples of a weight, in float64, and a cache of them on disk.

Only those that are asked for are computed where that is faster; ``unmask.models.effort`` uses them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unmask.errors import ConfigError, CorruptWeights
from unmask.fetch import cache_root

__all__ = ["Triples", "default_cache", "smallest_triples"]

_METHOD = "inverse-iteration-1"
"""Part of every cache key; changes with what is computed."""
_SMALL_WIDTH = 256
"""Below it a full SVD takes milliseconds."""
_FEW = 8
"""Up to this many triples, inverse iteration from a random block beats one from the Gram matrix."""
_EXTRA, _EXTRA_GRAM = 16, 4
"""Vectors iterated beside those asked for: the error shrinks by (s_k / s_(k+extra))^2 a step."""
_STEPS, _FIRST, _SLOW = 30, 3, 0.3
"""Another way is taken after so many steps; or where the residual, after the first few, is still
above this share of the one before. Attention weights of a trained ViT-S/14 need 4 to 8 steps."""
_SEED = 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Triples:
    """Some singular triples of a matrix ``(out, in)``; float64, on the CPU.

    The sign of each pair of vectors is arbitrary: compare products, ``(U * S) @ Vh``.
    """

    U: Tensor
    """Left singular vectors, the columns of ``(out, k)``."""
    S: Tensor
    """Singular values ``(k,)``, descending."""
    Vh: Tensor
    """Right singular vectors, the rows of ``(k, in)``."""


def default_cache() -> Path:
    """The folder of cached triples: below ``UNMASK_HOME``, else below the user's cache."""
    return cache_root() / "svd"


def smallest_triples(weight: Tensor, k: int, *, cache: Path | None = None) -> Triples:
    """The k smallest singular triples, in the order of ``torch.linalg.svd``.

    Residuals ``|W v - s u|`` and ``|W' u - s v|`` are below ``n eps |W|_F`` with n the smaller
    side and eps that of float64, whichever way was taken. Few triples of a wide matrix come from
    inverse iteration with its LU factors (Golub and Van Loan, Matrix Computations, 8.2.4 on the
    inverse), started from random vectors or from those of the Gram matrix; all others, and
    matrices on which that does not converge, from a full SVD.

    Args:
        weight: ``(out, in)``, of any floating type, on any device; on the meta device the result
            is there too.
        k: 1 to ``min(out, in)``.
        cache: A folder of earlier results; ``None`` neither reads nor writes one. A file in it
            that is damaged is computed again, and logged, as is a folder that cannot be written.

    Raises:
        ConfigError: If the weight is no matrix, or does not have k singular triples.
        CorruptWeights: If the weight holds values that are not finite.
    """
    if weight.ndim != 2 or not 1 <= k <= min(weight.shape):
        raise ConfigError(
            f"{k} singular triples of a weight of shape {tuple(weight.shape)} were asked for; "
            "expected a matrix, and 1 up to its smaller side"
        )
    own = weight.detach()
    if own.is_meta:
        return _smallest(torch.linalg.svd(own.double(), full_matrices=False), k)
    own = own.cpu().contiguous()
    if not torch.isfinite(own).all():
        raise CorruptWeights(
            f"a weight of shape {tuple(weight.shape)} holds values that are not finite, so it has "
            "no singular values; fetch or train it again"
        )
    if cache is None:
        return _compute(own.double(), k)
    key = _key(own, k)
    path = cache / f"{key}.safetensors"
    stored = _read(path, key, (own.shape[0], own.shape[1]), k)
    if stored is not None:
        return stored
    made = _compute(own.double(), k)
    _write(path, key, made)
    return made


def _compute(weight: Tensor, k: int) -> Triples:
    """Of a finite float64 matrix."""
    rows, columns = weight.shape
    if rows < columns:
        turned = _compute(weight.mT.contiguous(), k)
        return Triples(turned.Vh.mT.contiguous(), turned.S, turned.U.mT.contiguous())
    if columns < _SMALL_WIDTH or k > columns // 4:
        return _full(weight, k)
    if rows > columns:  # the triangular factor has the same S and Vh
        Q, R = torch.linalg.qr(weight)
        square = _compute(R, k)
        return Triples(Q @ square.U, square.S, square.Vh)
    lu, pivots, info = torch.linalg.lu_factor_ex(weight)
    found = None
    if info == 0:  # else it is singular to the last bit, and has no inverse
        if k <= _FEW:
            found = _iterate(weight, lu, pivots, _random_block(columns, k + _EXTRA), k)
        if found is None:
            start = _gram_block(weight, k + _EXTRA_GRAM)
            found = _iterate(weight, lu, pivots, start, k)
    return _full(weight, k) if found is None else found


def _full(weight: Tensor, k: int) -> Triples:
    return _smallest(torch.linalg.svd(weight, full_matrices=False), k)


def _smallest(parts: tuple[Tensor, Tensor, Tensor], k: int) -> Triples:
    U, S, Vh = parts
    return Triples(U[:, -k:].contiguous(), S[-k:].contiguous(), Vh[-k:].contiguous())


def _random_block(rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED)
    block = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    Q: Tensor = torch.linalg.qr(block)[0]
    return Q


def _gram_block(weight: Tensor, columns: int) -> Tensor:
    """Right singular vectors by way of ``W' W``: good where S is not small against its largest."""
    from scipy.linalg import eigh

    gram = (weight.mT @ weight).numpy()
    vectors = eigh(
        gram, subset_by_index=[0, columns - 1], driver="evr", overwrite_a=True, check_finite=False
    )[1]
    return torch.from_numpy(vectors[:, ::-1].copy())


def _iterate(weight: Tensor, lu: Tensor, pivots: Tensor, start: Tensor, k: int) -> Triples | None:
    """The k smallest triples within the iterated block; ``None`` if they do not settle.

    Each step applies the inverse to both sides in turn, ``U = orth(W'^-1 V)``, ``V = orth(W^-1
    U)``, and turns the bases so that ``U' W V`` is diagonal. It ends where the residual is at the
    level of rounding and no longer falls by half.
    """
    bound = len(weight) * torch.finfo(weight.dtype).eps * float(torch.linalg.matrix_norm(weight))
    V, before = start, float("inf")
    for step in range(_STEPS):
        U = torch.linalg.qr(torch.linalg.lu_solve(lu, pivots, V, adjoint=True)).Q
        V = torch.linalg.qr(torch.linalg.lu_solve(lu, pivots, U)).Q
        inner = U.mT @ (weight @ V)  # (block, block)
        if not torch.isfinite(inner).all():
            return None  # the inverse overflowed: as good as singular
        A, S, Bh = torch.linalg.svd(inner)
        U, V = U @ A, V @ Bh.mT
        found = Triples(U[:, -k:].contiguous(), S[-k:], V[:, -k:].mT.contiguous())
        now = _residual(weight, found)
        if now <= bound and now > before / 2:
            return found
        if now > bound and step >= _FIRST and now > before * _SLOW:
            return None
        before = now
    return None


def _residual(weight: Tensor, triples: Triples) -> float:
    """The largest ``|W v - s u|`` and ``|W' u - s v|``."""
    right = weight @ triples.Vh.mT - triples.U * triples.S  # (out, k)
    left = weight.mT @ triples.U - triples.Vh.mT * triples.S  # (in, k)
    return max(float(torch.linalg.vector_norm(each, dim=0).max()) for each in (right, left))


def _key(weight: Tensor, k: int) -> str:
    head = f"{_METHOD} {weight.dtype} {tuple(weight.shape)} {k}\n"
    digest = hashlib.sha256(head.encode())
    digest.update(weight.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checksum(key: str, triples: Triples) -> str:
    digest = hashlib.sha256(key.encode())
    for part in (triples.U, triples.S, triples.Vh):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, key: str, shape: tuple[int, int], k: int) -> Triples | None:
    """What an earlier run stored, if it is there and whole."""
    rows, columns = shape
    try:
        with safe_open(path, framework="pt") as file:
            checksum = (file.metadata() or {}).get("sha256")
            stored = Triples(*(file.get_tensor(name) for name in ("U", "S", "Vh")))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        _log.warning("%s cannot be read (%s); its triples are computed again", path, error)
        return None
    parts = (stored.U, stored.S, stored.Vh)
    shapes = tuple(tuple(part.shape) for part in parts)
    # Of another type there may be no bytes to hash: numpy has no bfloat16.
    is_double = all(part.dtype == torch.float64 for part in parts)
    if (
        not is_double
        or shapes != ((rows, k), (k,), (k, columns))
        or checksum != _checksum(key, stored)
    ):
        _log.warning("%s is not what was written; its triples are computed again", path)
        return None
    return stored


def _write(path: Path, key: str, triples: Triples) -> None:
    """Put it in place whole, or not at all; a folder that cannot be written is only logged."""
    tensors = {"U": triples.U, "S": triples.S, "Vh": triples.Vh}
    data = save(tensors, metadata={"sha256": _checksum(key, triples)})
    part: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{key[:16]}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).replace(path)
    except OSError as error:
        if part is not None:
            Path(part).unlink(missing_ok=True)
        _log.warning("singular triples cannot be kept in %s: %s", path.parent, error)
