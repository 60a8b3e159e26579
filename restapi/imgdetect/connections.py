"""Transactions on SQLite or PostgreSQL. Everything in which the two differ is here and in postgresql.py."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, Select, StaticPool, create_engine, event, exc, make_url, text

from imgdetect import errors

# Any number that no other program on the same PostgreSQL server uses.
_MIGRATION_LOCK = 7_216_340_551
_FORMS = {"sqlite": "sqlite:///FILE", "postgresql": "postgresql+psycopg://USER:PASSWORD@HOST/NAME"}
_NOT_THE_DATABASE = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


class _Compiled(NamedTuple):
    """A statement as SQLite takes it."""

    sql: str
    names: Sequence[str]  # of its parameters, in order
    processors: Sequence[Callable[[Any], Any] | None]  # of the columns of its rows


class Connections:
    """Transactions for many threads at once.

    Args:
        url: an SQLAlchemy URL; `sqlite:///FILE` makes the folder of its file, `memory:` ends with the process.
        busy_seconds: how long to wait for a lock of SQLite.
        server_connections: how many connections to PostgreSQL there may be at once.
    Raises:
        ValueError: the URL is not one, its driver is not installed, or the folder cannot be made.
    """

    def __init__(self, url: str, busy_seconds: float, server_connections: int = 10) -> None:
        parsed = _parse(url)
        self._busy_seconds = busy_seconds
        self._sqlite = parsed.get_backend_name() == "sqlite"
        self._in_memory = self._sqlite and parsed.database in (None, "", ":memory:")
        if self._sqlite:
            self._engine = _memory_engine() if self._in_memory else _file_engine(parsed, busy_seconds)
            event.listen(self._engine, "begin", _begin)
        else:
            from imgdetect.postgresql import Server  # noqa: PLC0415 - its driver is an extra

            self._server = Server(parsed, server_connections)
            self._engine = self._server.engine
        self._statements: dict[Select[Any], _Compiled] = {}
        # SQLite has one writer at a time and polls for its turn; threads that line up here first need not.
        self._turn = threading.Lock()

    @contextmanager
    def transaction(self, *, writes: bool = False, busy_seconds: float | None = None) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block, or rolled back by an exception.

        One that does not write sees one moment, on either database: what another transaction moves from one row to
        another is in one of them. One that writes sees on PostgreSQL, in each statement, what was committed until then.

        Args:
            writes: it may write.
            busy_seconds: wait so long for the lock of SQLite, or for PostgreSQL to be done with all of it, instead.
        Raises:
            BackendUnavailable, StorageFull: the database's trouble; nothing was changed unless it says `may_be_done`.
            exc.IntegrityError: a broken constraint.
        """
        seconds = self._busy_seconds if busy_seconds is None else busy_seconds
        if self._sqlite:
            engine: Engine = self._engine.execution_options(busy_seconds=seconds if writes else None)
        else:
            engine = self._engine if writes else self._server.reading
        committing = False
        with self._line(writes, seconds) if self._sqlite else self._server.watched(busy_seconds):
            try:
                with engine.connect() as connection, connection.begin() as transaction:
                    yield connection
                    committing = True
                    transaction.commit()
            except (exc.DBAPIError, exc.TimeoutError) as error:
                problem = _problem(error)
                if problem is None:
                    raise
                problem.may_be_done = committing and isinstance(problem, errors.BackendUnavailable)
                raise problem from error

    def first(self, chosen: Select[Any], values: dict[str, Any]) -> Sequence[Any] | None:
        """The first row of a statement that many requests run; it belongs to a module, for it is kept compiled.

        SQLAlchemy takes ten times as long over such a statement as SQLite: there its compiler and pool are used alone.

        Raises:
            BackendUnavailable: the database's trouble.
        """
        if not self._sqlite:
            with self.transaction() as connection:
                return connection.execute(chosen, values).first()
        sql, names, processors = self._compiled(chosen)
        try:
            with self._line(False, self._busy_seconds), closing(self._engine.raw_connection()) as connection:
                row = connection.cursor().execute(sql, [values[name] for name in names]).fetchone()
        except exc.TimeoutError as error:
            raise errors.BackendUnavailable("Every connection to the database is in use.") from error
        except sqlite3.Error as error:
            wrapped = exc.DBAPIError.instance(sql, (), error, sqlite3.Error, dialect=self._engine.dialect)
            problem = _problem(wrapped) if isinstance(wrapped, exc.DBAPIError) else None
            if problem is None:
                raise
            raise problem from error
        return row and [process(value) if process else value for process, value in zip(processors, row, strict=True)]

    def _compiled(self, chosen: Select[Any]) -> _Compiled:
        found = self._statements.get(chosen)
        if found is None:
            dialect = self._engine.dialect
            compiled: Any = chosen.compile(dialect=dialect)
            processors = [
                column.type.dialect_impl(dialect).result_processor(dialect, None) for column in chosen.selected_columns
            ]
            found = self._statements[chosen] = _Compiled(compiled.string, compiled.positiontup, processors)
        return found

    def keep_migrations_out(self, connection: Connection) -> None:
        """Wait until no other process migrates; until the transaction, a writing one, ends none will."""
        if not self._sqlite:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()

    @contextmanager
    def _line(self, writes: bool, seconds: float) -> Iterator[None]:
        """One thread at a time where the database has one writer, or one connection."""
        if not (writes or self._in_memory):
            yield
        elif self._turn.acquire(timeout=seconds):
            try:
                yield
            finally:
                self._turn.release()
        else:
            raise errors.BackendUnavailable("The database is busy.")


