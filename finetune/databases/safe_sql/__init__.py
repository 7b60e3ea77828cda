"""A model's query read as a tree and written anew, of closed lists of words: no text of a model is ever sent.

vocabulary.py: every word that can be written; fragments.py: pieces of SQL made of them, and their budget;
scopes.py: which table and column a name means. A tree -> fragments: names.py, functions.py (windows too) and dates.py
on the base of writing.py, brought together by expressions.py (kind of node -> method); sources.py (WITH, FROM, joins)
and queries.py (SELECT, UNION, limits).
"""


class Refused(ValueError):
    """The SQL is not sent; the message says why."""
