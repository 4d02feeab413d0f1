"""What training costs: both ways train alike, the plan counts what it says, rates are of all."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_detectors import noise_image, write_picture
from tiny_towers import TOWERS
from tuned_models import plain_model, save_base
from unmask.preprocess import Preprocess
from unmask.sources import read_sources
from unmask.train.features import Tower

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in ("features", "plan", "step"):
        sys.modules.pop(name, None)


@pytest.fixture
def tower():
    return TOWERS["clip"]


def test_both_ways_have_the_same_losses_in_float32(benchmark, tower, tmp_path):
    ways = benchmark("step").measure(tower, 4, 2, tmp_path)
    naive, exact = ways["naive, float32"], ways["unmask, float32"]
    assert len(naive.took) == len(exact.took) == 2
    assert exact.losses == pytest.approx(naive.losses, abs=1e-4)
    assert len(set(exact.losses)) == 6  # three rounds of two steps, and all of them learn


def test_the_plan_counts_the_products_of_a_step(benchmark, tower):
    plan = benchmark("plan")
    model = plan.tuned(tower)
    tokens = (tower.image_size // tower.patch_size) ** 2 + 1
    width, hidden = tower.hidden_size, tower.intermediate_size
    of_block = 2 * tokens * (4 * width * (width + 2) + 2 * width * hidden + 2 * tokens * width)
    patches = 2 * (tokens - 1) * 3 * tower.patch_size**2 * width
    forward, whole = plan.operations(model, tower)
    assert forward == tower.num_hidden_layers * of_block + patches + 2 * 2 * width
    assert 2 * forward < whole + patches < 2.5 * forward


def test_the_plan_counts_each_kept_tensor_once(benchmark, tower):
    plan = benchmark("plan")
    model = plan.tuned(tower)
    one, two, four = (plan.kept_bytes(model, tower, batch) for batch in (1, 2, 4))
    assert one > 0
    assert four - two == pytest.approx(2 * (two - one), rel=0.02)


def test_the_plan_prints_its_tables(benchmark, capsys):
    plan = benchmark("plan")
    step = plan.Step(162e9, 329e9, 240e6, 598e6, 303_000_000, 198_754, 0.04)
    plan.print_memory(step)
    plan.print_times(step)
    told = capsys.readouterr().out
    assert "| all | 9.5 | 2.8 |" in told
    assert "| A100 | 32 | 36000 | 96 | 1.06 | 40 | 0.41 |" in told


def test_pictures_are_taken_evenly(benchmark):
    assert benchmark("features").spread(list(range(10)), 4) == [0, 2, 5, 7]


def test_every_way_computes_all_pictures(benchmark, tmp_path, capsys):
    features = benchmark("features")
    backbone, _ = plain_model(save_base(tmp_path / "clip", "clip"))
    tower = Tower(backbone.backbone, "of no file", torch.device("cpu"), torch.float32, 2, 1)
    stage = replace(features.stage_of(Preprocess(32, 32)), mode="none")
    for seed in range(5):
        write_picture(tmp_path / "data" / f"{seed}.png", noise_image(seed))
    samples = list(read_sources([str(tmp_path / "data")]))
    ways = features.passes(tower, ["mean@1"], stage, samples, tmp_path / "cache")
    assert {name: way() for name, way in ways.items()} == {"bare": 5, "files": 5, "crops": 5}
    features.measure(ways, 1)
    assert "| bare | " in capsys.readouterr().out
