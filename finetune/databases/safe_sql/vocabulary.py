"""The closed lists: every word, operator, function, type and unit that can be written, for each engine."""

from sqlglot import exp

ENGINES = ("sqlite", "postgresql", "mysql", "duckdb")
DType = exp.DataType.Type

# All that a query is written of beside names of the database, generated aliases, placeholders and numbers.
# '' stands behind MySQL's SEPARATOR, which takes no placeholder.
SYNTAX = frozenset(
    """
    ( ) , . * + - / % & | || = <> < > <= >= ''
    SELECT DISTINCT AS FROM WHERE GROUP BY HAVING ORDER DESC NULLS FIRST LAST LIMIT OFFSET WITH
    UNION ALL EXCEPT INTERSECT INNER LEFT RIGHT FULL CROSS JOIN ON
    AND OR NOT IN IS NULL TRUE FALSE BETWEEN LIKE ILIKE ESCAPE EXISTS CASE WHEN THEN ELSE END
    OVER PARTITION ROWS RANGE UNBOUNDED PRECEDING FOLLOWING CURRENT ROW LEADING TRAILING BOTH SEPARATOR
    CURRENT_DATE CURRENT_TIMESTAMP INTERVAL
    INTEGER INT BIGINT SMALLINT TINYINT SIGNED UNSIGNED REAL NUMERIC DOUBLE PRECISION FLOAT TEXT BOOLEAN
    TIMESTAMP TIMESTAMPTZ YEAR QUARTER MONTH WEEK DAY DOW DOY HOUR MINUTE SECOND
    """.split()
)
# Words with a parenthesis right behind them: MySQL takes `COUNT (` for a function of the user's own.
CALLS = frozenset(
    """
    COUNT SUM AVG MIN MAX ABS ROUND CEIL FLOOR LENGTH CHAR_LENGTH LOWER UPPER TRIM LTRIM RTRIM BTRIM SUBSTRING INSTR
    STRPOS LOCATE COALESCE NULLIF CONCAT GROUP_CONCAT STRING_AGG LISTAGG ROW_NUMBER RANK DENSE_RANK CAST EXTRACT
    DATE DATETIME TIME STRFTIME TO_CHAR DATE_FORMAT DECIMAL VARCHAR CHAR
    """.split()
)
WORDS = SYNTAX | CALLS

OPERATORS = {
    exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=", exp.Add: "+", exp.Sub: "-",
    exp.Mul: "*", exp.BitwiseAnd: "&", exp.BitwiseOr: "|",
}  # fmt: skip
RANGES = (exp.Is, exp.In, exp.Like, exp.ILike, exp.Between)
COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, *RANGES)
# Functions of the same name and arguments in all engines: arguments in the order of SQL.
FUNCTIONS = {
    exp.Sum: ("SUM", ("this",)), exp.Avg: ("AVG", ("this",)), exp.Min: ("MIN", ("this",)), exp.Max: ("MAX", ("this",)),
    exp.Abs: ("ABS", ("this",)), exp.Round: ("ROUND", ("this", "decimals")), exp.Ceil: ("CEIL", ("this",)),
    exp.Floor: ("FLOOR", ("this",)), exp.Lower: ("LOWER", ("this",)), exp.Upper: ("UPPER", ("this",)),
    exp.Substring: ("SUBSTRING", ("this", "start", "length")), exp.Coalesce: ("COALESCE", ("this", "expressions")),
    exp.Nullif: ("NULLIF", ("this", "expression")), exp.RowNumber: ("ROW_NUMBER", ()), exp.Rank: ("RANK", ()),
    exp.DenseRank: ("DENSE_RANK", ()),
}  # fmt: skip
AGGREGATES = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.GroupConcat)
WINDOW_FUNCTIONS = (*AGGREGATES, exp.RowNumber, exp.Rank, exp.DenseRank)

# Types as CAST has them; the engines in the order of ENGINES, None where there is no such type.
TYPES = {
    DType.TINYINT: ("INTEGER", "SMALLINT", "SIGNED", "TINYINT"),
    DType.SMALLINT: ("INTEGER", "SMALLINT", "SIGNED", "SMALLINT"),
    DType.MEDIUMINT: ("INTEGER", "INT", "SIGNED", "INT"),
    DType.INT: ("INTEGER", "INT", "SIGNED", "INT"),
    DType.BIGINT: ("INTEGER", "BIGINT", "SIGNED", "BIGINT"),
    DType.FLOAT: ("REAL", "REAL", "FLOAT", "REAL"),
    DType.DOUBLE: ("REAL", "DOUBLE PRECISION", "DOUBLE", "DOUBLE"),
    DType.DECIMAL: ("NUMERIC", "DECIMAL", "DECIMAL", "DECIMAL"),
    DType.TEXT: ("TEXT", "TEXT", "CHAR", "TEXT"),
    DType.LONGTEXT: ("TEXT", "TEXT", "CHAR", "TEXT"),
    DType.VARCHAR: ("TEXT", "VARCHAR", "CHAR", "TEXT"),
    DType.NVARCHAR: ("TEXT", "VARCHAR", "CHAR", "TEXT"),
    DType.CHAR: ("TEXT", "CHAR", "CHAR", "TEXT"),
    DType.BOOLEAN: ("NUMERIC", "BOOLEAN", "SIGNED", "BOOLEAN"),
    DType.DATE: ("DATE", "DATE", "DATE", "DATE"),
    DType.DATETIME: ("DATETIME", "TIMESTAMP", "DATETIME", "TIMESTAMP"),
    DType.TIMESTAMP: ("DATETIME", "TIMESTAMP", "DATETIME", "TIMESTAMP"),
    DType.TIMESTAMPTZ: (None, "TIMESTAMPTZ", None, "TIMESTAMPTZ"),
    DType.TIME: ("TIME", "TIME", "TIME", "TIME"),
    # MySQL's names of integers, which sqlglot has as names of the user's own types.
    "signed": ("INTEGER", "BIGINT", "SIGNED", "BIGINT"),
    "unsigned": ("INTEGER", "BIGINT", "UNSIGNED", "BIGINT"),
}
SQLITE_DATE_FUNCTIONS = ("DATE", "DATETIME", "TIME")  # SQLite's CAST knows no dates
# Types that take parameters, with the largest value of each.
TYPE_PARAMETERS = {DType.DECIMAL: (38, 38), DType.VARCHAR: (1_000,), DType.NVARCHAR: (1_000,), DType.CHAR: (1_000,)}

UNITS = ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOW", "DOY", "HOUR", "MINUTE", "SECOND")
# Letters of STRFTIME as PostgreSQL, MySQL and DuckDB have them. %w is from 0, and PostgreSQL's D from 1.
TIME_LETTERS = {
    "%Y": ("YYYY", "%Y", "%Y"), "%m": ("MM", "%m", "%m"), "%d": ("DD", "%d", "%d"), "%H": ("HH24", "%H", "%H"),
    "%M": ("MI", "%i", "%M"), "%S": ("SS", "%s", "%S"), "%j": ("DDD", "%j", "%j"), "%w": (None, "%w", "%w"),
}  # fmt: skip
SQLITE_FORMATS = {
    "YEAR": "%Y",
    "MONTH": "%m",
    "DAY": "%d",
    "DOW": "%w",
    "DOY": "%j",
    "HOUR": "%H",
    "MINUTE": "%M",
    "SECOND": "%S",
}
INTERVAL_UNITS = ("YEAR", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND")
