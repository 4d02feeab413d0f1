"""Manifests: CSV and JSON lines in, samples out; each misunderstanding names file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unmask import manifest
from unmask.errors import ManifestError, MissingSource
from unmask.manifest import read_manifest, write_manifest
from unmask.types import Sample


def read(folder: Path, text: str | bytes, name: str = "m.csv") -> list[Sample]:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_manifest(path))


def test_all_columns_are_read(tmp_path: Path) -> None:
    text = "path,label,dataset,generator,group,video,split\na/1.jpg,fake,cdf,swap,id3,v7,val\n"
    assert read(tmp_path, text) == [
        Sample(
            source=str(tmp_path / "a/1.jpg"),
            path=tmp_path / "a/1.jpg",
            label=1,
            dataset="cdf",
            generator="swap",
            group="id3",
            video="v7",
            split="val",
        )
    ]


def test_path_alone_is_enough(tmp_path: Path) -> None:
    assert [sample.label for sample in read(tmp_path, "path\na.jpg\nb.jpg\n")] == [None, None]


def test_relative_paths_start_at_the_folder_of_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.csv").write_text("path\na/1.jpg\n")
    monkeypatch.chdir(tmp_path)
    (sample,) = read_manifest(Path("lists/m.csv"))
    assert sample.source == "lists/a/1.jpg"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "a.jpg"
    assert read(tmp_path, f"path\n{path}\n")[0].path == path


@pytest.mark.parametrize(
    ("text", "label"),
    [("real", 0), ("0", 0), ("fake", 1), ("1", 1), ("", None), ("FAKE", 1), (" real ", 0)],
)
def test_label_is_real_or_fake_or_0_or_1_or_nothing(
    tmp_path: Path, text: str, label: int | None
) -> None:
    assert read(tmp_path, f"path,label\na.jpg,{text}\n")[0].label == label


def test_directories_do_not_label_the_rows_of_a_manifest(tmp_path: Path) -> None:
    assert read(tmp_path, "path,label\nfake/a.jpg,\n")[0].label is None


def test_other_label_names_file_line_value_and_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"m\.csv, line 3: label '2'\. Expected real or 0"):
        read(tmp_path, "path,label\na.jpg,real\nb.jpg,2\n")


def test_byte_order_mark_crlf_empty_lines_quotes_and_unicode(tmp_path: Path) -> None:
    text = '\ufeffpath,label\r\n\r\n"a, ""b"".jpg",real\r\n\r\nméd/笑.jpg,fake\r\n'
    names = [sample.path.relative_to(tmp_path) for sample in read(tmp_path, text)]
    assert names == [Path('a, "b".jpg'), Path("méd/笑.jpg")]


def test_line_numbers_count_empty_lines_and_line_breaks_in_quotes(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="line 5: label 'x'"):
        read(tmp_path, 'path,label\n\n"a\nb.jpg",real\nc.jpg,x\n')


def test_other_columns_are_kept_as_text_and_empty_cells_left_out(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, "path,width,video_id,labeller,note\na.jpg,3,4,me,\n")
    assert sample.columns == (("width", "3"), ("video_id", "4"), ("labeller", "me"))


def test_other_columns_of_json_lines_are_text_whatever_they_hold(tmp_path: Path) -> None:
    line = '{"path": "a.jpg", "q": 95, "x": 0.5, "ok": true, "none": null, "l": [1]}\n'
    (sample,) = read(tmp_path, line, "m.jsonl")
    assert sample.columns == (("q", "95"), ("x", "0.5"), ("ok", "true"), ("l", "[1]"))


@pytest.mark.parametrize("column", ["lable", "labels", "Label", " LABEL"])
def test_misspelt_column_is_an_error_that_names_the_right_one(tmp_path: Path, column: str) -> None:
    with pytest.raises(ManifestError, match=r"line 1: unknown column .* Did you mean 'label'\?"):
        read(tmp_path, f"path,x,{column}\n" if column != " LABEL" else 'path,x," LABEL"\n')


def test_extra_column_beside_the_known_one_is_no_misspelling(tmp_path: Path) -> None:
    assert read(tmp_path, "path,label,labels\na.jpg,real,r\n")[0].label == 0


def test_column_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="line 1: column 'label' twice"):
        read(tmp_path, "path,label,label\na.jpg,real,fake\n")


def test_missing_path_column_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"line 1: no column 'path' among 'file;label'"):
        read(tmp_path, "file;label\na.jpg;real\n")


def test_empty_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="line 2: the path is empty"):
        read(tmp_path, "path,label\n,real\n")


@pytest.mark.parametrize("row", ["a.jpg", "a.jpg,real,3"])
def test_row_of_another_length_than_the_header_is_an_error(tmp_path: Path, row: str) -> None:
    with pytest.raises(ManifestError, match=r"line 2: \d fields. Expected 2"):
        read(tmp_path, f"path,label\n{row}\n")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match="the file is empty"):
        read(tmp_path, "", name)


def test_open_quote_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"line \d: not CSV"):
        read(tmp_path, 'path\n"a.jpg\n')


def test_other_encoding_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not UTF-8 text"):
        read(tmp_path, "path\nméd.jpg\n".encode("latin-1"))


def test_missing_manifest_is_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(MissingSource, match="no such manifest"):
        list(read_manifest(tmp_path / "m.csv"))


def test_manifest_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        list(read_manifest(tmp_path / "m.csv"))


def test_other_suffix_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"suffix '\.tsv'"):
        read(tmp_path, "path\n", "m.tsv")


def test_json_lines_take_numbers_and_null(tmp_path: Path) -> None:
    text = '{"path": "a.jpg", "label": 1, "group": 17, "video": null}\n\n{"path": "b.jpg"}\n'
    first, second = read(tmp_path, text, "m.jsonl")
    assert (first.label, first.group, first.video) == (1, "17", "")
    assert second.label is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{path: a}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["a.jpg"]', "Expected an object"),
        ('{"path": "a.jpg", "path": "b.jpg"}', "'path' twice"),
        ('{"path": "a.jpg", "lable": 1}', "Did you mean 'label'"),
        ('{"label": 1}', "no column 'path'"),
        ('{"path": "a.jpg", "label": true}', "label is true"),
        ('{"path": 5}', "path is 5"),
        ('{"path": "a.jpg", "group": ["x"]}', "group is"),
        ('{"path": "a.jpg", "label": 7}', "label '7'"),
        ("{}", "no column 'path' among none"),
    ],
)
def test_bad_json_line_names_its_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=f"line 2: .*{words}"):
        read(tmp_path, '{"path": "ok.jpg"}\n' + line + "\n", "m.jsonl")


def test_rows_stream_so_the_good_ones_come_before_the_bad_one(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\na.jpg,real\nb.jpg,?\n")
    rows = read_manifest(tmp_path / "m.csv")
    assert next(rows).label == 0
    with pytest.raises(ManifestError):
        next(rows)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    names = ["a.jpg", "méd/b, c.jpg", "line\nbreak.jpg", 'quo"te.jpg']
    paths = [*(tmp_path / name for name in names), Path("/elsewhere/d.jpg")]
    fields = [(0, "x", "", "1", "", "train"), (1, "y", "gan", "2", "v", "val")]
    return [
        Sample(str(path), path, *fields[i % 2]) if i != 2 else Sample(str(path), path)
        for i, path in enumerate(paths)
    ]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_written_manifest_reads_back_as_the_same_samples(
    tmp_path: Path, samples: list[Sample], name: str
) -> None:
    write_manifest(samples, tmp_path / name)
    assert list(read_manifest(tmp_path / name)) == samples


def test_paths_below_the_manifest_are_written_relative_to_it(
    tmp_path: Path, samples: list[Sample]
) -> None:
    write_manifest(samples[:1], tmp_path / "m.jsonl")
    assert json.loads((tmp_path / "m.jsonl").read_text())["path"] == "a.jpg"


def test_manifest_appears_whole_or_not_at_all(tmp_path: Path, samples: list[Sample]) -> None:
    def broken() -> Iterator[Sample]:
        yield samples[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_manifest(broken(), tmp_path / "m.csv")
    assert list(tmp_path.iterdir()) == []


def test_writing_another_suffix_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"Expected \.csv or \.jsonl"):
        write_manifest([], tmp_path / "m.txt")


def test_path_that_is_no_unicode_needs_json_lines(tmp_path: Path) -> None:
    odd = [Sample(str(tmp_path / "\udce9.jpg"), tmp_path / "\udce9.jpg")]
    with pytest.raises(ManifestError, match=r"Write the manifest as \.jsonl"):
        write_manifest(odd, tmp_path / "m.csv")
    write_manifest(odd, tmp_path / "m.jsonl")
    assert list(read_manifest(tmp_path / "m.jsonl")) == odd


def test_columns_are_those_of_the_sample() -> None:
    assert set(manifest.COLUMNS) == set(Sample.__dataclass_fields__) - {"source", "columns"}


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_other_columns_are_written_and_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jpg"
    samples = [
        Sample(str(path), path, 1, columns=(("quality", "95"), ("city", "Zürich"))),
        Sample(str(path), path, 0),
    ]
    write_manifest(samples, tmp_path / name)
    assert list(read_manifest(tmp_path / name)) == samples


def test_the_meaning_of_a_label_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\na.jpg,GAN\n")
    assert [each.label for each in read_manifest(tmp_path / "m.csv", labels={"GAN": 1})] == [1]


def parquet(folder: Path, **columns: object) -> list[Sample]:
    pq.write_table(pa.table(columns), folder / "m.parquet")
    return list(read_manifest(folder / "m.parquet"))


def test_parquet_is_a_manifest_too(tmp_path: Path) -> None:
    samples = parquet(tmp_path, path=["a.jpg", "b.jpg"], label=[1, None], split=["val", "test"])
    assert [(s.source, s.label, s.split) for s in samples] == [
        (str(tmp_path / "a.jpg"), 1, "val"), (str(tmp_path / "b.jpg"), None, "test"),
    ]  # fmt: skip


def test_integers_with_gaps_are_integers_as_pandas_writes_them(tmp_path: Path) -> None:
    samples = parquet(tmp_path, path=["a.jpg", "b.jpg"], label=[1.0, None], group=[3.0, 4.0])
    assert [(sample.label, sample.group) for sample in samples] == [(1, "3"), (None, "4")]


def test_plain_columns_of_parquet_are_kept_and_others_stay_unread(tmp_path: Path) -> None:
    (sample,) = parquet(
        tmp_path,
        path=["a.jpg"],
        size=[3],
        city=pa.array(["Bern"]).dictionary_encode(),
        jpeg=[b"\xff\xd8"],
        image=[{"bytes": b"x"}],
    )
    assert sample.columns == (("size", "3"), ("city", "Bern"))


def test_bad_parquet_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="row 2: label 'maybe'"):
        parquet(tmp_path, path=["a.jpg", "b.jpg"], label=["real", "maybe"])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": ["a.jpg"]}, "no column 'path'"),
        ({"path": ["a.jpg"], "lable": ["real"]}, "Did you mean 'label'"),
        ({"path": [b"a.jpg"]}, "row 1: path is"),
        ({"path": ["a.jpg"], "label": [0.5]}, "label is 0.5"),
    ],
)
def test_parquet_columns_are_checked(
    tmp_path: Path, columns: dict[str, object], words: str
) -> None:
    with pytest.raises(ManifestError, match=words):
        parquet(tmp_path, **columns)


def test_missing_parquet_is_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(MissingSource, match="no such manifest"):
        list(read_manifest(tmp_path / "m.parquet"))


def test_damaged_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ManifestError, match="not a Parquet table"):
        list(read_manifest(tmp_path / "m.parquet"))
