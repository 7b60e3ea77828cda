"""Random queries over the planted databases: grammar of what is allowed, sprinkled with what is not."""

from random import Random

COLUMNS = {"users": ["id", "name", "age", "joined"], "orders": ["id", "user_id", "total"],
           "adults": ["id", "name", "age", "joined"]}  # fmt: skip
# Names, texts, types and the like that must never reach a database as they stand.
HOSTILE_NAMES = [
    "secrets", "tokens", "password", "token", "pg_shadow", "sqlite_master", "information_schema.tables", "rowid",
    "xmin", "t1", "c1", "w1", '"x; DROP TABLE users"', '"a"" FROM secrets --"', "`x`` FROM secrets -- `", "[x] ,",
    '"day FROM joined), (SELECT password FROM secrets"', "to\u212aens", "a\u200bUNION", "other.users", "user",
    "@@version", ":x", "$1", "?", "'name'", "secrets.password", "users.secrets", "*", "count", "select",
]  # fmt: skip
HOSTILE_TEXTS = [
    "'", "''", "\\", "\\'", "x' UNION SELECT password FROM secrets --", '"', "`", "\x00", "\u02bc", "$$", "%s", "{0}",
    "?", "$1", "]]", "*/", "--", "\n; DROP TABLE users", "\ud800", "a" * 300,
]  # fmt: skip
HOSTILE_TYPES = ['"int), (SELECT password FROM secrets) --"', "regclass", "secrets", '"char"', "DECIMAL(99)", "xml",
                 'DECIMAL("3) --")', "json", "int[]", "BLOB", "CHAR(999999)", "name"]  # fmt: skip
HOSTILE_PARTS = [
    "INTO OUTFILE '/tmp/x'", "FOR UPDATE", "; DROP TABLE users", "UNION SELECT password FROM secrets", "--", "/*",
    "*/", "LIMIT (SELECT 1)", "WINDOW w AS ()", "QUALIFY 1", "USING SAMPLE 1", "GROUP BY ALL", "(", ")", "LATERAL",
    "RETURNING *", "TABLESAMPLE (1)", "FILTER (WHERE 1)", 'COLLATE "x"', "AT TIME ZONE 'x'", "PIVOT", "OFFSET 1 ROWS",
    "INDEXED BY x",
]  # fmt: skip
FUNCTIONS = ["UPPER", "LOWER", "ABS", "LENGTH", "TRIM", "ROUND", "DATE", "YEAR", "COALESCE", "NULLIF", "CONCAT", "IIF"]
HOSTILE_FUNCTIONS = ["pg_sleep", "load_extension", "readfile", "REPEAT", "version", "printf", "randomblob", '"x(); --"']


