"""The benchmark page: the built-in detector beside its raw tower and MesoNet, by the same flow.

    python benchmarks/detection.py DATA/manifest.csv --tower TOWER --mesonet MESONET \
        --dtype bfloat16

Writes ``benchmarks/detection.md``. ``DATA/manifest.csv`` has the columns
path,label,dataset,generator,group,video,split; the split ``train`` teaches the raw probe, ``val``
is what is measured. ``TOWER`` is the vision tower as it was before the built-in detector was
trained from it. ``MESONET`` holds the authors' ``Meso4_DF.h5`` and ``MesoInception_DF.h5``.
Scores are kept below ``--work`` as they come, so that an interrupted run goes on. All numbers are
those of ``unmask evaluate``.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mesonet import FILES, load_mesonet

from unmask.evaluate.altered import score_cells
from unmask.evaluate.compare import compare
from unmask.evaluate.evaluation import Comparison, Coverage, Measure, Robustness, Row, Stability
from unmask.evaluate.intervals import Interval
from unmask.evaluate.perturb import PARAMETERS
from unmask.evaluate.robustness import UNALTERED, Cell, parse_cells, robustness
from unmask.evaluate.scoring import score
from unmask.evaluate.summary import Choices, joined_datasets, summarise, threshold_of
from unmask.evaluate.table import Scores
from unmask.evaluate.table_file import read_scores, write_scores
from unmask.labelled import read_labelled
from unmask.ledger import Ledger, ledger_files, ledger_path
from unmask.models.checkpoint import save
from unmask.models.detector import Detector, load
from unmask.pipeline import Options, Pipeline
from unmask.report import make_folder
from unmask.train import data as training_data
from unmask.train.recipe import ProbeOptions, train_probe
from unmask.train.towers import load_tower
from unmask.types import FaceSpec, Sample
from unmask.versions import versions

BUILTIN, RAW = "built-in", "raw probe"
WIDE = 1.3
"""A crop scale nearer to the faces that MesoNet learnt from, which its authors cut with margin."""
LEAST = 256
"""Side of MesoNet's input; its crops are cut at this size, not enlarged from the built-in's."""
METRICS = {
    "auc": "AUC",
    "eer": "Equal error rate",
    "tpr_at_fpr_5": "Share of fakes found at 5 % false alarms",
}


@dataclass(frozen=True, slots=True)
class System:
    """One detector of the page, and everything that was measured of it."""

    name: str
    sha256: str
    scores: Scores
    rows: tuple[Row, ...]
    cells: tuple[Robustness, ...] = ()
    moved: tuple[Stability, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says."""

    systems: Sequence[System]
    wide: Sequence[System]
    differences: Mapping[str, Sequence[Comparison]]
    """The built-in minus each other one."""
    choices: Choices
    dtype: str
    preprocessing: Mapping[str, str]
    command: str
    limit: int


def run(given: argparse.Namespace) -> Page:
    """Score and measure everything."""
    cells = parse_cells(given.perturb)
    choices = Choices(
        bootstraps=given.bootstraps, seed=given.seed, joins=tuple(map(_pair, given.join))
    )
    samples = thinned(read_labelled([given.manifest], split="val"), given.limit)
    builtin = load("builtin", dtype=given.dtype)
    face = builtin.face or FaceSpec()
    detectors = {BUILTIN: builtin, RAW: raw_probe(given)}
    detectors |= {name: load_mesonet(given.mesonet, name, at(face, face.scale)) for name in FILES}
    systems = [
        measured(name, detector, samples, cells, choices, given)
        for name, detector in detectors.items()
    ]
    wide = [
        measured(
            name, load_mesonet(given.mesonet, name, at(face, WIDE)), samples, (), choices, given
        )
        for name in FILES
    ]
    return Page(
        systems=systems,
        wide=wide,
        differences={each.name: differences(systems[0], each, choices) for each in systems[1:]},
        choices=choices,
        dtype=str(builtin.dtype).removeprefix("torch."),
        preprocessing={each.name: each.scores.meta.preprocessing for each in systems},
        command=command(given),
        limit=given.limit,
    )


