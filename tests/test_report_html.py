import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tiny_results import ALL, FACE, FAKE, HOSTILE_NAMES, NO_FACE, OPEN, REAL, named
from unmask.files import one_line
from unmask.images import sha256
from unmask.report_html import write_html
from unmask.types import Reason, Result


class Page(HTMLParser):
    """Tags with their attributes, and the text; tags must be closed in order."""

    _VOID = frozenset({"meta", "image", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(tmp_path: Path, *results: Result) -> tuple[Page, str]:
    write_html(tmp_path / "out.html", results)
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture
def seen(tmp_path) -> Result:
    """A result whose picture is there."""
    path = tmp_path / "seen.png"
    PillowImage.fromarray(np.full((600, 800, 3), 77, np.uint8)).save(path)
    return replace(FAKE, source=str(path), sha256=sha256(path.read_bytes()))


def test_each_input_has_one_article(tmp_path):
    found, _ = page(tmp_path, *ALL)
    assert len(found.all("article")) == len(ALL)
    titles = [attributes["title"] for attributes in found.all("h2")]
    assert sorted(titles) == sorted(result.source for result in ALL)


def test_the_most_suspicious_come_first_and_those_without_score_last(tmp_path):
    found, _ = page(tmp_path, *ALL)
    names = [Path(attributes["title"]).name for attributes in found.all("h2")]
    assert names[:3] == ["a.png", "c.png", "b.png"]


def test_the_first_line_counts(tmp_path):
    _, text = page(tmp_path, *ALL)
    assert "5 inputs: 1 fake, 1 inconclusive, 1 real, 1 no_face, 1 unreadable" in text


def test_reasons_and_scores_are_told(tmp_path):
    found, _ = page(tmp_path, OPEN, NO_FACE)
    text = " ".join(found.words)
    for part in ("near_threshold", "0.525", "no face", "yunet found no face"):
        assert part in text


def test_the_footer_tells_detector_thresholds_and_versions(tmp_path):
    found, _ = page(tmp_path, *ALL)
    text = " ".join(found.words)
    for part in ("tiny", "cdcd", "fpr5", "0.600", "0.400", "validation of <b>", "torch 2"):
        assert part in text


def test_the_page_needs_nothing_from_elsewhere(tmp_path, seen):
    _, text = page(tmp_path, seen, *ALL)
    assert not re.search(r"https?:|<link|<script|@import|url\(|\ssrc=", text)
    assert all(href.startswith("data:") for href in re.findall(r"href='([^']*)'", text))


def test_a_picture_is_shown_small_with_its_boxes(tmp_path, seen):
    found, _ = page(tmp_path, seen)
    (image,) = found.all("image")
    data = base64.b64decode(image["href"].removeprefix("data:image/jpeg;base64,"))
    assert PillowImage.open(io.BytesIO(data)).size == (320, 240)
    (svg,) = found.all("svg")
    assert svg["viewbox"] == "0 0 800 600"
    (box,) = found.all("rect")
    assert (box["class"], box["x"], box["width"]) == ("fake", "10.0", "30.0")


def test_a_face_that_was_not_scored_says_so(tmp_path, seen):
    unscored = replace(FACE, logit=None, p_fake=None, verdict="inconclusive")
    found, _ = page(tmp_path, replace(seen, faces=(FACE, unscored)))
    assert "not scored" in found.words


def test_a_whole_picture_has_no_box(tmp_path, seen):
    found, _ = page(tmp_path, replace(seen, faces=(replace(FACE, box_xyxy=None),)))
    assert found.all("rect") == []


def test_a_picture_that_changed_meanwhile_is_not_shown(tmp_path, seen):
    found, _ = page(tmp_path, replace(seen, sha256="0" * 64))
    assert found.all("figure") == []


def test_a_picture_that_is_gone_is_not_shown(tmp_path, seen):
    Path(seen.source).unlink()
    found, _ = page(tmp_path, seen)
    assert len(found.all("article")) == 1
    assert found.all("figure") == []


def test_only_so_many_pictures_are_shown(tmp_path, seen, monkeypatch):
    monkeypatch.setattr("unmask.report_html._MOST_PICTURES", 2)
    found, _ = page(tmp_path, seen, seen, seen)
    assert len(found.all("article")) == 3
    assert len(found.all("figure")) == 2


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_name_is_text_and_never_markup(tmp_path, name):
    found, text = page(tmp_path, named(name))
    (title,) = found.all("h2")
    assert title["title"] == one_line(name)
    assert found.all("script") == []
    assert "\x1b" not in text


def test_reasons_detector_and_thresholds_are_text_and_never_markup(tmp_path):
    bad = "<script>'\"&"
    hostile = replace(
        REAL,
        reasons=(Reason(bad, bad),),
        preprocessing=bad,
        detector=replace(REAL.detector, id=bad),
        operating_point=replace(REAL.operating_point, name=bad, source=bad),
        versions={bad: bad},
    )
    found, _ = page(tmp_path, hostile)
    assert found.all("script") == []


def test_no_results_make_a_page(tmp_path):
    found, text = page(tmp_path)
    assert "0 inputs" in text
    assert found.all("article") == []
