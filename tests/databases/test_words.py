"""Tests of the words of questions and names."""

from finetune.databases.schema.words import fits, nearest, unknown_words, words_of_name

import pytest

LIBRARY = {
    "Author": ["AuthorId", "FullName", "BirthDate", "Country"],
    "Book": ["BookId", "Title", "AuthorId", "PublishedOn", "Pages"],
    "Loan": ["LoanId", "BookId", "MemberId", "borrowed_on", "returned_on"],
    "Member": ["MemberId", "FirstName", "LastName", "JoinedOn", "City"],
}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("order_details", ["order", "detail"]),
        ("OrderDetails2", ["order", "detail"]),
        ("HTTPServerId", ["http", "server", "id"]),
        ("BirthDate", ["birth", "date"]),
        ("LOAN_DATES", ["loan", "date"]),
        ("Categories", ["category"]),
        ("boxes", ["box"]),
        ("address", ["address"]),
        ("AutorenÄnderung", ["autoren", "anderung"]),
        ("2024", []),
        ("unit price (EUR)", ["unit", "price", "eur"]),
    ],
)
def test_names_are_split(name, words):
    assert words_of_name(name) == words


@pytest.mark.parametrize(
    ("word", "other", "are_alike"),
    [
        ("borrowed", "borrower", True),
        ("written", "writer", True),
        ("birth", "birthdate", True),
        ("book", "cook", False),
        ("salary", "sale", False),
        ("id", "video", False),
    ],
)
def test_words_that_may_mean_the_same(word, other, are_alike):
    assert fits(word, other) is fits(other, word) is are_alike


@pytest.mark.parametrize(
    ("question", "unknown"),
    [
        ("What is the salary of each librarian?", ["salary", "librarian"]),
        ("Which members have borrowed 'Dune'?", []),
        ("How many books were published by Ursula Le Guin before 1970?", []),
        ("List the titles of the longest books, sorted by birth date of their authors.", []),
        ("What's the weather in Berlin? And the temperature?", ["weather", "temperature"]),
        ("show me the first names of members who joined in 2023", []),
    ],
)
def test_unknown_words_of_a_question_about_a_library(question, unknown):
    assert unknown_words(question, LIBRARY) == unknown


def test_unknown_words_on_other_schemas():
    shop = {"order_items": ["qty", "unit_price"], "customers": ["customer_name", "email"]}
    assert unknown_words("What is the unit price of the order items of each customer?", shop) == []
    assert unknown_words("Which employees have a manager?", shop) == ["employees", "manager"]
    flights = {"FLIGHTS": ["FLIGHTNO", "SOURCEAIRPORT", "DESTAIRPORT"], "AIRLINES": ["ABBREVIATION", "COUNTRY"]}
    assert unknown_words("How many flights leave the source airport of an airline?", flights) == ["leave"]
    assert unknown_words("", flights) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Authors", ["Author"]),
        ("AUTHOR", ["Author"]),
        ("loan", ["Loan"]),
        ("Boook", ["Book"]),
        ("Publisher", []),
        ("", []),
    ],
)
def test_the_nearest_names_are_those_of_the_database(name, found):
    assert nearest(name, LIBRARY) == found


def test_a_column_is_found_however_it_is_spelled():
    assert nearest("first_names", LIBRARY["Member"], 1) == ["FirstName"]
    assert nearest("borrowedon", LIBRARY["Loan"]) == ["borrowed_on"]
