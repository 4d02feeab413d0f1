import os
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from transformers import CLIPModel

from hub_standin import Repository, files_of, serve
from tiny_detectors import published
from tiny_towers import CLIP
from unmask.errors import (
    CorruptWeights,
    GatedModel,
    HubUnreachable,
    IncompatibleWeights,
    UnknownDetector,
)
from unmask.models.detector import load, untrained_detector
from unmask.models.hub import fetch_model

WANTED = {"config.json", "preprocessor_config.json", "model.safetensors"}
NEVER = {
    "tokenizer.json": b"{}",
    "vocab.json": b"{}",
    "tf_model.h5": b"tf",
    "flax_model.msgpack": b"flax",
    "model.onnx": b"onnx",
    "pytorch_model.bin": b"the same weights again",
    "README.md": b"# A model",
}


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory):
    torch.manual_seed(0)
    return files_of(published(CLIPModel(CLIP), tmp_path_factory.mktemp("hub") / "clip"))


@pytest.fixture
def hub(tmp_path, monkeypatch, clip_files):
    repositories = {
        "org/clip": Repository({**clip_files, **NEVER}),
        "org/gated": Repository(clip_files, gated=True, token="hf_right"),
        "org/empty": Repository({"config.json": b"{}", "tf_model.h5": b"x"}),
    }
    with serve(repositories) as served:
        use(monkeypatch, served.url, tmp_path / "cache")
        yield served


