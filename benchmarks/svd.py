"""How long the singular triples of a whole tower take, and how precise they are.

    OMP_NUM_THREADS=1 python benchmarks/svd.py [--trained K] [--width N] [--matrices M]

A ViT-L/14 has 96 attention weights of 1024 x 1024. Matrices with chosen singular values stand in
for them, in float32, each kind of spectrum in turn; the ways to get the K smallest triples take
turns on the same matrices, on one thread. Times are CPU seconds; the truth is a full SVD in
float64, whose own time is shown too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from scipy.linalg import eigh
from torch import Tensor

from unmask.models.svd import smallest_triples

TOWER = 96
SPECTRA = ("trained", "equal pair", "even", "floor")
WAYS = ("full, float32", "full, float64", "Gram and eigh", "unmask")
Parts = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """What one way took on one kind of spectrum."""

    spectrum: str
    way: str
    seconds: float
    """CPU seconds per matrix."""
    error: float
    """Largest error of an element of the product, over the largest singular value asked for."""
    residual: float
    """Largest ``|W v - s u|`` and ``|W' u - s v|``, over the largest singular value of all."""


def spectrum(kind: str, n: int) -> Tensor:
    """Singular values, descending.

    ``trained`` is a straight line to 0 below a few large values, as measured on the attention
    weights of a trained ViT-S/14 (largest 0.7 to 3, middle 0.3, last six 3e-3 to 1e-5).
    """
    ranks = torch.arange(n, dtype=torch.float64) / n
    if kind == "even":
        return 1 - ranks / 2
    values = 0.6 * (1 - ranks - 0.5 / n) + 2.5 * torch.exp(-ranks * n / 4)
    if kind == "equal pair":
        values[-1] = values[-2] * (1 - 1e-6)
    if kind == "floor":  # half of the values within a thousandth of each other
        values[n // 2 :] = 1e-3 * (1 - 1e-3 * ranks[: n - n // 2])
    return values


def matrices(kind: str, n: int, count: int) -> Iterator[Tensor]:
    """Different ones of one spectrum: rows and columns of one in other orders."""
    generator = torch.Generator().manual_seed(1)
    U, V = (
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
        for _ in range(2)
    )
    weight = ((U * spectrum(kind, n)) @ V.mT).float()
    for _ in range(count):
        rows, columns = (torch.randperm(n, generator=generator) for _ in range(2))
        yield weight[rows][:, columns].contiguous()


def full(weight: Tensor, k: int) -> Parts:
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    return U[:, -k:].double(), S[-k:].double(), Vh[-k:].double()


def by_gram(weight: Tensor, k: int) -> Parts:
    """The plain form: eigenvectors of ``W' W``, and ``u = W v / s``."""
    wide = weight.double()
    _, vectors = eigh((wide.mT @ wide).numpy(), subset_by_index=[0, k - 1], driver="evr")
    V = torch.from_numpy(vectors[:, ::-1].copy())
    U = wide @ V
    S = torch.linalg.vector_norm(U, dim=0)
    return U / S, S, V.mT


def ours(weight: Tensor, k: int) -> Parts:
    found = smallest_triples(weight, k)
    return found.U, found.S, found.Vh


def ways() -> dict[str, Callable[[Tensor, int], Parts]]:
    functions = (full, lambda weight, k: full(weight.double(), k), by_gram, ours)
    return dict(zip(WAYS, functions, strict=True))


def residual(weight: Tensor, parts: Parts) -> float:
    U, S, Vh = parts
    wide = weight.double()
    right, left = wide @ Vh.mT - U * S, wide.mT @ U - Vh.mT * S
    size = torch.linalg.matrix_norm(wide, 2)
    return float(torch.stack([right.norm(dim=0).max(), left.norm(dim=0).max()]).max() / size)


def measure(kind: str, n: int, k: int, count: int) -> list[Row]:
    """One row for each way; they take turns on every matrix."""
    seconds, errors, residuals = ({way: [] for way in WAYS} for _ in range(3))
    for weight in matrices(kind, n, count):
        found: dict[str, Parts] = {}
        for way, function in ways().items():
            began = time.process_time()
            found[way] = function(weight, k)
            seconds[way].append(time.process_time() - began)
        U, S, Vh = found["full, float64"]
        truth, largest = (U * S) @ Vh, float(S[0])
        for way, (U, S, Vh) in found.items():
            errors[way].append(float(((U * S) @ Vh - truth).abs().max()) / largest)
            residuals[way].append(residual(weight, (U, S, Vh)))
    return [
        Row(kind, way, sum(seconds[way]) / count, max(errors[way]), max(residuals[way]))
        for way in WAYS
    ]


def table(rows: Sequence[Row], tower: int) -> str:
    lines = [
        f"| spectrum | way | CPU s for {tower} | times as fast | error | residual |",
        "|---|---|---|---|---|---|",
    ]
    base = {row.spectrum: row.seconds for row in rows if row.way == "full, float32"}
    lines += [
        f"| {row.spectrum} | {row.way} | {row.seconds * tower:.1f} | "
        f"{base[row.spectrum] / row.seconds:.1f} | {row.error:.0e} | {row.residual:.0e} |"
        for row in rows
    ]
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--trained", type=int, default=1, help="triples asked for (default 1)")
    parser.add_argument("--matrices", type=int, default=6, help="of each spectrum (default 6)")
    parser.add_argument("--spectra", nargs="+", choices=SPECTRA, default=list(SPECTRA))
    return parser.parse_args(arguments)


def main() -> None:
    given = parse()
    torch.set_num_threads(1)
    rows = [
        row
        for kind in given.spectra
        for row in measure(kind, given.width, given.trained, given.matrices)
    ]
    print(table(rows, TOWER))


if __name__ == "__main__":
    main()
