"""Published detectors into detector folders, with a proof that they compute what they computed.

``convert`` reads, saves, loads again and compares; ``verify`` compares once more, any time later.
"""

from __future__ import annotations

from unmask.convert.conversion import Conversion, SavedAs, convert
from unmask.convert.parity import Parity, ParityInput
from unmask.convert.parity_file import read_parity
from unmask.convert.source import Source, read_source
from unmask.convert.verification import Verification, verify

__all__ = [
    "Conversion",
    "Parity",
    "ParityInput",
    "SavedAs",
    "Source",
    "Verification",
    "convert",
    "read_parity",
    "read_source",
    "verify",
]
