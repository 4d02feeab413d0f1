"""``unmask sweep``: which blocks, pooling, head and penalty, on features that are computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError
from unmask.models.configuration import BackboneSource
from unmask.preprocess import Preprocess
from unmask.train.features import Features, Tower
from unmask.train.inputs import Extractor, Progress, describe_input, make_extractor, resized
from unmask.train.recipe import ProbeOptions, train_probe
from unmask.train.sweep.features import FeatureList, feature_lists
from unmask.train.sweep.fit import Columns, Fitted, fit_lists
from unmask.train.sweep.judge import Judged, Line, Units, cross_fit, intervals, units_of
from unmask.train.sweep.result import Sweep, SweepOptions, Tried
from unmask.types import Sample

__all__ = ["Sweep", "SweepOptions", "Tried", "probe_options", "sweep"]

_ONE_CLASS = "validation has one of its classes only, and no other such set has the other"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """A crop scale and input size, and where its features come from."""

    extract: Extractor
    scale: float

    @property
    def described(self) -> str:
        return f"{describe_input(self.scale)}, {self.extract.preprocess.height} px"


@dataclass(frozen=True, slots=True, eq=False)
class _Gathered:
    """The features of one input."""

    train: Features
    """As they are."""
    learnt: Columns
    """Of ``samples``: the training part and its copies."""
    samples: tuple[Sample, ...]
    judged: tuple[Features, ...]
    """The validation part, and an altered copy where copies are asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class _Searched:
    """All heads on one input, and their scores on the parts they are judged by."""

    tried: tuple[Tried, ...]
    judged: tuple[Judged, ...]


@dataclass(slots=True)
class _Clock:
    """Wall seconds by what they were spent on."""

    seconds: dict[str, float]
    since: float

    def spent(self, what: str) -> float:
        now = time.perf_counter()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - self.since
        self.since = now
        return self.seconds[what]


def sweep(
    samples: Sequence[Sample],
    tower: Tower,
    preprocess: Preprocess,
    source: BackboneSource,
    options: SweepOptions,
    *,
    data_name: str,
    progress: Progress,
    tell: Tell = lambda _line: None,
) -> Sweep:
    """Compute features, fit every head, choose, and train the winner; nothing is written.

    Args:
        samples: Both parts, as :func:`unmask.train.data.read_labelled` gives them.
        tower: Has all features that are tried.
        preprocess: Of the tower.
        source: Where the tower comes from.
        options: What is tried.
        data_name: What thresholds say they come from.
        progress: Told of every picture and every list of features.
        tell: Given a sentence on each finished part.

    Raises:
        ConfigError: no sample of a class gave a crop, or no data set can be left out.
        IncompatibleWeights: the tower lacks a feature.
        SourceError: as :func:`unmask.train.data.apart`.
    """
    lists = feature_lists(tower.model.config, options.poolings)
    inputs = _inputs(samples, tower, preprocess, lists, options, progress)
    clock = _Clock({}, time.perf_counter())
    searched = [_search(each, lists, options, progress, clock, tell) for each in inputs]
    honest = cross_fit([each.judged for each in searched], seed=options.seed)
    total = sum(len(each.tried) for each in searched)
    tell(f"{total} heads fitted and judged in {clock.spent('search'):.1f} s")
    unmeasured = _without_line(searched)
    if options.leave_out:
        searched, more = _with_left_out(inputs, searched, options, progress)
        unmeasured |= more
        tell(f"data sets left out in turn in {clock.spent('leave_out'):.1f} s")
    number, head = _best(searched, options)
    winner, judged = searched[number].tried[head], searched[number].judged[0]
    interval, line_intervals = intervals(judged, head, seed=options.seed)
    probe = train_probe(
        samples,
        tower,
        inputs[number].extract.preprocess,
        source,
        probe_options(winner, options),
        data_name=data_name,
        progress=progress,
    )
    clock.spent("winner")
    tried = [one for each in searched for one in each.tried]
    tried.sort(key=lambda each: _merit(each, options), reverse=True)  # of equal ones the first
    return Sweep(
        tried=tuple(tried),
        lines=judged.units.lines,
        interval=interval,
        line_intervals=line_intervals,
        cross_fit=honest,
        unmeasured=unmeasured,
        probe=replace(probe, searched=total - len(probe.tried)),
        data_sha256=inputs[0].extract.data_sha256,
        seconds=clock.seconds,
    )


