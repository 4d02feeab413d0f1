"""What the numbers of an audit mean, in sentences with a level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from unmask.audit.columns import ALL, GROUPS, THUMBNAIL, TOGETHER
from unmask.audit.leaks import Copy, CopyKind, SharedGroup
from unmask.audit.profile import Cell
from unmask.audit.separability import FeatureScore, Separability

__all__ = [
    "CAUTION_AUC",
    "LEAK_AUC",
    "LEVELS",
    "Finding",
    "Level",
    "findings",
    "is_whole",
    "summary",
    "worst",
]

Level = Literal["clean", "not_tested", "caution", "leak"]

LEVELS: tuple[Level, ...] = get_args(Level)
"""Mildest first. ``not_tested`` is no praise: nothing is known of the data, or of a part."""

_WORDS: dict[Level, str] = {
    "clean": "clean: nothing that a detector sees tells the classes apart but what they show",
    "not_tested": "not tested: too little of the data could be judged, so nothing is known of it",
    "caution": "caution: something but the forgery helps to tell the classes apart; read above",
    "leak": "leak: a test on these data flatters a detector that learnt nothing of forgery",
}

LEAK_AUC = 0.9
"""From here on a detector that learnt nothing but this would look good."""

CAUTION_AUC = 0.6
"""From here on it would profit; below, a test set of some hundred pictures does not show it. Either
holds only where the interval's lower end is above one half."""

_ADDS = 0.05
"""By how much all groups together must exceed the best of them to be told as well."""

_LOPSIDED = 4.0
"""How many times larger one class may be than the other before it is said."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, and what to do about it."""

    level: Level
    code: str
    message: str
    dataset: str = ""


def is_whole(found: Iterable[Finding]) -> bool:
    """Whether all of the data could be tested. Only then may a gate let them pass."""
    return all(each.level != "not_tested" for each in found)


def summary(level: Level, found: Iterable[Finding]) -> str:
    """The verdict in a sentence."""
    part = level != "not_tested" and not is_whole(found)
    return f"verdict: {_WORDS[level]}{'. Not all was tested; see above' if part else ''}"


def worst(found: Iterable[Finding]) -> Level:
    """The level of the data: that of their worst finding."""
    return max((each.level for each in found), key=LEVELS.index, default="clean")


def findings(
    cells: Sequence[Cell],
    rows: Sequence[Separability],
    copies: Sequence[Copy],
    shared: Sequence[SharedGroup],
) -> tuple[Finding, ...]:
    """All findings, the worst first."""
    found = [
        *_untested(cells, rows),
        *_separable(rows),
        *_copied(copies),
        *_shared(shared),
        *_balance(cells),
    ]
    return tuple(sorted(found, key=lambda each: -LEVELS.index(each.level)))


def _untested(cells: Sequence[Cell], rows: Sequence[Separability]) -> Iterator[Finding]:
    """What the verdict says nothing about, with the reason."""
    several = len({cell.dataset for cell in cells}) > 1
    if not rows:
        yield Finding(
            "not_tested",
            "not_tested",
            "No picture that could be read has a label, so whether the classes can be told apart "
            "was not tested. Give folders real/ and fake/, or a manifest with the column label.",
        )
    for (dataset, against), found in _by_set(rows):
        name = dataset or ("all sets together" if several else "the data")
        if all(row.auc is None for row in found):
            lost = _lost(cells, dataset)
            yield Finding(
                "not_tested",
                "not_tested",
                f"{name}{f' with the {against} of the other sets' if against else ''}: not "
                f"tested, {found[0].reason}{lost}. Whether the classes can be told apart is not "
                "known; give more data.",
                dataset,
            )
        wide = [row for row in found if row.group in {*TOGETHER, THUMBNAIL} and _is_wide(row)]
        if wide:
            yield Finding(
                "not_tested",
                "too_few_to_tell",
                f"{name}: too few to tell whether {_listed(wide, small=True)} separate real from "
                "fake: the interval reaches from chance to a leak. Give more data.",
                dataset,
            )
    for dataset in sorted({cell.dataset for cell in cells}):
        inside = [cell for cell in cells if cell.dataset == dataset]
        if not any(cell.n for cell in inside):
            n_unread = sum(cell.n_unread for cell in inside)
            yield Finding(
                "not_tested",
                "not_tested",
                f"{dataset or 'the data'}: not tested, none of {n_unread} files could be read.",
                dataset,
            )


