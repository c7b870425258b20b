"""Asks a running program as people do, with psycopg and SQLAlchemy. The program and its tables are those of clients.rs."""

import sys
import warnings

import psycopg
import sqlalchemy

warnings.filterwarnings("error", category=sqlalchemy.exc.SAWarning)
port = sys.argv[1]


def same(what, got, want):
    if got != want:
        raise SystemExit(f"{what}: {got!r}, and not {want!r}")


with psycopg.connect(host="127.0.0.1", port=port, user="ann", dbname="millstream") as connection:
    # Behind the fifth time it prepares by itself.
    for _ in range(12):
        row = connection.execute("SELECT times, hottest FROM seen WHERE key = %s", ["a"]).fetchone()
        same("a look-up", row, (2, 60.0))
    for array in ["%s::text[]", "%s"]:
        rows = connection.execute(f"SELECT key FROM totals WHERE key = ANY({array}) ORDER BY key", [["a", "b", "x"]]).fetchall()
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
inspector = sqlalchemy.inspect(engine)
same("tables", sorted(inspector.get_table_names()), ["limits", "readings", "recent", "seen", "totals"])
same("schemas", inspector.get_schema_names(), ["public"])
seen = sqlalchemy.Table("seen", sqlalchemy.MetaData(), autoload_with=engine)
columns = [(column.name, str(column.type), column.nullable) for column in seen.columns]
same(
    "columns",
    columns,
    [("key", "TEXT", False), ("times", "BIGINT", False), ("hottest", "DOUBLE PRECISION", False), ("batch", "TIMESTAMP", False)],
)
same("keys", (list(seen.primary_key), list(seen.foreign_keys), list(seen.indexes)), ([], [], []))
with engine.connect() as connection:
    rows = connection.execute(sqlalchemy.select(seen.c.times).where(seen.c.key == "a")).all()
    same("rows", [tuple(row) for row in rows], [(2,)])
    rows = connection.execute(sqlalchemy.select(seen.c.key).where(seen.c.key.in_(["a", "b"])).order_by(seen.c.key)).all()
    same("rows of some keys", [tuple(row) for row in rows], [("a",), ("b",)])
everything = sqlalchemy.MetaData()
everything.reflect(engine)
same("all tables", sorted(everything.tables), ["limits", "readings", "recent", "seen", "totals"])
engine.dispose()
print("sqlalchemy: as it should be")