def use(monkeypatch, url, cache):
    """Point huggingface_hub, which reads its environment once, at the stand-in."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.hf_api.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_only_configuration_and_one_format_of_weights_are_fetched(hub):
    model = fetch_model("org/clip")
    assert set(hub.fetched()) == WANTED
    assert {path.name for path in model.folder.iterdir()} == WANTED
    assert model.revision == hub.repositories["org/clip"].commit


def test_a_second_run_fetches_no_file(hub):
    first = fetch_model("org/clip")
    assert hub.fetched()
    assert fetch_model("org/clip") == first
    assert not any("/resolve/" in path for _, path in hub.requests)


def test_the_cached_copy_serves_when_the_hub_is_gone(clip_files, tmp_path, monkeypatch):
    with serve({"org/clip": Repository(clip_files)}) as served:
        use(monkeypatch, served.url, tmp_path / "cache")
        first = fetch_model("org/clip")
    assert fetch_model("org/clip") == first
    assert fetch_model("org/clip", offline=True) == first
    assert fetch_model("org/clip", revision=first.revision, offline=True) == first


def test_offline_asks_nobody(hub):
    first = fetch_model("org/clip")
    hub.requests.clear()
    assert fetch_model("org/clip", offline=True) == first
    assert hub.requests == []


def test_the_offline_variable_is_honoured(hub, monkeypatch):
    fetch_model("org/clip")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch_model("org/clip")
    assert hub.requests == []


def test_the_offline_variable_without_a_copy_is_named(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachable, match="offline use is asked for"):
        fetch_model("org/clip")


def test_offline_without_a_copy_says_how_to_get_one(hub):
    with pytest.raises(HubUnreachable, match=r"not in the cache .*HF_HUB_OFFLINE.*hf download"):
        fetch_model("org/clip", offline=True)
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_named(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"127\.0\.0\.1:9 cannot be reached.*HF_HOME"):
        fetch_model("org/clip")


def test_an_unknown_model_is_named(hub):
    with pytest.raises(UnknownDetector, match=r"no model 'org/clap'.*HF_TOKEN"):
        fetch_model("org/clap")


@pytest.mark.parametrize("offline", [False, True])
def test_an_id_that_cannot_be_one_is_refused(hub, offline):
    with pytest.raises(UnknownDetector, match="org/name"):
        fetch_model("org/..name", offline=offline)


def test_an_unknown_revision_is_named(hub):
    with pytest.raises(UnknownDetector, match="no revision 'v9'"):
        fetch_model("org/clip", revision="v9")


def test_a_gated_model_says_where_its_licence_is(hub):
    with pytest.raises(GatedModel, match=rf"accept its licence at {hub.url}/org/gated.*HF_TOKEN"):
        fetch_model("org/gated")


def test_a_token_opens_a_gated_model(hub):
    assert (fetch_model("org/gated", token="hf_right").folder / "config.json").is_file()


def test_the_token_of_the_environment_opens_a_gated_model(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert (fetch_model("org/gated").folder / "config.json").is_file()


def test_a_model_without_torch_weights_is_refused_unfetched(hub):
    with pytest.raises(IncompatibleWeights, match=r"tf_model\.h5"):
        fetch_model("org/empty")
    assert hub.fetched() == []


@pytest.mark.parametrize("offline", [False, True])
def test_a_file_cut_short_in_the_cache_is_named(hub, offline):
    path = fetch_model("org/clip").folder / "model.safetensors"
    blob = path.resolve()
    blob.write_bytes(blob.read_bytes()[:-7])
    with pytest.raises(CorruptWeights, match=rf"model\.safetensors is damaged.*Delete {blob}"):
        fetch_model("org/clip", offline=offline)


def test_a_changed_byte_in_the_cache_is_found(hub):
    blob = (fetch_model("org/clip").folder / "model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(CorruptWeights, match="SHA-256"):
        fetch_model("org/clip")


def test_shards_are_fetched_with_their_index(hub, clip_files, tmp_path):
    source = tmp_path / "whole"
    source.mkdir()
    for name, data in clip_files.items():
        (source / name).write_bytes(data)
    CLIPModel.from_pretrained(source).save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    files = files_of(tmp_path / "shards")
    hub.repositories["org/shards"] = Repository({**files, "pytorch_model.bin": b"x"})
    fetch_model("org/shards")
    fetched = hub.fetched()
    assert "model.safetensors.index.json" in fetched
    assert "pytorch_model.bin" not in fetched
    assert len([name for name in fetched if name.endswith(".safetensors")]) > 1


def test_an_older_model_gives_its_bin_file(hub, clip_files):
    files = {name: data for name, data in clip_files.items() if name != "model.safetensors"}
    hub.repositories["org/old"] = Repository({**files, "pytorch_model.bin": b"weights"})
    fetch_model("org/old")
    assert "pytorch_model.bin" in hub.fetched()


def test_a_hub_id_becomes_a_detector_named_by_its_commit(hub):
    detector = load("org/clip", allow_untrained=True, device="cpu")
    commit = hub.repositories["org/clip"].commit
    assert detector.ref.id == f"org/clip@{commit}"
    source = detector.model.spec.backbone_source
    assert (source.id, source.revision, source.sha256) == ("org/clip", commit, detector.ref.sha256)


def test_a_revision_may_stand_in_the_id(hub):
    commit = hub.repositories["org/clip"].commit
    assert untrained_detector(f"org/clip@{commit}", device="cpu").ref.id.endswith(commit)
    with pytest.raises(UnknownDetector, match="no revision 'v2'"):
        load("org/clip@v2")


def test_the_environment_alone_is_enough_and_no_bar_is_drawn_in_a_pipe(hub, tmp_path):
    code = "from unmask.models.hub import fetch_model\nprint(fetch_model('org/clip').folder)"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path / "home"))
    assert done.stderr == ""


def test_only_the_configuration_is_fetched_where_no_weights_are_needed(hub):
    model = fetch_model("org/clip", weights=False)
    assert set(hub.fetched()) == WANTED - {"model.safetensors"}
    assert not (model.folder / "model.safetensors").exists()


def test_a_cached_configuration_is_enough_offline_where_no_weights_are_needed(hub):
    online = fetch_model("org/clip", weights=False)
    assert fetch_model("org/clip", weights=False, offline=True) == online
    with pytest.raises(HubUnreachable):
        fetch_model("org/clip", offline=True)


def test_the_weights_come_later_where_they_are_needed_then(hub):
    fetch_model("org/clip", weights=False)
    model = fetch_model("org/clip")
    assert (model.folder / "model.safetensors").exists()