def probe_options(winner: Tried, options: SweepOptions) -> ProbeOptions:
    """What ``unmask train --recipe probe`` needs to be told for the same head."""
    return ProbeOptions(
        faces=options.faces,
        scales=(winner.scale,) if options.faces else options.scales,
        features=(winner.list.features,),
        strengths=(winner.strength,),
        fit=winner.fit,
        views=options.views,
        seed=options.seed,
        finder=options.finder,
        least_face_px=options.least_face_px,
        license=options.license,
        cache=options.cache,
    )


def _inputs(
    samples: Sequence[Sample],
    tower: Tower,
    preprocess: Preprocess,
    lists: Sequence[FeatureList],
    options: SweepOptions,
    progress: Progress,
) -> list[_Input]:
    config = tower.model.config
    sizes = [resized(preprocess, side, config) for side in options.resolutions]
    plain = make_extractor(
        samples,
        list(dict.fromkeys(name for each in lists for name in each.features)),
        tower,
        preprocess,
        cache=options.cache,
        seed=options.seed,
        finder=options.finder,
        least_face_px=options.least_face_px,
        progress=progress,
    )
    scales = options.scales if options.faces else (0.0,)
    return [_Input(replace(plain, preprocess=size), scale) for size in sizes for scale in scales]


def _gathered(given: _Input, options: SweepOptions) -> _Gathered:
    part = given.extract(given.scale)
    copies = (options.views, 1) if options.views else (0, 0)
    found = list(given.extract.views(given.scale, train=copies[0], val=copies[1]))
    views, altered = found[: options.views], found[options.views :]
    learnt = {
        name: np.concatenate([each.columns[name] for each in (part.train, *views)])
        for name in part.train.columns
    }
    samples = tuple(sample for each in (part.train, *views) for sample in each.samples)
    return _Gathered(part.train, learnt, samples, (part.val, *altered))


def _search(
    given: _Input,
    lists: Sequence[FeatureList],
    options: SweepOptions,
    progress: Progress,
    clock: _Clock,
    tell: Tell,
) -> _Searched:
    """Every head on one input."""
    gathered = _gathered(given, options)
    spent = clock.spent("features")
    tell(f"{given.described}: {len(gathered.samples)} rows to learn from, {spent:.1f} s so far")
    units = [units_of(each.samples) for each in gathered.judged]
    tried: list[Tried] = []
    scores: list[list[npt.NDArray[np.float64]]] = [[] for _ in units]
    with progress(f"heads, {given.described}", len(lists)) as advance:
        done = None
        for fitted in fit_lists(
            gathered.learnt,
            gathered.samples,
            [each.columns for each in gathered.judged],
            lists,
            strengths=options.strengths,
            shrinkages=options.shrinkages,
        ):
            means = [one.means(each) for one, each in zip(units, fitted.logits, strict=True)]
            tables = [one.aucs(each) for one, each in zip(units, means, strict=True)]
            tried += _tried(given, fitted, units, tables)
            for kept, each in zip(scores, means, strict=True):
                kept.append(each)
            if fitted.list is not done:
                advance()
            done = fitted.list
    judged = [Judged(one, np.hstack(each)) for one, each in zip(units, scores, strict=True)]
    return _Searched(tuple(tried), tuple(judged))


def _tried(
    given: _Input,
    fitted: Fitted,
    units: Sequence[Units],
    tables: Sequence[npt.NDArray[np.float64]],
) -> Iterator[Tried]:
    """A record per strength, of AUCs ``(lines, K)`` for each part."""
    for index, strength in enumerate(fitted.strengths):
        aucs, *altered = (
            _named(one, table[:, index]) for one, table in zip(units, tables, strict=True)
        )
        yield Tried(
            given.scale,
            given.extract.preprocess.height,
            fitted.list,
            fitted.fit,
            strength,
            aucs,
            altered[0] if altered else None,
        )


def _named(units: Units, aucs: npt.NDArray[np.float64]) -> dict[str, float]:
    return {line.name: float(value) for line, value in zip(units.lines, aucs, strict=True)}