def _lost(cells: Sequence[Cell], dataset: str) -> str:
    """How many files of a class could not be read, where any is."""
    counts = {
        name: sum(
            cell.n_unread
            for cell in cells
            if cell.label == label and (not dataset or cell.dataset == dataset)
        )
        for label, name in ((0, "real"), (1, "fake"))
    }
    lost = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f" ({lost} could not be read)" if lost else ""


def _is_wide(row: Separability) -> bool:
    return row.low is not None and row.high is not None and row.low <= 0.5 and row.high >= LEAK_AUC


def _separable(rows: Sequence[Separability]) -> Iterator[Finding]:
    """One finding per data set for its files, one for its thumbnails, one for all names at last."""
    told = [row for row in rows if _is_told(row, rows)]
    for (dataset, against), found in _by_set(told):
        who = _who(dataset, against, several=len({row.dataset for row in rows}) > 1)
        files = [row for row in found if row.group in TOGETHER or row.group == ALL]
        if files:
            yield Finding(
                _level(files),
                "file_shortcut",
                f"{_listed(files)} {_tell(files)} {who}. {_mix(files, rows)}{_advice(files)}",
                dataset,
            )
        thumbnails = [row for row in found if row.group == THUMBNAIL]
        if thumbnails:
            yield Finding(
                _level(thumbnails),
                "thumbnail_shortcut",
                f"{_listed(thumbnails)} {_tell(thumbnails)} {who}. A detector can learn framing "
                "and colour instead of forgery: take reals and fakes that show the same. 'unmask "
                "equalize' does not mend this.",
                dataset,
            )
    outside = [row for row in told if row.group in ("metadata", "name") and not row.against]
    for group in ("metadata", "name"):
        found = [row for row in outside if row.group == group]
        if found:
            best = max(found, key=lambda row: row.auc or 0.0)
            names = ", ".join(row.dataset or "all together" for row in found)
            yield Finding(
                "caution",
                f"{group}_hint",
                f"{_listed([best])} {_tell([best])} real from fake (in {names}). No detector sees "
                "it, but the classes come from different hands: look for what else differs. The "
                "copies of 'unmask equalize SRC DST' are without it.",
            )


def _is_told(row: Separability, rows: Sequence[Separability]) -> bool:
    if row.auc is None or row.low is None or row.low <= 0.5 or row.auc < CAUTION_AUC:
        return False
    if row.group != ALL:
        return True
    parts = [
        each.auc or 0.0
        for each in rows
        if (each.dataset, each.against) == (row.dataset, row.against) and each.group in TOGETHER
    ]
    return row.auc > max(parts, default=0.0) + _ADDS


def _by_set(
    rows: Sequence[Separability],
) -> Iterator[tuple[tuple[str, str], list[Separability]]]:
    sets: dict[tuple[str, str], list[Separability]] = {}
    for row in rows:
        sets.setdefault((row.dataset, row.against), []).append(row)
    yield from sets.items()


def _who(dataset: str, against: str, *, several: bool) -> str:
    if against:
        return f"{dataset} from the {against} of the other sets"
    where = f" in {dataset}" if dataset else " over all sets together" if several else ""
    return f"real from fake{where}"


def _mix(told: Sequence[Separability], rows: Sequence[Separability]) -> str:
    """Where all sets together are told by what tells none of them alone."""
    alone = [row for row in rows if row.dataset and not row.against and row.auc is not None]
    within = {row.group for row in alone if _is_told(row, rows)}
    mixed = [GROUPS[row.group] for row in told if row.group not in within | {ALL}]
    if any(row.dataset for row in told) or not alone or not mixed:
        return ""
    return (
        f"Within no set does {' or '.join(mixed)} tell: it tells the sets apart, and they have "
        "unequal shares of fakes. "
    )


def _advice(rows: Sequence[Separability]) -> str:
    """What to do about files that differ; equal files of unequal pictures cannot be mended."""
    if {row.group for row in rows} <= {"bytes", ALL}:
        return (
            "Format, size and compression are alike; what differs is how much detail the pictures "
            "have (sharpness, noise, background). 'unmask equalize' does not mend this."
        )
    return "A detector can learn this instead of forgery: run 'unmask equalize SRC DST'."


def _level(rows: Sequence[Separability]) -> Level:
    return "leak" if max(row.auc or 0.0 for row in rows) >= LEAK_AUC else "caution"


