"""Files as people have them: read, or refused with the line."""

import gzip
import json
from pathlib import Path

from finetune import InputError
from finetune.rows.files.reading import kind_of, read_rows

import pandas as pd
import pyarrow as pa
import pytest

ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": 'ÿ, "q"'}]
LINES = "\n".join(map(json.dumps, ROWS))
TEXT = [{"text": "café, here", "label": "NA"}, {"text": "two\nlines", "label": 'a "b"'}]
CSV = 'text,label\n"café, here",NA\n\n"two\nlines","a ""b"""\n'


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    "text",
    [
        LINES, LINES + "\n\n", "\n\n" + LINES, "\ufeff" + LINES, LINES.replace("\n", "\r\n"), json.dumps(ROWS),
        "\ufeff" + json.dumps(ROWS), json.dumps(ROWS, indent=1), "\n".join(json.dumps(row, indent=2) for row in ROWS),
        json.dumps(ROWS[0], indent=2) + " " + json.dumps(ROWS[1]),
    ],
)  # fmt: skip
def test_json_is_read_however_it_is_laid_out(tmp_path, suffix, text):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(text.encode())
    assert read_rows(path) == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_is_read_by_the_separator_of_its_header(tmp_path, separator, caplog):
    path = tmp_path / "rows.csv"
    pd.DataFrame(TEXT).to_csv(path, sep=separator, index=False)
    with caplog.at_level("INFO"):
        assert read_rows(path) == TEXT
    assert ("separated by" in caplog.text) == (separator != ",")
    assert kind_of(tmp_path / "rows.tsv") == ".tsv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
def test_text_is_read_in_its_encoding(tmp_path, encoding):
    path = tmp_path / "rows.csv"
    path.write_bytes(CSV.encode(encoding))
    assert read_rows(path, encoding) == TEXT
    if encoding not in ("utf-8", "utf-8-sig"):
        with pytest.raises(InputError, match=r"is not utf-8 text .* name its encoding with --encoding, for example"):
            read_rows(path)
    with pytest.raises(InputError, match="--encoding klingon: there is no such encoding"):
        read_rows(path, "klingon")


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv.zst", "rows.csv.bz2", "ROWS.CSV.GZ"])
def test_compressed_files_are_read(tmp_path, name):
    path = tmp_path / name
    codec = {"gz": "gzip", "zst": "zstd", "bz2": "bz2"}[name.lower().rpartition(".")[2]]
    with pa.CompressedOutputStream(str(path), codec) as stream:
        stream.write(CSV.encode())
    assert read_rows(path) == TEXT


def test_missing_values_are_none_in_json_and_parquet(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": NaN, "n": null}\n{"text": "nan", "n": 1}')
    assert read_rows(tmp_path / "a.jsonl") == [{"text": None, "n": None}, {"text": "nan", "n": 1}]
    frame = pd.DataFrame({"text": ["a", None], "n": [float("nan"), 2.5], "labels": [[1], [2, 3]]}, index=[7, 8])
    frame.to_parquet(tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet") == [
        {"text": "a", "n": None, "labels": [1]}, {"text": None, "n": 2.5, "labels": [2, 3]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "text,label\na,b\nplease, c,d\n", "line 3: 3 fields where the header has 2 (text, label)"),
        ("a.csv", "text,label\na\n", "line 2: 1 fields where the header has 2"),
        ("a.csv", "text,label\na,b,\n", "line 2: 3 fields where the header has 2"),
        ("a.csv", 'text,label\n"two\nlines",x\na,b,c\n', "line 4: 3 fields"),
        ("a.csv", 'text,label\n"He said \\"hi\\", ok",x\n', "line 2: not valid CSV"),
        ("a.csv", 'text,label\n"a \\"b\\" c",x\n', "a quote inside a quoted text must be doubled"),
        ("a.csv", 'text,label\nx,y\n"open,x\nb,c\n', "line 3: not valid CSV (a quote is opened and never closed)"),
        ("a.csv", "text;label\na;b;c\n", "the separator (semicolons)"),
        ("a.csv", "a,a\n1,2\n", "the header names a twice"),
        ("a.csv", "a,,b\n1,2,3\n", "line 2: a value in a column that has no name"),
        ("a.jsonl", LINES + '\n{"a": 1', "line 3: not valid JSON"),
        ("a.jsonl", '{"a": 1\n' + LINES, "line 2: not valid JSON"),
        ("a.json", '[\n{"a": 1},\n{"a": }\n]', "line 3: not valid JSON"),
        ("a.json", '{\n"a": 1\n}\n{\n"a" 2}', "line 5: not valid JSON"),
        ("a.jsonl", LINES + "\n[1]", "line 3: expected a JSON object, found list"),
        ("a.json", "[1, 2]", "object 1: expected a JSON object, found int"),
        ("a.json", json.dumps({"data": ROWS}), "holds one object with data; expected a list of objects"),
        ("a.json", json.dumps({"train": ROWS, "test": []}, indent=1), "holds one object with train, test"),
        ("a.jsonl", LINES + '\n{"a": "\\ud83d"}', "line 3: 'a' holds half a character"),
        ("a.json", '[{"a": ["\\udc00"]}]', "object 1: 'a' holds half a character"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}", "line 1: a number is too long"),
        ("a.jsonl", '{"a": ' + "[" * 100_000, "line 1: it is nested too deeply"),
        ("a.csv.gz", b"no gzip", "cannot be read as csv"),
        ("a.csv.gz", gzip.compress(b"text,label\na,b\n" * 1000, mtime=0)[:40], "cannot be read as csv"),
        ("a.parquet", b"PAR1 no parquet PAR1", "cannot be read as parquet"),
        ("a.parquet", b"", "cannot be read as parquet"),
        ("a.docx", b"", "is not a kind of file that can be read; expected .jsonl"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_rows(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_addresses_and_files_that_are_not_there_are_refused(tmp_path):
    for address in ("s3://bucket/rows.csv", "http://host/rows.json", "hf://datasets/a/b.parquet"):
        with pytest.raises(InputError, match="is an address, and only files are read here"):
            read_rows(Path(address))
    with pytest.raises(InputError, match="there is no file"):
        read_rows(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"a": 1, "a": 2}', "line 1: 'a' is named twice"), (LINES + '\n{"b": 1, "c": {"d": 1, "d": 2}}', "line 3: 'd'"),
     ('[{"a": 1, "b": 2, "a": 1}]', "'a' is named twice"), ('{"a": 1}\n{"\\u0061": 1, "a": 2}', "line 2: 'a'"),
     ('{\n"a": 1,\n"a": 2}', "object 1: 'a' is named twice"),
     ('{\n"a": ' + "9" * 5000 + "}", "object 1: a number is too long"),
     ('{\n"a": ' + "[" * 99999 + "]" * 99999 + "}", "object 1: it is nested too deeply")],
)  # fmt: skip
def test_no_value_of_an_object_is_lost_and_none_ends_in_a_traceback(tmp_path, text, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_rows(path)


@pytest.mark.parametrize("name", ["rows.xlsx", "Rows.XLS", "rows.ods"])
def test_a_workbook_is_refused_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"is a workbook, which is not read here; .* save the sheet as CSV \(UTF-8\)"):
        read_rows(tmp_path / name)


def test_a_workbook_that_is_called_csv_is_refused(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(InputError, match="is called CSV and holds a workbook"):
        read_rows(tmp_path / "rows.csv")
