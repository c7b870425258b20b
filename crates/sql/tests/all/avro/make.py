"""Makes the files beside it: `pip install fastavro python-snappy zstandard`, and `python make.py`.

They are not written by the library that reads them here.
"""

import datetime
import decimal
import uuid

import fastavro

UTC = datetime.timezone.utc
POINT = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "double"}]}
SCHEMA = fastavro.parse_schema({
    "type": "record", "name": "Reading", "namespace": "pumps", "fields": [
        {"name": "sensor", "type": "string"},
        {"name": "celsius", "type": ["null", "double"], "default": None},
        {"name": "count", "type": "int"},
        {"name": "big", "type": "long"},
        {"name": "ratio", "type": "float"},
        {"name": "is_on", "type": "boolean"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "at_ms", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["INSIDE", "OUTSIDE"]}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "key", "type": {"type": "fixed", "name": "Key", "size": 4}},
        {"name": "raw", "type": "bytes"},
        {"name": "noon", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "notes", "type": ["null", {"type": "array", "items": ["null", "string"]}]},
        {"name": "limits", "type": {"type": "map", "values": "double"}},
        {"name": "place", "type": {"type": "record", "name": "Place", "fields": [
            {"name": "floor", "type": "int"},
            {"name": "note", "type": ["string", "null"]},
            {"name": "since", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ]}},
        {"name": "point", "type": ["null", POINT]},
        {"name": "path", "type": {"type": "array", "items": "Point"}},
    ],
})


def row(n):
    at = datetime.datetime(2024, 2, 29, 13, 30, n, 250, tzinfo=UTC)
    return {
        "sensor": f"p{n}",
        "celsius": None if n % 2 else n + 0.5,
        "count": -n,
        "big": 1 << (40 + n),
        "ratio": n / 4,
        "is_on": n > 2,
        "at": at,
        "at_ms": None if n == 1 else at.replace(microsecond=n * 1000),
        "day": datetime.date(2024, 2, 25) + datetime.timedelta(days=n),
        "price": decimal.Decimal(f"-{n}.05"),
        "kind": "OUTSIDE" if n == 3 else "INSIDE",
        "id": uuid.UUID(int=n),
        "key": bytes([n, 0, 0, 255]),
        "raw": b"\xff" * n,
        "noon": datetime.time(12, 0, n),
        "tags": [f"t{i}" for i in range(n)],
        "notes": None if n == 0 else ["x", None][:n],
        "limits": {f"k{i}": i / 2 for i in range(n % 3)},
        "place": {"floor": n, "note": None if n == 2 else "roof", "since": at.replace(microsecond=0)},
        "point": {"x": float(n)} if n == 4 else None,
        "path": [{"x": float(i)} for i in range(n % 2)],
    }


ROWS = [row(n) for n in range(5)]
for codec in ["null", "deflate", "snappy", "zstandard", "bzip2", "xz"]:
    with open(f"{codec}.avro", "wb") as file:
        # Two rows a block.
        fastavro.writer(file, SCHEMA, ROWS, codec=codec, sync_interval=150, sync_marker=b"0123456789abcdef")

with open("none.avro", "wb") as file:
    fastavro.writer(file, SCHEMA, [], sync_marker=b"0123456789abcdef")

UNION = fastavro.parse_schema({
    "type": "record", "name": "Any", "fields": [
        {"name": "n", "type": "long"},
        {"name": "of", "type": {"type": "record", "name": "Of", "fields": [{"name": "what", "type": ["null", "long", "string"]}]}},
    ],
})
with open("union.avro", "wb") as file:
    fastavro.writer(file, UNION, [{"n": 1, "of": {"what": "x"}}], sync_marker=b"0123456789abcdef")
