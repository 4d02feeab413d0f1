import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmask.convert import convert, verify
from unmask.errors import ConfigError, IncompatibleWeights

FIXTURES = Path(__file__).parent / "fixtures" / "effort"
RELEASED = FIXTURES / "B_released_layout_module_prefix.pth"
BASE = FIXTURES / "tiny_clip"


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "merged"
    return convert("effort", RELEASED, folder, base=BASE).folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "adapter"
    return convert("effort", RELEASED, folder, base=BASE, as_="adapter").folder


@pytest.fixture
def folder(merged, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(merged, tmp_path / "copy"))


def change(folder, **values):
    path = folder / "parity.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values))


def record(folder):
    return json.loads((folder / "parity.json").read_text(encoding="utf-8"))


def test_a_folder_as_it_was_written_has_no_problems(merged):
    found = verify(merged)
    assert found.problems == ()
    assert not found.source_read
    assert found.parity.largest <= found.parity.tolerance


def test_the_source_itself_can_be_run_again(merged):
    found = verify(merged, source=RELEASED, base=BASE)
    assert found.problems == ()
    assert found.source_read


def test_an_adapter_is_verified_on_its_base(adapter):
    assert verify(adapter, base=BASE).problems == ()


def test_an_adapter_is_verified_with_its_source(adapter):
    assert verify(adapter, base=BASE, source=RELEASED).problems == ()


def test_changed_weights_are_found_by_hash_and_by_logits(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["head.linear.bias"] += torch.tensor([0.0, 0.1])
    save_file(state, path, metadata={"format": "pt"})
    problems = verify(folder).problems
    assert len(problems) == 2
    assert "the weights are not those that were compared" in problems[0]
    assert "does not compute what its source did" in problems[1]


def test_weights_that_are_only_written_differently_are_found_by_hash(folder):
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "note": "again"})
    (problem,) = verify(folder).problems
    assert "SHA-256" in problem


def test_a_recorded_logit_that_the_folder_does_not_give_is_found(folder):
    inputs = record(folder)["inputs"]
    inputs[2]["original"] += 0.01
    change(folder, inputs=inputs)
    (problem,) = verify(folder).problems
    assert "0.01 on 6 inputs" in problem


def test_a_wider_tolerance_in_the_record_is_not_believed(folder):
    inputs = record(folder)["inputs"]
    inputs[2]["original"] += 0.01
    change(folder, inputs=inputs, tolerance=10.0)
    assert verify(folder).problems


def test_inputs_that_are_prepared_in_another_way_say_which_version_changed(folder):
    inputs = record(folder)["inputs"]
    inputs[0]["sha256"] = "0" * 64
    versions = record(folder)["versions"] | {"opencv-python-headless": "4.0"}
    change(folder, inputs=inputs, versions=versions)
    (problem,) = verify(folder).problems
    assert "the inputs noise are prepared in another way" in problem
    assert "opencv-python-headless 4.0 then" in problem
    assert "--source" in problem


def test_inputs_that_differ_do_not_matter_where_the_source_is_read(folder):
    inputs = record(folder)["inputs"]
    inputs[0]["sha256"] = "0" * 64
    change(folder, inputs=inputs)
    assert verify(folder, source=RELEASED, base=BASE).problems == ()


def test_a_record_of_other_inputs_is_an_error(folder):
    change(folder, inputs=record(folder)["inputs"][1:])
    with pytest.raises(ConfigError, match="the report has the inputs gradient"):
        verify(folder)


def test_another_source_is_told_by_its_hash(merged):
    other = FIXTURES / "A_full_layout.safetensors"
    problems = verify(merged, source=other, base=BASE).problems
    assert any("the source is not the one that was converted" in problem for problem in problems)
    assert any("does not compute" in problem for problem in problems)


def test_a_folder_that_was_not_converted_is_an_error(image_folder):
    with pytest.raises(ConfigError, match=r"has no parity.json"):
        verify(image_folder)


def test_a_damaged_record_is_an_error(folder):
    (folder / "parity.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        verify(folder)


@pytest.mark.parametrize("text", ["[]", '{"schema": 7}', "{}"])
def test_a_record_of_another_schema_is_an_error(text, folder):
    (folder / "parity.json").write_text(text)
    with pytest.raises(ConfigError, match="reads 1"):
        verify(folder)


def test_an_incomplete_record_is_an_error(folder):
    (folder / "parity.json").write_text('{"schema": 1, "inputs": [], "fake_labels": []}')
    with pytest.raises(ConfigError, match="is incomplete"):
        verify(folder)


@pytest.mark.parametrize("values", [{"kind": "other"}, {"weights_dtype": "int8"}, {"inputs": []}])
def test_a_record_that_makes_no_sense_is_an_error(values, folder):
    change(folder, **values)
    with pytest.raises(ConfigError, match="is not what 'unmask convert' writes"):
        verify(folder)


def test_weights_that_are_not_finite_are_an_error(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["head.linear.weight"] *= 1e38
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(IncompatibleWeights, match="not finite"):
        verify(folder)


def test_the_command_ends_with_0_where_all_is_well(cli, merged):
    outcome = cli("verify", merged)
    assert outcome.code == 0
    assert "logits of the source (as recorded)" in outcome.out
    assert "it computes what its source did" in outcome.out


def test_the_command_reads_the_source_again(cli, merged):
    outcome = cli("verify", merged, "--source", RELEASED, "--base", BASE)
    assert outcome.code == 0
    assert "(read again)" in outcome.out


def test_the_command_ends_with_1_where_something_differs(cli, folder):
    change(folder, weights_sha256="0" * 64)
    outcome = cli("verify", folder)
    assert outcome.code == 1
    assert "differs: the weights are not those" in outcome.out
    assert "it computes what its source did" not in outcome.out


def test_the_command_ends_with_2_where_there_is_nothing_to_compare(cli, image_folder):
    outcome = cli("verify", image_folder)
    assert outcome.code == 2
    assert "parity.json" in outcome.err


def test_the_command_gives_one_json_object(cli, folder):
    change(folder, weights_sha256="0" * 64)
    outcome = cli("verify", folder, "--json")
    values = json.loads(outcome.out)
    assert outcome.code == 1
    assert values["ok"] is False
    assert len(values["problems"]) == 1
    assert len(values["parity"]["inputs"]) == 6
