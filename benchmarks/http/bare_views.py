"""Views that do the least a view can do: what the service's own rates are held against.

`gunicorn -k gthread benchmarks.http.bare_views:app`, with BARE_FOLDER for its files.
"""

import os
import secrets
import sqlite3
import threading
from pathlib import Path

from flask import Flask, Response, request

FOLDER = Path(os.environ["BARE_FOLDER"])
app = Flask(__name__)
local = threading.local()
turn = threading.Lock()


def database():
    """This thread's connection; settings as the service has them."""
    if not hasattr(local, "connection"):
        local.connection = sqlite3.connect(FOLDER / "bare.db", timeout=10, isolation_level=None)
        local.connection.execute("PRAGMA journal_mode = WAL")
        local.connection.execute("PRAGMA synchronous = FULL")
        local.connection.execute("CREATE TABLE IF NOT EXISTS kept (id TEXT PRIMARY KEY, name TEXT)")
    return local.connection


@app.post("/keep")
def keep():
    """Sync two files and commit a row."""
    name, data = secrets.token_hex(16), request.get_data()
    for suffix in ("original", "processed"):
        temporary = FOLDER / f"{name}.{suffix}.tmp"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(FOLDER / f"{name}.{suffix}")
    folder = os.open(FOLDER, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    with turn:
        connection = database()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO kept VALUES (?, ?)", (name, name))
        connection.execute("COMMIT")
    return {"id": name}


@app.get("/file/<name>")
def send(name):
    """Hand a file to nginx."""
    return Response(headers={"X-Accel-Redirect": f"/_files/{name}"}, content_type="image/jpeg")