def reason(problem: errors.Problem) -> str:
    """What the driver said, in one line for the operator."""
    cause = problem.__cause__
    said = str(getattr(cause, "orig", None) or cause or problem).strip()
    return said.partition("\n")[0]


def _parse(url: str) -> URL:
    """The parts of a URL; no message repeats it, for it may hold a password."""
    try:
        parsed = make_url("sqlite://" if url == "memory:" else url)
    except (exc.ArgumentError, ValueError):
        raise ValueError(f"the database URL is not one; it looks like {' or '.join(_FORMS.values())}") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    kind, _, driver = parsed.drivername.partition("+")
    if kind not in _FORMS:
        raise ValueError(f"there is no database {kind!r}; known here: {', '.join(sorted(_FORMS))}")
    if driver not in ("", "pysqlite" if kind == "sqlite" else "psycopg"):
        raise ValueError(f"there is no driver {driver!r} for the database; write {_FORMS[kind]}")
    if kind == "postgresql" and "@" in (parsed.host or ""):
        raise ValueError("the database URL has an @ too many: in a password, write @ as %40, : as %3A and / as %2F")
    try:
        parsed.get_dialect().import_dbapi()
    except ImportError:
        raise ValueError("PostgreSQL needs the package psycopg: pip install imgdetect[postgres]") from None
    return parsed


def _memory_engine() -> Engine:
    engine = create_engine(
        "sqlite://", hide_parameters=True, poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare)
    return engine


def _file_engine(url: URL, busy_seconds: float) -> Engine:
    folder = Path(str(url.database)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {folder}: {error.strerror}") from error
    arguments = {"timeout": busy_seconds, "check_same_thread": False}
    pool = {"pool_size": 8, "max_overflow": 56, "pool_timeout": busy_seconds}
    engine = create_engine(url, connect_args=arguments, hide_parameters=True, **pool)

    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        _prepare(connection, _record)
        _use_wal(connection, busy_seconds)

    event.listen(engine, "connect", on_connect)
    return engine


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own: _begin does
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged rows when the power fails


def _use_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Let readers go on beside a writer. SQLite does not wait for this lock, so that a new file needs patience here."""
    until = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    """Take the write lock at once: a transaction that starts as a reading one may not be able to write later."""
    busy_seconds = connection.get_execution_options().get("busy_seconds")
    if busy_seconds is None:
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _problem(error: exc.DBAPIError | exc.TimeoutError) -> errors.Problem | None:
    """What a client sees of a database's error; None when the statement was wrong and not the database."""
    if isinstance(error, exc.TimeoutError):
        return errors.BackendUnavailable("Every connection to the database is in use.")
    if isinstance(error, _NOT_THE_DATABASE) and not error.connection_invalidated:
        return None
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)
        full = code & 0xFF == sqlite3.SQLITE_FULL
    else:
        full = getattr(cause, "sqlstate", None) == "53100"
    return errors.StorageFull() if full else errors.BackendUnavailable("The database does not answer.")
