"""Settings: presets, files, flags, and what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from unmask.errors import ConfigError
from unmask.train.bench_config import read_config_file
from unmask.train.config import PRESETS, TrainConfig, make_config
from unmask.train.config_file import read_document, to_yaml
from unmask.train.pictures.augmentation import Augmentation, parse_augmentation

ROOT = Path(__file__).resolve().parents[1]
DETECTORS = ROOT / "DeepfakeBench" / "training" / "config" / "detector"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("recipe", PRESETS)
def test_every_recipe_has_a_preset_that_is_sound(recipe):
    assert make_config(recipe, {}, {}, where="x").recipe == recipe


def test_the_effort_preset_is_the_released_recipe():
    found = make_config("effort", {}, {}, where="x")
    assert (found.optimizer, found.lr, found.beta1, found.beta2, found.eps, found.weight_decay) == (
        "adam", 2e-4, 0.9, 0.999, 1e-8, 5e-4
    )  # fmt: skip
    assert (found.batch_size, found.epochs, found.schedule, found.outputs, found.keep) == (
        32, 10, "constant", 2, -1
    )  # fmt: skip
    assert (found.uniformity, found.alignment, found.orthogonality) == (0, 0, 0)


def test_the_layernorm_preset_is_that_of_gend():
    found = make_config("layernorm", {}, {}, where="x")
    assert (found.optimizer, found.lr, found.weight_decay, found.min_lr, found.warmup_epochs) == (
        "adamw", 3e-4, 0, 1e-5, 1
    )  # fmt: skip
    assert (found.uniformity, found.alignment, found.normalize, found.batch_size) == (
        0.5, 0.1, True, 128
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "augmentation"),
    [("effort", "effort"), ("layernorm", "gend"), ("lora", "standard"), ("full", "standard")],
)
def test_a_recipe_has_its_own_augmentation_and_nothing_else_by_default(recipe, augmentation):
    found = make_config(recipe, {}, {}, where="x")
    assert (found.augmentation, found.equalise) == (augmentation, False)
    assert (found.self_blended, found.composites) == (0, 0)


def test_flags_go_before_the_file_and_the_file_before_the_preset():
    found = make_config("effort", {"lr": 0.1, "seed": 3}, {"lr": 0.2}, where="x")
    assert (found.lr, found.seed, found.weight_decay) == (0.2, 3, 5e-4)


def test_a_recipe_on_the_command_line_goes_before_that_of_the_file():
    assert make_config("lora", {"recipe": "full"}, {}, where="x").recipe == "lora"
    assert make_config(None, {"recipe": "full"}, {}, where="x").recipe == "full"


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".toml"])
def test_a_file_may_be_yaml_or_toml(tmp_path, suffix):
    text = "lr = 0.5\nfeatures = ['cls']" if suffix == ".toml" else "lr: 0.5\nfeatures: [cls]"
    given = read_config_file(written(tmp_path / f"a{suffix}", text))
    found = make_config("lora", given.values, {}, where="a")
    assert (found.lr, found.features) == (0.5, ("cls",))


def test_a_number_that_yaml_takes_for_text_is_a_number(tmp_path):
    given = read_config_file(written(tmp_path / "a.yaml", "lr: 1e-4"))
    assert isinstance(given.values["lr"], str)
    assert make_config("lora", given.values, {}, where="a").lr == 1e-4


def test_settings_written_down_give_the_same_settings(tmp_path):
    config = make_config(
        "full", {}, {"features": ["cls@3", "pooler"], "mean": [0.1, 0.2, 0.3]}, where="x"
    )
    path = written(tmp_path / "a.yaml", to_yaml(config))
    assert make_config(None, read_document(path), {}, where="a") == config


def test_an_empty_file_says_nothing(tmp_path):
    assert read_config_file(written(tmp_path / "a.yaml", "")).values == {}


def test_every_setting_is_documented():
    text = (ROOT / "src" / "unmask" / "train" / "config.py").read_text(encoding="utf-8")
    for field in fields(TrainConfig):
        _, _, after = text.partition(f"    {field.name}: ")
        assert after.split("\n", 2)[1].startswith('    """'), field.name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lerning_rate: 1", r"a.yaml: 'lerning_rate' is not known"),
        ("warmup_epoch: 1", r"Did you mean 'warmup_epochs'"),
        ("[1, 2]", "holds list; expected names and values"),
        ("lr: [", "cannot be read as YAML"),
        ("lr: 1\nlr: 2", "'lr' stands there twice; leave one"),
        ("lr: &a 1\nseed: *a", "an alias .* has no place in settings; write the value out"),
        ("lr: 2020-13-45", "cannot be read as YAML: month must be in 1..12"),
        ("seed: !!int x", "cannot be read as YAML: invalid literal"),
        ("seed: !!timestamp x", "cannot be read as YAML"),
        ("seed: " + "9" * 5000, "cannot be read as YAML: Exceeds the limit"),
        ("lr: " + "[" * 20_000, "cannot be read as YAML: it is nested too deeply"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path, text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_config_file(written(tmp_path / "a.yaml", text))


@pytest.mark.parametrize("text", ["x = " + "[" * 20_000, "seed = " + "9" * 5000, "x = 1\nx = 2"])
def test_toml_that_is_not_understood_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        read_config_file(written(tmp_path / "a.toml", text))


def test_a_refused_value_is_not_repeated_at_length():
    with pytest.raises(ConfigError) as caught:
        make_config("lora", {"lr": "x" * 10_000}, {}, where="x")
    assert len(str(caught.value)) < 500


def test_a_file_of_another_kind_or_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"suffix '.json'; expected .yaml"):
        read_config_file(written(tmp_path / "a.json", "{}"))
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        read_config_file(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": "many"}, "epochs is 'many': Input should be a valid number"),
        ({"batch_size": 2.5}, "batch_size is 2.5: Input should be a valid integer"),
        ({"optimizer": "adan"}, "optimizer is 'adan': Input should be 'adam', 'adamw' or 'sgd'"),
        ({"recipe": "lorra"}, "recipe is 'lorra'"),
        ({"epochs": 0}, "epochs is 0.0; it must be above 0"),
        ({"lr": float("nan")}, "lr is nan; it must be above 0, 10 at most"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 to 100000"),
        ({"patience": 0}, "patience is 0; it must be 1 or more"),
        ({"outputs": 3}, "outputs is 3; it must be 1 to 2"),
        ({"lora_rank": 0}, "lora_rank is 0"),
        ({"batch_size": 6, "accumulation": 4}, "6 is not divided evenly by an accumulation of 4"),
        ({"lr": 1e-5, "min_lr": 1e-3}, "min_lr is 0.001, above lr"),
        ({"orthogonality": 1}, "penalties of the recipe 'effort'; with 'lora'"),
        ({"layer_decay": 0.5}, "layer_decay is for the recipe 'full', not for 'lora'"),
        ({"frozen_blocks": 2}, "frozen_blocks is for the recipe 'full', not for 'lora'"),
        ({"augmentation": "standart"}, r"augmentation is 'standart'. Did you mean 'standard'"),
        ({"augmentation": "none, jpeg=2"}, "augmentation: jpeg is 2; it must be within 0 to 1"),
        ({"self_blended": 1.1}, "self_blended is 1.1; it must be 0 to 1"),
        ({"self_blended": 0.5, "faces": "none"}, "self_blended is 0.5, with faces 'none'"),
        ({"self_blended": 0.5, "crop_scale": 0.8}, "a crop_scale of at least 1"),
        ({"composites": -0.1}, "composites is -0.1; it must be 0 to 1"),
        ({"composites": 0.5, "faces": "none"}, "composites is 0.5, with faces 'none'"),
        ({"composites": 0.5, "crop_scale": 0.8}, "a crop_scale of at least 1"),
        ({"composites": 0.6, "self_blended": 0.5}, "0.5 and composites 0.6; both are shares"),
        ({"std": [1, 0, 1]}, r"std is \(1.0, 0.0, 1.0\); each must be 0.001 to 10"),
        ({"std": [1e-300, 1, 1]}, "each must be 0.001 to 10"),
        ({"mean": [0.5, 2, 0.5]}, r"mean is \(0.5, 2.0, 0.5\); each must be 0 to 1"),
        ({"features": ["mean@1", "mean@1"]}, "features are mean@1, mean@1; name at least one"),
        ({"features": []}, "features are none; name at least one, each once"),
        ({"seed": True}, "seed is True; true and false are no value for it"),
        ({"frozen_blocks": False}, "frozen_blocks is False; true and false are no value"),
        ({"steps": 10**10}, "steps is 10000000000; it must be 1 to 1e"),
        ({"seed": None}, "seed is None: "),
    ],
)
def test_a_value_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_config("lora", values, {}, where="the file")


