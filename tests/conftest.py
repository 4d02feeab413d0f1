"""What several test files share: tiny trained detectors, and pictures with and without faces."""

from __future__ import annotations

import os

# Tiny models on many cores mostly wait for each other, and the tests run side by side: one thread
# each, also in the processes that tests start. Before numpy and torch come in and read it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image as PillowImage

from running import Cli, Outcome
from tiny_detectors import WHOLE, save_detector, write_picture, write_pictures
from unmask.cli import main
from unmask.models.detector import Detector, load
from unmask.types import Image


@pytest.fixture(scope="session")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a trained detector of faces."""
    return save_detector(tmp_path_factory.mktemp("detectors") / "face", domain="face")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a trained detector of whole pictures."""
    return save_detector(tmp_path_factory.mktemp("detectors") / "image", domain="image")


@pytest.fixture(scope="session")
def both_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a trained detector of faces that learnt from whole pictures too."""
    folder = tmp_path_factory.mktemp("detectors") / "both"
    return save_detector(folder, domain="face", whole_pictures=WHOLE)


@pytest.fixture(scope="session")
def untrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a detector of whole pictures whose head never learnt."""
    folder = tmp_path_factory.mktemp("detectors") / "untrained"
    return save_detector(folder, domain="image", trained=False)


@pytest.fixture(scope="session")
def face_detector(face_folder: Path) -> Detector:
    return load(face_folder, device="cpu")


@pytest.fixture(scope="session")
def both_detector(both_folder: Path) -> Detector:
    return load(both_folder, device="cpu")


@pytest.fixture(scope="session")
def image_detector(image_folder: Path) -> Detector:
    return load(image_folder, device="cpu")


@pytest.fixture(scope="session")
def astronaut() -> Image:
    """A photo with one face."""
    return np.asarray(skimage.data.astronaut(), np.uint8)


@pytest.fixture(scope="session")
def portrait(astronaut: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one face."""
    return write_picture(tmp_path_factory.mktemp("faces") / "portrait.png", astronaut[:300, 80:380])


@pytest.fixture(scope="session")
def two_faces(astronaut: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a large face on the left and a smaller, darker one on the right."""
    large = astronaut[:300, 80:380]
    small = np.zeros_like(large)
    small[50:250, 50:250] = np.asarray(PillowImage.fromarray(large).resize((200, 200))) // 2
    both = np.concatenate([large, small], axis=1)
    return write_picture(tmp_path_factory.mktemp("faces") / "two.png", both)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of pictures without faces, one per name."""

    def make(*names: str, folder: str = "in") -> Path:
        return write_pictures(tmp_path / folder, names)

    return make


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs ``unmask`` with these arguments in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        code = left.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def crops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of crops in each forward pass from here on."""
    counted: list[int] = []
    logits = Detector.logits

    def counting(self: Detector, images: Image) -> np.ndarray:
        counted.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(Detector, "logits", counting)
    return counted
