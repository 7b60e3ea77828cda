"""Files of predictions: given columns as they came, under their own name, whatever the kinds of input and output."""

import csv
import datetime
import decimal
import json
import os
from pathlib import Path

import predict
from finetune import InputError
from finetune.logged_models.opening import LoggedModel
from finetune.predicting.output_columns import Columns, look_through
from finetune.predicting.streams import Writer
from finetune.rows.files.reading import stream_rows

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import CONTEXT, QUESTIONS, call

BIG = 2**53 + 1
PREDICTED = pa.schema({"labels": pa.list_(pa.string()), "scores": pa.struct([("a", pa.float64())])})
SCORE = 0.12345678901234567


def rewritten(source: Path, output: Path, chunk: int = 2) -> Path:
    """Write the rows of a file with a prediction each, as predict.py does, and return the file."""
    columns = look_through(lambda: stream_rows(source, raw=True), source, "utf-8", output, ["text"])
    rows = list(stream_rows(source, raw=True))
    with Writer(output, columns, PREDICTED) as writer:
        for start in range(0, len(rows), chunk):
            found = [columns.add(row, {"labels": ["x"], "scores": {"a": SCORE}}) for row in rows[start : start + chunk]]
            writer.write(found, [])
    return output


def lines_of(path: Path) -> list[dict]:
    """Return the rows of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def jsonl(path: Path, rows: list[dict]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


MIXED = [
    {"text": "a", "id": BIG, "when": "2024-01-31", "price": 0.1},
    {"id": 2**70, "text": "b é", "tags": [["x", None], []], "price": 1e22},
    {"text": "c", "extra": {"k": {"z": 1, "a": 2}}, "id": None},
    {"price": -0.0, "text": "d\r\n", "id": 7, "flag": True, "zip": "007"},
]


def test_json_lines_come_out_as_they_came_in(tmp_path):
    written = lines_of(rewritten(jsonl(tmp_path / "in.jsonl", MIXED), tmp_path / "out.jsonl"))
    for row, given in zip(written, MIXED, strict=True):
        assert list(row) == [*given, "labels", "scores"]
        assert json.dumps(row) == json.dumps(given | {"labels": ["x"], "scores": {"a": SCORE}})


def test_csv_has_one_header_and_each_value_stands_under_its_name(tmp_path):
    path = rewritten(jsonl(tmp_path / "in.jsonl", MIXED), tmp_path / "out.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "id", "when", "price", "tags", "extra", "flag", "zip", "labels", "scores"]
    assert [row["text"] for row in rows] == ["a", "b é", "c", "d\r\n"]
    assert [row["id"] for row in rows] == [str(BIG), str(2**70), "", "7"]
    assert [row["price"] for row in rows] == ["0.1", "1e+22", "", "-0.0"]
    assert (rows[1]["tags"], rows[2]["extra"]) == ('[["x", null], []]', '{"k": {"z": 1, "a": 2}}')
    assert rows[3]["zip"] == "007"
    assert {row["labels"] for row in rows} == {'["x"]'}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_texts_of_csv_stay_the_same_texts(tmp_path, end):
    cells = [["007", "1.10", "9007199254740993", "a\rb"], ["", "NaN", "null", 'a "quote", and\na line'],
             ["1e5", " x ", "TRUE", "2024-01-31"]]  # fmt: skip
    given = tmp_path / "in.csv"
    with given.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=end).writerow(["id", "price", "big", "text"])
        # The csv module quotes a lone \r only where that is in its own line end.
        csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(cells)
    for suffix in (".csv", ".jsonl", ".parquet"):
        rows = list(stream_rows(rewritten(given, tmp_path / f"out{suffix}")))
        assert [list(row.values())[:4] for row in rows] == cells
        assert list(rows[0]) == ["id", "price", "big", "text", "labels", "scores"]


def test_types_of_parquet_stay_the_same_types(tmp_path):
    columns = {
        "text": pa.array(["a", "b", None]),
        "id": pa.array([BIG, None, 1], pa.int64()),
        "small": pa.array([1, None, 3], pa.int8()),
        "huge": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "share": pa.array([0.1, None, float("nan")], pa.float32()),
        "half": pa.array(np.float16([1.5, 2, 3])),
        "day": pa.array([datetime.date(2024, 1, 31), None, None]),
        "at": pa.array([1, None, 2**60 + 1], pa.timestamp("ns", "UTC")),
        "price": pa.array([decimal.Decimal("1.10"), None, None], pa.decimal128(9, 2)),
        "none": pa.nulls(3),
        "kind": pa.array(["x", "y", None]).dictionary_encode(),
        "raw": pa.array([b"\xff", None, b""]),
        "long": pa.array(["l", None, ""], pa.large_string()),
        "tags": pa.array([[["x", None]], [], None]),
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
        "deep": pa.array([{"b": 1}, None, {"b": 2}], pa.struct([("b", pa.int16()), ("a", pa.string())])),
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "in.parquet")
    written = pq.read_table(rewritten(tmp_path / "in.parquet", tmp_path / "out.parquet"))
    assert written.schema.names == [*table.schema.names, *PREDICTED.names]
    for name in table.schema.names:
        assert written.schema.field(name).type == table.schema.field(name).type, name
        if name != "share":
            assert written[name].combine_chunks().equals(table[name].combine_chunks()), name
    np.testing.assert_array_equal(written["share"].to_numpy(), table["share"].to_numpy())
    assert written["share"].null_count == 1  # NaN is no null.
    assert [written.schema.field(name).type for name in PREDICTED.names] == PREDICTED.types
    # As JSON and CSV, dates and decimal numbers are texts.
    for suffix in (".jsonl", ".csv"):
        row = next(stream_rows(rewritten(tmp_path / "in.parquet", tmp_path / f"out{suffix}")))
        assert (str(row["id"]), row["day"], row["price"], row["raw"]) == (str(BIG), "2024-01-31", "1.10", "/w==")

    assert lines_of(tmp_path / "out.jsonl")[2]["share"] is None  # JSON has no NaN.


@pytest.mark.parametrize("ids", [[1, 2, 3], [7, 5, BIG]])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_index_of_a_pandas_frame_is_not_lost(tmp_path, ids, suffix):
    """pandas keeps the ids 1, 2, 3 as a range in the metadata, and an index without a name under one of its own."""
    frame = pd.DataFrame({"text": ["a", "b", "c"], "id": ids}).set_index("id")
    frame.to_parquet(tmp_path / "in.parquet")
    rows = list(stream_rows(rewritten(tmp_path / "in.parquet", tmp_path / f"out{suffix}"), raw=True))
    assert [int(row["id"]) for row in rows] == ids
    pd.DataFrame({"text": ["a", "b"]}, index=ids[1:]).to_parquet(tmp_path / "in.parquet")
    rows = list(stream_rows(rewritten(tmp_path / "in.parquet", tmp_path / f"out{suffix}"), raw=True))
    assert [int(row["__index_level_0__"]) for row in rows] == ids[1:]


def test_parquet_of_json_has_one_type_for_all_rows_or_is_refused_before_anything_is_written(tmp_path):
    rows = [
        {"text": "a", "id": None},
        {"text": "b"},
        {"text": "c", "id": BIG, "tags": []},
        {"text": "d", "tags": ["t"]},
    ]
    path = rewritten(jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet", chunk=1)
    assert pq.read_table(path).select(["text", "id", "tags"]).to_pylist() == [
        {"text": row["text"], "id": row.get("id"), "tags": row.get("tags")} for row in rows
    ]
    path.unlink()
    late = [[BIG], *([[1]] * 2000), [0.5]]
    for values in ([1, "x"], [True, 1], [2**64, 1], [BIG, 0.5], [[1], ["x"]], [{}, {}], late):
        source = jsonl(tmp_path / "in.jsonl", [{"text": "a", "thing": value} for value in values])
        with pytest.raises(InputError, match="the column 'thing' has values that a Parquet file cannot hold"):
            rewritten(source, path)
        assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_without_rows_is_a_file_with_a_header(tmp_path, suffix):
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}[suffix]
    (tmp_path / "in.csv").write_text("id,text\n")
    (tmp_path / "in.jsonl").write_text("")
    pq.write_table(
        pa.table({"id": pa.array([], pa.int32()), "text": pa.array([], pa.string())}), tmp_path / "in.parquet"
    )
    for name, given in (("in.csv", ["id", "text"]), ("in.jsonl", ["text"]), ("in.parquet", ["id", "text"])):
        frame = read(rewritten(tmp_path / name, tmp_path / f"out{suffix}"))
        assert (list(frame.columns), len(frame)) == ([*given, "labels", "scores"], 0)
    if suffix == ".parquet":
        assert pq.read_schema(tmp_path / "out.parquet").field("id").type == pa.int32()


def test_a_prediction_never_takes_the_place_of_a_given_column(tmp_path):
    rows = [{"text": "a"}, {"text": "b"}, {"text": "c", "scores": 1, "labels": "mine", "predicted_labels": 0}]
    source = jsonl(tmp_path / "in.jsonl", rows)
    for suffix in (".jsonl", ".csv"):
        found = list(stream_rows(rewritten(source, tmp_path / f"out{suffix}", chunk=1)))
        assert (str(found[2]["scores"]), found[2]["labels"]) == ("1", "mine")
        assert all(row["predicted_scores"] and row["predicted_predicted_labels"] for row in found)
        assert not found[0].get("labels")


def test_a_column_that_comes_after_the_header_is_refused_by_its_name_and_what_is_written_stays(tmp_path, caplog):
    """Of a stream not all columns are known before; a file is looked through."""
    output = tmp_path / "out.csv"
    columns = Columns(output=output)

    def write(chunks):
        with Writer(output, columns, PREDICTED) as writer:
            for rows in chunks:
                columns.look_at(rows)
                writer.write([columns.add(row, {"labels": [], "scores": {"a": 1.0}}) for row in rows], [])

    first, late = [{"id": 2, "text": "b"}, {"text": "c"}], [{"text": "d", "note": "lost?"}]
    with pytest.raises(InputError, match="the column 'note', which the rows before it did not have"):
        write([[{"text": "a", "id": 1}], first, late])
    assert not output.exists()
    part = tmp_path / "out.csv.part"
    assert [(row["text"], row["id"]) for row in stream_rows(part.rename(output))] == [("a", "1"), ("b", "2"), ("c", "")]
    assert "the first 3 rows, with their predictions, are in" in caplog.text


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_full_disk_is_said(tmp_path, suffix):
    (tmp_path / f"out{suffix}.part").symlink_to("/dev/full")
    source = jsonl(tmp_path / "in.jsonl", [{"text": "a"}])
    with pytest.raises(InputError, match=r"\.part cannot be written: .*No space left on device"):
        rewritten(source, tmp_path / f"out{suffix}")
    assert not (tmp_path / f"out{suffix}").exists()


def test_the_input_is_not_the_output_by_any_name(tmp_path, monkeypatch):
    data = jsonl(tmp_path / "in.jsonl", [{"text": "a"}])
    (tmp_path / "link.jsonl").symlink_to(data)
    os.link(data, tmp_path / "hard.jsonl")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    for output in (data, "in.jsonl", "../" + tmp_path.name + "/in.jsonl", "link.jsonl", "hard.jsonl"):
        assert "this is the input" in call(predict.main, "runs:/x/model", "--input", data, "--output", output)
    assert "this is a folder" in call(predict.main, "runs:/x/model", "--input", data, "--output", "folder.csv")
    page = tmp_path / "page.html"
    page.write_text("<p>A text.")
    document = ("--input", page, "--split-sentences", "--report", page)
    assert "--report" in call(predict.main, "runs:/x/model", *document)
    with data.open() as given:
        monkeypatch.setattr("sys.stdin", given)
        assert "this is the input" in call(predict.main, "runs:/x/model", "--output", "link.jsonl")
    assert lines_of(data) == [{"text": "a"}]


def test_what_is_written_first_is_no_other_file(tmp_path, monkeypatch):
    data, output = jsonl(tmp_path / "in.jsonl", [{"text": "a"}]), tmp_path / "out.csv"
    part, other = tmp_path / "out.csv.part", tmp_path / "other"
    other.write_text("precious")
    for make in (
        lambda: part.symlink_to(other),
        lambda: part.symlink_to("nowhere"),
        part.mkdir,
        lambda: os.mkfifo(part),
    ):
        make()
        assert "is no plain file" in call(predict.main, "runs:/x/model", "--input", data, "--output", output)
        part.rmdir() if part.is_dir() and not part.is_symlink() else part.unlink()
    assert other.read_text() == "precious"
    data.rename(part)
    with part.open() as given:
        monkeypatch.setattr("sys.stdin", given)
        assert "out.csv.part is the input" in call(predict.main, "runs:/x/model", "--output", output)
    assert lines_of(part) == [{"text": "a"}]


def test_what_an_earlier_attempt_has_predicted_stays_where_the_next_one_predicts_nothing(tmp_path):
    part = tmp_path / "out.jsonl.part"
    part.write_text('{"text": "a", "labels": []}\n')
    with pytest.raises(InputError, match="no model"), Writer(tmp_path / "out.jsonl", Columns(), PREDICTED):
        raise InputError("no model")
    assert lines_of(part) == [{"text": "a", "labels": []}]


@pytest.fixture
def small_chunks(monkeypatch):
    """Let a chunk be a batch."""
    monkeypatch.setattr(predict, "BATCHES_A_CHUNK", 1)


GIVEN = [{"id": BIG, "name": "a"}, {"name": "b", "id": 2, "sql": "mine", "labels": [1], "summary": "s", "ended": "no"},
         {"price": 0.1, "id": 3}]  # fmt: skip


def answer_file(uri: str, texts: list[dict], folder: Path, output: str, *flags) -> list[dict]:
    """Return the rows that predict.py writes for three texts, a chunk each."""
    source = jsonl(folder / "in.jsonl", [given | text for given, text in zip(GIVEN, texts, strict=True)])
    path = folder / output
    assert call(predict.main, uri, "--input", source, "--output", path, "--batch-size", 1, *flags) is None
    return list(stream_rows(path))


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl"])
def test_sql_stands_beside_what_was_given(logged_model, tmp_path, small_chunks, output):
    texts = [{"question": question, "context": CONTEXT} for question in [*QUESTIONS, QUESTIONS[0]]]
    rows = answer_file(logged_model["uri"], texts, tmp_path, output, "--param", "max_new_tokens=4")
    assert [str(row["id"]) for row in rows] == [str(BIG), "2", "3"]
    assert (rows[1]["sql"], rows[1]["ended"]) == ("mine", "no")
    assert all(row["predicted_sql"].startswith("SELECT") for row in rows)
    assert all(str(row["predicted_ended"]) == "False" for row in rows)


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl"])
def test_labels_stand_beside_what_was_given(logged_classifier, tmp_path, small_chunks, capsys, output):
    texts = [{"text": "a", "line": 4}, {"text": "b"}, {"text": "c"}]
    rows = answer_file(logged_classifier["uri"], texts, tmp_path, output)
    assert str(rows[1]["labels"]) == "[1]"
    assert all("predicted_labels" in row and "scores" in row and "predicted_scores" not in row for row in rows)
    source = tmp_path / "in.jsonl"
    capsys.readouterr()
    assert call(predict.main, logged_classifier["uri"], "--input", source) is None  # A column `line` is no document.
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert call(predict.main, logged_classifier["uri"], "--input", source, "--json") is None
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(row) - set(given) for row, given in zip(shown, lines_of(source), strict=True)] == [
        {"predicted_labels", "scores"}
    ] * 3


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl"])
def test_a_summary_stands_beside_what_was_given(logged_summarizer, tmp_path, small_chunks, output):
    texts = [{"article": text} for text in ("A storm hit Kelso.", "Nobody was hurt.", "48 houses fell.")]
    rows = answer_file(logged_summarizer["uri"], texts, tmp_path, output, "--param", "max_new_tokens=4")
    assert rows[1]["summary"] == "s"
    assert all(row["predicted_summary"] for row in rows)


def test_a_document_without_a_flagged_clause_is_a_file_with_a_header(logged_classifier, tmp_path):
    page = tmp_path / "terms.txt"
    page.write_text("welcome to our site. you can change your password.")
    flags = (logged_classifier["uri"], "--input", page, "--split-sentences", "--param", "threshold=1.0")
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        output = tmp_path / f"out{suffix}"
        assert call(predict.main, *flags, "--output", output) is None
        assert list(read(output).columns) == ["text", "start", "end", "line", "labels", "scores"]


def test_rows_of_parquet_are_shown_as_json(logged_classifier, tmp_path, capsys):
    pd.DataFrame({"text": ["a"], "at": [pd.Timestamp("2024-01-31T10:00:00")], "n": [float("nan")]}).to_parquet(
        tmp_path / "in.parquet"
    )
    assert call(predict.main, logged_classifier["uri"], "--input", tmp_path / "in.parquet", "--json") is None
    assert json.loads(capsys.readouterr().out)["at"] == "2024-01-31T10:00:00"


def test_a_row_that_cannot_be_answered_is_found_before_the_model_is_loaded(logged_classifier, tmp_path, monkeypatch):
    source = jsonl(tmp_path / "in.jsonl", [{"text": "a"}] * 3000 + [{"text": " "}])
    monkeypatch.setattr(LoggedModel, "load", lambda *_: pytest.fail("the model was loaded"))
    refused = call(predict.main, logged_classifier["uri"], "--input", source, "--output", tmp_path / "out.csv")
    assert "row 3001 of" in refused
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_rows_of_a_classifier_with_other_columns(logged_classifier, tmp_path, capsys, monkeypatch):
    rows = [{"Body": "a", "id": 1}, {"id": 2, "body": "b"}]
    source = jsonl(tmp_path / "in.jsonl", rows)
    assert call(predict.main, logged_classifier["uri"], "--input", source, "--json", "--column", "text=BODY") is None
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{name: row[name] for name in given} for row, given in zip(shown, rows, strict=True)] == rows
    assert [set(row) - {"id"} for row in shown] == [{"Body", "labels", "scores"}, {"body", "labels", "scores"}]
    assert "expected text" in call(predict.main, logged_classifier["uri"], "--input", source)
    assert "there is no body" in call(predict.main, logged_classifier["uri"], "--column", "body=text")
    refused = call(predict.main, logged_classifier["uri"], "--text", "a", "--column", "text=body")
    assert "--column is for rows of --input or stdin" in refused


def test_questions_with_other_columns(logged_model, tmp_path, capsys):
    few = ("--param", "max_new_tokens=4", "--json")
    known = {"sql_prompt": QUESTIONS[0], "sql_context": CONTEXT, "sql": "gold"}
    named = {"Q": QUESTIONS[0], "ddl": CONTEXT, "ANSWER": "gold"}
    plain = {"question": QUESTIONS[0]}
    for row, flags in (
        (known, ()),
        (named, ("--column", "question=q", "context=ddl")),
        (plain, ("--context", CONTEXT)),
    ):
        source = jsonl(tmp_path / "in.jsonl", [row])
        assert call(predict.main, logged_model["uri"], "--input", source, *few, *flags) is None
        shown = json.loads(capsys.readouterr().out)
        assert row.items() <= shown.items()
        assert shown.keys() - row.keys() == ({"predicted_sql", "ended"} if "sql" in row else {"sql", "ended"})
