"""The embedded default: what git carries, and that test rows share no name with what was trained on."""

import json
import re
from collections import Counter
from random import Random

import run_classifier_demo
from build_clauses import FILE as CLAUSES
from build_clauses import PARTS, build
from clause_words import FAIR, UNFAIR, WORDS
from finetune import InputError
from finetune.rows.labels import find_labels
from metrics.sql_execution.queries import normalize_sql
from metrics.unfair_tos.unfair_tos import score
from questions import ONE_TABLE, Scene, joined, question, schema
from vocabulary import Vocabulary, is_held_out

import pytest
from conftest import DEMO_BASE, ROOT, demo_rows, run_script


def names(rows: list[dict]) -> set[str]:
    """Return the table and column names of the rows' schemas."""
    found = set()
    for row in rows:
        found |= set(re.findall(r"CREATE TABLE (\w+)", row["context"]))
        found |= set(re.findall(r"(\w+) (?:TEXT|INTEGER|DATE)", row["context"]))
    return found


def test_there_are_enough_rows_of_every_shape():
    train = demo_rows("train")
    assert len(train) >= 3000
    for shape in ("JOIN", "GROUP BY", "ORDER BY", "COUNT(", "AVG(", "WHERE", "DISTINCT", "BETWEEN", " OR ", "HAVING"):
        assert sum(shape in row["answer"] for row in train) >= 15, shape
    assert 0.2 < sum(row["context"].count("CREATE TABLE") == 2 for row in train) / len(train) < 0.4
    assert all(normalize_sql(row["answer"]) for row in train + demo_rows("validation") + demo_rows("test"))


def test_schemas_have_columns_that_the_answer_does_not_use():
    rows = demo_rows("train")
    distracted = sum(any(name not in row["answer"] for name in names([row])) for row in rows)
    assert distracted / len(rows) > 0.75


def test_the_test_rows_share_no_name_with_training_rows_or_pretraining_text():
    test = names(demo_rows("test"))
    assert not test & names(demo_rows("train") + demo_rows("validation"))
    words = {word for name in test for word in name.split("_")} - {"id"}
    # A plural may fall into the other part by its own hash; its stem does not.
    assert all(is_held_out(word) or any(is_held_out(s) for s in stems(word)) for word in words)
    vocabulary = Vocabulary(Random(0))
    assert not any(is_held_out(vocabulary.noun()) for _ in range(2000))


def stems(word: str) -> list[str]:
    return [word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)]


def test_questions_are_rebuilt_the_same_from_the_same_seed():
    def draw():
        vocabulary = Vocabulary(Random(7))
        tables = schema(vocabulary, 2, range(3, 5))
        return [question(Scene(vocabulary, tables[:]), [joined, *ONE_TABLE]) for _ in range(20)]

    assert draw() == draw()


@pytest.mark.parametrize("base", [DEMO_BASE, ROOT / "demo" / "t5-base"])
def test_the_bases_are_small_enough_for_git(base):
    files = list(base.iterdir())
    assert 0 < sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 16 * 2**20
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".pkl")]


def clauses() -> list[dict]:
    return [json.loads(line) for line in CLAUSES.read_text(encoding="utf-8").splitlines()]


def test_the_clauses_are_rebuilt_the_same():
    assert build() == clauses()


def test_every_part_of_the_clauses_has_enough_of_each_label_and_as_many_fair_ones():
    for part, size in PARTS.items():
        rows = [row for row in clauses() if row["split"] == part]
        counts = Counter(label for row in rows for label in row["labels"])
        assert len(rows) == size
        assert set(counts) == set(UNFAIR)
        assert min(counts.values()) >= 5
        assert 0.35 < sum(not row["labels"] for row in rows) / size < 0.65
        assert any(len(row["labels"]) == 2 for row in rows)


def test_the_parts_of_the_clauses_share_no_wording_and_no_word_that_is_put_in():
    wordings = [FAIR, *UNFAIR.values()]
    for values in [{part: set(kind[part]) for part in PARTS} for kind in wordings] + [
        {part: set(by_part[part].split(", ")) for part in PARTS} for by_part in WORDS.values()
    ]:
        assert len(set.union(*values.values())) == sum(map(len, values.values()))


def test_counting_words_does_not_find_the_clauses():
    train, test = ([row for row in clauses() if row["split"] == part] for part in ("train", "test"))
    labels = find_labels(train, None, None)
    decided = run_classifier_demo.by_words(train, test, labels)
    assert score(decided, labels.encode(test, "the test rows"))["macro_f1"] < 0.4


def test_the_encoder_is_asked_for_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(run_classifier_demo, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match=r"not installed; run `make demo-classifier`"):
        run_classifier_demo.encoder_folder()


@pytest.mark.slow
def test_the_demo_of_the_classifier_beats_what_needs_no_training():
    done = run_script("demo/run_classifier_demo.py")
    assert done.returncode == 0, done.stderr[-3000:]
    adapter = float(re.search(r"^  micro_f1 +([\d.]+)$", done.stdout, flags=re.MULTILINE)[1])
    others = [float(value) for value in re.findall(r"(?:label|SVM) +micro_f1 ([\d.]+)", done.stdout)]
    assert len(others) == 2
    assert adapter > max(others) + 0.1
    assert "Clauses found in demo/terms.html" in done.stdout
    assert re.search(r"predict\.py runs:/\w+/model --input demo/terms\.html", done.stdout)
