"""The detector that ships with the package, and what the README says about it."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

import unmask
from unmask.models.builtin import builtin_folder
from unmask.pipeline import Options, Pipeline

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "images"


@pytest.fixture(scope="module")
def folder() -> Path:
    return builtin_folder("builtin")


@pytest.fixture(scope="module")
def results() -> dict[str, unmask.Result]:
    pipe = Pipeline(unmask.load(), Options(workers=0))
    samples = unmask.read_sources([EXAMPLES])
    return {Path(result.source).name: result for result in pipe(samples)}


def test_it_is_at_most_50_megabytes(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 50_000_000


def test_its_tower_is_stored_in_half_precision_and_its_head_is_not(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", framework="np") as file:
        kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert {kind for key, kind in kinds.items() if key.startswith("backbone.")} == {"F16"}
    assert {kind for key, kind in kinds.items() if key.startswith("head.")} == {"F32"}


def test_its_card_states_each_validation_auc_with_its_counts(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    rows = config["training"]["validation"]["rows"]
    assert len(rows) >= 4
    for row in rows:
        assert f"| {row['dataset']} | {row['n_real']} | {row['n_fake']} |" in card
        assert f"{row['auc']:.3f}" in card


def test_it_learnt_something(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rows = config["training"]["validation"]["rows"]
    assert {row["dataset"]: row["auc"] for row in rows}["celebdf_v2"] > 0.85


def test_it_scores_every_example(results: dict[str, unmask.Result]) -> None:
    assert {name: result.status for name, result in results.items()} == {
        "astronaut.jpg": "ok",
        "astronaut_blended.jpg": "ok",
        "astronaut_enlarged_eyes.jpg": "ok",
    }


def test_it_carries_thresholds_chosen_on_named_data() -> None:
    points = unmask.load().operating_points
    assert [point.name for point in points] == ["fpr5", "fpr1"]
    assert all("validation" in point.source for point in points)


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        code = block.replace('"examples/images"', repr(str(EXAMPLES)))
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count(" ok ") == 3


def test_the_readme_states_the_numbers_of_its_training_record(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rows = config["training"]["validation"]["rows"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    faces, whole = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    for pair in zip(faces, whole, strict=True):
        cells = " | ".join(f"{row['auc']:.3f}".removeprefix("0") for row in pair)
        assert f"| {cells} |" in text


def test_it_answers_for_whole_pictures_too(folder: Path) -> None:
    whole = unmask.load().whole_pictures
    assert whole is not None
    assert [point.name for point in whole.operating_points] == ["fpr5", "fpr1"]


def test_the_examples_are_judged_as_the_readme_says(results: dict[str, unmask.Result]) -> None:
    assert {name: result.verdict for name, result in results.items()} == {
        "astronaut.jpg": "real",
        "astronaut_blended.jpg": "fake",
        "astronaut_enlarged_eyes.jpg": "real",
    }
