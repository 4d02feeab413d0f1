import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmask.convert import convert, read_parity, verify
from unmask.convert.settings import read_settings
from unmask.errors import ConfigError, CorruptWeights, IncompatibleWeights

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


# The settings.


def configure(folder, change):
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values))


CHANGED = {
    "domain": (lambda values: values.update(domain="image"), 'domain is "image", "face" then'),
    "face": (lambda values: values["face"].update(scale=9.0), "face.scale is 9.0, 1.3 then"),
    "no face": (lambda values: values.update(face=None), "face is null, missing then"),
    "head": (lambda values: values["head"].update(trained=False), "head.trained is false, true"),
    "preprocess": (
        lambda values: values["preprocess"].update(interpolation="nearest"),
        'preprocess.interpolation is "nearest"',
    ),
    "an unknown field": (lambda values: values.update(surprise=5), "surprise is 5, missing then"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_setting_is_a_problem_that_says_both_values(what, folder):
    edit, sentence = CHANGED[what]
    configure(folder, edit)
    assert any(f"changed: {sentence}" in problem for problem in verify(folder).problems)


def test_a_calibration_is_told_and_is_no_problem(folder):
    point = {"name": "mine", "fake_at": 0.75, "real_below": 0.25, "source": "my pictures"}

    def calibrate(values):
        values["calibration"] = {"temperature": 1.5, "record": {"pictures": 100}}
        values["operating_points"] = [point]

    configure(folder, calibrate)
    found = verify(folder)
    assert found.problems == ()
    assert found.notes[0] == "calibrated since: calibration.temperature is 1.5, 1.0 then"
    assert found.notes[1].startswith("calibrated since: operating_points is [{")
    assert "0.75" in found.notes[1]


def test_how_whole_pictures_were_calibrated_is_no_setting(folder):
    def settings(record):
        configure(
            folder, lambda values: values.update(whole_pictures={"temperature": 1.5, **record})
        )
        return read_settings(folder)

    assert settings({}) == settings({"record": {"pictures": 100}})


def test_terms_may_be_written_down_later(folder):
    configure(folder, lambda values: values.update(license="MIT"))
    assert verify(folder).problems == ()


def test_a_report_of_another_source_than_the_configuration_names_is_a_problem(folder):
    change(folder, kind="gend")
    (problem,) = verify(folder).problems
    assert "and the report is of {'kind': 'gend'" in problem


def test_weights_of_another_precision_than_recorded_are_a_problem(folder):
    change(folder, weights_dtype="float16")
    (problem,) = verify(folder).problems
    assert "not saved in float16, as recorded: backbone." in problem
    assert "head." not in problem


def test_damaged_weights_are_an_error(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptWeights, match="damaged or cut short"):
        verify(folder)


# The report, field by field.

A, B = "a" * 64, 10**400
ONE = {"name": "noise", "sha256": A, "original": 1.0, "converted": 1.0}
WRONG = [
    *(("kind", value) for value in (5, [], {}, None)),
    *(("source", value) for value in (5, "", None)),
    *(("files", value) for value in ([], {}, 5, {"a": 5}, {"a": "b"}, {"a": A.upper()})),
    *(("base", value) for value in (5, "", [])),
    *(("fake_labels", value) for value in (5, "ab", [5], None)),
    *(("saved_as", value) for value in ([], "whole", None)),
    *(("weights_dtype", value) for value in ({}, 5, "bfloat16")),
    *(("weights_sha256", value) for value in (5, None, "0", A[:-1])),
    *(("versions", value) for value in (5, [], {"torch": 2})),
    *(("settings", value) for value in (5, [], None)),
    *(("settings_sha256", value) for value in (5, "0")),
    *(("tolerance", value) for value in ("1", True, None)),
    *(("largest_difference", value) for value in ("1", [], float("nan"))),
    *(("inputs", value) for value in ([], {}, 5, [5], [ONE, ONE], [{"name": "noise"}])),
    *(("inputs", [{**ONE, "name": value}]) for value in (5, "")),
    *(("inputs", [{**ONE, "sha256": value}]) for value in (5, "0")),
    *(("inputs", [{**ONE, "original": value}]) for value in (None, "x", float("nan"), B, True)),
    *(("inputs", [{**ONE, "converted": value}]) for value in (None, [], float("inf"))),
    *(("inputs", [{**ONE, "more": value}]) for value in (5,)),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda value: repr(value)[:30])
def test_a_field_of_another_form_is_an_error_of_one_sentence(field, value, folder_of_report):
    change(folder_of_report, **{field: value})
    with pytest.raises(ConfigError, match="not what 'unmask convert' writes") as caught:
        read_parity(folder_of_report)
    assert field in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.fixture
def folder_of_report(merged, tmp_path):
    """A folder with the report alone."""
    shutil.copy(merged / "parity.json", tmp_path)
    return tmp_path


@pytest.mark.parametrize("schema", [True, 1.0, "1", None])
def test_the_schema_is_a_whole_number(schema, folder_of_report):
    change(folder_of_report, schema=schema)
    with pytest.raises(ConfigError, match="reads 1"):
        read_parity(folder_of_report)


def test_settings_that_were_changed_in_the_report_are_an_error(folder_of_report):
    change(folder_of_report, settings=record(folder_of_report)["settings"] | {"domain": "image"})
    with pytest.raises(ConfigError, match="so the report was changed"):
        read_parity(folder_of_report)


def test_an_unknown_field_of_the_report_is_an_error(folder_of_report):
    change(folder_of_report, surprise=5)
    with pytest.raises(ConfigError, match=r"unknown fields: \['surprise'\]"):
        read_parity(folder_of_report)


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"5"])
def test_a_report_that_is_no_object_is_an_error(content, tmp_path):
    (tmp_path / "parity.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"not JSON|reads 1"):
        read_parity(tmp_path)


@pytest.mark.parametrize("name", ["parity.json", "config.json"])
def test_a_folder_in_the_place_of_a_file_is_an_error(name, folder):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ConfigError, match=rf"{name} cannot be read"):
        verify(folder)


def test_a_configuration_that_is_nested_without_end_is_an_error(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        verify(folder)


def test_the_command_tells_of_a_calibration(cli, folder):
    configure(folder, lambda values: values["calibration"].update(temperature=2.0))
    outcome = cli("verify", folder)
    assert outcome.code == 0
    assert "note: calibrated since: calibration.temperature is 2.0, 1.0 then" in outcome.out


def test_a_report_of_another_form_ends_the_command_with_2(cli, folder):
    change(folder, files=5)
    outcome = cli("verify", folder)
    assert outcome.code == 2
    assert "files is 5" in outcome.err
