"""``demo.py``: a line for each picture, and no file."""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unmask.prepare
from scripted import ROOT, cut_short, picture, pictures, process
from tiny_results import DAMAGED, FAKE, NO_FACE, REAL
from unmask.cli.perf import main
from unmask.models.detector import Detector
from unmask.pipeline import Pipeline
from unmask.reference_text import demo_line
from unmask.types import Reason

EFFORT = Path(__file__).parent / "fixtures" / "effort"
WEIGHTS = EFFORT / "B_released_layout_module_prefix.pth"
CLIP = EFFORT / "tiny_clip"
SCRIPT = ROOT / "DeepfakeBench/training/demo.py"
LINE = re.compile(
    r"\[(\d+)/(\d+)\] {1,27}(\S+) \| "
    r"Pred Label: ([01]) \(0=Real, 1=Fake\) \| Fake Prob: (\d\.\d{4})"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return pictures(tmp_path / "data", "b.png", "a.png", "c.png")


@pytest.fixture
def demo(capsys, image_folder):
    """Exit code, lines on stdout, and stderr; with a small detector unless weights are named."""

    def run(image: Path, *more: str, weights: Path = image_folder) -> tuple[int, list[str], str]:
        given = ["--weights", str(weights), "--image", str(image), *more]
        code = main(given, tool="demo", root=ROOT / "DeepfakeBench")
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return run


def names(lines: list[str]) -> list[str]:
    return [LINE.fullmatch(line)[3] for line in lines]  # type: ignore[index]


def test_the_script_prints_the_probability_of_the_original_and_writes_nothing(tmp_path, astronaut):
    Image.fromarray(astronaut).save(tmp_path / "portrait.png")
    done = process(
        tmp_path,
        str(SCRIPT),
        *("--weights", str(WEIGHTS), "--base", str(CLIP), "--image", "portrait.png"),
    )
    p_fake = np.load(EFFORT / "arrays.npz")["B_prob"][2]
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"[1/1] {'portrait.png':>30} | Pred Label: {int(p_fake > 0.5)} (0=Real, 1=Fake) | "
        f"Fake Prob: {p_fake:.4f}\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["portrait.png"]


def test_a_directory_is_read_sorted_and_not_below(demo, data):
    picture(data / "sub" / "d.png")
    code, lines, _ = demo(data)
    assert code == 0
    assert names(lines) == ["a.png", "b.png", "c.png"]


def test_sub_directories_are_read_on_request(demo, data):
    picture(data / "sub" / "d.png")
    assert names(demo(data, "--recursive")[1]) == ["a.png", "b.png", "c.png", "d.png"]


def test_there_is_no_limit_but_the_one_asked_for(demo, tmp_path):
    data = pictures(tmp_path / "many", *[f"{n:03}.png" for n in range(105)])
    assert names(demo(data)[1]) == [f"{n:03}.png" for n in range(105)]
    assert len(demo(data, "--limit", "7")[1]) == 7


def test_the_label_is_that_of_the_larger_output(demo, tmp_path):
    _, lines, _ = demo(pictures(tmp_path / "some", *[f"{n}.png" for n in range(8)]))
    found = [LINE.fullmatch(line) for line in lines]
    labels = [(int(match[4]), float(match[5]) > 0.5) for match in found]  # type: ignore[index]
    assert {label for label, _ in labels} == {0, 1}
    assert all(label == above for label, above in labels)


def test_a_picture_that_cannot_be_read_is_a_line_with_the_reason(demo, data):
    cut_short(data / "bad.png")
    code, lines, error = demo(data)
    assert code == 1
    assert lines[2].startswith(f"[3/4] {'bad.png':>30} | unreadable: ")
    assert len(names([*lines[:2], *lines[3:]])) == 3
    assert "1 of 4 inputs were not scored; their lines say why" in error


def test_a_picture_without_a_face_is_scored_whole_and_its_line_says_so(
    demo, data, tmp_path, monkeypatch
):
    class Blind:
        name = "dlib81"

        def find(self, image):
            return []

    monkeypatch.setattr(unmask.prepare, "make_finder", lambda *_, **__: Blind())
    (tmp_path / "points.dat").touch()
    whole = demo(data)[1]
    code, lines, error = demo(data, "--landmark_model", str(tmp_path / "points.dat"))
    assert code == 0
    note = "no face was found, so the whole picture was scored"
    assert lines == [f"{line} | {note}" for line in whole]
    assert "scored whole: 3; their lines say so" in error


def test_each_line_is_printed_as_soon_as_it_is_known(data, image_folder, monkeypatch, capsys):
    printed: list[str] = []
    score_all = Pipeline.__call__

    def watched(self, samples, *, memory=None):
        for result in score_all(self, samples, memory=memory):
            yield result
            printed.append(capsys.readouterr().out)

    monkeypatch.setattr(Pipeline, "__call__", watched)
    main(["--weights", str(image_folder), "--image", str(data)], tool="demo",
         root=ROOT / "DeepfakeBench")  # fmt: skip
    assert [text.count("\n") for text in printed] == [1, 1, 1]


def test_an_interrupted_run_has_the_lines_that_were_scored(demo, data, monkeypatch):
    score_all = Pipeline.__call__

    def stopped(self, samples, *, memory=None):
        yield next(score_all(self, samples, memory=memory))
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "__call__", stopped)
    code, lines, error = demo(data)
    assert code == 130
    assert names(lines) == ["a.png"]
    assert error.endswith("interrupted\n")


