"""Damaged and hostile texts as prediction, gold and schema: the score takes them all, soon, and without growing."""

import json
import resource
import time
from random import Random

from metrics.sql_execution import judge

import pytest
from conftest import ROOT

ROWS = [json.loads(line) for line in (ROOT / "demo" / "text_to_sql.jsonl").read_text().splitlines()[:200]]
CASES = [json.loads(line) for line in (ROOT / "tests" / "metrics" / "score_cases.jsonl").read_text().splitlines()]
ROWS += [{"context": case["schema"], "answer": case["gold"]} for case in CASES]
SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER, d DATE)"
GOLD = "SELECT name, n FROM t WHERE n > 3"
MOST_SECONDS = 2  # of this thread's processor time, for one row
PIECES = ["(", ")", "'", '"', "`", ";", "--", "/*", "*/", ",", "\0", "\ud800", "\ufeff", "%", "::", "NULL", "SELECT",
          "FROM", "JOIN t", "WHERE", "GROUP BY 1", "HAVING", "LIMIT -1", "UNION", "1e999", "0x", "?", ":v", "$1", "[",
          "]", "é", "🜚", " " * 50, "9" * 40, "CASE WHEN", "END", "OVER ()", "NOT", "IN (", "LIKE '%_%'"]  # fmt: skip


def damaged(text: str, random: Random) -> str:
    """Return a text with one to three pieces lost, moved, doubled or put in."""
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.randint(0, 12))
        middle = random.choice(["", text[start:end] * 2, random.choice(PIECES), text[start:end][::-1]])
        text = text[:start] + middle + text[end:]
    return text


def hostile() -> list[str]:
    """Return queries that are deep, long, endless, heavy or no text at all."""
    found = [
        "",
        ";",
        ";;;",
        "\0",
        "\ud800",
        "\udfff'",
        "\ufeff\ufeff",
        "SELECT",
        "WITH",
        "-- only",
        "/* open",
        "'" * 999,
    ]
    for count in (20, 100, 400):
        found += [
            "SELECT 1" + "::int" * count,
            "SELECT " + "(" * count + "1" + ")" * count,
            "SELECT name FROM (" * count + "SELECT name FROM t" + ")" * count,
            "SELECT " + "NOT " * count + "1",
            "SELECT " + "- " * count + "1 FROM t",
            "SELECT " + " + ".join(["n"] * count) + " FROM t",
            "SELECT " + " || ".join(["name"] * count) + " FROM t",
            "SELECT " + "CASE WHEN n THEN " * count + "1" + " END" * count + " FROM t",
            "SELECT " + "abs(" * count + "n" + ")" * count + " FROM t",
            "SELECT name, n FROM t WHERE " + " OR ".join(f"n = {number}" for number in range(count)),
            "SELECT name, n FROM t WHERE " + " AND ".join(f"n <> {number}" for number in range(count)),
            f"SELECT name, n FROM t WHERE n IN ({', '.join(map(str, range(count * 8)))})",
            "SELECT name FROM t WHERE " + " OR ".join(["name IN (SELECT name FROM t)"] * count),
            " UNION ".join(["SELECT name, n FROM t"] * count),
            "SELECT * FROM " + ", ".join(["t"] * count),
            "SELECT * FROM t " + "JOIN t " * count,
            "SELECT * FROM t AS t0" + "".join(f" LEFT JOIN t AS t{i + 1} ON t{i}.n = t{i + 1}.n" for i in range(count)),
            "SELECT " + ", ".join(["name"] * count) + " FROM t",
            "SELECT " + ", ".join(["zeroblob(20000)"] * count) + " FROM t, t AS a, t AS b",
            "WITH a0 AS (SELECT * FROM t)" + "".join(
                f", a{i + 1} AS (SELECT * FROM a{i} UNION ALL SELECT * FROM a{i})" for i in range(min(count, 60))
            ) + f" SELECT name FROM a{min(count, 60)}",
            f"SELECT name, n FROM t WHERE name LIKE '{'%_' * count}'",
            f"SELECT name, n FROM t WHERE name LIKE '{'%a' * count}%b'",
            f"SELECT name, n FROM t WHERE printf('%{count * 40}s', name) LIKE '{'%a' * min(count, 90)}b'",
        ]  # fmt: skip
    endless = "WITH RECURSIVE x(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM x) SELECT "
    found += [
        endless + what
        for what in (
            "v FROM x",
            "COUNT(*) FROM x",
            "MAX(hex(zeroblob(9000))) FROM x",
            "zeroblob(20000) FROM x",
            "group_concat(v) FROM x",
            "v FROM x ORDER BY -v",
            "DISTINCT v % 7 FROM x",
        )
    ]
    found += [
        "SELECT hex(zeroblob(1000000000)) FROM t",
        "SELECT replace(hex(zeroblob(9000)), '0', hex(zeroblob(9000))) FROM t",
        "SELECT replace(printf('%.19000c', 'a'), printf('%.9000c', 'a') || 'b', '') FROM t, t AS a, t AS b",
        "SELECT MAX(instr(printf('%.19000c', 'a'), printf('%.9000c', 'a') || 'b' || a.n)) FROM t, t AS a, t AS b",
        "SELECT COUNT(*) FROM t, t AS a, t AS b, t AS c, t AS d, t AS e, t AS f, t AS g",
        "SELECT * FROM t, t AS a, t AS b, t AS c ORDER BY 1, 2, 3",
        "SELECT random(), randomblob(19000) FROM t, t AS a, t AS b",
        "SELECT load_extension('x')", "ATTACH 'x' AS y", "PRAGMA hard_heap_limit = 1", "VACUUM INTO 'x'",
        "SELECT * FROM pragma_table_list", "SELECT * FROM sqlite_master", "SELECT writefile('x', 1)",
        "DELETE FROM t", "SELECT 9223372036854775808, -9223372036854775809 FROM t", "SELECT 1e999, -1e999 FROM t",
        "SELECT abs(-9223372036854775808) FROM t", "SELECT CAST(x'ff' AS TEXT) FROM t", "SELECT char(55296) FROM t",
        "SELECT name, n FROM t WHERE n > 1e308 * 10", "SELECT \"\" FROM t", "SELECT [] FROM t",
        "SELECT t.* FROM t AS t, t AS t",
        "SELECT name FROM t GROUP BY ALL", "SELECT strftime('%Y', d, '+99999999 years') FROM t", "VALUES (1, 2)",
    ]  # fmt: skip
    return found


