"""A model's query read as a tree and written anew, of closed lists of words: no text of a model is ever sent.

vocabulary.py: every word that can be written; fragments.py: pieces of SQL made of them, and their budget;
scopes.py: which table and column a name means; expressions.py and queries.py: a tree -> fragments.
"""


class Refused(ValueError):
    """The SQL is not sent; the message says why."""
