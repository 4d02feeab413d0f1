"""One self-contained page of results, for people: pictures, boxes, verdicts, reasons."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image as PillowImage

from unmask.errors import SourceError
from unmask.files import one_line, replacing
from unmask.images import read_frame
from unmask.types import FaceScore, Image, Result

__all__ = ["write_html"]

_MOST_PICTURES = 500
"""Pictures on one page: about 10 MB. Results beyond it stand in the page without a picture."""

_SIDE = 320
"""Longer side of a thumbnail, in pixels."""

_ORDER = {"fake": 0, "inconclusive": 1, "real": 2}

_STYLE = """
:root { color-scheme: light dark; --fake: #c62828; --real: #2e7d32; --open: #b26a00; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem; }
.results { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; }
article { border: 1px solid #8884; border-radius: 8px; overflow: hidden; }
article > div { padding: .6rem .8rem .8rem; }
figure { margin: 0; background: #8882; text-align: center; }
figure svg { display: block; width: 100%; max-height: 20rem; }
h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
.verdict { font-weight: 700; text-transform: uppercase; letter-spacing: .03em; }
.fake { color: var(--fake); stroke: var(--fake); }
.real { color: var(--real); stroke: var(--real); }
.inconclusive { color: var(--open); stroke: var(--open); }
ul { margin: .4rem 0 0; padding-left: 1.1rem; font-size: .85rem; opacity: .85;
  overflow-wrap: anywhere; }
footer { margin-top: 2rem; font-size: .85rem; opacity: .8; }
"""


def write_html(path: Path, results: Sequence[Result]) -> None:
    """Write the page, whole or not at all; the most suspicious results come first.

    Pictures are read again from their source; one that cannot be read has no thumbnail.
    """
    ordered = sorted(results, key=_suspicion)
    with replacing(path) as file:
        file.write("<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>")
        file.write("<meta name='viewport' content='width=device-width, initial-scale=1'>")
        file.write(f"<title>unmask: {len(results)} results</title><style>{_STYLE}</style></head>")
        file.write(f"<body><h1>Real or fake</h1><p>{escape(_summary(results))}</p>")
        file.write("<div class='results'>\n")
        for rank, result in enumerate(ordered):
            file.write(_article(result, with_picture=rank < _MOST_PICTURES))
        file.write(f"</div>{_footer(results)}</body></html>\n")


def _suspicion(result: Result) -> tuple[int, int, float]:
    scored = 0 if result.status == "ok" else 1
    return scored, _ORDER[result.verdict], -(result.p_fake or 0.0)


def _summary(results: Sequence[Result]) -> str:
    verdicts = Counter(result.verdict for result in results if result.status == "ok")
    failed = Counter(result.status for result in results if result.status != "ok")
    parts = [f"{verdicts[name]} {name}" for name in ("fake", "inconclusive", "real")]
    parts += [f"{count} {status}" for status, count in sorted(failed.items())]
    return f"{len(results)} inputs: " + ", ".join(parts)


def _article(result: Result, *, with_picture: bool) -> str:
    picture = _figure(result) if with_picture and result.kind == "image" else ""
    if result.status == "ok" and result.p_fake is not None:
        verdict = f"<span class='verdict {result.verdict}'>{result.verdict}</span>"
        head = f"{verdict} P(fake) {result.p_fake:.3f}"
    else:
        head = f"<span class='verdict'>{escape(result.status.replace('_', ' '))}</span>"
    reasons = "".join(
        f"<li><b>{escape(reason.code)}</b>: {_text(reason.message)}</li>"
        for reason in result.reasons
    )
    name = _text(Path(result.source).name)
    return (
        f"<article>{picture}<div><h2 title='{_text(result.source)}'>{name}</h2>{head}"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div></article>\n"
    )


def _text(text: str) -> str:
    return escape(one_line(text))


def _figure(result: Result) -> str:
    try:
        frame, sha256 = read_frame(Path(result.source))
    except SourceError:  # its own result says why; the page shows no picture
        return ""
    if sha256 != result.sha256:  # another picture by now: the boxes would lie
        return ""
    height, width = frame.image.shape[:2]
    boxes = "".join(_box(face, max(height, width)) for face in result.faces)
    return (
        f"<figure><svg viewBox='0 0 {width} {height}' role='img'>"
        f"<image href='{_data_uri(frame.image)}' width='{width}' height='{height}'/>"
        f"{boxes}</svg></figure>"
    )


def _box(face: FaceScore, side: int) -> str:
    if face.box_xyxy is None:
        return ""
    left, top, right, bottom = face.box_xyxy
    stroke = max(1.0, side / 160)
    text = "not scored" if face.p_fake is None else f"{face.p_fake:.2f}"
    return (
        f"<rect class='{face.verdict}' x='{left:.1f}' y='{top:.1f}' width='{right - left:.1f}' "
        f"height='{bottom - top:.1f}' fill='none' stroke-width='{stroke:.1f}'/>"
        f"<text class='{face.verdict}' x='{left:.1f}' y='{top - stroke * 2:.1f}' "
        f"font-size='{side / 18:.1f}' fill='currentColor' stroke='none'>{text}</text>"
    )


def _data_uri(image: Image) -> str:
    picture = PillowImage.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _footer(results: Sequence[Result]) -> str:
    if not results:
        return ""
    first = results[0]
    versions = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    return (
        "<footer><p>A score is a likelihood, not proof: it holds for pictures like those the "
        "detector was measured on, and a new kind of forgery can pass as real.</p>"
        f"<p>Detector {_text(first.detector.id)} (weights sha256 {first.detector.sha256[:16]}); "
        f"{escape(first.preprocessing)}; {escape(_points(results))}. "
        f"{escape(versions)}</p></footer>"
    )


def _points(results: Sequence[Result]) -> str:
    """What decided; several where pictures without a face were judged by a point of their own."""
    whole = {
        result.operating_point: any(reason.code == "whole_picture" for reason in result.reasons)
        for result in results
    }
    return "; ".join(
        f"operating point{' of whole pictures' if len(whole) > 1 and is_whole else ''} "
        f"{point.name}: fake from {point.fake_at:.3f}, real below {point.real_below:.3f} "
        f"({point.source})"
        for point, is_whole in whole.items()
    )
