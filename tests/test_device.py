import subprocess
import sys
import warnings

import pytest
import torch
from PIL import Image

from unmask._device import choose_device, choose_dtype
from unmask.cli import main
from unmask.errors import ConfigError, UnmaskWarning


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


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_precision_that_the_processor_computes_one_by_one_is_warned_of(monkeypatch, name):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.warns(UnmaskWarning, match=f"{name} on this processor.*--dtype float32"):
        assert choose_dtype(name, torch.device("cpu")) == getattr(torch, name)


def test_on_the_command_line_the_warning_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    picture, report = tmp_path / "photo.png", tmp_path / "report.json"
    Image.new("RGB", (64, 64)).save(picture)
    arguments = ["scan", picture, "--faces", "none", "--dtype", "bfloat16", "-o", report]
    monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
    with warnings.catch_warnings(action="always"), pytest.raises(SystemExit) as ended:
        main()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 0
    assert [line for line in lines if "bfloat16" in line] == [
        "warning: bfloat16 on this processor, which has no instructions for it, takes many times "
        "as long as float32; use --dtype float32"
    ]
    assert not [line for line in lines if "UnmaskWarning" in line]


@pytest.mark.parametrize(
    ("name", "device", "machine", "capability"),
    [
        ("bfloat16", "cpu", "x86_64", "AVX512"),
        ("bfloat16", "cpu", "arm64", "DEFAULT"),
        ("float32", "cpu", "x86_64", "AVX2"),
        ("auto", "cpu", "x86_64", "AVX2"),
        ("float16", "cuda", "x86_64", "AVX2"),
    ],
)
def test_no_other_precision_is(monkeypatch, recwarn, name, device, machine, capability):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    choose_dtype(name, torch.device(device))
    assert not recwarn


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