def _without_line(searched: Sequence[_Searched]) -> dict[str, str]:
    """Data sets of the validation part that no AUC says anything about."""
    units = searched[0].judged[0].units
    known = set().union(*(line.datasets for line in units.lines))
    return dict.fromkeys(sorted(set(units.datasets) - known), _ONE_CLASS)


def _merit(tried: Tried, options: SweepOptions) -> tuple[float, float]:
    """What decides, then the validation score."""
    if options.select == "validation":
        return tried.score, 0.0
    return (-1.0 if tried.transfer is None else tried.transfer), tried.score


def _best(searched: Sequence[_Searched], options: SweepOptions) -> tuple[int, int]:
    """Input and head; of equal ones the first, which is the simplest."""
    places = [(n, k) for n, each in enumerate(searched) for k in range(len(each.tried))]
    return max(places, key=lambda at: _merit(searched[at[0]].tried[at[1]], options))


def _with_left_out(
    inputs: Sequence[_Input],
    searched: Sequence[_Searched],
    options: SweepOptions,
    progress: Progress,
) -> tuple[list[_Searched], dict[str, str]]:
    """All heads on the best lists again, each data set left out in turn."""
    best: dict[tuple[int, FeatureList], float] = {}
    for number, each in enumerate(searched):
        for one in each.tried:
            key = number, one.list
            best[key] = max(best.get(key, -1.0), one.score)
    top = sorted(best, key=lambda key: best[key], reverse=True)[: options.top]
    found: list[_Searched] = []
    unmeasured: dict[str, str] = {}
    for number, each in enumerate(searched):
        lists = [one for which, one in top if which == number]
        if not lists:
            found.append(each)
            continue
        gathered = _gathered(inputs[number], options)
        aucs, reasons = _left_out(gathered, lists, options, progress)
        unmeasured |= reasons
        tried = tuple(
            replace(one, left_out=aucs.get((one.list, one.fit, one.strength))) for one in each.tried
        )
        found.append(_Searched(tried, each.judged))
    return found, unmeasured


def _left_out(
    gathered: _Gathered, lists: Sequence[FeatureList], options: SweepOptions, progress: Progress
) -> tuple[dict[tuple[FeatureList, str, float], dict[str, float]], dict[str, str]]:
    """AUC by head and line, and why a line has none.

    Raises:
        ConfigError: no line can be left out.
    """
    val = gathered.judged[0]
    whole = (*gathered.train.samples, *val.samples)
    columns = {
        name: np.concatenate([gathered.train.columns[name], val.columns[name]])
        for name in gathered.train.columns
    }
    lines = units_of(whole).lines
    found: dict[tuple[FeatureList, str, float], dict[str, float]] = {}
    reasons: dict[str, str] = {}
    with progress("heads, data sets left out", len(lines)) as advance:
        for line in lines:
            kept = _rows(gathered.samples, line, inside=False)
            if len({gathered.samples[row].label for row in kept}) < 2:
                reasons[line.name] = "without it a class has nothing to learn from"
                continue
            tested = _rows(whole, line, inside=True)
            units = units_of([whole[row] for row in tested])
            for fitted in fit_lists(
                {name: each[kept] for name, each in gathered.learnt.items()},
                [gathered.samples[row] for row in kept],
                [{name: each[tested] for name, each in columns.items()}],
                lists,
                strengths=options.strengths,
                shrinkages=options.shrinkages,
            ):
                aucs = units.aucs(units.means(fitted.logits[0]))[0]
                for strength, value in zip(fitted.strengths, aucs, strict=True):
                    key = fitted.list, fitted.fit, strength
                    found.setdefault(key, {})[line.name] = float(value)
            advance()
    if not found:
        raise ConfigError(
            "no data set can be left out: without it a class has nothing to learn from "
            f"({', '.join(reasons)}). Give the data sets in a column 'dataset', two or more with "
            "both classes."
        )
    return found, reasons


def _rows(samples: Sequence[Sample], line: Line, *, inside: bool) -> npt.NDArray[np.intp]:
    names = [each.dataset or "data" for each in samples]
    return np.flatnonzero([(name in line.datasets) == inside for name in names])
