"""The training page: every recipe at equal cost, and each data set judged by who never saw it.

    python benchmarks/training.py DATA/manifest.csv --backbone TOWER --work runs/training

Writes ``benchmarks/recipes.md``. ``DATA/manifest.csv`` has the columns
path,label,dataset,generator,group,video,split; ``TOWER`` is the folder of a vision tower. Each cell
is one run of ``unmask train`` and one of ``unmask evaluate``: a recipe on all data sets, measured
on their validation part; and a recipe without one data set, measured on the whole of that one.
What is there is kept, an interrupted cell goes on, and a cell that fails is reported with its
message. ``--only`` runs some of the cells, ``--page`` writes the page of what is there.
``--pictures`` and ``--resolution`` make it affordable on a CPU.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.evaluate.evaluation import Evaluation, Row
from unmask.evaluate.intervals import Interval
from unmask.evaluate.report_json import read_json
from unmask.versions import versions

FEATURES = "mean@3,mean@6,mean@9,mean@12,cls@12"
"""What every head of the page sees, so that recipes differ in the tower's weights only."""

TUNED = ["--feature", FEATURES, "--augmentation", "standard"]
TUNED += ["--set", "outputs=1", "--set", "normalize=false", "--sampling", "balanced"]
TUNED += ["--set", "ema=0.99", "--set", "clip_norm=1.0", "--set", "schedule=cosine"]
TUNED += ["--set", "head_lr=2e-5"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is tried, as options of ``unmask train``."""

    name: str
    options: tuple[str, ...]
    about: str

    @property
    def tuned(self) -> bool:
        """Whether weights of the tower change, in steps."""
        return self.options[self.options.index("--recipe") + 1] != "probe"


def recipe(name: str, kind: str, *options: str, about: str) -> Recipe:
    """One that fine-tunes, with what all of these have in common."""
    return Recipe(name, ("--recipe", kind, *TUNED, *options), about)


RECIPES = (
    Recipe(
        "probe",
        ("--recipe", "probe", "--feature", FEATURES, "--views", "2"),
        "the head alone, on the frozen tower, two altered copies of each picture",
    ),
    recipe(
        "layernorm", "layernorm", "--set", "uniformity=0", "--set", "alignment=0",
        "--set", "lr=1e-3", "--set", "min_lr=0", about="layer norms, cross-entropy",
    ),
    recipe(
        "layernorm+ua", "layernorm", "--set", "uniformity=0.5", "--set", "alignment=0.1",
        "--set", "normalize=true", "--set", "lr=1e-3", "--set", "min_lr=0",
        about="layer norms, with GenD's two losses on features of unit length",
    ),
    recipe(
        "effort", "effort", "--set", "optimizer=adam", "--set", "lr=2e-4",
        "--set", "weight_decay=5e-4", about="the SVD residual, kept rank all but 1",
    ),
    recipe("lora", "lora", "--set", "lr=5e-4", about="LoRA of rank 8 on the attention projections"),
    recipe(
        "full", "full", "--set", "lr=5e-5", "--set", "layer_decay=0.85", about="all weights",
    ),
    recipe(
        "full+sbi", "full", "--set", "lr=5e-5", "--set", "layer_decay=0.85",
        "--set", "self_blended=0.3", about="all weights, 3 of 10 fakes blended of reals",
    ),
    recipe(
        "full+composites", "full", "--set", "lr=5e-5", "--set", "layer_decay=0.85",
        "--set", "composites=0.5", about="all weights, half of the fakes composed of two reals",
    ),
    recipe(
        "full+strong", "full", "--set", "lr=5e-5", "--set", "layer_decay=0.85",
        "--augmentation", "strong", about="all weights, the augmentation `strong`",
    ),
    recipe(
        "full+equalise", "full", "--set", "lr=5e-5", "--set", "layer_decay=0.85",
        "--set", "equalise=true", about="all weights, one size and compression for all sources",
    ),
    recipe(
        "effort+sbi", "effort", "--set", "optimizer=adam", "--set", "lr=2e-4",
        "--set", "weight_decay=5e-4", "--set", "self_blended=0.3",
        about="the SVD residual, 3 of 10 fakes blended of reals",
    ),
)  # fmt: skip

ALL = "all"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training, and what it is judged by."""

    recipe: Recipe
    left_out: str
    """Data sets joined by ``+`` that it never sees; ``all`` where it sees every one."""
    seed: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.recipe.name}_{self.left_out}_{self.seed}"


def main() -> None:
    given = arguments()
    rows = drawn(read_manifest(given.manifest), given.pictures)
    folds = [ALL, *given.fold]
    wanted = [each for each in RECIPES if not given.recipes or each.name in given.recipes]
    if unknown := set(given.recipes) - {each.name for each in RECIPES}:
        raise SystemExit(f"no such recipe: {', '.join(sorted(unknown))}")
    cells = [Cell(each, fold, seed) for seed in given.seeds for fold in folds for each in wanted]
    if not given.page:
        for cell in cells:
            if given.only in cell.name:
                run(cell, rows, given)
    given.output.write_text(page(given, datetime.date.today()), encoding="utf-8")
    print(f"wrote {given.output}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/training"))
    parser.add_argument("--recipes", nargs="*", default=[], help="names; default: all")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--warmup", type=float, default=0.3, help="epochs")
    parser.add_argument("--scale", type=float, default=1.3)
    parser.add_argument("--resolution", type=int, help="pixels; default: the tower's own")
    parser.add_argument(
        "--pictures",
        type=int,
        help="at most so many to train on of a data set and class, and "
        "a quarter of it for validation; default: all",
    )
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument(
        "--fold", nargs="*", help="data sets to leave out, those of one class joined by +",
        default=[
            "celebdf_v2", "ffpp_reenact", "stylegan1_ffhq", "ciplab_composites", "sfhq_t2i+lfw"
        ],
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("benchmarks/recipes.md"))
    parser.add_argument("--page", action="store_true", help="only write the page")
    return parser.parse_args()


