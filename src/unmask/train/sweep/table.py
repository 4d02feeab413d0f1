"""What a search found, as JSON, CSV, Markdown and text."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unmask.evaluate.intervals import Interval
from unmask.files import one_line, valid_text
from unmask.models.configuration import BackboneSource
from unmask.train.sweep.judge import FOLDS, REPEATS
from unmask.train.sweep.result import Sweep, SweepOptions, Tried
from unmask.versions import versions

__all__ = [
    "SWEEP_SCHEMA",
    "About",
    "sweep_csv",
    "sweep_document",
    "sweep_markdown",
    "sweep_note",
    "sweep_text",
]

SWEEP_SCHEMA = 1
"""Version of ``sweep.json``."""

_SHOWN = 20
"""Rows of the table in Markdown; the CSV has all."""


@dataclass(frozen=True, slots=True)
class About:
    """Where a search was run, and how."""

    name: str
    command: str
    data: tuple[str, ...]
    source: BackboneSource
    tower_sha256: str
    dtype: str
    options: SweepOptions
    again: tuple[str, ...]
    """Arguments of ``unmask train`` that do not depend on the winner."""

    def train_command(self, winner: Tried) -> str:
        """The command that trains the winner again."""
        flags = ["--recipe", "probe", "--feature", ",".join(winner.list.features)]
        if winner.scale:
            flags += ["--scale", f"{winner.scale:g}"]
        if self.options.resolutions != (None,):
            flags += ["--resolution", str(winner.resolution)]
        flags += ["--fit", winner.fit, "--strength", repr(winner.strength)]
        flags += ["--views", str(self.options.views), "--seed", str(self.options.seed)]
        return valid_text(shlex.join(["unmask", "train", *self.data, *flags, *self.again]))


def sweep_document(sweep: Sweep, about: About) -> str:
    """``sweep.json``; a bound that does not exist is null."""
    options = asdict(about.options)
    del options["cache"]  # a place on this machine, which no number depends on
    seed = about.options.seed
    document = {
        "schema": SWEEP_SCHEMA,
        "versions": versions(),
        "command": about.command,
        "data": {
            "inputs": list(about.data),
            "sha256": sweep.data_sha256,
            "samples": sweep.probe.counts,
            "left_out": [list(each) for each in sweep.probe.left_out],
            "unmeasured": dict(sweep.unmeasured),
        },
        "tower": {
            **asdict(about.source),
            "weights_sha256": about.tower_sha256,
            "dtype": about.dtype,
        },
        "options": options,
        "seeds": {
            "split_and_copies": seed,
            "bootstrap": [seed, "number of the data set"],
            "cross_fit": [seed, "number of the division"],
        },
        "seconds": {name: round(value, 3) for name, value in sweep.seconds.items()},
        "winner": _winner(sweep, about),
        "selection": {
            "by": about.options.select,
            "best_validation_score": round(max(each.score for each in sweep.tried), 6),
            "cross_fit": _number(sweep.cross_fit),
            "optimism": _number(sweep.optimism),
            "folds": FOLDS,
            "divisions": REPEATS,
        },
        "candidates": [_record(each) for each in sweep.tried],
    }
    text = json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def _winner(sweep: Sweep, about: About) -> dict[str, Any]:
    written = sweep.probe.chosen.validation
    return {
        **_record(sweep.winner),
        "detector": "best",
        "train_command": about.train_command(sweep.winner),
        "mean_auc": _interval(sweep.interval),
        "data_sets": [
            {
                "name": line.name,
                "n_real": line.n_real,
                "n_fake": line.n_fake,
                "unit": "video" if line.by_video else "picture",
                "auc": _interval(found),
            }
            for line, found in zip(sweep.lines, sweep.line_intervals, strict=True)
        ],
        "as_written": {row.dataset: round(row.auc, 6) for row in written.rows},
    }


def sweep_csv(sweep: Sweep) -> str:
    """``sweep.csv``: a row per head, the best first."""
    names = list(dict.fromkeys(name for each in sweep.tried for name in each.aucs))
    left = list(dict.fromkeys(name for each in sweep.tried for name in each.left_out or {}))
    head = ["rank", "crop_scale", "resolution", "list", "features", "fit", "strength", "score"]
    head += [f"auc:{name}" for name in names]
    altered = any(each.altered for each in sweep.tried)
    head += [f"auc_altered:{name}" for name in names] if altered else []
    head += ["leave_out", *(f"leave_out:{name}" for name in left)] if left else []
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([valid_text(each) for each in head])
    for rank, each in enumerate(sweep.tried, start=1):
        row = [rank, each.scale, each.resolution, each.list.name, " ".join(each.list.features)]
        row += [each.fit, each.strength, f"{each.score:.6f}"]
        row += [_cell(each.aucs, name) for name in names]
        row += [_cell(each.altered, name) for name in names] if altered else []
        if left:
            row += ["" if each.transfer is None else f"{each.transfer:.6f}"]
            row += [_cell(each.left_out, name) for name in left]
        writer.writerow(row)
    return file.getvalue()


def sweep_markdown(sweep: Sweep, about: About) -> str:
    """``sweep.md``: the winner, the best rows of the table, and each block alone."""
    parts = [
        f"# {_escaped(about.name)}",
        f"{len(sweep.tried)} heads on features of `{one_line(about.source.id)}`, frozen, "
        f"{about.dtype}; seed {about.options.seed}. Seconds: "
        + ", ".join(f"{name} {value:.1f}" for name, value in sweep.seconds.items())
        + ".",
        sweep_note(sweep, about),
        "## The best",
        _table(sweep, sweep.tried[:_SHOWN]),
        "## Each block alone",
        "The best strength of each, at the input of the winner.\n\n" + _blocks(sweep),
        "## The winner again",
        f"```\n{about.train_command(sweep.winner)} -o NEW\n```",
        "## This search again",
        f"```\n{about.command}\n```",
    ]
    return valid_text("\n\n".join(parts) + "\n")


def sweep_note(sweep: Sweep, about: About) -> str:
    """What was chosen, how sure its numbers are, and how optimistic: for tables and cards."""
    winner = sweep.winner
    what = (
        f"Chosen by {about.options.select} among {len(sweep.tried)} heads: {_described(winner)}. "
        f"Mean AUC on validation {_with_bounds(sweep.interval)} (bootstrap over groups)"
        + ("." if winner.altered is None else f"; with altered copies {winner.score:.3f}.")
    )
    if sweep.cross_fit is None:
        honest = (
            "How much the best validation score gains from having been chosen by could not be "
            "estimated: no fifth of the groups has both classes of a data set."
        )
    else:
        honest = (
            f"The best validation score ({max(each.score for each in sweep.tried):.3f}) is "
            "optimistic, since it was chosen by. Choosing by four fifths of the groups and "
            f"measuring on the fifth, {REPEATS} times over, gives {sweep.cross_fit:.3f}: "
            f"{sweep.optimism or 0:+.3f} is what the choice adds."
        )
    transfer = ""
    if winner.left_out is not None and winner.transfer is not None:
        each = ", ".join(f"{_escaped(name)} {value:.3f}" for name, value in winner.left_out.items())
        transfer = (
            f" Trained without a data set and tested on all of it, mean AUC {winner.transfer:.3f} "
            f"({each}); the feature list was chosen on the validation part of all."
        )
    missing = "".join(
        f" {_escaped(name)} is not measured: {reason}." for name, reason in sweep.unmeasured.items()
    )
    return f"{what}{_edge(winner, about.options)} {honest}{transfer}{missing}"


def sweep_text(sweep: Sweep, about: About, *, rows: int = 10) -> str:
    """For a terminal: the best rows, and what was chosen."""
    lines = ["  score  left out  head               input, features"]
    for each in sweep.tried[:rows]:
        left = "       -" if each.transfer is None else f"{each.transfer:8.3f}"
        head = f"{each.fit} {each.strength:g}"
        lines.append(f"  {each.score:.3f}  {left}  {head:17}  {each.input}, {each.list.name}")
    return "\n".join([*lines, "", one_line(sweep_note(sweep, about))])


def _edge(winner: Tried, options: SweepOptions) -> str:
    """A hint where the best strength may lie beyond those tried."""
    values = options.strengths if winner.fit == "logistic" else options.shrinkages
    option = "--strength" if winner.fit == "logistic" else "--shrinkage"
    if len(values) < 2 or winner.strength not in (min(values), max(values)):
        return ""
    word = "largest" if winner.strength == max(values) else "smallest"
    return f" Its strength is the {word} that was tried; {option} takes others."


def _described(tried: Tried) -> str:
    strength = "C" if tried.fit == "logistic" else "shrinkage"
    head = "logistic regression" if tried.fit == "logistic" else "linear discriminant"
    return f"{head} on {tried.list.name}, {strength} {tried.strength:g}, {tried.input}"


def _table(sweep: Sweep, tried: Sequence[Tried]) -> str:
    names = [line.name for line in sweep.lines]
    left = any(each.left_out for each in sweep.tried)
    head = ["#", "input", "features", "head", "strength", *map(_escaped, names), "score"]
    head += ["left out"] if left else []
    rows = [head, ["---"] * len(head)]
    for rank, each in enumerate(tried, start=1):
        cells = [str(rank), each.input, each.list.name, each.fit, f"{each.strength:g}"]
        cells += [f"{each.aucs[name]:.3f}" if name in each.aucs else "-" for name in names]
        cells += [f"{each.score:.3f}"]
        if left:
            cells += ["-" if each.transfer is None else f"{each.transfer:.3f}"]
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _blocks(sweep: Sweep) -> str:
    best: dict[tuple[int, str], float] = {}
    for each in sweep.tried:
        pooling, at, block = each.list.name.partition("@")
        if at and block.isdecimal() and each.input == sweep.winner.input:
            key = int(block), pooling
            best[key] = max(best.get(key, 0.0), each.score)
    poolings = sorted({pooling for _, pooling in best})
    if not best:
        return "The tower has no blocks whose tokens could be pooled."
    rows = [["block", *poolings], ["---"] * (1 + len(poolings))]
    rows += [
        [str(number), *(f"{best[number, each]:.3f}" for each in poolings)]
        for number in sorted({number for number, _ in best})
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _record(tried: Tried) -> dict[str, Any]:
    return {
        "crop_scale": tried.scale or None,
        "resolution": tried.resolution,
        "list": tried.list.name,
        "features": list(tried.list.features),
        "fit": tried.fit,
        "strength": tried.strength,
        "score": round(tried.score, 6),
        "auc": _rounded(tried.aucs),
        "auc_altered": _rounded(tried.altered),
        "leave_out": None if tried.transfer is None else round(tried.transfer, 6),
        "leave_out_auc": _rounded(tried.left_out),
    }


def _rounded(values: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if values is None else {name: round(each, 6) for name, each in values.items()}


def _interval(found: Interval) -> dict[str, float | int | None]:
    return {
        "value": round(found.value, 6),
        "low": _number(found.low),
        "high": _number(found.high),
        "level": found.level,
        "resamples": found.resamples,
    }


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 6)


def _with_bounds(found: Interval) -> str:
    if math.isnan(found.low):
        return f"{found.value:.3f} (no interval: a class of a data set is one group)"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _cell(values: Mapping[str, float] | None, name: str) -> str:
    return f"{values[name]:.6f}" if values and name in values else ""


def _escaped(text: str) -> str:
    return one_line(text).replace("|", "\\|")


def _plain(value: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    """``value`` with texts that utf-8 holds, and lists for tuples."""
    if isinstance(value, dict):
        return {valid_text(str(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return valid_text(value) if isinstance(value, str) else value