def test_an_unknown_recipe_is_refused_with_a_near_name():
    with pytest.raises(ConfigError, match=r"'efort' is not known. Did you mean 'effort'"):
        make_config("efort", {}, {}, where="x")


def test_settings_made_in_code_are_checked_too():
    with pytest.raises(ConfigError, match=r"sampling is 'balance'. Did you mean 'balanced'"):
        TrainConfig(sampling="balance")  # type: ignore[arg-type]


# DeepfakeBench's files


def test_the_published_effort_file_is_the_preset_but_for_what_it_cannot_say():
    given = read_config_file(DETECTORS / "effort.yaml")
    found = make_config(None, given.values, {}, where="effort.yaml")
    preset = make_config("effort", {}, {}, where="x")
    different = {
        field.name
        for field in fields(TrainConfig)
        if getattr(found, field.name) != getattr(preset, field.name)
    }
    assert different == {"frames_per_video", "mean", "std", "seed"}
    assert (found.frames_per_video, found.seed) == (8, 1024)
    told = " ".join(given.ignored)
    for key in ("train_dataset", "compression", "workers", "cuda", "backbone_name", "with_mask",
                "frame_num.test"):  # fmt: skip
        assert f"{key} has no effect" in told


def test_every_key_of_a_published_file_is_used_or_reported():
    for path in DETECTORS.glob("*.yaml"):
        given = read_config_file(path)
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        told = " ".join(given.ignored)
        used = {"model_name", "optimizer", "lr_scheduler", "loss_func", "metric_scoring", "base",
                "frame_num", "use_svd", "svd_rank", "resolution", "mean", "std", "manualSeed",
                "train_batchSize", "nEpochs", "huggingface_model_name"}  # fmt: skip
        assert {key for key in document if f"{key} has no effect" not in told} <= used


