"""How strongly a JPEG file was compressed, read from its quantisation tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["Compression", "compression"]

# fmt: off
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
"""ITU T.81, table K.1, row by row."""

_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)
"""ITU T.81, table K.2."""
# fmt: on


@dataclass(frozen=True, slots=True)
class Compression:
    """What the quantisation tables of one JPEG file say."""

    quality: int
    """1..100, on the scale of the IJG's encoder: the one whose tables are nearest."""
    misfit: float
    """Mean distance of the entries to those tables; 0 where an IJG encoder wrote the file."""


def compression(tables: Mapping[int, Sequence[int]]) -> Compression:
    """The quality that the tables stand for.

    The IJG's encoder multiplies the tables of ITU T.81 annex K by ``5000 / q`` per cent below
    quality 50 and by ``200 - 2 q`` from there on. Encoders with tables of their own (Photoshop,
    cameras) get the nearest quality and a misfit.

    Args:
        tables: Table number to its 64 entries, row by row, as Pillow gives them; at least one.
            The lowest number is compared with the table for luminance, the next with that for
            chrominance.
    """
    rows = [tables[number] for number in sorted(tables)][:2]
    given = np.concatenate([np.asarray(row, np.float64) for row in rows])
    known = np.concatenate(_ijg_tables()[: len(rows)], axis=1)
    distances = np.abs(known - given).mean(axis=1)
    best = int(np.argmin(distances))
    return Compression(best + 1, float(distances[best]))


@lru_cache(maxsize=1)
def _ijg_tables() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both tables for each quality, ``(100, 64)``; row ``q - 1`` is quality ``q``."""
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    luminance, chrominance = (
        np.clip((np.array(base) * percent + 50) // 100, 1, 255).astype(np.float64)
        for base in (_LUMINANCE, _CHROMINANCE)
    )
    return luminance, chrominance
