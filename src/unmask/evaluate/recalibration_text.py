"""A new calibration in words: for a terminal, and for the model card."""

from __future__ import annotations

import re

from unmask.evaluate.recalibration import Outcome, Recalibration
from unmask.files import one_line, valid_text

__all__ = ["card_section", "to_text"]

_NAMES = {
    "none": "as it was",
    "temperature": "temperature",
    "platt": "Platt",
    "isotonic": "isotonic",
}


_SPECIAL = re.compile(r"([\\`*\[\]<>|&!~#]|(?<=\w):(?=//))")
"""What would be markup within a line of GitHub's Markdown: code, emphasis, links, pictures, HTML,
entities, fields of a table, and addresses that become links by themselves."""


def to_text(found: Recalibration) -> str:
    """What was measured and what is stored, in lines of at most 100 columns but for the notes."""
    lines = [f"{found.source}: {found.n_real} real, {found.n_fake} fake, {found.n_groups} groups"]
    if found.compared:
        lines += ["", f"{'P(fake), cross-validated':26}{'log loss':>10}{'ECE':>8}{'Brier':>8}"]
        lines += [
            f"{_NAMES[each.name]:26}{each.log_loss:10.4f}{each.ece:8.4f}{each.brier:8.4f}"
            for each in found.compared
        ]
    lines += ["", f"stored: {_stored(found)}"]
    header = ("operating point", "fake from", "real below", "FPR [95 %]", "found", "inconclusive")
    lines += ["", "{:20}{:>11}{:>12}{:>24}{:>8}{:>14}".format(*header)]
    lines += [
        f"{_name(found, outcome):20}{outcome.point.fake_at:11.4f}{outcome.point.real_below:12.4f}"
        f"{_rate(outcome):>24}{_found(outcome):>8}{outcome.inconclusive:14.3f}"
        for outcome in found.outcomes
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def card_section(found: Recalibration, command: str, *, whole_pictures: bool = False) -> str:
    """Markdown, from its heading on, for ``README.md`` of the detector.

    The name of the data and the command are shown as they are: nothing in them is markup.

    Args:
        found: What is stored.
        command: What was called.
        whole_pictures: Whether it is for those, of a detector that reads faces in another way.
    """
    of = " of whole pictures" if whole_pictures else ""
    lost = sum(found.not_scored.values())
    parts = [
        f"## Calibration{of}",
        f"This replaces the temperature and the operating points{of} that stand elsewhere on this "
        "card. "
        f"Data: {_plain(found.source)}; {found.n_real} real and {found.n_fake} fake pictures in "
        f"{found.n_groups} groups, {lost} more without a score; SHA-256 `{found.sha256}`. "
        f"Stored: {_stored(found)}.",
    ]
    if found.compared:
        rows = "\n".join(
            f"| {_NAMES[each.name]} | {each.log_loss:.4f} | {each.ece:.4f} | {each.brier:.4f} |"
            for each in found.compared
        )
        parts.append(
            "P(fake) by each map on groups that it was not fitted to:\n\n"
            f"| map | log loss | ECE | Brier |\n|---|---|---|---|\n{rows}"
        )
    rows = "\n".join(
        f"| `{each.point.name}`{_default(found, each)} | {each.point.fake_at:.4f} "
        f"| {each.point.real_below:.4f} | {_rate(each)} | {_found(each)} "
        f"| {each.inconclusive:.3f} |"
        for each in found.outcomes
    )
    parts.append(
        "| operating point | fake from | real below | false alarms [95 %] | fakes found "
        f"| inconclusive |\n|---|---|---|---|---|---|\n{rows}"
    )
    if len(found.outcomes) > 1:
        parts.append(
            "`--operating-point NAME` of a scan or an evaluation takes another than the default."
        )
    parts += [f"- {note}" for note in found.notes]
    return "\n\n".join([*parts, _code(command)])


def _name(found: Recalibration, outcome: Outcome) -> str:
    return f"{outcome.point.name}{_default(found, outcome)}"


def _default(found: Recalibration, outcome: Outcome) -> str:
    return " (default)" if outcome is found.outcomes[0] else ""


def _plain(text: str) -> str:
    """The text on one line in which nothing is markup."""
    return _SPECIAL.sub(r"\\\1", one_line(valid_text(text)))


def _code(command: str) -> str:
    """A block of one line, fenced by more backticks than the line has in a row."""
    line = one_line(valid_text(command))
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{line}\n{fence}"


def _stored(found: Recalibration) -> str:
    after, before = found.after, found.before
    if after == before:
        text = f"temperature {before.temperature:.4g} as before"
    else:
        text = f"temperature {after.temperature:.4g} (before {before.temperature:.4g})"
    if after.bias:
        text += f", {after.bias:+.4g} in the bias of the head"
    if found.shift is not None:
        text += (
            f" (corrected for a share of fakes of {found.shift.estimated:.3g} instead of "
            f"{found.shift.prior:.3g})"
        )
    return text


def _rate(outcome: Outcome) -> str:
    point = outcome.point
    return f"{outcome.false_alarms:.4f} [{point.fpr_low:.4f}, {point.fpr_high:.4f}]"


def _found(outcome: Outcome) -> str:
    return "n/a" if outcome.found is None else f"{outcome.found:.3f}"
