"""A learning curve: the same training on more and more of the rows, and what twice as many would give."""