def _tell(rows: Sequence[Separability]) -> str:
    plural = len(rows) > 1
    if min(row.auc or 0.0 for row in rows) >= LEAK_AUC:
        return "each alone tell" if plural else "alone tells"
    return "each help to tell" if plural else "alone helps to tell"


def _listed(rows: Sequence[Separability], *, small: bool = False) -> str:
    ordered = sorted(rows, key=lambda row: -(row.auc or 0.0))
    texts = [_numbers(row) for row in ordered]
    text = " and ".join([*([", ".join(texts[:-1])] if texts[1:] else []), texts[-1]])
    return text if small else text[0].upper() + text[1:]


def _numbers(row: Separability) -> str:
    """``file format (AUC 1.00, 95 % 0.99 to 1.00; format: png in 90 % of fakes, 0 % of reals)``."""
    best = next((f"; {each.contrast}" for each in row.features if _explains(each, row)), "")
    return f"{GROUPS[row.group]} (AUC {row.auc:.2f}, 95 % {row.low:.2f} to {row.high:.2f}{best})"


def _explains(feature: FeatureScore, row: Separability) -> bool:
    """Whether the feature has half of what the group has above chance."""
    weight = max(feature.auc - 0.5 if feature.low > 0.5 else 0.0, feature.fall or 0.0)
    return weight >= ((row.auc or 0.5) - 0.5) / 2


def _copied(copies: Sequence[Copy]) -> Iterator[Finding]:
    words = {
        "identical": "identical files",
        "near": "near-duplicates (perceptual hash)",
        "embedding": "look-alikes (embedding)",
    }
    for kind in get_args(CopyKind):
        of_kind = [copy for copy in copies if copy.kind == kind]
        sure = kind == "identical"
        labels = [copy for copy in of_kind if copy.across_labels and (sure or copy.across_groups)]
        splits = [copy for copy in of_kind if copy.across_splits]
        loose = [copy for copy in of_kind if copy.across_groups and copy not in splits + labels]
        if labels:
            yield Finding(
                "leak" if sure else "caution",
                f"{kind}_both_labels",
                f"{_count(labels, words[kind])} are labelled real and fake{_example(labels)}. "
                + ("Correct one label, or remove both." if sure else "Look at them."),
            )
        if splits:
            yield Finding(
                "caution" if kind == "embedding" else "leak",
                f"{kind}_across_splits",
                f"{_count(splits, words[kind])} lie in two splits{_example(splits)}. What is "
                "learnt by heart counts as recognised: move both into one split.",
            )
        if loose:
            yield Finding(
                "caution",
                f"{kind}_ungrouped",
                f"{_count(loose, words[kind])} are in no common group{_example(loose)}. A random "
                "split would separate them: give both one group.",
            )


def _count(copies: Sequence[Copy], what: str) -> str:
    return f"{len(copies)} pair{'s' if len(copies) > 1 else ''} of {what}"


def _example(copies: Sequence[Copy]) -> str:
    return f", such as {copies[0].first} and {copies[0].second}"


def _shared(shared: Sequence[SharedGroup]) -> Iterator[Finding]:
    if shared:
        first = shared[0]
        groups = f"{len(shared)} group{'s have' if len(shared) > 1 else ' has'}"
        yield Finding(
            "leak",
            "group_across_splits",
            f"{groups} pictures in more than one split, such as {first.group!r} in "
            f"{' and '.join(first.splits)}. Split by identity and video, never by picture.",
        )


def _balance(cells: Sequence[Cell]) -> Iterator[Finding]:
    counts: dict[str, list[int]] = {}
    for cell in cells:
        count = counts.setdefault(cell.dataset, [0, 0])
        if cell.label is not None:
            count[cell.label] += cell.n
    several = len(counts) > 1
    for dataset, (real, fake) in counts.items():
        name = dataset or "the data"
        if several and (real == 0) != (fake == 0):
            label = "real" if real else "fake"
            yield Finding(
                "caution",
                "one_class",
                f"{name}: all {real or fake} pictures are {label}, so whatever marks this source "
                "marks the label. Read the numbers of each set, not the pooled one.",
                dataset,
            )
        elif real and fake and max(real, fake) > _LOPSIDED * min(real, fake):
            yield Finding(
                "caution",
                "unbalanced",
                f"{name}: {real} real and {fake} fake pictures. Accuracy means little here; read "
                "AUC or balanced accuracy, and weight the classes in training.",
                dataset,
            )