def test_a_clip_without_the_residual_is_a_probe_and_with_it_effort(tmp_path):
    given = read_config_file(DETECTORS / "huggingface_clip.yaml")
    assert given.values["recipe"] == "probe"
    assert given.values["backbone"] == "openai/clip-vit-large-patch14"
    text = "model_name: huggingface_clip\nuse_svd: true\nsvd_rank: 767\nbase: here"
    with_svd = read_config_file(written(tmp_path / "a.yaml", text)).values
    assert with_svd == {"recipe": "effort", "keep": 767, "backbone": "here"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optimizer: {type: sgd, sgd: {lr: 0.1, momentum: 0.8}, adam: {}}",
         {"optimizer": "sgd", "lr": 0.1, "momentum": 0.8}),
        ("optimizer: {type: adam, adam: {amsgrad: false}}", {"optimizer": "adam"}),
        ("use_data_augmentation: false", {"augmentation": "none"}),
        ("use_data_augmentation: true", {}),
        ("data_aug: {flip_prob: 0.25}", {"augmentation": "none, flip=0.25"}),
        ("data_aug: {rotate_prob: 1, rotate_limit: 5}",
         {"augmentation": "none, affine=1, rotation=5"}),
        ("data_aug: {quality_lower: 30}", {"augmentation": "none, jpeg=0.5, jpeg_quality=30-100"}),
        ("metric_scoring: eer", {}),
        ("frame_num: {train: 4}", {"frames_per_video": 4}),
        ("frame_num: {test: 4}", {}),
        ("use_svd: true", {}),
    ],
)  # fmt: skip
def test_a_key_of_deepfakebench_becomes_a_setting(tmp_path, text, values):
    given = read_config_file(written(tmp_path / "a.yaml", f"model_name: effort\n{text}"))
    assert given.values == {"recipe": "effort", **values}


