"""The script that times a report, on few scores."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "evaluate.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_evaluate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawn_table_is_as_the_script_says(script):
    scores = script.table(4000)
    assert list(dict.fromkeys(scores.dataset)) == list(script.DATASETS)
    with_videos = scores.dataset[scores.video != ""]
    assert set(with_videos) == script.WITH_VIDEOS
    assert len(set(scores.video[scores.video != ""])) * script.FRAMES == len(with_videos)
    assert len(set(scores.generator[scores.label == 1])) == script.GENERATORS
    assert set(np.unique(scores.label)) == {0, 1}


def test_each_step_is_timed_and_the_report_is_there(script, tmp_path):
    found = script.measured(400, 5, tmp_path)
    assert list(found) == ["draw and write scores", "read scores", "measure", "write report"]
    assert (tmp_path / "report.html").exists()
