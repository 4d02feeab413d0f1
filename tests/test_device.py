import subprocess
import sys

import pytest
import torch

from unmask._device import choose_device, choose_dtype
from unmask.errors import ConfigError


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == expected


def test_a_named_device_is_taken():
    assert choose_device("cpu") == torch.device("cpu")


def test_an_absent_device_is_refused_and_those_there_are_listed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"'cuda' is not available here; there is .*cpu"):
        choose_device("cuda")


def test_a_gpu_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda:0").index == 0
    with pytest.raises(ConfigError, match="cuda:1"):
        choose_device("cuda:1")


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigError, match="'gpu' is not known"):
        choose_device("gpu")


def test_auto_precision_is_float32():
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


def test_an_unknown_precision_is_refused_with_near_names():
    with pytest.raises(ConfigError, match="bfloat16"):
        choose_dtype("bfloat")


def test_bfloat16_is_refused_on_a_gpu_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(ConfigError, match="does not compute bfloat16"):
        choose_dtype("bfloat16", torch.device("cuda"))


def test_importing_asks_no_device():
    code = (
        "import torch\n"
        "def asked(): raise AssertionError('asked at import')\n"
        "torch.cuda.is_available = torch.backends.mps.is_available = asked\n"
        "import unmask._device\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