def test_settings_of_another_optimizer_and_another_metric_are_reported(tmp_path):
    text = "model_name: effort\nmetric_scoring: eer\noptimizer: {type: sgd, sgd: {}, adam: {}}"
    told = read_config_file(written(tmp_path / "a.yaml", text)).ignored
    assert any("optimizer.adam has no effect: the type is sgd" in one for one in told)
    assert any("metric_scoring 'eer' has no effect" in one for one in told)
    read = read_config_file(
        written(tmp_path / "b.yaml", "model_name: effort\nframe_num: {test: 4}")
    )
    assert "frame_num.test has no effect" in read.ignored[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model_name: xception", "model_name is 'xception'"),
        ("train_batchsize: 3", r"'train_batchsize' is not known. Did you mean 'train_batchSize'"),
        ("optimizer: {type: adamw}", "a type adam or sgd was expected"),
        ("optimizer: adam", "a type adam or sgd was expected"),
        ("optimizer: {type: adam, adam: 5}", "optimizer.adam is 5; names and values such as lr"),
        ("optimizer: {type: adam, adam: [lr]}", r"optimizer.adam is \['lr'\]; names and values"),
        ("frame_num: 5", "frame_num is 5; 'train' and 'test' were expected"),
        ("frame_num: {val: 5}", "frame_num is {'val': 5}; 'train' and 'test' were expected"),
        ("use_svd: false", "use_svd is False; expected true or false without quotes, and true of"),
        ("use_svd: 'true'", "use_svd is 'true'; expected true or false without quotes"),
        ("use_data_augmentation: 'false'", "use_data_augmentation is 'false'; expected true or"),
        ("optimizer: {type: adam, adam: {amsgrad: true}}", "amsgrad is True, which is not"),
        ("lr_scheduler: step", "lr_scheduler is 'step', and only None is read"),
        ("loss_func: am_softmax", "loss_func is 'am_softmax', and only 'cross_entropy'"),
    ],
)
def test_a_file_of_deepfakebench_that_would_train_something_else_is_refused(
    tmp_path, text, sentence
):
    whole = text if text.startswith("model_name") else f"model_name: effort\n{text}"
    with pytest.raises(ConfigError, match=sentence):
        read_config_file(written(tmp_path / "a.yaml", whole))


def test_d34_as_many_epochs_as_are_asked_for(tmp_path):
    # D34: the published loop runs one epoch more than nEpochs says.
    from unmask.train.optimizer import Plan

    given = read_config_file(written(tmp_path / "a.yaml", "model_name: effort\nnEpochs: 10"))
    config = make_config(None, given.values, {}, where="a")
    assert Plan.of(config, 64).steps == 20


PUBLISHED_AUGMENTATION = """
model_name: effort
use_data_augmentation: {use}
data_aug: {{flip_prob: 0.5, rotate_prob: 0.5, rotate_limit: [-10, 10], blur_prob: 0.5,
  blur_limit: [3, 7], brightness_prob: 0.5, brightness_limit: [-0.1, 0.1],
  contrast_limit: [-0.1, 0.1], quality_lower: 40, quality_upper: 100}}
"""


def test_d31_the_augmentation_of_a_published_file_is_what_the_training_does(tmp_path):
    # D31: the published loader does something else, whatever stands under data_aug.
    path = written(tmp_path / "a.yaml", PUBLISHED_AUGMENTATION.format(use="true"))
    given = read_config_file(path)
    config = make_config(None, given.values, {}, where="a.yaml")
    assert parse_augmentation(config.augmentation) == Augmentation(
        flip=0.5, affine=0.5, rotation=10, blur=0.5, blur_sigma=(0.8, 1.4), tone=0.5,
        brightness=0.1, contrast=0.1, jpeg=0.5, jpeg_quality=(40, 100),
    )  # fmt: skip
    assert given.ignored == ()


def test_an_augmentation_that_is_switched_off_is_reported(tmp_path):
    path = written(tmp_path / "a.yaml", PUBLISHED_AUGMENTATION.format(use="false"))
    given = read_config_file(path)
    assert given.values["augmentation"] == "none"
    assert "data_aug has no effect: use_data_augmentation is false" in given.ignored[0]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("0.5", r"a.yaml: data_aug is 0.5; keys such as flip_prob were expected"),
        ("{1: 2}", r"data_aug.1 is not known"),
        ("{flip_pro: 1}", r"data_aug.flip_pro is not known. Did you mean 'flip_prob'"),
        ("{rotate_limit: [-5, 10]}", r"rotate_limit is \[-5, 10\]; only ranges about 0, such as"),
        ("{flip_prob: often}", r"data_aug.flip_prob is 'often'; a number or two of them"),
        ("{blur_limit: [3, 5, 7]}", r"data_aug.blur_limit is \[3, 5, 7\]; a number or two"),
    ],
)
def test_an_augmentation_that_is_not_understood_is_refused(tmp_path, section, sentence):
    path = written(tmp_path / "a.yaml", f"model_name: effort\ndata_aug: {section}")
    with pytest.raises(ConfigError, match=sentence):
        read_config_file(path)
