"""Going on with the head of a detector: ``head_start: kept``."""

from pathlib import Path

import pytest
import torch

from running import Cli
from tiny_detectors import noise_image, published, tiny_tower, write_picture
from unmask.models.checkpoint import load_model


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> Path:
    return published(tiny_tower(), tmp_path_factory.mktemp("towers") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    rows = ["path,label,split"]
    for number in range(16):
        label, split = ("real", "fake")[number % 2], ("train", "val")[number % 4 // 2]
        write_picture(folder / f"{number}.png", noise_image(number))
        rows.append(f"{number}.png,{label},{split}")
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "list.csv"


@pytest.fixture
def train(cli: Cli, data: Path, monkeypatch):
    monkeypatch.setattr("unmask.train.page.training_page", lambda *_, **__: "curves")
    return lambda output, backbone, *more: cli(
        "train", data, "-o", output, "--backbone", backbone, "--recipe", "full", "--faces", "none",
        "--device", "cpu", "--cache", data.parent.parent / "cache", "--augmentation", "none",
        "--workers", 0, "--batch-size", 4, "--steps", 2, *more,
    )  # fmt: skip


@pytest.fixture
def first(train, tower, tmp_path) -> Path:
    outcome = train(tmp_path / "first", tower)
    assert outcome.code == 0, outcome.err
    return tmp_path / "first"


def test_a_training_that_hardly_moves_keeps_the_head_of_its_detector(train, first, tmp_path):
    outcome = train(tmp_path / "second", first, "--set", "head_start=kept", "--lr", 1e-9,
                    "--set", "head_lr=1e-9", "--set", "weight_decay=0")  # fmt: skip
    assert outcome.code == 0, outcome.err
    before, after = (load_model(tmp_path / name).head.linear for name in ("first", "second"))
    assert torch.allclose(before.weight, after.weight, atol=1e-6)
    assert torch.allclose(before.bias, after.bias, atol=1e-6)


def test_a_bare_tower_has_no_head_to_keep(train, tower, tmp_path):
    outcome = train(tmp_path / "mine", tower, "--set", "head_start=kept")
    assert outcome.code == 2
    assert "is a bare tower without a head" in outcome.err


@pytest.mark.parametrize("more", [("--feature", "mean@1"), ("--set", "outputs=2")])
def test_a_head_of_another_shape_is_refused_by_what_it_sees(train, first, tmp_path, more):
    outcome = train(tmp_path / "mine", first, "--set", "head_start=kept", *more)
    assert outcome.code == 2
    assert "has features pooler, outputs 1, normalize false, where" in outcome.err
    assert not (tmp_path / "mine").exists()


def test_the_source_of_a_trained_tower_is_the_detector(train, first, tmp_path):
    train(tmp_path / "second", first)
    source = load_model(tmp_path / "second").spec.backbone_source
    assert source is not None
    assert Path(source.id).name == "first"


def test_the_source_of_a_frozen_tower_is_where_it_was_published(train, tower, cli, data, tmp_path):
    outcome = cli("train", data, "-o", tmp_path / "probe", "--backbone", tower, "--faces", "none",
                  "--device", "cpu", "--views", 0, "--cache", tmp_path / "cache")  # fmt: skip
    assert outcome.code == 0, outcome.err
    train(tmp_path / "second", tmp_path / "probe", "--feature", "mean@1")
    first, second = (load_model(tmp_path / n).spec.backbone_source for n in ("probe", "second"))
    assert first is not None
    assert first == second