def check(prediction: str, gold: str, schema: str) -> None:
    """Judge one row within the time that one may take."""
    start = time.thread_time()
    verdict = judge(prediction, gold, schema)
    assert time.thread_time() - start < MOST_SECONDS, (prediction[:200], gold[:200], schema[:200])
    assert verdict.usable or verdict.reason.startswith("gold is unusable")


def check_damaged(numbers: range) -> None:
    for number in numbers:
        random = Random(number)
        row = random.choice(ROWS)
        texts = [row["answer"], row["answer"], row["context"]]
        part = number % 3
        texts[part] = damaged(texts[part], random)
        check(*texts)


def test_damaged_texts_are_taken():
    check_damaged(range(60))


@pytest.mark.parametrize("place", ["prediction", "gold"])
def test_hostile_texts_are_taken(place):
    for text in hostile()[:: 6 if place == "gold" else 3]:
        check(*((text, GOLD) if place == "prediction" else (GOLD, text)), SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE b AS SELECT hex(zeroblob(50000000))",
        "CREATE TABLE b (a DEFAULT (randomblob(1000000000)))",
        "CREATE TABLE b AS WITH RECURSIVE x(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM x) SELECT v FROM x",
        SCHEMA + ";" + "CREATE TABLE t (a) " * 5000,
        f"CREATE TABLE t ({', '.join(f'c{number} INTEGER' for number in range(1500))}, name TEXT, n INTEGER)",
        ";".join(f"CREATE TABLE t{n} (a INTEGER PRIMARY KEY, b REFERENCES t{n + 1})" for n in range(900)),
        "CREATE TABLE t (name TEXT PRIMARY KEY REFERENCES t, n INTEGER NOT NULL REFERENCES t (n))",
        "(" * 9000, "\ud800", "\0", "", "CREATE", "x" * 300_000,
    ],
    ids=lambda schema: ascii(schema[:40]),
)  # fmt: skip
def test_hostile_schemas_are_taken(schema):
    check(GOLD, GOLD, schema)
    check("SELECT a FROM t0", "SELECT a FROM t0 WHERE b > 3", schema)


@pytest.mark.slow
def test_a_thousand_damaged_and_all_hostile_texts_leave_memory_as_it_was():
    check_damaged(range(60, 160))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_damaged(range(160, 1160))
    for text in hostile():
        check(text, GOLD, SCHEMA)
        check(GOLD, text, SCHEMA)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB
