"""Which samples a step sees: pure functions of seed and step, so that no state needs to be kept.

The order is an endless stream of slots; step t takes the slots ``t * B`` to ``(t + 1) * B - 1``.
Each slot follows from its number alone, whatever the number of processes, and after any resume.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Literal

import numpy as np
import numpy.typing as npt

from unmask.errors import SourceError
from unmask.labelled import evenly
from unmask.types import Sample

__all__ = ["Sampling", "at_most_frames", "sampler", "slot_rng"]

Sampling = Literal["balanced", "paired", "shuffled"]

_PAIR = "pair"
"""The column of a list that names what a fake and its real have in common."""


def sampler(
    samples: Sequence[Sample], how: Sampling, seed: int, pseudo_fakes: float = 0.0
) -> Callable[[int], int]:
    """A function from the number of a slot to the index of its sample.

    ``shuffled``: each sample once per pass, each pass in another order. ``balanced``: slots are
    real and fake in turn, and within a class its data sets in turn, each in shuffled passes of its
    own. ``paired``: slots 2k and 2k + 1 are the real and the fake of one pair (the same value in
    the column ``pair`` and the same data set), pairs in shuffled passes; samples of a pair that
    has several of a class come in turn; what has no partner is put beside another that has none.

    In place of a share of the fakes stand reals of which pseudo-fakes are to be made. Such a real
    has the index ``len(samples) + i``, where ``i`` is its own. They are spread evenly over slots;
    ``balanced`` takes them from the data sets of reals in turn, ``paired`` takes the real that
    stands before, and ``shuffled`` all reals in passes of their own.

    Args:
        samples: Of both classes.
        how: One of the three.
        seed: Of the order.
        pseudo_fakes: That share of the fakes, 0 to 1. At 1 no fake is shown, and each real of
            ``paired`` stands before a pseudo-fake of itself.

    Raises:
        SourceError: If pairs are asked for and there are none, or a class has no sample.
    """
    stream = _Stream(tuple(range(len(samples))), seed, "all")
    if how == "shuffled" and not pseudo_fakes:
        return stream.at
    if {sample.label for sample in samples} != {0, 1}:
        made = " with pseudo-fakes" if pseudo_fakes else ""
        raise SourceError(f"{how} batches{made} need real and fake samples; one class is missing")
    if how == "shuffled":
        return _replaced(samples, stream, pseudo_fakes)
    chosen = _paired if how == "paired" else _balanced
    return chosen(samples, seed, pseudo_fakes)


def slot_rng(seed: int, slot: int) -> np.random.Generator:
    """Where the alteration of the crop in a slot gets its chance from."""
    return np.random.default_rng([seed, slot, 1])


def at_most_frames(samples: Sequence[Sample], count: int | None) -> list[Sample]:
    """At most ``count`` training samples of each video, evenly spaced (never the first, D29)."""
    if count is None:
        return list(samples)
    videos: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        if sample.video and sample.split == "train":
            key = (sample.dataset, sample.label, sample.generator, sample.video)
            videos[key].append(index)
    dropped = {
        index for frames in videos.values() for index in set(frames) - set(evenly(frames, count))
    }
    return [sample for index, sample in enumerate(samples) if index not in dropped]


@dataclass(frozen=True, slots=True)
class _Stream:
    """Items in shuffled passes: each once per pass."""

    items: tuple[int, ...]
    seed: int
    name: str

    def at(self, position: int) -> int:
        number, place = divmod(position, len(self.items))
        order = _order(self.name, self.seed, number, len(self.items))
        return self.items[int(order[place])]


@lru_cache(maxsize=256)
def _order(name: str, seed: int, number: int, count: int) -> npt.NDArray[np.int64]:
    own = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])
    return np.random.default_rng([seed, own, number]).permutation(count)


def _blended(number: int, share: float) -> int | None:
    """Of fakes counted from 0, how many before this one are blended; None if this one is not."""
    before = int(number * share)
    return before if int((number + 1) * share) > before else None


def _replaced(samples: Sequence[Sample], stream: _Stream, share: float) -> Callable[[int], int]:
    """The shuffled order, with a share of each pass's fakes replaced; which, is drawn anew."""
    seed = stream.seed
    fakes = [index for index, sample in enumerate(samples) if sample.label == 1]
    place_of = {index: place for place, index in enumerate(fakes)}
    reals = tuple(index for index, sample in enumerate(samples) if sample.label == 0)
    blends = _Stream(reals, seed, "blended")

    def at(slot: int) -> int:
        index = stream.at(slot)
        place = place_of.get(index)
        if place is None:
            return index
        number = slot // len(samples)
        rank = int(_order("replaced", seed, number, len(fakes))[place])
        blend = _blended(number * len(fakes) + rank, share)
        return index if blend is None else len(samples) + blends.at(blend)

    return at


