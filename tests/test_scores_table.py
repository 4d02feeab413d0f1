"""The table of scores: made from results, cut, joined, written and read."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_results import ALL, DAMAGED, FAKE, HOSTILE_NAMES, NO_FACE, POINT, REAL, named
from unmask.errors import MissingSource, OutputError, ScoresError
from unmask.evaluate import table_file
from unmask.evaluate.table import (
    Scores,
    by_dataset,
    columns_of,
    data_hash,
    from_results,
    joined,
    scored,
    select,
    with_columns,
)
from unmask.evaluate.table_file import is_scores, read_scores, write_scores
from unmask.types import DetectorRef, Result, Sample


def samples_of(results: tuple[Result, ...]) -> list[Sample]:
    return [
        Sample(
            source=result.source,
            path=Path(result.source),
            label=result.label,
            dataset="ab"[number % 2],
            generator="swap" if result.label else "",
            group=f"g/{number}",
            video=f"v/{number}",
            split="test",
            columns=(("camera", f"c{number}"),) if number else (),
        )
        for number, result in enumerate(results)
    ]


def table(results: tuple[Result, ...] = ALL) -> Scores:
    return from_results(results, samples_of(results), command="unmask evaluate in", seed=7)


def same(one: Scores, other: Scores) -> bool:
    columns = [dict([*columns_of(each), *each.extra.items()]) for each in (one, other)]
    return (
        one.meta == other.meta
        and columns[0].keys() == columns[1].keys()
        and all(
            column.dtype == columns[1][name].dtype
            and list(map(str, column)) == list(map(str, columns[1][name]))
            for name, column in columns[0].items()
        )
    )


def test_every_result_has_a_row_in_its_order() -> None:
    assert table().source.tolist() == [result.source for result in ALL]


def test_a_row_tells_what_the_sample_tells() -> None:
    scores = select(table(), np.array([2]))
    row = {name: column[0] for name, column in columns_of(scores)}
    assert row["source"] == "in/fake/a.png"
    names = ("dataset", "generator", "group", "video", "split", "label")
    assert [row[name] for name in names] == ["a", "swap", "g/2", "v/2", "test", 1]


def test_labels_are_0_1_and_minus_1_where_not_known() -> None:
    assert table().label.tolist() == [0, -1, 1, 1, 1]


def test_a_score_that_is_not_there_is_nan() -> None:
    scores = table()
    assert scored(scores).tolist() == [True, True, True, False, False]
    assert np.isnan(scores.logit[3:]).all()


def test_what_was_not_scored_says_why() -> None:
    scores = table()
    assert (scores.status[4], scores.reasons[4]) == ("unreadable", "damaged")
    assert scores.messages[4] == "in/e.png: the PNG data are damaged"


def test_quality_is_that_of_the_deciding_face() -> None:
    extra = table().extra
    assert extra["face_px"].tolist()[2] == 30.0
    assert extra["sharpness"].tolist()[2] == 101.5
    assert np.isnan(extra["face_px"][0])
    assert extra["faces"].tolist() == [0, 1, 1, 0, 0]


def test_columns_of_a_manifest_are_there_and_empty_where_it_says_nothing() -> None:
    assert table().extra["camera"].tolist() == ["", "c1", "c2", "c3", "c4"]


def test_a_column_of_a_manifest_with_the_name_of_ours_is_kept_apart() -> None:
    sample = replace(samples_of((FAKE,))[0], columns=(("sharpness", "good"), ("status", "new")))
    extra = from_results([FAKE], [sample]).extra
    assert (extra["listed.sharpness"][0], extra["listed.status"][0]) == ("good", "new")
    assert extra["sharpness"][0] == 101.5


def test_the_origin_is_recorded() -> None:
    meta = table().meta
    assert (meta.detector, meta.detector_sha256) == ("tiny", "cd" * 32)
    assert (meta.command, meta.seed, meta.operating_point) == ("unmask evaluate in", 7, POINT)
    assert meta.versions["unmask"] == "0.1.0"
    assert meta.data_sha256 == data_hash(table())


@pytest.mark.parametrize(("results", "samples"), [((), ()), ((FAKE,), ()), ((FAKE,), (FAKE, REAL))])
def test_another_number_of_samples_is_an_error(
    results: tuple[Result, ...], samples: tuple[Result, ...]
) -> None:
    with pytest.raises(ScoresError, match=r"results for \d samples"):
        from_results(results, samples_of(samples))


def test_samples_in_another_order_are_an_error() -> None:
    with pytest.raises(ScoresError, match=r"stands where that of in/real/b\.png is"):
        from_results([FAKE, REAL], samples_of((REAL, FAKE)))


@pytest.mark.parametrize(
    "change",
    [
        {"detector": DetectorRef("other", "ef" * 32, trained=True)},
        {"operating_point": replace(POINT, fake_at=0.7)},
    ],
)
def test_results_of_two_detectors_or_points_are_an_error(change: dict[str, object]) -> None:
    with pytest.raises(ScoresError, match="expected one detector and one operating point"):
        table((REAL, replace(FAKE, **change)))


def test_a_mask_selects_rows_of_every_column() -> None:
    scores = select(table(), np.array([True, False, False, True, False]))
    assert (len(scores), scores.source.tolist()) == (2, [REAL.source, NO_FACE.source])
    assert scores.extra["camera"].tolist() == ["", "c3"]


def test_a_mask_of_another_length_is_an_error() -> None:
    with pytest.raises(ScoresError, match=r"a mask of shape \(2,\) for 5 rows"):
        select(table(), np.array([True, False]))


def test_data_sets_come_in_the_order_of_their_first_rows() -> None:
    parts = by_dataset(table())
    assert {name: len(part) for name, part in parts.items()} == {"a": 3, "b": 2}
    assert list(parts) == ["a", "b"]


def test_a_part_keeps_the_hash_of_the_whole() -> None:
    assert by_dataset(table())["a"].meta == table().meta


def test_further_columns_are_added() -> None:
    scores = with_columns(table(), {"jpeg_quality": np.arange(5.0)})
    assert scores.extra["jpeg_quality"].tolist() == [0, 1, 2, 3, 4]


def test_a_column_of_another_length_is_an_error() -> None:
    with pytest.raises(ScoresError, match=r"column x has shape \(2,\); expected \(5,\)"):
        with_columns(table(), {"x": np.zeros(2)})


def test_a_further_column_with_a_name_of_ours_is_an_error() -> None:
    with pytest.raises(ScoresError, match="'label' is a column of every table"):
        with_columns(table(), {"label": np.zeros(5)})


# the hash of the data


def test_the_hash_of_the_data_does_not_depend_on_order_or_place() -> None:
    moved = tuple(replace(result, source=f"/else/{result.source}") for result in (FAKE, REAL))
    one, other = table((REAL, FAKE)), table(moved)
    one = replace(one, dataset=other.dataset[::-1])
    assert data_hash(one) == data_hash(other)


@pytest.mark.parametrize("change", [{"label": 0}, {"sha256": "00" * 32}])
def test_the_hash_of_the_data_changes_with_labels_and_bytes(change: dict[str, object]) -> None:
    assert data_hash(table((replace(FAKE, **change),))) != data_hash(table((FAKE,)))


# joining


def test_tables_are_joined_row_after_row() -> None:
    whole = joined([table((REAL,)), table((FAKE, DAMAGED))])
    assert whole.source.tolist() == [REAL.source, FAKE.source, DAMAGED.source]
    assert whole.meta.data_sha256 == data_hash(whole)


def test_a_column_that_a_table_lacks_is_empty_there() -> None:
    one = with_columns(table((REAL,)), {"quality": np.array([3.0])})
    whole = joined([one, table((REAL, FAKE))])
    assert whole.extra["camera"].tolist() == ["", "", "c1"]
    assert np.isnan(whole.extra["quality"]).tolist() == [False, True, True]


def test_no_table_to_join_is_an_error() -> None:
    with pytest.raises(ScoresError, match="no table to join"):
        joined([])


def test_tables_of_two_detectors_are_not_joined() -> None:
    other = table((replace(REAL, detector=DetectorRef("other", "ef" * 32, trained=True)),))
    with pytest.raises(ScoresError, match="scores of tiny and of other; expected one detector"):
        joined([table((FAKE,)), other])


def test_a_column_of_texts_here_and_numbers_there_is_an_error() -> None:
    one = with_columns(table((REAL,)), {"camera": np.array([3.0])})
    with pytest.raises(ScoresError, match="'camera' holds texts in one table and numbers in an"):
        joined([one, table((REAL, FAKE))])


def test_of_different_points_and_seeds_none_is_kept() -> None:
    other = table((replace(REAL, operating_point=replace(POINT, name="x")),))
    whole = joined([table((FAKE,)), replace(other, meta=replace(other.meta, seed=8))])
    assert (whole.meta.operating_point, whole.meta.seed) == (None, None)


# the file


def test_a_written_table_reads_back_as_it_was(tmp_path: Path) -> None:
    scores = with_columns(table(), {"bits": np.array([8, 8, 16, 8, 8])})
    write_scores(tmp_path / "s.parquet", scores)
    assert same(read_scores(tmp_path / "s.parquet"), scores)


def test_scores_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.parquet", table())
    found = read_scores(tmp_path / "s.parquet").p_fake
    assert found.tobytes() == table().p_fake.tobytes()


def test_names_that_are_no_utf8_are_spelt_out(tmp_path: Path) -> None:
    scores = table(tuple(named(name) for name in HOSTILE_NAMES))
    write_scores(tmp_path / "s.parquet", scores)
    found = read_scores(tmp_path / "s.parquet").source.tolist()
    assert found[0] == HOSTILE_NAMES[0]
    assert found[5] == "in/\\udcff\\udcfe.png"


def test_the_folder_of_a_table_is_made(tmp_path: Path) -> None:
    write_scores(tmp_path / "new/s.parquet", table())
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["s.parquet"]


def test_a_table_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_scores(tmp_path / "file/s.parquet", table())


def test_a_failed_writing_leaves_the_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    write_scores(tmp_path / "s.parquet", table((FAKE,)))
    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OutputError, match="No space left"):
        write_scores(tmp_path / "s.parquet", table())
    assert len(read_scores(tmp_path / "s.parquet")) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_table_is_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(MissingSource, match="no such file"):
        read_scores(tmp_path / "s.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"path,label\n"])
def test_another_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.parquet").write_bytes(content)
    with pytest.raises(ScoresError, match="not a Parquet file"):
        read_scores(tmp_path / "s.parquet")


def test_a_foreign_parquet_file_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.jpg"]}), tmp_path / "m.parquet")
    with pytest.raises(ScoresError, match="not a table of scores that unmask wrote"):
        read_scores(tmp_path / "m.parquet")


def changed(path: Path, scores: Scores, **changes: object) -> Path:
    """A written table with other metadata."""
    write_scores(path, scores)
    found = pq.read_table(path)
    meta = json.loads(found.schema.metadata[b"unmask.scores"]) | changes
    pq.write_table(found.replace_schema_metadata({b"unmask.scores": json.dumps(meta)}), path)
    return path


def test_another_version_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="another version of the table of scores; this one rea"):
        read_scores(changed(tmp_path / "s.parquet", table(), schema=99))


@pytest.mark.parametrize("changes", [{"colour": "red"}, {"operating_point": {"name": "x"}}])
def test_an_origin_that_is_not_understood_is_an_error(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(ScoresError, match="what the table says of its detector is not understood"):
        read_scores(changed(tmp_path / "s.parquet", table(), **changes))


@pytest.mark.parametrize("column", ["p_fake", "group", "label"])
def test_a_missing_column_is_an_error(tmp_path: Path, column: str) -> None:
    write_scores(tmp_path / "s.parquet", table())
    found = pq.read_table(tmp_path / "s.parquet").drop_columns([column])
    pq.write_table(found, tmp_path / "s.parquet")
    with pytest.raises(ScoresError, match=f"the column '{column}' is missing or not of its type"):
        read_scores(tmp_path / "s.parquet")


def rewritten(path: Path, name: str, column: pa.Array | None) -> Path:
    """A written table with another column of this name, or with none of it."""
    write_scores(path, table())
    found = pq.read_table(path)
    found = found.drop_columns([name]) if name in found.column_names else found
    pq.write_table(found if column is None else found.append_column(name, column), path)
    return path


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("dataset", pa.nulls(5, pa.string()), "'dataset' .* holds empty cells, and texts were exp"),
        ("label", pa.array([0.5] * 5), "'label' .* holds float64s, and integers were expected"),
        ("p_fake", pa.array(["0.5"] * 5), "'p_fake' .* holds objects, and floats were expected"),
        ("p_fake", pa.array([[0.5]] * 5), "'p_fake' .* holds list<"),
        ("p_fake", pa.array([0.5, 0.5, 1.5, 0.5, 0.5]), r"row 3: p_fake is 1\.5; expected 0 to 1"),
        ("p_fake", pa.array([-np.inf] * 5), "row 1: p_fake is -inf; expected 0 to 1"),
        ("label", pa.array([0, 1, 2, 0, 0]), r"row 3: label is 2; expected 0 \(real\)"),
        ("mine", pa.array([[1]] * 5), "'mine' holds list<.*; texts or numbers were expected"),
        ("mine", pa.nulls(5, pa.string()), "'mine' holds empty cells; texts or numbers were"),
    ],
)
def test_a_column_that_was_changed_is_an_error(
    tmp_path: Path, name: str, column: pa.Array, words: str
) -> None:
    with pytest.raises(ScoresError, match=words):
        read_scores(rewritten(tmp_path / "s.parquet", name, column))


def test_other_forms_of_texts_and_numbers_are_read(tmp_path: Path) -> None:
    # What other programs write when they rewrite a table.
    path = rewritten(tmp_path / "s.parquet", "mine", pa.array(["x"] * 5, pa.large_string()))
    assert read_scores(path).extra["mine"].tolist() == ["x"] * 5
    p_fake = [0.5 if each == "ok" else np.nan for each in table().status]
    path = rewritten(path, "p_fake", pa.array(p_fake, pa.float32()))
    assert read_scores(path).p_fake.dtype == np.float64


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("p_fake", 0.5, r"row \d: the status is 'no_face' and p_fake 0\.5; expected a p_fake wh"),
        ("p_fake", np.nan, "row 1: the status is 'ok' and p_fake nan; expected a p_fake where"),
        ("status", "ok", r"row \d: the status is 'ok' and p_fake nan"),
        ("status", "blank\x1b", r"row 1: the status is 'blank.*' and p_fake 0\.\d+; expected"),
    ],
)
def test_a_status_that_does_not_fit_the_score_is_an_error(
    tmp_path: Path, name: str, value: object, words: str
) -> None:
    path = tmp_path / "s.parquet"
    with pytest.raises(ScoresError, match=words):
        read_scores(rewritten(path, name, pa.array([value] * 5)))


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_scores(path, table())
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(ScoresError, match="holds no row"):
        read_scores(path)


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = rewritten(tmp_path / "s.parquet", "mine", pa.array([1.0] * 5))
    found = pq.read_table(path)
    pq.write_table(found.append_column("mine", pa.array([2.0] * 5)), path)
    with pytest.raises(ScoresError, match="two columns are called 'mine'"):
        read_scores(path)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"not a file\. Expected .*scores\.parquet"):
        read_scores(tmp_path)


def test_the_name_of_a_folder_is_no_column(tmp_path: Path) -> None:
    write_scores(tmp_path / "camera=x" / "s.parquet", table())
    assert read_scores(tmp_path / "camera=x" / "s.parquet").extra["camera"][1] == "c1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"fake_at": 1.5},
            r"real_below 0\.\d+ and fake_at 1\.5; expected 0 <= real_below <= fake_at",
        ),
        ({"fake_at": float("nan")}, "fake_at nan; expected"),
        ({"real_below": 0.9, "fake_at": 0.8}, r"real_below 0\.9 and fake_at 0\.8"),
        ({"fake_at": "0.5"}, r"operating_point\.fake_at: Input should be a valid number"),
        ({"n_real": "many"}, r"operating_point\.n_real: Input should be a valid integer"),
    ],
)
def test_an_operating_point_that_was_changed_is_an_error(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    point = dataclasses.asdict(POINT) | changes
    with pytest.raises(ScoresError, match=words):
        read_scores(changed(tmp_path / "s.parquet", table(), operating_point=point))


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (b"{", "is not understood"),
        (b"\xff", "is not understood"),
        (b"[" * 100_000, "is not understood"),
        (b"[1]", "no version"),
        (b"null", "no version"),
        (b'{"schema": 1, "detector": ["x"]}', "detector: Input should be a valid string"),
        (b'{"schema": 1, "settings": 3}', "settings: "),
    ],
)
def test_an_origin_of_another_form_is_an_error(tmp_path: Path, origin: bytes, words: str) -> None:
    path = tmp_path / "s.parquet"
    write_scores(path, table())
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"unmask.scores": origin}), path)
    with pytest.raises(ScoresError, match=words):
        read_scores(path)


def test_an_origin_with_names_that_are_no_utf8_is_read_back(tmp_path: Path) -> None:
    meta = replace(table().meta, command="unmask \udcff", settings={"data": ["\udcff", 1]})
    write_scores(tmp_path / "s.parquet", replace(table(), meta=meta))
    found = read_scores(tmp_path / "s.parquet").meta
    assert (found.command, found.settings) == ("unmask \\udcff", {"data": ["\\udcff", 1]})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "s.parquet"
    write_scores(path, table())
    return path


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=5), st.floats(0, 1.5))
def test_a_damaged_file_is_read_or_refused_in_a_sentence(
    written: Path, changes: list[tuple[float, int]], end: float
) -> None:
    damaged = bytearray(written.read_bytes())
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    path = written.with_name("damaged.parquet")
    path.write_bytes(damaged[: int(end * len(damaged))])
    with suppress(ScoresError):
        read_scores(path)
    is_scores(path)


def test_a_table_of_scores_is_told_from_other_files(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.parquet", table())
    pq.write_table(pa.table({"path": ["a.jpg"]}), tmp_path / "m.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    names = ("s.parquet", "m.parquet", "broken.parquet", "gone.parquet", "s.csv")
    assert [is_scores(tmp_path / name) for name in names] == [True, *[False] * 4]


def test_the_columns_of_the_file_are_those_of_the_table() -> None:
    names = {*table_file._TEXTS, *table_file._NUMBERS, "label"}
    assert names == {each.name for each in dataclasses.fields(Scores)} - {"extra", "meta"}
