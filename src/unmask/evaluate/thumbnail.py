"""Small pictures for a report."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image as PillowImage

from unmask.errors import SourceError
from unmask.images import read_frame

__all__ = ["thumbnail"]

_QUALITY = 80
"""Of the JPEG: 160 pixels take about 5 kB."""


def thumbnail(path: Path, px: int = 160) -> str:
    """A ``data:`` URL of the picture as JPEG; empty if it cannot be read any more.

    Args:
        path: Of the picture; what :func:`unmask.images.read_frame` reads.
        px: Longer side at most; a smaller picture keeps its size.
    """
    try:
        frame, _ = read_frame(path)
    except SourceError:  # its scores stand; the report shows it without a picture
        return ""
    picture = PillowImage.fromarray(frame.image)
    picture.thumbnail((px, px))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