def _balanced(samples: Sequence[Sample], seed: int, share: float) -> Callable[[int], int]:
    cells: dict[int, dict[str, list[int]]] = {0: {}, 1: {}}
    for index, sample in enumerate(samples):
        cells[sample.label or 0].setdefault(sample.dataset, []).append(index)

    def streams(label: int, name: str) -> list[_Stream]:
        sets = sorted(cells[label].items())
        return [_Stream(tuple(found), seed, f"{name}/{dataset}") for dataset, found in sets]

    reals, fakes, blends = streams(0, "0"), streams(1, "1"), streams(0, "blended")

    def at(slot: int) -> int:
        turn, label = divmod(slot, 2)
        if not label:
            return _in_turn(reals, turn)
        blend = _blended(turn, share)
        if blend is not None:
            return len(samples) + _in_turn(blends, blend)
        return _in_turn(fakes, turn - int(turn * share))

    return at


def _in_turn(streams: Sequence[_Stream], turn: int) -> int:
    position, number = divmod(turn, len(streams))
    return streams[number].at(position)


def _paired(samples: Sequence[Sample], seed: int, share: float) -> Callable[[int], int]:
    if share == 1:  # nothing but reals, each its own partner
        pairs = [([index], [index]) for index, sample in enumerate(samples) if sample.label == 0]
    else:
        pairs = _pairs(samples)
    stream = _Stream(tuple(range(len(pairs))), seed, "pairs")

    def at(slot: int) -> int:
        turn, label = divmod(slot, 2)
        blended = label == 1 and _blended(turn, share) is not None
        members = pairs[stream.at(turn)][0 if blended else label]
        return members[turn // len(pairs) % len(members)] + blended * len(samples)

    return at


def _pairs(samples: Sequence[Sample]) -> list[tuple[list[int], list[int]]]:
    """Reals and fakes of each pair; true pairs first, then those that had no partner."""
    named: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
    alone: tuple[list[int], list[int]] = ([], [])
    for index, sample in enumerate(samples):
        name = dict(sample.columns).get(_PAIR, "")
        group = named.setdefault((sample.dataset, name), ([], [])) if name else alone
        group[sample.label or 0].append(index)
    found = [group for group in named.values() if group[0] and group[1]]
    if not found:
        raise SourceError(
            f"paired batches need a manifest with the column {_PAIR!r}, whose value a fake and the "
            "real that it was made from share; no such pair was found"
        )
    for group in named.values():
        if not (group[0] and group[1]):
            alone[0].extend(group[0])
            alone[1].extend(group[1])
    everything = [
        [index for index, sample in enumerate(samples) if sample.label == label] for label in (0, 1)
    ]
    for number, (real, fake) in enumerate(zip_longest(*alone)):
        reals = [everything[0][number % len(everything[0])]] if real is None else [real]
        fakes = [everything[1][number % len(everything[1])]] if fake is None else [fake]
        found.append((reals, fakes))
    return found
