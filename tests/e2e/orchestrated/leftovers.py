"""Everything that releases leave behind: files, rows of databases, objects of buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import psycopg2
from psycopg2 import sql


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()


def rows(dsn: str, database: str) -> Iterator[tuple[str, bytes]]:
    """Every row of every table of a database, as text."""
    with closing(psycopg2.connect(f"{dsn} dbname={database}")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        for schema, table in cursor.fetchall():
            cursor.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, table)))
            for (text,) in cursor:
                yield f"{database}.{table}", text.encode()


def objects() -> Iterator[tuple[str, bytes]]:
    """Every object of every bucket that the environment's account sees."""
    client = boto3.client("s3")
    for bucket in client.list_buckets()["Buckets"]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for entry in page.get("Contents", ()):
                content = client.get_object(Bucket=bucket["Name"], Key=entry["Key"])["Body"].read()
                yield f"s3://{bucket['Name']}/{entry['Key']}", content
