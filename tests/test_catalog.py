"""The list of published detectors, and ``unmask models``."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from running import process
from unmask.models import catalog
from unmask.models.builtin import builtin_folder
from unmask.models.catalog import PUBLISHED, UNKNOWN, Published, allows_commerce, find_published

DOCUMENT = Path(__file__).parents[1] / "docs" / "published-detectors.md"
GENIMAGE = "7c32ceb4e66d303050e8fc5dc7543fa347693fb4ee6b5df4d6eaf9f6a92fb813"
FREE = Published(
    id="free",
    kind="hf",
    where="somebody/free",
    domain="image",
    command="unmask convert hf somebody/free DIR",
    paper="none",
    note="Made up.",
    licence_code="MIT",
    licence_weights="Apache-2.0",
    licence_data="BSD-3-Clause",
)


# --- The list -------------------------------------------------------------------------------------


def test_no_two_entries_have_the_same_name_or_place():
    assert len({entry.id for entry in PUBLISHED}) == len(PUBLISHED)
    assert len({entry.where.lower() for entry in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize("kind", ["effort", "univfd", "gend", "hf"])
def test_every_kind_is_there(kind):
    assert [entry for entry in PUBLISHED if entry.kind == kind]


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.id)
def test_what_to_run_names_the_kind_and_a_hub_id(entry):
    if entry.id == "gend-pe-l":  # the only one that nothing can be run for
        assert entry.command.startswith("none: ")
        return
    words = shlex.split(entry.command)
    assert words[:3] == ["unmask", "convert", entry.kind]
    assert words[3] == (entry.hub_id or "FILE")


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.id)
def test_a_hash_is_a_sha256_in_small_letters(entry):
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)


def test_an_entry_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PUBLISHED[0].id = "other"  # type: ignore[misc]


def test_faces_and_whole_pictures_are_told_apart():
    domains = {entry.id: entry.domain for entry in PUBLISHED if entry.kind == "effort"}
    assert domains == {
        "effort-ffpp": "face",
        "effort-genimage": "image",
        "effort-chameleon": "image",
    }


def test_the_page_for_people_has_each_entry_with_its_terms():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ][1:]
    assert {(row[1].strip("`"), row[2].strip("`"), row[4]) for row in rows} == {
        (
            entry.kind,
            entry.where,
            f"{entry.licence_code} / {entry.licence_weights} / {entry.licence_data}",
        )
        for entry in PUBLISHED
    }


# --- Finding --------------------------------------------------------------------------------------


def found(**known: str) -> str | None:
    entry = find_published(**known)
    return entry and entry.id


def test_a_file_is_found_by_its_hash_whatever_its_name():
    assert found(sha256=GENIMAGE.upper(), file_name="renamed.pth") == "effort-genimage"


def test_a_file_is_found_by_its_name_in_any_case():
    assert found(file_name="EFFORT_clip_L14_trainOn_faceforensic.pth") == "effort-ffpp"


def test_a_hub_model_is_found_by_its_id():
    assert found(hub_id="yermandy/GenD_CLIP_L_14") == "gend-clip-l14"


def test_a_known_name_with_another_hash_is_another_file():
    assert found(file_name="fc_weights.pth") == "univfd"
    assert found(file_name="fc_weights.pth", sha256="0" * 64) is None


def test_a_name_without_a_known_hash_is_found_with_any():
    name = "effort_clip_L14_trainOn_FaceForensic.pth"
    assert found(file_name=name, sha256="0" * 64) == "effort-ffpp"


def test_a_hub_id_is_found_though_its_weights_are_new():
    assert found(hub_id="yermandy/GenD_CLIP_L_14", sha256="0" * 64) == "gend-clip-l14"


@pytest.mark.parametrize("known", [{}, {"file_name": "x.pth"}, {"hub_id": "a/b"}])
def test_what_is_not_in_the_list_is_none(known):
    assert find_published(**known) is None


# --- Terms ----------------------------------------------------------------------------------------


def test_three_free_terms_allow_commerce():
    assert FREE.commercial


@pytest.mark.parametrize("part", ["licence_code", "licence_weights", "licence_data"])
@pytest.mark.parametrize("terms", [UNKNOWN, "CC-BY-NC-4.0", "research, non-commercial"])
def test_one_term_that_is_unknown_or_not_free_forbids_commerce(part, terms):
    assert not replace(FREE, **{part: terms}).commercial


def test_no_entry_of_unknown_terms_passes_as_commercial():
    assert [entry.id for entry in PUBLISHED if entry.commercial] == []


def test_terms_are_compared_in_any_case():
    assert allows_commerce("apache-2.0", "MIT")


# --- unmask models --------------------------------------------------------------------------------


def test_models_lists_what_is_built_in_and_what_is_published(cli):
    outcome = cli("models")
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.out.startswith("face-vits14 (default)\n")
    for entry in PUBLISHED:
        assert f"\n{entry.id} ({entry.kind}, domain {entry.domain})\n" in outcome.out
        assert f"\n  run    {entry.command}\n" in outcome.out


def test_models_says_the_terms_of_each(cli):
    assert (
        "\n  terms  code CC-BY-NC-4.0; weights unknown; data research, non-commercial\n"
        in cli("models").out
    )


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("300", 96)])
def test_models_fits_the_terminal(cli, monkeypatch, columns, widest):
    monkeypatch.setenv("COLUMNS", columns)
    # A command stays on one line, whatever its length: it is there to be copied.
    lines = [line for line in cli("models").out.splitlines() if not line.startswith("  run ")]
    assert max(len(line) for line in lines if " " in line.strip()[9:]) <= widest


def test_models_for_commerce_says_that_there_is_none(cli):
    outcome = cli("models", "--commercial-ok")
    assert outcome.code == 0
    assert outcome.out.startswith("None: of no detector in the list")
    assert "effort" not in outcome.out


def test_models_for_commerce_lists_what_is_free_in_all_three(cli, monkeypatch):
    monkeypatch.setattr(catalog, "PUBLISHED", (*PUBLISHED, FREE))
    out = cli("models", "--commercial-ok").out
    assert "\nfree (hf, domain image)\n" in out
    assert "effort" not in out
    assert "face-vits14" not in out  # its licence is "other"


def test_models_as_json_is_one_document_with_all_that_is_known(cli):
    document = json.loads(cli("models", "--json").out)
    assert document["schema_version"] == 1
    [own] = document["builtin"]
    assert (own["id"], own["default"], own["domain"]) == ("face-vits14", True, "face")
    assert {row["dataset"] for row in own["validation"]} >= {"celebdf_v2"}
    by_id = {entry["id"]: entry for entry in document["published"]}
    assert len(by_id) == len(PUBLISHED)
    assert by_id["effort-genimage"]["sha256"] == GENIMAGE
    assert by_id["effort-genimage"]["hub_id"] is None
    assert by_id["effort-genimage"]["commercial"] is False


def test_models_as_json_is_filtered_too(cli):
    document = json.loads(cli("models", "--json", "--commercial-ok").out)
    assert (document["builtin"], document["published"]) == ([], [])


@pytest.mark.parametrize(
    "training", [None, {}, {"chosen": None}, {"chosen": {"validation": {}}}, {"recipe": "effort"}]
)
def test_models_lists_a_builtin_whose_record_has_no_numbers(cli, monkeypatch, tmp_path, training):
    config = {"domain": "image", "license": "", "training": training}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("unmask.models.builtin.builtin_folder", lambda _name: tmp_path)
    outcome = cli("models")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1] == "  domain image, 0 MB, licence unknown"
    assert outcome.out.splitlines()[2] == "  no validation numbers in its record"


@pytest.mark.parametrize(
    ("whole", "domain"), [(None, "face"), ({"temperature": 1.0}, "face and whole pictures")]
)
def test_models_tells_of_a_builtin_that_answers_whole_pictures_too(
    cli, monkeypatch, tmp_path, whole, domain
):
    config = {"domain": "face", "license": "mit", "whole_pictures": whole}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("unmask.models.builtin.builtin_folder", lambda _name: tmp_path)
    assert cli("models").out.splitlines()[1] == f"  domain {domain}, 0 MB, licence mit"
    (builtin,) = json.loads(cli("models", "--json").out)["builtin"]
    assert builtin["whole_pictures"] is (whole is not None)


def test_models_loads_nothing_heavy():
    code = (
        "import sys\nfrom unmask.cli import main\nsys.argv = ['unmask', 'models']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'cv2') if name in sys.modules])"
    )
    assert process("-c", code).stdout.splitlines()[-1] == "[]"


def test_the_built_in_is_where_models_looks():
    assert (builtin_folder("builtin") / "config.json").is_file()