class Queries:
    """Draws queries; `hostile` is the share of places where something is put that is not allowed."""

    def __init__(self, random: Random, hostile: float):
        self.random, self.hostile, self.names = random, hostile, 0

    def is_hostile(self) -> bool:
        return self.random.random() < self.hostile

    def pick(self, choices):
        """Return one of the choices."""
        return self.random.choice(choices)

    def query(self, depth: int = 0) -> str:
        text = self.select(depth)
        if self.random.random() < 0.12:
            operator = self.pick(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
            text = f"{text} {operator} {self.select(depth)}"
        if depth < 2 and self.random.random() < 0.1:
            name = self.pick(["x", "users", "recent", self.pick(HOSTILE_NAMES) if self.is_hostile() else "y"])
            text = f"WITH {name} AS ({self.query(depth + 1)}) {text}"
        return f"{text} {self.pick(HOSTILE_PARTS)}" if self.is_hostile() else text

    def select(self, depth: int) -> str:
        sources, from_ = self.from_(depth)
        items = ", ".join(self.item(sources, depth) for _ in range(self.random.randint(1, 3)))
        text = f"SELECT {self.pick(['', '', 'DISTINCT '])}{items} FROM {from_}"
        if self.random.random() < 0.6:
            text += f" WHERE {self.condition(sources, depth)}"
        if self.random.random() < 0.25:
            text += f" GROUP BY {self.column(sources)}"
            if self.random.random() < 0.5:
                text += f" HAVING COUNT(*) > {self.random.randint(0, 3)}"
        if self.random.random() < 0.3:
            text += f" ORDER BY {self.pick([self.column(sources), '1', 'a'])}{self.pick(['', ' DESC', ' NULLS LAST'])}"
        if self.random.random() < 0.3:
            text += f" LIMIT {self.random.randint(0, 9)}{self.pick(['', ' OFFSET 1'])}"
        return text

    def from_(self, depth: int) -> tuple[list, str]:
        sources, parts = [], []
        for number in range(self.pick([1, 1, 1, 2, 2, 3])):
            self.names += 1
            alias = f"q{self.names}"
            if depth < 2 and self.random.random() < 0.15:
                entry, columns = f"(SELECT id, name AS n FROM users) AS {alias}", ["id", "n"]
            else:
                table = self.pick(list(COLUMNS))
                written = self.pick(HOSTILE_NAMES) if self.is_hostile() else table
                entry, columns = f"{written} {self.pick(['AS ', ''])}{alias}", COLUMNS[table]
            sources.append((alias, columns))
            if number == 0:
                parts.append(entry)
            else:
                join = self.pick(["JOIN", "LEFT JOIN", "INNER JOIN", "LEFT OUTER JOIN"])
                on = f"{sources[0][0]}.id = {alias}.id"
                parts.append(
                    self.pick([f"{join} {entry} ON {on}", f"CROSS JOIN {entry}", f"{join} {entry} USING (id)"])
                )
        return sources, " ".join(parts)

    def column(self, sources: list) -> str:
        if self.is_hostile():
            return self.pick(HOSTILE_NAMES)
        alias, columns = self.pick(sources)
        return f"{alias}.{self.pick(columns)}"

    def text(self) -> str:
        value = (
            self.pick(HOSTILE_TEXTS) if self.random.random() < 0.3 else self.pick(["name 3", "2024-01-02", "%1", "5"])
        )
        return "'" + value.replace("'", "''") + "'"

    def value(self, sources: list, depth: int) -> str:
        kind = self.random.random()
        if kind < 0.4:
            return self.column(sources)
        if kind < 0.55:
            return self.text()
        if kind < 0.7:
            return self.pick(["1", "2.5", "300", "1e3", "-7", "0x10", "1_000", "9" * 50])
        if depth > 3 or kind < 0.75:
            return self.pick(["NULL", "TRUE", "CURRENT_DATE"])
        inner = self.value(sources, depth + 1)
        if kind < 0.85:
            name = self.pick(HOSTILE_FUNCTIONS) if self.is_hostile() else self.pick(FUNCTIONS)
            return f"{name}({inner}{self.pick(['', f', {self.value(sources, depth + 2)}'])})"
        if kind < 0.9:
            types = HOSTILE_TYPES if self.is_hostile() else ["INTEGER", "TEXT", "DECIMAL(8, 2)", "VARCHAR(9)", "DATE"]
            return f"CAST({inner} AS {self.pick(types)})"
        if kind < 0.94:
            unit = self.pick(HOSTILE_NAMES) if self.is_hostile() else self.pick(["YEAR", "MONTH", "DAY"])
            return self.pick(
                [f"EXTRACT({unit} FROM {inner})", f"{inner} + INTERVAL '1' {unit}", f"STRFTIME('%Y', {inner})"]
            )
        if kind < 0.97:
            return f"({inner} {self.pick(['+', '-', '*', '/', '%', '||'])} {self.value(sources, depth + 1)})"
        return f"CASE WHEN {self.condition(sources, depth + 1)} THEN {inner} ELSE {self.text()} END"

    def condition(self, sources: list, depth: int) -> str:
        left = self.value(sources, depth + 1)
        kind = self.random.random()
        if kind < 0.4:
            return (
                f"{left} {self.pick(['=', '<>', '<', '>=', 'LIKE', 'IS NOT', '=='])} {self.value(sources, depth + 1)}"
            )
        if kind < 0.55 and depth < 2:
            inner = f"SELECT id FROM {self.pick(list(COLUMNS))} WHERE id < {self.random.randint(0, 9)}"
            return self.pick([f"{left} IN ({inner})", f"EXISTS ({inner})", f"{left} NOT IN (1, 2, {self.text()})"])
        if kind < 0.65:
            return f"{left} BETWEEN 1 AND {self.value(sources, depth + 1)}"
        if kind < 0.75:
            return f"{left} IS {self.pick(['', 'NOT '])}NULL"
        if depth < 3:
            parts = [self.condition(sources, depth + 1), self.condition(sources, depth + 1)]
            return f"({self.pick([' AND ', ' OR ']).join(parts)})"
        return f"NOT {left} = 1"

    def item(self, sources: list, depth: int) -> str:
        value = self.value(sources, depth)
        if self.random.random() < 0.25:
            aggregates = [
                "*", "COUNT(*)", f"SUM({value})", f"GROUP_CONCAT({value}, ';')", f"COUNT(DISTINCT {value})",
                f"ROW_NUMBER() OVER (PARTITION BY {value} ORDER BY {self.column(sources)})",
            ]  # fmt: skip
            value = self.pick(aggregates)
        alias = self.pick(HOSTILE_NAMES) if self.is_hostile() else self.pick(["a", '"two words"', "b"])
        return value if value == "*" or self.random.random() < 0.6 else f"{value} AS {alias}"
