"""The documented commands of the original scripts: same flags, same text.

Run by ``perf_huggingface.py``, ``perf.py`` and ``demo.py`` in ``DeepfakeBench/training``;
``docs/compatibility.md`` describes them.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.perf_arguments import TOOLS, Tool, parser_for
from unmask.cli.perf_detector import make_detector
from unmask.cli.progress import progress
from unmask.cli.reference_config import find_file, read_script_config
from unmask.cli.streams import open_closed_streams, plain_warnings, say
from unmask.errors import (
    ConfigError,
    LandmarkFileError,
    MissingSource,
    OutputError,
    UnmaskError,
    UnsupportedMedia,
)
from unmask.reference_text import (
    UNTRAINED_WARNING,
    demo_line,
    metric_lines,
    write_reference_text,
)

if TYPE_CHECKING:
    from unmask.models.detector import Detector
    from unmask.pipeline import Options, Pipeline
    from unmask.types import Result, Sample

__all__ = ["main", "stratified"]


def main(
    argv: Sequence[str] | None = None, *, tool: str = "perf_huggingface", root: Path | None = None
) -> int:
    """Run the command; the exit code.

    Args:
        argv: Arguments; None is those of the process.
        tool: Which script is run.
        root: The ``DeepfakeBench`` folder of that script, where its files are looked up too.

    Returns:
        0 if all pictures were scored, 1 if some were not or nobody reads the lines, 2 on wrong
        use, 130 if interrupted.
    """
    what = TOOLS[tool]
    open_closed_streams()
    plain_warnings()
    if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal cannot show is spelt out
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = parser_for(tool).parse_args(argv)
    try:
        return _run(arguments, what, root)
    except UnmaskError as error:
        _say(f"{tool}: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted before the first picture was scored; nothing was written")
        return 130
    except BrokenPipeError:  # nobody reads the lines any more (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def stratified(samples: Sequence[Sample], limit: int, seed: int) -> list[Sample]:
    """``limit`` of the samples, each label in proportion, in their order; all if there are fewer.

    The same samples, limit and seed give the same choice.
    """
    if limit >= len(samples):
        return list(samples)
    places: dict[int | None, list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault(sample.label, []).append(place)
    order = [label for label in (0, 1, None) if label in places]
    exact = {label: limit * len(places[label]) / len(samples) for label in order}
    share = {label: int(exact[label]) for label in order}
    by_rest = sorted(order, key=lambda label: share[label] - exact[label])
    for label in by_rest[: limit - sum(share.values())]:
        share[label] += 1
    chooser = random.Random(seed)  # noqa: S311  # a sample, not a secret
    chosen = [place for label in order for place in chooser.sample(places[label], share[label])]
    return [samples[place] for place in sorted(chosen)]


def _run(arguments: argparse.Namespace, what: Tool, root: Path | None) -> int:
    from unmask.pipeline import Pipeline

    roots = [Path("DeepfakeBench"), *([root, root.parent] if root else [])]
    config = read_script_config(
        _config_file(arguments.detector_config, roots), model=what.model, warn=_say
    )
    seed = config.manualSeed if arguments.seed is None else arguments.seed
    if what.output is not None:
        _check_output(arguments.output, what.title)
    samples = _samples(arguments.image, recursive=arguments.recursive)
    if arguments.limit:
        samples = stratified(samples, arguments.limit, seed)
    landmarks = _landmark_file(arguments.landmark_model, roots)
    detector = make_detector(arguments, config, seed, _say, trained_only=what.trained_only)
    batch_size = arguments.batch_size or config.test_batchSize
    pipeline = Pipeline(detector, _options(detector, landmarks, batch_size))
    _say(f"{detector.ref.id}: {pipeline.describe()}")
    warning = None
    if not detector.ref.trained:
        warning = UNTRAINED_WARNING
        _say(warning)
    _say(f"Collected {len(samples)} images in total, starting inference...")
    results, interrupted = _score(pipeline, samples, lines=what.output is None)
    if what.output is not None:
        _write(arguments.output, results, what.title, warning, len(samples))
    return _close(results, interrupted=interrupted, in_file=what.output is not None)


def _config_file(path: Path, roots: Sequence[Path]) -> Path:
    found = find_file(path, roots)
    if found is None:
        places = ", ".join(str(Path.cwd() / place) for place in (Path(), *roots))
        raise ConfigError(
            f"no detector configuration {path}; looked in {places}. Give the path of a YAML file "
            "with --detector_config."
        )
    return found


def _check_output(path: Path, title: str) -> None:
    """Refuse an output that could not be written, before any work is done for it.

    Only results of the same script are replaced: a picture or a list is never lost to a slip.
    """
    from unmask.report import make_folder

    if path.is_dir():
        raise OutputError(f"{path} is a directory; give the name of a text file with --output")
    if path.exists() and not _replaceable(path, title):
        raise OutputError(
            f"{path} exists and is no results file (it does not begin with {title!r}), so it is "
            "not replaced; give another name with --output"
        )
    make_folder(path.parent)


def _replaceable(path: Path, title: str) -> bool:
    if not path.is_file():  # a device, or a pipe
        return False
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(title.encode())) in (b"", title.encode())
    return False


def _samples(image: str, *, recursive: bool) -> list[Sample]:
    from unmask.sources import REFERENCE_SUFFIXES, read_sources

    if image == "-":
        raise MissingSource("--image takes a picture or a directory; 'unmask scan -' reads a list")
    path = Path(image)
    if path.is_file() and path.suffix.lower() not in REFERENCE_SUFFIXES:
        raise UnsupportedMedia(
            f"{image}: not the name of a picture that this script takes "
            f"({', '.join(sorted(REFERENCE_SUFFIXES))}); 'unmask scan' takes more kinds"
        )
    return list(read_sources([image], recursive=recursive, suffixes=REFERENCE_SUFFIXES))


def _landmark_file(path: Path | None, roots: Sequence[Path]) -> Path | None:
    from unmask.fetch import LANDMARKS, landmarks_path

    if path is None:
        return None
    found = find_file(path, roots)
    if found is not None:
        return found
    fetched = landmarks_path()
    if path.name == LANDMARKS.name and fetched.is_file():
        _say(f"{path} is not there; using the fetched {fetched}")
        return fetched
    raise LandmarkFileError(
        f"no landmark file at {path}. Expected dlib's {LANDMARKS.name}; "
        "'unmask fetch landmarks' gets it, and this script then finds it under any path that ends "
        "in its name. Without --landmark_model pictures are not cropped."
    )


def _options(detector: Detector, landmarks: Path | None, batch_size: int) -> Options:
    """Cropped by the landmark file where one is given, else as the detector asks for."""
    from unmask.pipeline import Options
    from unmask.types import FaceSpec

    if landmarks is not None:
        if detector.domain == "image":
            _say(f"{detector.ref.id} learnt from whole pictures, and faces are cut as asked for")
        trained_on = detector.face or FaceSpec(size=detector.preprocess.height)
        return Options(
            faces="largest",
            face=replace(trained_on, finder="dlib81"),
            landmark_model=landmarks,
            no_face="whole_picture",
            min_face_px=0,
            batch_size=batch_size,
        )
    # As in the original, no landmark file means no cropping; a finder that needs none still works.
    if detector.face is not None and detector.face.finder == "dlib81":
        _say(
            f"{detector.ref.id} learnt from aligned faces, and without --landmark_model whole "
            "pictures are scored, as the original does"
        )
        return Options(faces="none", batch_size=batch_size)
    return Options(no_face="whole_picture", min_face_px=0, batch_size=batch_size)


def _score(
    pipeline: Pipeline, samples: Sequence[Sample], *, lines: bool
) -> tuple[list[Result], bool]:
    """The results so far, and whether the user stopped before the end.

    Args:
        pipeline: What scores.
        samples: What is scored.
        lines: Whether each result is printed as it comes.

    Raises:
        KeyboardInterrupt: Stopped before the first result.
        BrokenPipeError: Nobody reads the lines.
        OutputError: The lines cannot be written.
    """
    results: list[Result] = []
    # Lines on a terminal are progress enough, and a bar would be drawn across them.
    bar = (
        nullcontext(_nothing)
        if lines and sys.stdout.isatty()
        else progress("scoring", len(samples))
    )
    try:
        with bar as advance:
            for result in pipeline(samples):
                results.append(result)
                if lines:
                    say(demo_line(len(results), len(samples), result), go_on=False)
                advance()
    except KeyboardInterrupt:
        if not results:
            raise
        return results, True
    return results, False


def _nothing() -> None:
    """What advances where no bar is drawn."""


def _write(
    path: Path, results: Sequence[Result], title: str, warning: str | None, total: int
) -> None:
    try:
        write_reference_text(path, results, title=title, warning=warning, total=total)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    for line in metric_lines(results):
        sys.stdout.write(line + "\n")
    _say(f"Results written to {path}")


def _close(results: Sequence[Result], *, interrupted: bool, in_file: bool) -> int:
    whole = sum(any(reason.code == "whole_picture" for reason in r.reasons) for r in results)
    missed = sum(result.logit is None for result in results)
    if whole:
        names = "the file names them" if in_file else "their lines say so"
        _say(f"pictures without a face that were scored whole: {whole}; {names}")
    if missed:
        why = "the file says why" if in_file else "their lines say why"
        _say(f"{missed} of {len(results)} inputs were not scored; {why}")
    if interrupted:
        _say("interrupted; the file holds what was scored" if in_file else "interrupted")
        return 130
    return 1 if missed else 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
