"""The error tree. Every message says what was given, what was expected, and what to do.

UnmaskError
├── SourceError                 an input that cannot be used
│   ├── MissingSource           no such file or directory (also a FileNotFoundError)
│   ├── UnreadableMedia         the bytes are damaged
│   ├── UnsupportedMedia        sound bytes of a kind that is not scored, or beyond a limit
│   └── ManifestError           a manifest row or column that is not understood
├── FaceError
│   └── LandmarkFileError       the landmark file is missing or not the expected one
├── WeightsError                weights that cannot be used
│   ├── UnknownDetector         no built-in, folder or Hub model of that name
│   ├── HubUnreachable          the Hub cannot be asked, and the cache has no copy
│   ├── GatedModel              the Hub wants a token or an accepted licence
│   ├── CorruptWeights          a file that is damaged or cut short
│   ├── IncompatibleWeights     sound weights that do not fit what was asked
│   └── UntrainedHead           the head was never trained, its scores mean nothing
├── EvaluationError             numbers that cannot be had from the scores given
│   ├── ScoresError             labels and scores that do not fit together
│   └── MetricUndefined         sound scores for which a metric has no value, with the reason
├── ConfigError                 options or configuration that contradict each other
└── OutputError                 an output that exists, or that belongs to another run

What goes on, though not as well as it could, is an UnmaskWarning, which is no error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "CorruptWeights",
    "EvaluationError",
    "FaceError",
    "GatedModel",
    "HubUnreachable",
    "IncompatibleWeights",
    "LandmarkFileError",
    "ManifestError",
    "MetricUndefined",
    "MissingSource",
    "OutputError",
    "ScoresError",
    "SourceError",
    "UnknownDetector",
    "UnmaskError",
    "UnmaskWarning",
    "UnreadableMedia",
    "UnsupportedMedia",
    "UntrainedHead",
    "WeightsError",
    "near_names",
]


class UnmaskError(Exception):
    """Base of all errors that this package raises on purpose."""


class UnmaskWarning(UserWarning):
    """What works, though not as well as it could; on the command line a line on stderr."""


class SourceError(UnmaskError, ValueError):
    """An input that cannot be used."""


class MissingSource(SourceError, FileNotFoundError):
    """No such file or directory."""


class UnreadableMedia(SourceError):
    """Damaged bytes. ``code`` is the machine-readable reason of the result."""

    def __init__(self, message: str, *, code: str = "unreadable") -> None:
        super().__init__(message)
        self.code = code


class UnsupportedMedia(SourceError):
    """Sound bytes of a kind that is not scored. ``code`` as in :class:`UnreadableMedia`."""

    def __init__(self, message: str, *, code: str = "unsupported_format") -> None:
        super().__init__(message)
        self.code = code


class ManifestError(SourceError):
    """A manifest row or column that is not understood; names file and line."""


class FaceError(UnmaskError):
    """A face finder that cannot work."""


class LandmarkFileError(FaceError, ValueError):
    """The landmark file is missing or is not the expected one."""


class WeightsError(UnmaskError):
    """Weights that cannot be used."""


class UnknownDetector(WeightsError, LookupError):
    """No built-in detector, local folder or Hub model of that name."""


class HubUnreachable(WeightsError, ConnectionError):
    """The Hub cannot be asked and the cache has no copy."""


class GatedModel(WeightsError, PermissionError):
    """The Hub wants a token or an accepted licence."""


class CorruptWeights(WeightsError, ValueError):
    """A file that is damaged or cut short."""


class IncompatibleWeights(WeightsError, ValueError):
    """Sound weights that do not fit what was asked of them."""


class UntrainedHead(WeightsError, ValueError):
    """The head was never trained: its scores mean nothing."""


class EvaluationError(UnmaskError, ValueError):
    """Numbers that cannot be had from the labels and scores given."""


class ScoresError(EvaluationError):
    """Labels and scores that are empty, not finite, out of range or of unequal length."""


class MetricUndefined(EvaluationError):
    """Sound scores for which a metric has no value. ``code`` is the reason, for machines."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(UnmaskError, ValueError):
    """Options or configuration that contradict each other or name something unknown."""


class OutputError(UnmaskError, ValueError):
    """An output that exists already or that belongs to another run."""


def near_names(given: str, known: Iterable[str]) -> str:
    """A sentence that offers the known names nearest to ``given``, or lists them all.

    >>> near_names("biultin", ["builtin"])
    "Did you mean 'builtin'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(repr(name) for name in near)}?"
    return f"Known: {', '.join(names) or 'none'}."
