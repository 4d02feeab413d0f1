"""An audit as one JSON document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from unmask.audit.leaks import Copy
from unmask.audit.run import Audit, AuditOptions
from unmask.files import valid_text
from unmask.versions import versions

__all__ = ["MOST_COPIES", "SCHEMA_VERSION", "to_document"]

SCHEMA_VERSION = 1

MOST_COPIES = 10_000
"""Pairs that the document lists; all are counted."""


def to_document(found: Audit, options: AuditOptions, *, inputs: Sequence[str]) -> str:
    """The audit as JSON, indented; fields in the order of ``docs/audit.md``."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "level": found.level,
        "findings": [asdict(each) for each in found.findings],
        "n_read": found.n_read,
        "n_learnt": found.n_learnt,
        "cells": [asdict(each) | {"formats": dict(each.formats)} for each in found.cells],
        "separability": [asdict(each) for each in found.separability],
        "copies": {"counts": _counts(found.copies), "pairs": _listed(found.copies)},
        "shared_groups": [asdict(each) for each in found.shared_groups],
        "unread": [
            {
                "source": each.sample.source,
                "dataset": each.sample.dataset,
                "label": each.sample.label,
                **asdict(each.reason),
            }
            for each in found.unread
        ],
        "inputs": list(inputs),
        "seed": options.seed,
        "n_bootstrap": options.n_bootstrap,
        "limits": asdict(options.limits),
        "versions": versions(),
    }
    return json.dumps(_valid(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _counts(copies: Sequence[Copy]) -> dict[str, int]:
    return dict(Counter(copy.kind for copy in copies))


def _listed(copies: Sequence[Copy]) -> list[dict[str, Any]]:
    """Those across splits and labels first, since the list may end before the last."""
    ordered = sorted(copies, key=lambda copy: (not copy.across_splits, not copy.across_labels))
    return [asdict(copy) for copy in ordered[:MOST_COPIES]]


def _valid(value: object) -> object:
    """The same with file names that are no Unicode text spelt out."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, dict):
        return {_valid(key): _valid(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(each) for each in value]
    return value