def at(face: FaceSpec, scale: float) -> FaceSpec:
    """The built-in's crop at MesoNet's size."""
    return replace(face, scale=scale, size=LEAST)


def _pair(text: str) -> tuple[str, ...]:
    return tuple(text.split("+"))


def thinned(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """About ``limit`` samples, evenly spread within each data set and class; all where it is 0."""
    if not limit:
        return list(samples)
    step = max(1, len(samples) // limit)
    seen: dict[tuple[str, int | None], int] = {}
    kept = []
    for sample in samples:
        key = (sample.dataset, sample.label)
        seen[key] = seen.get(key, -1) + 1
        if seen[key] % step == 0:
            kept.append(sample)
    return kept


def raw_probe(given: argparse.Namespace) -> Detector:
    """A linear head on the last layer's CLS token of the untrained tower, nothing else."""
    folder = given.work / "raw-probe"
    if not folder.exists():
        samples = thinned(
            training_data.read_labelled([given.manifest], seed=given.seed), given.limit
        )
        tower, preprocess, source = load_tower(
            given.tower,
            features=["pooler"],
            revision=None,
            offline=True,
            device="cpu",
            dtype=given.dtype,
            batch_size=16,
            workers=given.workers,
        )
        probe = train_probe(
            samples,
            tower,
            preprocess,
            source,
            ProbeOptions(
                scales=(1.0,),
                features=(("pooler",),),
                views=0,
                seed=given.seed,
                cache=given.work / "features",
            ),
            data_name="the training split",
            progress=progress,
        )
        save(probe.model, folder, card="# raw probe\n")
    return load(folder, dtype=given.dtype)


def measured(
    name: str,
    detector: Detector,
    samples: Sequence[Sample],
    cells: Sequence[Cell],
    choices: Choices,
    given: argparse.Namespace,
) -> System:
    """The detector's scores and what follows from them."""
    pipeline = Pipeline(detector, Options(faces="largest", workers=given.workers))
    scale = detector.face.scale if detector.face else 0
    folder = given.work / f"{name.replace(' ', '-')}-{scale:g}"
    scores = scored(name, pipeline, samples, folder)
    threshold = threshold_of(scores.meta)
    altered = score_cells(
        samples, pipeline, cells, scores, folder=folder, seed=given.seed, progress=progress
    )
    found, moved = robustness(scores, altered, threshold, choices)
    rows = summarise(scores, threshold, choices).rows
    return System(name, detector.ref.sha256, scores, rows, found, moved)


def scored(name: str, pipeline: Pipeline, samples: Sequence[Sample], folder: Path) -> Scores:
    """The scores of all samples, from the file where they are kept already."""
    make_folder(folder)
    path = folder / "scores.parquet"
    if path.exists():
        found = read_scores(path)
        meta, own = found.meta, pipeline.detector.model.spec.temperature
        temperature = meta.settings.get("temperature", own)  # older tables do not say
        point = meta.operating_point
        kept = (
            found.source.tolist(), meta.detector_sha256, meta.preprocessing, temperature,
            point and (point.fake_at, point.real_below),
        )  # fmt: skip
        wanted = (
            [sample.source for sample in samples], pipeline.detector.ref.sha256,
            pipeline.describe(), own, (pipeline.point.fake_at, pipeline.point.real_below),
        )  # fmt: skip
        if kept != wanted:
            raise SystemExit(f"{path} is of another run; remove it, or give another --work")
        return found
    with (
        Ledger(ledger_path(path), pipeline.settings()) as ledger,
        progress(f"scoring, {name}", len(samples)) as advance,
    ):
        found = score(samples, pipeline, ledger=ledger, advance=advance)
    write_scores(path, found)
    for left in ledger_files(path):
        left.unlink(missing_ok=True)
    return found


def differences(first: System, second: System, choices: Choices) -> tuple[Comparison, ...]:
    """AUC of the first minus that of the second, per data set and over their mean."""
    tables = [joined_datasets(each.scores, choices.joins) for each in (first, second)]
    found, _ = compare(
        tables[0],
        tables[1],
        (first.name, second.name),
        thresholds=(threshold_of(first.scores.meta), threshold_of(second.scores.meta)),
        how=choices.how,
        n=choices.bootstraps,
        seed=choices.seed,
    )
    return tuple(each for each in found if each.metric == "auc" and each.dataset != "all")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A line at the start and at each tenth."""
    done = 0
    print(f"{what}: {total}", flush=True)

    def advance() -> None:
        nonlocal done
        done += 1
        if total >= 100 and done % (total // 10) == 0:
            print(f"{what}: {done} of {total}", flush=True)

    yield advance


def command(given: argparse.Namespace) -> str:
    """What makes the page again; places on this machine by their meaning."""
    parts = ["python benchmarks/detection.py DATA/manifest.csv --tower TOWER --mesonet MESONET"]
    parts += [f"--dtype {given.dtype}", f"--bootstraps {given.bootstraps}", f"--seed {given.seed}"]
    parts += [f"--perturb {given.perturb}", *(f"--join {each}" for each in given.join)]
    return " ".join([*parts, *([f"--limit {given.limit}"] if given.limit else [])])


def quoted_rows(system: System) -> dict[str, Row]:
    """The row of each data set that is to be quoted (videos where there are any), and the mean."""
    return {row.name: row for row in system.rows if row.kind in {"dataset", "mean"}}


def picture_rows(system: System) -> dict[str, Row]:
    """The row of each data set that counts pictures."""
    return {row.name: row for row in system.rows if (row.kind, row.unit) == ("dataset", "picture")}


def markdown(page: Page, today: datetime.date) -> str:
    """The page."""
    parts = [
        "# Detection: the built-in detector beside its raw tower and a peer",
        *([f"**A trial on about {page.limit} samples, not a result.**"] if page.limit else []),
        what_is_compared(page),
        in_short(page),
        "## Result",
        *(metric_table(page.systems, name, title) for name, title in METRICS.items()),
        "## Is the difference real?",
        difference_table(page),
        "## Where the built-in detector does not win",
        honest(page),
        "## Coverage",
        coverage_table(page.systems),
        "## Altered pictures",
        robustness_part(page),
        "## MesoNet on wider crops",
        "The two networks once more on crops of scale "
        f"{WIDE:g}, nearer to those that they learnt from.",
        metric_table(page.wide, "auc", METRICS["auc"]),
        "## How",
        how(page, today),
    ]
    return "\n\n".join(parts) + "\n"


def what_is_compared(page: Page) -> str:
    hashes = {each.name: each.sha256[:12] for each in page.systems}
    mesos = " and ".join(f"`{name}` (`{FILES[name]}`, {hashes[name]})" for name in FILES)
    return (
        f"- **{BUILTIN}**: `face-vits14`, what `unmask` uses where no detector is named "
        f"({hashes[BUILTIN]}): a ViT-S/14 all of whose weights learnt from the training split, "
        "from altered faces, whole pictures and self-blended faces.\n"
        f"- **{RAW}**: a linear head on the last layer's CLS token of the tower as it was before, "
        "learnt by `unmask train`'s functions from the same split, one crop scale, no altered "
        "copies. What training the tower is worth is the difference.\n"
        f"- **MesoNet**: {mesos}, the authors' face-swap weights (Apache-2.0; not shipped here), "
        "run by `benchmarks/mesonet.py`. Input 256 x 256 in 0..1; their output is P(real), "
        "turned round here.\n\n"
        "The built-in detector and the raw probe learnt from the training split of these very "
        "sources, and the raw probe's penalty and the step whose weights the built-in keeps were "
        "chosen on the validation split measured here; MesoNet knows none of them. So the page "
        "says what each does on these sources, not how well each would do on new ones."
    )


def in_short(page: Page) -> str:
    """The mean AUC of each, as it is and altered."""
    said = []
    for system in page.systems:
        means = [each for each in system.cells if each.dataset == "mean"]
        said.append(f"- {system.name}: " + "; ".join(_mean(each) for each in means))
    return "Mean AUC over the data sets:\n\n" + "\n".join(said)


def _mean(cell: Robustness) -> str:
    value = "n/a" if cell.auc.interval is None else f"{cell.auc.interval.value:.3f}"
    return f"{value} {words(cell.kind, cell.severity)}"


def metric_table(systems: Sequence[System], metric: str, title: str) -> str:
    """A row per data set; the best of the systems in bold."""
    names = [each.name for each in systems]
    lines = [f"**{title}** [95 %]", "", header("data set", "unit", "real", "fake", *names)]
    rows = [quoted_rows(each) for each in systems]
    for name in rows[0]:
        found = [measure(each[name], metric) for each in rows]
        values = [None if one.interval is None else one.interval.value for one in found]
        known = [value for value in values if value is not None]
        best = (min if metric == "eer" else max)(known) if known else None
        cells = [text(one, bold=value == best) for one, value in zip(found, values, strict=True)]
        row = rows[0][name]
        lines.append(line(name, "mixed" if row.mixed else row.unit, row.n_real, row.n_fake, *cells))
    return "\n".join(lines)


def measure(row: Row, name: str) -> Measure:
    return next(each for each in row.measures if each.name == name)


def text(found: Measure, *, bold: bool = False) -> str:
    if found.interval is None:
        return "n/a"
    value = f"{found.interval.value:.3f}"
    return f"{f'**{value}**' if bold else value} {bounds(found.interval)}"


def bounds(found: Interval) -> str:
    return f"[{found.low:.3f}, {found.high:.3f}]"


def header(*names: str) -> str:
    return f"{line(*names)}\n{'|---' * len(names)}|"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def difference_table(page: Page) -> str:
    lines = [
        "AUC of the built-in detector minus that of the other one, on the same resamples; p by "
        "DeLong's test where no item shares its group with another.",
        "",
        header("data set", *(f"minus {name}" for name in page.differences)),
    ]
    columns = [{each.dataset: each for each in found} for found in page.differences.values()]
    lines += [line(name, *(difference(each[name]) for each in columns)) for name in columns[0]]
    return "\n".join(lines)


def difference(found: Comparison) -> str:
    p = "" if found.p_value is None else f", p {found.p_value:.2g}"
    return f"{found.difference.value:+.3f} {bounds(found.difference)}{p}"


def honest(page: Page) -> str:
    """Where another one has the higher AUC, or a lead over it may be chance."""
    lines = []
    for name, found in page.differences.items():
        for each in found:
            if each.difference.value <= 0:
                sure = "beyond chance" if each.difference.high < 0 else "perhaps by chance"
                lines.append(
                    f"- {each.dataset}: {name} is ahead by {-each.difference.value:.3f}, {sure}"
                )
            elif not each.difference.low > 0:
                lines.append(
                    f"- {each.dataset}: its lead of {each.difference.value:.3f} over {name} may be "
                    "chance"
                )
    lines += overtaken(page.systems)
    if not lines:
        return "By AUC it leads on every data set over each of the others, beyond chance."
    return "\n".join(["By AUC:", "", *lines])


def overtaken(systems: Sequence[System]) -> list[str]:
    """Altered pictures on which another one has the higher AUC."""
    lines = []
    for index, own in enumerate(systems[0].cells if systems else ()):
        for other in systems[1:]:
            theirs = other.cells[index].auc.interval
            both = own.auc.interval is not None and theirs is not None
            if own.kind != UNALTERED and both and theirs.value > own.auc.interval.value:
                lines.append(
                    f"- {own.dataset}, {words(own.kind, own.severity)}: {other.name} is ahead by "
                    f"{theirs.value - own.auc.interval.value:.3f}"
                )
    return lines


def coverage_table(systems: Sequence[System]) -> str:
    names = [each.name for each in systems]
    lines = [
        "Scored of given pictures; what has no face is counted, not dropped.",
        "",
        header("data set", *names),
    ]
    rows = [picture_rows(each) for each in systems]
    lines += [line(name, *(covered(each[name].coverage) for each in rows)) for name in rows[0]]
    return "\n".join(lines)


def covered(found: Coverage) -> str:
    lost = ", ".join(f"{count} {reason}" for reason, count in found.missing.items())
    return f"{found.scored} of {found.given}" + (f" ({lost})" if lost else "")


def robustness_part(page: Page) -> str:
    kinds = list(dict.fromkeys((each.kind, each.severity) for each in page.systems[0].cells))
    tables = [robustness_table(page.systems, kind, severity) for kind, severity in kinds]
    moved = [
        "**How far P(fake) of the same picture moves** (median, 95th percentile, share that "
        "changes side at the detector's own threshold)",
        "",
        header("altered by", *(each.name for each in page.systems)),
    ]
    for index, one in enumerate(page.systems[0].moved):
        cells = [
            f"{each.median_shift:.3f}, {each.p95_shift:.3f}, {each.flipped:.1%}"
            for each in (system.moved[index] for system in page.systems)
        ]
        moved.append(line(words(one.kind, one.severity), *cells))
    return "\n\n".join(
        [
            "Pictures are altered after decoding and before faces are looked for. AUC [95 %]; in "
            "parentheses how many (videos, where there are any) were scored.",
            *tables,
            "\n".join(moved),
        ]
    )


def robustness_table(systems: Sequence[System], kind: str, severity: int) -> str:
    lines = [f"**{words(kind, severity)}**", "", header("data set", *(s.name for s in systems))]
    tables = [
        {
            each.dataset: each
            for each in system.cells
            if (each.kind, each.severity) == (kind, severity)
        }
        for system in systems
    ]
    for name in tables[0]:
        cells = [f"{text(each[name].auc)} ({each[name].coverage.scored})" for each in tables]
        lines.append(line(name, *cells))
    return "\n".join(lines)


def words(kind: str, severity: int) -> str:
    if kind == UNALTERED:
        return "as it is"
    number = PARAMETERS[kind][severity - 1]  # type: ignore[index]
    what = {"jpeg": "JPEG, quality", "webp": "WebP, quality", "resize": "sides times"}
    return f"{what.get(kind, kind)} {number:g} ({kind}@{severity})"


def how(page: Page, today: datetime.date) -> str:
    choices = page.choices
    stages = "\n".join(f"- {name}: {stage}" for name, stage in page.preprocessing.items())
    known = ", ".join(f"{name} {version}" for name, version in sorted(versions().items()))
    return (
        f"```\n{page.command}\n```\n\n"
        "`MESONET` is a folder with the authors' two files; the data are research sets (see the "
        "card of the built-in detector for their terms), of which nothing is part of this "
        "repository.\n\n"
        f"Measured on {today.isoformat()}; towers in {page.dtype}, MesoNet in float32. The largest "
        "face of each picture. Frames of a video count once, by the mean of P(fake). Intervals: "
        f"{choices.bootstraps} bootstrap resamples of whole groups (identity, video or picture), "
        f"seed {choices.seed}. Data sets of one class are joined, and what tells them apart may "
        f"then be more than forgery: {', '.join('+'.join(each) for each in choices.joins)}.\n\n"
        f"{stages}\n\n{known}."
    )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manifest", help="with the splits train and val")
    parser.add_argument("--mesonet", type=Path, required=True, help="folder of the authors' files")
    parser.add_argument("--tower", required=True, help="that the built-in was trained from")
    parser.add_argument("--work", type=Path, default=Path("build/detection"), help="keeps scores")
    parser.add_argument("--dtype", default="float32", help="of the towers")
    parser.add_argument("--perturb", default="jpeg@3,resize@2", help="as of unmask evaluate")
    parser.add_argument(
        "--join", action="append", help="A+B: data sets of one class each; repeat", default=[]
    )
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="one per core")
    parser.add_argument("--limit", type=int, default=0, help="about so many, for a trial")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"))
    return parser.parse_args(argv)


def main() -> None:
    given = parse()
    if given.limit:
        given.work /= f"limit-{given.limit}"
    make_folder(given.work)
    given.output.write_text(markdown(run(given), datetime.date.today()), encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