def read_manifest(path: Path) -> list[dict[str, str]]:
    """The rows, their paths made absolute."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["path"] = str((path.parent / row["path"]).resolve())
    return rows


def drawn(rows: Sequence[dict[str, str]], most: int | None) -> list[dict[str, str]]:
    """At most so many of each data set and class to train on, a quarter of it for validation.

    At random with seed 0.
    """
    if most is None:
        return list(rows)
    share = {"train": most, "val": most // 4}
    parts: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        parts.setdefault((row["dataset"], row["label"], row["split"]), []).append(row)
    chance = random.Random(0)
    return [
        row
        for (_, _, split), part in parts.items()
        for row in chance.sample(part, min(len(part), share[split]))
    ]


def run(cell: Cell, rows: Sequence[Mapping[str, str]], given: argparse.Namespace) -> None:
    """Train and measure a cell, unless that is done."""
    out = given.work / cell.name
    report = given.work / f"{cell.name}.evaluation"
    if (report / "report.json").exists():
        return
    given.work.mkdir(parents=True, exist_ok=True)
    others = [row for row in rows if row["dataset"] not in cell.left_out.split("+")]
    judged = [row for row in rows if row not in others] or [
        row for row in rows if row["split"] == "val"
    ]
    learnt = written(given.work / f"{cell.left_out}.train.csv", others)
    tested = written(given.work / f"{cell.left_out}.test.csv", judged)
    failed = given.work / f"{cell.name}.failed"
    if not out.exists():
        began = time.monotonic()
        code, said = unmask(train_command(cell, learnt, out, given))
        if code:
            failed.write_text(f"{said}\n", encoding="utf-8")
            print(f"{cell.name}: {said}", flush=True)
            return
        (given.work / f"{cell.name}.seconds").write_text(f"{time.monotonic() - began:.0f}\n")
    joins = ["--join", cell.left_out] if "+" in cell.left_out else []
    if cell.left_out == ALL:
        joins = [part for fold in given.fold if "+" in fold for part in ("--join", fold)]
    code, said = unmask(
        [
            "evaluate", str(tested), "-d", str(out), "-o", str(report), "--dtype", given.dtype,
            "--faces", "largest", "--no-thumbnails", "--overwrite", *joins,
        ]
    )  # fmt: skip
    if code not in (0, 1):  # 1: some items have no score, each with its reason in the report
        failed.write_text(f"{said}\n", encoding="utf-8")
    print(f"{cell.name}: {said.splitlines()[-1] if said else 'measured'}", flush=True)


def train_command(cell: Cell, learnt: Path, out: Path, given: argparse.Namespace) -> list[str]:
    start, head = str(given.backbone), "probe"
    if cell.recipe.tuned and "normalize=true" not in cell.recipe.options:
        # What the probe of the same data is: the same start as a fit of its own, computed once.
        start, head = str(given.work / f"probe_{cell.left_out}_{cell.seed}"), "kept"
    command = [
        "train", str(learnt), "-o", str(out), "--backbone", start,
        "--scale", f"{given.scale:g}", "--seed", str(cell.seed), "--dtype", given.dtype,
        "--cache", str(given.work / "cache"), *cell.recipe.options,
    ]  # fmt: skip
    command += [] if given.resolution is None else ["--resolution", str(given.resolution)]
    if not cell.recipe.tuned:
        return command
    command += ["--steps", str(given.steps), "--batch-size", str(given.batch_size)]
    command += ["--set", f"head_start={head}", "--set", "checkpoint_steps=50"]
    command += ["--set", f"warmup_epochs={given.warmup:g}"]
    begun = out.with_name(f"{out.name}.training") / "checkpoint.pt"
    return [*command, *(["--resume"] if begun.exists() else [])]


def unmask(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code of a command, and the last lines that it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *arguments],
        check=False, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    if done.returncode in (130, 143):
        raise SystemExit(done.returncode)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, "\n".join(said[-3:])


def written(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def page(given: argparse.Namespace, today: datetime.date) -> str:
    """What is there, as Markdown."""
    names = [each.name for each in RECIPES]
    found = {
        (name, fold, seed): read_json(path / "report.json")
        for path in sorted(given.work.glob("*.evaluation"))
        if (path / "report.json").exists()
        for name, fold, seed in [split_name(path.stem)]
    }
    seeds = sorted({seed for _, _, seed in found})
    parts = [
        "# Training: what was tried",
        intro(given),
        "## Trained without a data set, measured on all of it",
        "Nothing of the measured data set was trained or chosen on, so this table decides between "
        "recipes, as far as its intervals let it. AUC [95 %]; videos count once where there are "
        "any.",
        left_out_table(names, given.fold, seeds, found),
        "## Trained on all, measured on validation",
        "The weights kept are those whose mean AUC on this same part was best, so these numbers "
        "flatter every recipe that takes steps.",
        validation_table(names, seeds, found),
        "## Cost",
        cost_table(names, seeds, given),
        *failures(given.work),
        "## How",
        how(given, today),
    ]
    return "\n\n".join(parts) + "\n"


def split_name(stem: str) -> tuple[str, str, int]:
    name, rest = stem.split("_", 1)
    fold, seed = rest.rsplit("_", 1)
    return name, fold, int(seed)


def intro(given: argparse.Namespace) -> str:
    tried = {split_name(path.stem)[0] for path in given.work.glob("*.evaluation")}
    lines = [f"- **{each.name}**: {each.about}" for each in RECIPES if each.name in tried]
    of_each = ""
    if given.pictures is not None:
        of_each = (
            f" Of each data set and class at most {given.pictures} pictures are learnt from and "
            f"{given.pictures // 4} chosen on; of a data set that is left out both are measured."
        )
    return (
        f"Every recipe but the probe takes {given.steps} steps of {given.batch_size} crops from "
        "the same start: the tower as published and the probe of the same data. Augmentation, "
        f"sampling, schedule and what the head sees are the same.{of_each}\n\n" + "\n".join(lines)
    )


Found = Mapping[tuple[str, str, int], Evaluation]


def left_out_table(
    names: Sequence[str], folds: Sequence[str], seeds: Sequence[int], found: Found
) -> str:
    lines = [header("recipe", "seed", *folds, "mean")]
    for name, seed in pairs(names, seeds, found):
        cells, values = [], []
        for fold in folds:
            measured = auc(found.get((name, fold, seed)), fold)
            cells.append("not run" if measured is None else text(measured))
            values += [] if measured is None else [measured.value]
        mean = f"{sum(values) / len(values):.3f}" if len(values) == len(folds) else "-"
        if values:
            lines.append(line(name, seed, *cells, mean))
    return "\n".join(lines)


def validation_table(names: Sequence[str], seeds: Sequence[int], found: Found) -> str:
    columns: dict[str, None] = {}
    for (_, fold, _), report in found.items():
        if fold == ALL:
            columns |= dict.fromkeys(quoted(report))
    lines = [header("recipe", "seed", *columns)]
    for name, seed in pairs(names, seeds, found):
        report = found.get((name, ALL, seed))
        if report is not None:
            cells = [auc(report, column) for column in columns]
            lines.append(line(name, seed, *("n/a" if c is None else text(c) for c in cells)))
    return "\n".join(lines)


def pairs(names: Sequence[str], seeds: Sequence[int], found: Found) -> Iterator[tuple[str, int]]:
    for name in names:
        for seed in seeds:
            if any((name, fold, seed) in found for _, fold, _ in found):
                yield name, seed


def quoted(report: Evaluation) -> dict[str, Row]:
    """By data set the row to be quoted: videos where there are any; then the mean."""
    return {row.name: row for row in report.rows if row.kind in {"dataset", "mean"}}


def auc(report: Evaluation | None, name: str) -> Interval | None:
    row = None if report is None else quoted(report).get(name)
    if row is None:
        return None
    return next(each.interval for each in row.measures if each.name == "auc")


def cost_table(names: Sequence[str], seeds: Sequence[int], given: argparse.Namespace) -> str:
    """Wall time of the trainings on all data sets."""
    lines = [header("recipe", "seed", "minutes")]
    for name in names:
        for seed in seeds:
            seconds = given.work / f"{name}_{ALL}_{seed}.seconds"
            if seconds.exists():
                lines.append(line(name, seed, f"{float(seconds.read_text()) / 60:.1f}"))
    return "\n".join(lines)


def failures(work: Path) -> list[str]:
    said = [
        f"- {path.stem}: {' '.join(path.read_text(encoding='utf-8').split())}"
        for path in sorted(work.glob("*.failed"))
        if not path.with_name(f"{path.stem}.evaluation").exists()
    ]
    return ["## What failed", "\n".join(said)] if said else []


def how(given: argparse.Namespace, today: datetime.date) -> str:
    libraries = ", ".join(f"{name} {each}" for name, each in sorted(versions().items()))
    options = {
        "steps": given.steps, "batch-size": given.batch_size, "warmup": f"{given.warmup:g}",
        "scale": f"{given.scale:g}", "resolution": given.resolution, "pictures": given.pictures,
        "dtype": given.dtype, "seeds": " ".join(map(str, given.seeds)),
    }  # fmt: skip
    said = " ".join(f"--{name} {value}" for name, value in options.items() if value is not None)
    return (
        "```\npython benchmarks/training.py DATA/manifest.csv --backbone TOWER "
        f"{said}\n```\n\n"
        f"Written on {today.isoformat()}. Largest faces by yunet, crop scale {given.scale:g}. "
        f"Intervals: 1000 bootstrap resamples of whole groups, seed 0. {libraries}."
    )


def text(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def header(*names: str) -> str:
    return f"{line(*names)}\n{'|---' * len(names)}|"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
