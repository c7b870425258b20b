"""Asks a running program as people do, with psycopg and SQLAlchemy. The program and its tables are those of clients.rs."""

import sys

import psycopg
import sqlalchemy

port = sys.argv[1]


def same(what, got, want):
    if got != want:
        raise SystemExit(f"{what}: {got!r}, and not {want!r}")


with psycopg.connect(host="127.0.0.1", port=port, user="ann", dbname="millstream") as connection:
    # Behind the fifth time it prepares by itself.
    for _ in range(12):
        row = connection.execute("SELECT times, hottest FROM seen WHERE key = %s", ["a"]).fetchone()
        same("a look-up", row, (2, 60.0))
    rows = connection.execute("SELECT key FROM totals WHERE key = ANY(%s::text[]) ORDER BY key", [["a", "b", "x"]]).fetchall()
    same("several keys", rows, [("a",), ("b",)])
    connection.rollback()
    try:
        connection.execute("DROP TABLE readings")
        raise SystemExit("DROP TABLE was not refused")
    except psycopg.errors.ReadOnlySqlTransaction:
        connection.rollback()
    with connection.cursor(name="some") as cursor:
        cursor.execute("SELECT key FROM seen ORDER BY key")
        same("a named cursor", (cursor.fetchone(), cursor.fetchmany(5)), (("a",), [("b",)]))
    connection.commit()
    with connection.transaction(), connection.transaction():
        same("a savepoint", connection.execute("SELECT count(*) FROM limits").fetchone(), (2,))
print("psycopg: as it should be")

engine = sqlalchemy.create_engine(f"postgresql+psycopg://ann@127.0.0.1:{port}/millstream")
tables = sqlalchemy.inspect(engine).get_table_names()
same("tables", sorted(tables), ["limits", "readings", "recent", "seen", "totals"])
# What it asks to reflect columns needs json_build_object, which is not there: they are named.
seen = sqlalchemy.table("seen", sqlalchemy.column("key"), sqlalchemy.column("times"))
with engine.connect() as connection:
    rows = connection.execute(sqlalchemy.select(seen.c.times).where(seen.c.key == "a")).all()
    same("rows", [tuple(row) for row in rows], [(2,)])
print("sqlalchemy: as it should be")
