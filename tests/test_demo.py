"""The embedded default: what git carries, and that test rows share no name with what was trained on."""

import re
from random import Random

from metrics.sql_execution.queries import normalize_sql
from questions import ONE_TABLE, Scene, joined, question, schema
from vocabulary import Vocabulary, is_held_out

from conftest import DEMO_BASE, demo_rows


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


def test_the_base_is_small_enough_for_git():
    files = list(DEMO_BASE.iterdir())
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 16 * 2**20
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".pkl")]
