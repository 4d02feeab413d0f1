import io
import json
import sys

import pytest

import unmask
from running import process
from unmask.cli import app, options
from unmask.cli.progress import progress
from unmask.models.configuration import FaceSpec

VERBS = (
    *("scan", "train", "sweep", "evaluate", "calibrate", "audit", "equalize"),
    *("convert", "verify", "align", "models", "fetch"),
)
HEAVY = ("torch", "transformers", "cv2", "dlib", "sklearn", "scipy")
ASK = f"print([name for name in {HEAVY!r} if name in sys.modules])"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_help_lists_every_verb(cli):
    outcome = cli("--help")
    assert outcome.code == 0
    for verb in VERBS:
        assert verb in outcome.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(cli, verb):
    outcome = cli(verb, "-h")
    assert outcome.code == 0
    assert f"unmask {verb}" in outcome.out


def test_the_verbs_are_these_and_no_others():
    assert [command.callback.__name__ for command in app.registered_commands] == list(VERBS)


def test_version_tells_the_version(cli):
    assert cli("--version").out == f"unmask {unmask.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["scann"], ["--no-such-option"]])
def test_wrong_use_is_exit_code_2(cli, arguments):
    assert cli(*arguments).code == 2


def test_an_error_of_ours_is_a_sentence_and_no_traceback(cli, tmp_path):
    outcome = cli("scan", tmp_path / "gone.png")
    assert outcome.code == 2
    assert outcome.err.startswith("unmask: ")
    assert "Traceback" not in outcome.err


def test_an_error_that_is_not_ours_is_not_hidden(monkeypatch):
    def broken(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("unmask.sources.read_sources", broken)
    monkeypatch.setattr(sys, "argv", ["unmask", "scan", "x"])
    from unmask.cli import main

    with pytest.raises(ZeroDivisionError):
        main()


def test_help_as_a_process_loads_nothing_heavy():
    code = (
        "import sys\nfrom unmask.cli import main\nsys.argv = ['unmask', '--help']\n"
        f"try:\n    main()\nexcept SystemExit:\n    pass\n{ASK}"
    )
    done = process("-c", code)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_importing_the_package_loads_nothing_heavy():
    assert process("-c", f"import sys\nimport unmask\n{ASK}").stdout == "[]\n"


def test_the_public_names_are_there():
    for name in unmask.__all__:
        assert getattr(unmask, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'lead'"):
        unmask.lead  # noqa: B018  # asking is what is tested


# Options


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (("convert", "effort", "a", "b", "--as", "x"), "'x' is not one of 'merged', 'adapter'"),
        (("convert", "effort", "a", "b", "--domain", "x"), "'x' is not one of 'face', 'image'"),
        (("train", "a", "-o", "b", "--as", "x"), "'x' is not one of 'merged', 'adapter'"),
        (("audit", "a", "--fail-on", "x"), "'x' is not one of 'never', 'caution', 'leak'"),
    ],
)
def test_a_wrong_value_is_answered_with_the_known_ones(cli, arguments, known):
    outcome = cli(*arguments)
    words = " ".join(outcome.err.replace("│", " ").split())
    assert outcome.code == 2
    assert f"Invalid value for '{arguments[-2]}': {known}." in words


@pytest.mark.parametrize(
    ("text", "point"), [(None, None), ("0.9", 0.9), ("1", 1.0), ("fpr5", "fpr5")]
)
def test_a_threshold_is_a_number_or_a_name(text, point):
    assert options.operating_point(text) == point


def test_an_operating_point_is_a_name_even_if_it_looks_like_a_number():
    assert options.operating_point(None, "0.9") == "0.9"


def test_a_finder_changes_the_detector_s_crop_in_nothing_else(face_detector):
    assert options.face_spec(face_detector, None) is None
    assert options.face_spec(face_detector, "dlib81") == FaceSpec("dlib81", size=32)


def test_a_detector_of_pictures_gets_crops_of_its_own_size(image_detector):
    assert options.face_spec(image_detector, "yunet") == FaceSpec("yunet", size=32)


# Progress


def test_nothing_is_drawn_in_a_pipe(capsys):
    with progress("scanning", 3) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [2, None])
def test_a_bar_is_drawn_on_a_terminal(monkeypatch, total):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("scanning", total) as advance:
        advance()
        advance()
    text = terminal.getvalue()
    assert "scanning" in text
    assert "/s" in text
    assert "left" in text


def test_a_scan_on_a_terminal_draws_how_far_it_is(cli, image_folder, pictures, monkeypatch):
    folder = pictures("a.png", "b.png")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli("scan", "-d", image_folder, folder).code == 0
    assert "2/2" in terminal.getvalue()


# Models


@pytest.mark.parametrize("of_a_probe", [True, False])
def test_models_tells_of_each_builtin_what_was_measured(cli, monkeypatch, tmp_path, of_a_probe):
    row = {"dataset": "set", "auc": 0.9, "n_real": 3, "n_fake": 4, "by_video": True}
    record = {"validation": {"rows": [row]}}
    config = {"domain": "face", "license": "apache-2.0"}
    config["training"] = {"chosen": record} if of_a_probe else record
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("unmask.models.builtin.builtin_folder", lambda _name: tmp_path)
    lines = cli("models").out.splitlines()
    assert lines[0] == "face-vits14 (default)"
    assert "domain face" in lines[1]
    assert "AUC 0.900 on set (3 real, 4 fake videos, validation)" in lines[2]
