"""Tells whether faces and images are real or fake. Start with ``unmask.load`` and ``Pipeline``.

>>> import unmask
>>> sorted(unmask.__all__)[:3]
['Detector', 'Limits', 'Options']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from unmask._transformers import register_on_import

if TYPE_CHECKING:
    from unmask.images import Limits
    from unmask.models.detector import Detector, load
    from unmask.pipeline import Options, Pipeline
    from unmask.sources import read_sources
    from unmask.types import Result, Sample

__version__ = "0.1.0"

__all__ = [
    "Detector",
    "Limits",
    "Options",
    "Pipeline",
    "Result",
    "Sample",
    "__version__",
    "load",
    "read_sources",
]

# Name -> module that defines it. Resolved on first use: importing the package loads no torch.
_HOME = {
    "Detector": "unmask.models.detector",
    "Limits": "unmask.images",
    "Options": "unmask.pipeline",
    "Pipeline": "unmask.pipeline",
    "Result": "unmask.types",
    "Sample": "unmask.types",
    "load": "unmask.models.detector",
    "read_sources": "unmask.sources",
}


def __getattr__(name: str) -> object:
    """The public name, imported when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'unmask' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


register_on_import()
