"""Write demo/shop.db, a small SQLite shop to put questions to. Run: python demo/build/build_shop.py"""

import sqlite3
from pathlib import Path
from random import Random

FILE = Path(__file__).parents[1] / "shop.db"
SCHEMA = """
CREATE TABLE product (product_id INTEGER PRIMARY KEY, name TEXT, category TEXT, price INTEGER, stock INTEGER);
CREATE TABLE customer (customer_id INTEGER PRIMARY KEY, name TEXT, city TEXT, age INTEGER);
CREATE TABLE purchase (
    purchase_id INTEGER PRIMARY KEY,
    customer_id INTEGER REFERENCES customer,
    product_id INTEGER REFERENCES product,
    quantity INTEGER,
    year INTEGER
);
"""
NAMES = "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Lukas Maria Nils Olga Peter".split()
CITIES = ["Berlin", "Lisbon", "Oslo", "Vienna"]
GOODS = {
    "garden": ["rake", "hose", "shovel", "bench", "lantern"],
    "kitchen": ["kettle", "pan", "bowl", "knife", "tray"],
    "office": ["lamp", "chair", "desk", "stapler", "clock"],
}


def build(path: Path = FILE) -> None:
    """Write the shop: 15 products, 16 customers, 60 purchases; the same every time."""
    random = Random(0)
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as shop:
        shop.executescript(SCHEMA)
        goods = [(name, category) for category, names in GOODS.items() for name in names]
        products = [(i, *good, random.randint(5, 250), random.randint(0, 90)) for i, good in enumerate(goods, start=1)]
        shop.executemany("INSERT INTO product VALUES (?, ?, ?, ?, ?)", products)
        people = [(i, name, random.choice(CITIES), random.randint(18, 80)) for i, name in enumerate(NAMES, start=1)]
        shop.executemany("INSERT INTO customer VALUES (?, ?, ?, ?)", people)
        purchases = [
            (i, random.randint(1, len(people)), random.randint(1, len(products)), random.randint(1, 5),
             random.randint(2020, 2025))
            for i in range(1, 61)
        ]  # fmt: skip
        shop.executemany("INSERT INTO purchase VALUES (?, ?, ?, ?, ?)", purchases)
    shop.close()


if __name__ == "__main__":
    build()
    print(FILE)
