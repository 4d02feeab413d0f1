"""The detector YAML of the documented commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from unmask.cli.reference_config import ScriptConfig, find_file, read_script_config
from unmask.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "DeepfakeBench/training/config/detector/huggingface_clip.yaml"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture
def read(tmp_path: Path):
    def config(text: str) -> tuple[ScriptConfig, list[str]]:
        path = tmp_path / "detector.yaml"
        path.write_text(text, encoding="utf-8")
        warnings: list[str] = []
        made = read_script_config(path, model="huggingface_clip", warn=warnings.append)
        return made, warnings

    return config


def test_the_shipped_file_says_what_is_documented():
    warnings: list[str] = []
    config = read_script_config(SHIPPED, model="huggingface_clip", warn=warnings.append)
    assert config == ScriptConfig(mean=CLIP_MEAN, std=CLIP_STD)
    assert warnings == []


def test_an_original_file_with_all_its_training_keys_is_read_without_a_word(read):
    config, warnings = read(
        """
log_dir: /logs
pretrained: ../vgg_16.pth
model_name: huggingface_clip
backbone_name: clip
backbone_config: {mode: original, num_classes: 2, inc: 3, dropout: false}
all_dataset: [FaceForensics++, FF-F2F]
train_dataset: [FaceForensics++]
test_dataset: [Celeb-DF-v2]
compression: c23
train_batchSize: 32
test_batchSize: 8
workers: 8
frame_num: {'train': 8, 'test': 8}
resolution: 224
with_mask: false
with_landmark: false
use_data_augmentation: true
data_aug: {flip_prob: 0.5, quality_lower: 40}
mean: [0.48145466, 0.4578275, 0.40821073]
std: [0.26862954, 0.26130258, 0.27577711]
optimizer: {type: adam, adam: {lr: 0.0002}}
lr_scheduler: null
nEpochs: 10
start_epoch: 0
save_epoch: 1
rec_iter: 100
logdir: ./logs
manualSeed: 1024
save_ckpt: true
save_feat: true
loss_func: cross_entropy
losstype: null
metric_scoring: auc
ngpu: 1
cuda: true
cudnn: true
save_avg: true
huggingface_model_name: openai/clip-vit-base-patch32
use_svd: true
svd_rank: 767
"""
    )
    assert warnings == []
    assert config == ScriptConfig(
        huggingface_model_name="openai/clip-vit-base-patch32",
        use_svd=True,
        svd_rank=767,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        resolution=224,
        test_batchSize=8,
    )


def test_null_leaves_the_choice_to_the_model(read):
    config, _ = read("resolution: null\nmean: null\nstd: null\n")
    assert (config.resolution, config.mean, config.std) == (None, None, None)


def test_a_base_may_be_named_and_null_is_none(read):
    assert read("base: org/clip\n")[0].base == "org/clip"
    assert read("base: null\n")[0].base is None


def test_a_file_that_names_no_script_belongs_to_the_one_that_reads_it(tmp_path):
    path = tmp_path / "detector.yaml"
    path.write_text("cuda: false\n", encoding="utf-8")
    for model in ("effort", "huggingface_clip"):
        assert read_script_config(path, model=model, warn=print).model_name == model


def test_the_shipped_effort_file_says_what_is_documented():
    warnings: list[str] = []
    path = SHIPPED.with_name("effort.yaml")
    config = read_script_config(path, model="effort", warn=warnings.append)
    assert config == ScriptConfig(model_name="effort", mean=CLIP_MEAN, std=CLIP_STD)
    assert warnings == []


def test_an_unknown_key_is_warned_about_with_the_nearest_name(read):
    _, warnings = read("svd_rang: 5\n")
    assert len(warnings) == 1
    assert "'svd_rang'" in warnings[0]
    assert "Did you mean 'svd_rank'?" in warnings[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("svd_rank: many", "svd_rank is 'many'; expected a whole number from 1"),
        ("svd_rank: true", "svd_rank is True; expected a whole number from 1"),
        ("svd_rank: 0", "svd_rank is 0; expected a whole number from 1"),
        ("resolution: 0", "resolution is 0; expected a whole number from 1 to 4096"),
        ("resolution: 4097", "resolution is 4097; expected a whole number from 1 to 4096"),
        ("test_batchSize: 4097", "test_batchSize is 4097; expected a whole number from 1 to 4096"),
        ("resolution: 224.5", "resolution is 224.5; expected a whole number from 1"),
        ("use_svd: 1", "use_svd is 1; expected true or false"),
        ("huggingface_model_name: 3", "huggingface_model_name is 3; expected a name"),
        ("huggingface_model_name: ' '", "huggingface_model_name is ' '; expected a name"),
        ("base: 3", "base is 3; expected a name"),
        ("mean: 0.5", "mean is 0.5; expected three numbers for R, G, B, or null"),
        ("mean: [0.5, 0.5]", "mean is [0.5, 0.5]; expected three numbers"),
        ("mean: [0.5, 0.5, .nan]", "expected three numbers for R, G, B, or null"),
        ("std: [1, 0, 1]", "std is [1, 0, 1]; expected three positive numbers"),
        ("manualSeed: -1", "manualSeed is -1; expected a whole number from 0"),
        ("model_name: effort", "model_name is 'effort'; this script reads 'huggingface_clip'"),
    ],
)
def test_a_wrong_value_is_refused_with_file_key_value_and_expectation(read, line, expected):
    with pytest.raises(ConfigError) as caught:
        read(line)
    assert expected in str(caught.value)
    assert "detector.yaml: " in str(caught.value)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n"])
def test_a_file_that_is_no_mapping_is_refused(read, text):
    with pytest.raises(ConfigError, match="expected a mapping"):
        read(text)


@pytest.mark.parametrize("text", ["a: [1", "a: !!python/object:os.system {}"])
def test_a_file_that_is_no_plain_yaml_is_refused(read, text):
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        read(text)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_script_config(tmp_path, model="huggingface_clip", warn=print)


def test_a_file_is_found_below_the_first_root_that_has_it(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.yaml").touch()
    roots = [tmp_path / "a", tmp_path / "b"]
    assert find_file(Path("x.yaml"), roots) == tmp_path / "b" / "x.yaml"


def test_a_file_that_is_nowhere_is_none(tmp_path: Path):
    assert find_file(Path("x.yaml"), [tmp_path]) is None
