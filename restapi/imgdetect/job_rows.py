"""The rows of jobs. Each method is one transaction, as in database.py.

A batch is one row that nobody claims, its parent, and one child for each of its pictures. Whatever ends a child counts
it in its parent's row, in the same transaction, and the last one ends the parent: what the parent says is always true,
and it ends once. Rows are locked child first, then parent, and several of them in the order of their ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exc, func, insert, or_, select, update

from imgdetect import errors
from imgdetect.clock import now_us
from imgdetect.connections import Connections
from imgdetect.detection import CallbackState, Job, JobState, Record
from imgdetect.schema import jobs, records

MAX_ATTEMPTS = 3
# The pictures of a batch are worked at in so many lanes: the id of a picture goes to the queue when the one before it
# in its lane has ended. So a batch never fills the queue, and others get their turn.
LANES = 16
# A batch of which no picture was begun for so long is handed to the queue again.
BATCH_LEASE_SECONDS = 60.0
_UNFINISHED = ("queued", "running")
_ROWS_AT_ONCE = 500
_Where = tuple[ColumnElement[bool], ...]
_IS_BATCH = jobs.c.kind == "batch"
_NO_CHILD = jobs.c.parent_id.is_(None)


class WorkerLost(errors.Problem):
    """How a job ends whose workers vanished so often that the picture itself may be the reason."""

    status, slug, title = 422, "worker-lost", "Every worker that tried this job was lost."


class Deleted(NamedTuple):
    """What a removal of jobs left to be done."""

    jobs: int
    keys: list[str]  # of their artifacts


class JobRows:
    """Jobs, batches and the attempts at them.

    Raises (all methods): as those of Database.
    """

    def __init__(self, connections: Connections) -> None:
        self._transaction = connections.transaction

    def add(self, job: Job, children: Sequence[Job] = ()) -> Job:
        """Insert a job; where its owner used its idempotency key before, the earlier job is returned instead.

        Args:
            children: where it is a batch, its pictures.
        """
        try:
            with self._transaction(writes=True, busy_seconds=_patience(len(children))) as connection:
                connection.execute(insert(jobs), [vars(row) for row in (job, *children)])
        except exc.IntegrityError:
            earlier = self.find_idempotent(job.owner, job.idempotency_key) if job.idempotency_key else None
            if earlier is None:
                raise
            return earlier
        return job

    def get(self, job_id: str, owner: str) -> Job | None:
        """One job; the pictures of a batch are none of their own."""
        return self._one(jobs.c.id == job_id, jobs.c.owner == owner, _NO_CHILD)

    def find_idempotent(self, owner: str, key: str) -> Job | None:
        """The job that an earlier request of the owner with the same idempotency key made."""
        return self._one(jobs.c.owner == owner, jobs.c.idempotency_key == key)

    def children(self, parent_id: str, limit: int, after: int = -1) -> list[Job]:
        """The pictures of a batch in their order, from behind a position."""
        chosen = select(jobs).where(jobs.c.parent_id == parent_id, jobs.c.position > after)
        with self._transaction() as connection:
            rows = connection.execute(chosen.order_by(jobs.c.position).limit(limit))
            return [Job(**row._mapping) for row in rows]

    def take_back(self, job_id: str) -> list[Job]:
        """Remove a job of which nobody has claimed anything yet, with its children; returns what was removed."""
        family = or_(jobs.c.id == job_id, jobs.c.parent_id == job_id)
        with self._transaction(writes=True) as connection:
            found = connection.execute(select(jobs).where(family).order_by(jobs.c.id).with_for_update()).all()
            # Pictures that were broken when they came have ended, but nobody claimed them.
            if any(row.attempts or row.state == "running" for row in found):
                return []
            connection.execute(delete(jobs).where(family))
            return [Job(**row._mapping) for row in found]

    def claim(self, job_id: str, lease_seconds: float, max_attempts: int = MAX_ATTEMPTS) -> Job | None:
        """Begin an attempt at a job that is queued or was left by its worker; one caller among all gets it."""
        now = now_us()
        free = or_(jobs.c.state == "queued", and_(jobs.c.state == "running", jobs.c.lease_until < now))
        where = (jobs.c.id == job_id, ~_IS_BATCH, free, jobs.c.attempts < max_attempts)
        values = {"state": "running", "attempts": jobs.c.attempts + 1, "lease_until": now + _us(lease_seconds)}
        with self._transaction(writes=True) as connection:
            job = _changed(connection, where, values)
            if job and job.parent_id:
                begun = case((jobs.c.state == "queued", "running"), else_=jobs.c.state)
                lease = {"state": begun, "lease_until": now + _us(BATCH_LEASE_SECONDS)}
                connection.execute(update(jobs).where(*_unfinished_parent(job.parent_id)).values(lease))
            return job

    def renew(self, job_id: str, attempt: int, lease_seconds: float, progress: dict[str, int] | None = None) -> bool:
        """Keep an attempt, and note how far it is; False when it is not the running one any more.

        Args:
            progress: new values of `total`, `done` and `failed`.
        """
        values = {"lease_until": now_us() + _us(lease_seconds)} | (progress or {})
        with self._transaction(writes=True) as connection:
            return _changed(connection, _attempt(job_id, attempt), values) is not None

    def finish(
        self,
        job_id: str,
        attempt: int,
        state: JobState,
        *,
        problem: dict[str, Any] | None = None,
        record: Record | None = None,
        artifacts: dict[str, Any] | None = None,
    ) -> bool:
        """End a job, and insert the record it made, in one transaction.

        The record is stored without an idempotency key: the job has it, and leads to the record.

        Returns:
            False, with nothing changed, when the attempt is not the running one any more.
        """
        ended = _ended(state, problem) | {"record_id": record.id if record else None, "artifacts": artifacts}
        with self._transaction(writes=True) as connection:
            job = _changed(connection, _attempt(job_id, attempt), ended)
            if job is None:
                return False
            if record:
                connection.execute(insert(records), vars(replace(record, idempotency_key=None)))
            _count(connection, [job])
            return True

    def release(self, job_id: str, attempt: int, *, uncounted: bool = False) -> bool:
        """Give a running job back to the queue.

        Args:
            uncounted: the attempt does not count, for it was cut short by a shutdown.
        """
        attempts = attempt - 1 if uncounted else attempt
        values = {"state": "queued", "lease_until": 0, "attempts": attempts}
        with self._transaction(writes=True) as connection:
            return _changed(connection, _attempt(job_id, attempt), values) is not None

    def cancel(self, job_id: str, owner: str) -> list[Job]:
        """Cancel a job, and those pictures of a batch that were not begun.

        Returns:
            What was cancelled, with each `original_key`; nothing when the job is not there or has ended already.
        """
        mine = (jobs.c.id == job_id, jobs.c.owner == owner, _NO_CHILD, jobs.c.state.in_(_UNFINISHED))
        job = self._one(*mine)
        if job is None:
            return []
        with self._transaction(writes=True, busy_seconds=_patience(job.total or 0)) as connection:
            children = _end(connection, (jobs.c.parent_id == job_id, jobs.c.state == "queued"), _ended("cancelled"))
            return _end(connection, mine, _ended("cancelled")) + children

    def take_lost(self, limit: int, queued_before: int, again_seconds: float) -> list[str]:
        """The ids of jobs, oldest first, that are queued since before a time or were left by their worker.

        Args:
            again_seconds: how long a queued one is not taken again, by this or any other process.
        """
        queued = and_(jobs.c.state == "queued", jobs.c.created_at < queued_before, _NO_CHILD)
        lost = (or_(queued, jobs.c.state == "running"), ~_IS_BATCH, jobs.c.attempts < MAX_ATTEMPTS)
        # Nobody could claim a running one with a new lease.
        until = case((jobs.c.state == "queued", now_us() + _us(again_seconds)), else_=jobs.c.lease_until)
        return self._take(lost, limit, until)

    def take_idle_batches(self, limit: int, created_before: int, again_seconds: float) -> list[str]:
        """The ids of batches, oldest first, at which nobody seems to work.

        Args:
            again_seconds: how long one is not taken again, by this or any other process.
        """
        idle = (_IS_BATCH, jobs.c.state.in_(_UNFINISHED), jobs.c.created_at < created_before)
        return self._take(idle, limit, now_us() + _us(again_seconds))

    def _take(self, where: _Where, limit: int, until: Any) -> list[str]:
        """The ids of jobs that fit and whose lease is over, oldest first; they get a new one."""
        where = (*where, jobs.c.lease_until < now_us())
        chosen = select(jobs.c.id).where(*where).order_by(jobs.c.created_at).limit(limit)
        with self._transaction() as connection:
            if connection.scalar(chosen) is None:
                return []
        taken = update(jobs).where(jobs.c.id.in_(chosen), *where).values(lease_until=until)
        with self._transaction(writes=True) as connection:
            rows = connection.execute(taken.returning(jobs.c.created_at, jobs.c.id)).all()
        return [job_id for _, job_id in sorted(map(tuple, rows))]

    def heads(self, parent_id: str) -> list[str]:
        """The first waiting picture of each lane of a batch."""
        waiting = select(jobs.c.id, jobs.c.position).where(jobs.c.parent_id == parent_id, jobs.c.state == "queued")
        first: dict[int, str] = {}
        with self._transaction() as connection:
            for child_id, position in connection.execute(waiting.order_by(jobs.c.position)):
                first.setdefault(position % LANES, child_id)
        return list(first.values())

    def next_in_lane(self, child: Job) -> str | None:
        """The waiting picture behind one that has ended; None at the end of its lane."""
        position = int(child.position or 0)
        behind = select(jobs.c.id).where(
            jobs.c.parent_id == child.parent_id,
            jobs.c.state == "queued",
            jobs.c.position > position,
            jobs.c.position % LANES == position % LANES,
        )
        with self._transaction() as connection:
            found: str | None = connection.scalar(behind.order_by(jobs.c.position).limit(1))
            return found

    def fail_exhausted(self, max_attempts: int = MAX_ATTEMPTS) -> list[Job]:
        """End the jobs that nobody works on and that have no attempt left; returns them with their `original_key`."""
        left = or_(jobs.c.state == "queued", and_(jobs.c.state == "running", jobs.c.lease_until < now_us()))
        problem = WorkerLost(f"The job was tried {max_attempts} times.").document()
        with self._transaction(writes=True) as connection:
            ended = _end(connection, (~_IS_BATCH, left, jobs.c.attempts >= max_attempts), _ended("failed", problem))
            _count(connection, ended)
            return ended

    def claim_callbacks(self, limit: int, lease_seconds: float) -> list[Job]:
        """Begin an attempt at callbacks that are due; until the lease runs out nobody else gets them."""
        now = now_us()
        due = select(jobs.c.id).where(jobs.c.callback_at <= now).order_by(jobs.c.callback_at).limit(limit)
        attempts = func.coalesce(jobs.c.callback_attempts, 0) + 1
        with self._transaction(writes=True) as connection:
            ids = list(connection.scalars(due.with_for_update(skip_locked=True)))
            values = {"callback_at": now + _us(lease_seconds), "callback_attempts": attempts}
            rows = connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(values).returning(jobs))
            return [Job(**row._mapping) for row in rows]

    def has_callbacks(self) -> bool:
        """Whether a callback is due."""
        with self._transaction() as connection:
            return connection.scalar(select(jobs.c.id).where(jobs.c.callback_at <= now_us()).limit(1)) is not None

    def end_callback(self, job: Job, state: CallbackState, due_at: int | None = None) -> bool:
        """Note how an attempt at a callback ended, unless another one has begun meanwhile.

        Args:
            due_at: when the next attempt is due, where there will be one.
        """
        mine = (jobs.c.id == job.id, jobs.c.callback_attempts == job.callback_attempts)
        with self._transaction(writes=True) as connection:
            return _changed(connection, mine, {"callback_state": state, "callback_at": due_at}) is not None

    def delete_older_than(self, finished_before: int) -> Deleted:
        """Remove jobs that ended before a time, a batch with all its pictures. Their records stay.

        It takes as many transactions as it needs, since there may be more of them than one can remove in its time.
        """
        old = select(jobs.c.id).where(jobs.c.finished_at < finished_before, _NO_CHILD)
        count, more = 0, True
        keys: list[str] = []
        while more:
            with self._transaction(writes=True) as connection:
                ids = list(connection.scalars(old.order_by(jobs.c.finished_at).limit(_ROWS_AT_ONCE)))
                children = select(jobs.c.id).where(jobs.c.parent_id.in_(ids)).limit(_ROWS_AT_ONCE)
                if connection.execute(delete(jobs).where(jobs.c.id.in_(children))).rowcount:
                    continue
                gone = connection.execute(delete(jobs).where(jobs.c.id.in_(ids)).returning(jobs.c.artifacts)).all()
            count += len(gone)
            keys += [artifact["key"] for row in gone for artifact in (row.artifacts or {}).values()]
            more = len(ids) == _ROWS_AT_ONCE
        return Deleted(count, keys)

    def known_keys(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        """Those of some keys that a job still points at, or that an unfinished one may be about to.

        The key of a job's artifact begins with the job's id and a dot.

        Args:
            keys: so few that they fit into one statement.
        """
        waiting = select(jobs.c.original_key).where(jobs.c.original_key.in_(keys))
        known: set[str] = set(connection.scalars(waiting.where(jobs.c.state.in_(_UNFINISHED))))
        of_job: dict[str, set[str]] = {}
        for key in keys:
            of_job.setdefault(key.partition(".")[0], set()).add(key)
        named = select(jobs.c.id, jobs.c.state, jobs.c.artifacts).where(jobs.c.id.in_(of_job))
        for row in connection.execute(named):
            kept = {artifact["key"] for artifact in (row.artifacts or {}).values()}
            known |= of_job[row.id] if row.state in _UNFINISHED else of_job[row.id] & kept
        return known

    def _one(self, *where: ColumnElement[bool]) -> Job | None:
        with self._transaction() as connection:
            row = connection.execute(select(jobs).where(*where)).first()
            return Job(**row._mapping) if row else None


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _patience(rows: int) -> float | None:
    """How long a transaction that changes so many rows may take, in seconds; None for the usual time."""
    return rows / 500 if rows > 2 * _ROWS_AT_ONCE else None


def _attempt(job_id: str, attempt: int) -> _Where:
    return (jobs.c.id == job_id, jobs.c.attempts == attempt, jobs.c.state == "running")


def _unfinished_parent(parent_id: str) -> _Where:
    return (jobs.c.id == parent_id, jobs.c.state.in_(_UNFINISHED))


def _ended(state: JobState, problem: dict[str, Any] | None = None) -> dict[str, Any]:
    """What changes in the row of a job that ends."""
    now = now_us()
    return {
        "state": state,
        "problem": problem,
        "finished_at": now,
        "lease_until": 0,
        "original_key": None,
        # What waits for a callback is told apart by the time at which it is due.
        "callback_state": case((jobs.c.callback_url.is_not(None), "pending"), else_=None),
        "callback_at": case((jobs.c.callback_url.is_not(None), now), else_=None),
    }


def _changed(connection: Connection, where: _Where, values: dict[str, Any]) -> Job | None:
    """Change the one job that fits, by one statement; returns it as it is now."""
    row = connection.execute(update(jobs).where(*where).values(values).returning(jobs)).first()
    return Job(**row._mapping) if row else None


def _end(connection: Connection, where: _Where, values: dict[str, Any]) -> list[Job]:
    """Change all jobs that fit; returns them as they are now, but with their `original_key`."""
    chosen = select(jobs.c.id, jobs.c.original_key).where(*where).order_by(jobs.c.id).with_for_update()
    keys = {row.id: row.original_key for row in connection.execute(chosen)}
    ended = []
    ids = list(keys)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        some = jobs.c.id.in_(ids[start : start + _ROWS_AT_ONCE])
        rows = connection.execute(update(jobs).where(some).values(values).returning(jobs))
        ended += [replace(Job(**row._mapping), original_key=keys[row.id]) for row in rows]
    return ended


def _count(connection: Connection, ended: Iterable[Job]) -> None:
    """Count pictures that have ended in the rows of their batches, and end the batches that have none left."""
    counts = Counter((job.parent_id, job.state) for job in ended if job.parent_id)
    for parent_id in sorted({parent for parent, _ in counts if parent}):
        done, failed = counts[parent_id, "done"], counts[parent_id, "failed"]
        counted = {"done": jobs.c.done + done, "failed": jobs.c.failed + failed}
        connection.execute(update(jobs).where(jobs.c.id == parent_id).values(counted))
        complete = jobs.c.done + jobs.c.failed == jobs.c.total
        connection.execute(update(jobs).where(*_unfinished_parent(parent_id), complete).values(_ended("done")))
