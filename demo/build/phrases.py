"""The wordings of the generated questions: {c} is a column, {v} a value, {p} what the rows are called."""

SELECT_ONE = [
    "what is the {c}", "what is the {c}", "what was the {c}", "which {c}", "what {c}", "name the {c}",
    "tell me the {c}", "show the {c}", "give the {c}", "what are the {c}", "find the {c}", "what's the {c}",
    "i want the {c}", "which {c} is listed", "who is the {c}", "what is {c}", "what {c} is given",
    "return the {c}", "list the {c}", "can you tell me the {c}",
]  # fmt: skip
AGGREGATES = {
    "MAX": ["highest", "largest", "maximum", "greatest", "most", "top", "biggest", "max"],
    "MIN": ["lowest", "smallest", "minimum", "least", "fewest", "min"],
    "AVG": ["average", "mean"],
    "SUM": ["total", "sum of", "combined", "total sum of"],
    "COUNT": ["number of", "total number of", "count of"],
}
YEAR_AGGREGATES = {"MAX": ["latest", "last", "most recent"], "MIN": ["earliest", "first", "oldest"]}
EQUALS = [
    "where the {c} is {v}", "with a {c} of {v}", "with {v} as the {c}", "that has a {c} of {v}",
    "whose {c} is {v}", "when the {c} is {v}", "when {c} is {v}", "for {c} {v}", "with {c} {v}",
    "where {c} is {v}", "with the {c} {v}", "that had {v} as the {c}", "where {v} is the {c}",
    "for the {c} {v}", "in the {c} {v}", "with {v} for {c}", "if the {c} is {v}", "with {c} of {v}",
    "for the {v} {c}", "of the {c} {v}", "by {c} {v}", "at the {v} {c}", "which has a {c} of {v}",
    "when the {c} was {v}", "having a {c} of {v}", "with {v} {c}",
]  # fmt: skip
GREATER = [
    "with a {c} greater than {v}", "with more than {v} {c}", "where the {c} is more than {v}",
    "with {c} larger than {v}", "when the {c} is over {v}", "whose {c} is above {v}", "with {c} above {v}",
    "with a {c} higher than {v}", "where {c} is greater than {v}", "with a {c} bigger than {v}",
    "with over {v} {c}", "that has a {c} of more than {v}",
]  # fmt: skip
LESS = [
    "with a {c} less than {v}", "with fewer than {v} {c}", "where the {c} is less than {v}",
    "with {c} smaller than {v}", "when the {c} is under {v}", "whose {c} is below {v}", "with {c} below {v}",
    "with a {c} lower than {v}", "where {c} is smaller than {v}", "with less than {v} {c}",
    "with under {v} {c}", "that has a {c} of less than {v}",
]  # fmt: skip
AT_LEAST = ["with at least {v} {c}", "with a {c} of at least {v}", "with a {c} of {v} or more"]
AT_MOST = ["with at most {v} {c}", "with a {c} of at most {v}", "with a {c} of {v} or less"]
AFTER = ["with a {c} after {v}", "when the {c} is after {v}", "where the {c} is later than {v}"]
BEFORE = ["with a {c} before {v}", "when the {c} is before {v}", "with a {c} prior to {v}"]
NOT = ["where the {c} is not {v}", "with a {c} other than {v}", "whose {c} is not {v}"]
IMPLICIT = ["for {v}", "of {v}", "in {v}", "at {v}", "by {v}", "from {v}", "with {v}", "against {v}", "on {v}"]