def test_a_reader_that_goes_away_ends_the_run_quietly(data, image_folder, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as pipe:  # noqa: PTH123  # a descriptor
        monkeypatch.setattr(sys, "stdout", pipe)
        given = ["--weights", str(image_folder), "--image", str(data)]
        assert main(given, tool="demo", root=ROOT / "DeepfakeBench") == 1
        pipe.write("what is left in the buffer goes nowhere")
    assert "BrokenPipe" not in capsys.readouterr().err


def test_a_name_that_the_terminal_cannot_show_is_spelt_out(tmp_path, image_folder, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    data = pictures(tmp_path / "data", "\u6587.png")
    given = ["--weights", str(image_folder), "--image", str(data)]
    assert main(given, tool="demo", root=ROOT / "DeepfakeBench") == 0
    assert b"\\u6587.png | Pred Label: " in shown.getvalue()


def test_a_full_disk_is_an_error_and_no_traceback(demo, data, monkeypatch):
    def full(_line: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unmask.cli.streams.typer.echo", full)
    monkeypatch.setattr("unmask.cli.streams._silence", lambda: None)
    code, lines, error = demo(data)
    assert (code, lines) == (2, [])
    assert "demo: standard output cannot be written: No space left on device" in error


@pytest.mark.parametrize(("terminal", "drawn"), [(True, False), (False, True)])
def test_a_bar_is_drawn_only_where_the_lines_do_not_show(demo, data, monkeypatch, terminal, drawn):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert ("3/3" in demo(data)[2]) is drawn


@pytest.mark.parametrize("flag", [["--output", "x.txt"], ["--head", "linear"]])
def test_there_is_no_flag_for_a_file_or_an_untrained_head(demo, data, flag, capsys):
    with pytest.raises(SystemExit) as caught:
        demo(data, *flag)
    assert caught.value.code == 2
    assert flag[0] in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--weights", "--image"])
def test_weights_and_image_are_required(missing, capsys):
    given = {"--weights": "x", "--image": "y"}
    del given[missing]
    with pytest.raises(SystemExit):
        main([word for pair in given.items() for word in pair], tool="demo")
    assert missing in capsys.readouterr().err


def test_a_bare_clip_is_refused_with_the_name_of_the_script(demo, data):
    code, lines, error = demo(data, weights=CLIP)
    assert (code, lines) == (2, [])
    assert error.startswith("demo: ")
    assert "has no head that was trained" in error


def test_pictures_go_through_the_tower_in_batches(demo, data, crops):
    demo(data)
    assert crops == [3]


def test_both_scripts_give_the_same_probabilities(demo, data, image_folder, tmp_path):
    output = tmp_path / "out.txt"
    main(["--weights", str(image_folder), "--image", str(data), "--output", str(output)],
         tool="perf", root=ROOT / "DeepfakeBench")  # fmt: skip
    text = output.read_text(encoding="utf-8")
    demo_says = [line.rpartition(" ")[2] for line in demo(data)[1]]
    assert re.findall(r"\| Prob: (\d\.\d{4}) \|", text) == demo_says


# --- The line -------------------------------------------------------------------------------------


def test_the_line_is_that_of_the_original():
    expected = f"[2/9] {'a.png':>30} | Pred Label: 1 (0=Real, 1=Fake) | Fake Prob: 0.9241"
    assert demo_line(2, 9, FAKE) == expected
    assert "Pred Label: 0 (0=Real" in demo_line(1, 1, REAL)


def test_a_tie_is_real_as_with_argmax():
    assert "Pred Label: 0" in demo_line(1, 1, replace(FAKE, logit=0.0, p_fake=0.5))


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (NO_FACE, "no_face: yunet found no face"),
        (DAMAGED, "unreadable: in/e.png: the PNG data are damaged"),
    ],
)
def test_a_result_without_a_score_is_its_reason(result, why):
    assert demo_line(1, 1, result).endswith(f" | {why}")


def test_other_reasons_are_not_shown():
    assert demo_line(1, 1, replace(FAKE, reasons=(Reason("near", "x"),))) == demo_line(1, 1, FAKE)


def test_a_name_with_line_breaks_is_one_line():
    assert "\n" not in demo_line(1, 1, replace(FAKE, source="in/a\nb.png"))


def test_the_scores_come_from_the_detector(demo, data, monkeypatch):
    monkeypatch.setattr(Detector, "logits", lambda _, images: np.full(len(images), 40, np.float32))
    assert all(line.endswith("Pred Label: 1 (0=Real, 1=Fake) | Fake Prob: 1.0000")
               for line in demo(data)[1])  # fmt: skip
