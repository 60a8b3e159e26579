"""What is kept: rows in the database and the pictures that they point at in the storage.

Files are written before the row that names them and removed after it, so that no row ever points at nothing; a file
without a row is harmless, and the sweep removes it.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Any, BinaryIO, NamedTuple

from imgdetect import logs
from imgdetect.clock import now_us
from imgdetect.database import Database
from imgdetect.detection import Job, Outcome, Record, Upload, sha256_of
from imgdetect.errors import Conflict, NotFound, Problem
from imgdetect.images import ACCEPTED
from imgdetect.storages import Storage

log = logs.get_logger(__name__)


class Artifact(NamedTuple):
    """A stored picture, not yet read."""

    key: str
    media_type: str
    filename: str
    size: int  # bytes
    etag: str  # without quotes; another one whenever the bytes are others


class Idempotency(NamedTuple):
    """A client's promise that two requests are the same one."""

    key: str
    request_hash: str


class Original:
    """The uploaded picture on its way into the storage."""

    def __init__(self, storage: Storage, upload: Upload) -> None:
        self.key = f"{new_id()}.original{ACCEPTED[upload.media_type]}"
        self._storage = storage
        self._upload = upload
        self._written = False

    def write(self) -> None:
        """Write it, the first time this is called."""
        if not self._written:
            self._storage.put(self.key, self._upload.data, self._upload.media_type)
            self._written = True


class Records:
    """The kept uploads. Every method that takes an owner sees and touches only what belongs to that owner.

    Raises (all methods): a Problem, see errors.py.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    def new_original(self, upload: Upload) -> Original:
        """The place of an original, where nothing is written yet."""
        return Original(self._storage, upload)

    def store(
        self,
        upload: Upload,
        outcome: Outcome,
        owner: str,
        *,
        original: Original | None,
        idempotency: Idempotency | None = None,
    ) -> Record:
        """Keep what was seen in an upload: files first, then the row, so that no row points at nothing."""
        original_key = original.key if original else None
        record = new_record(upload, outcome, owner, original_key=original_key, idempotency=idempotency)
        written = (record.original_key, record.processed_key)
        try:
            if original:
                original.write()
            self._storage.put(str(record.processed_key), outcome.processed, outcome.processed_media_type)
        except BaseException:
            self.forget(*written)
            raise
        try:
            kept = self._database.add_record(record)
        except Problem as problem:
            if not problem.may_be_done:  # else the row may be there, or still come: the sweep will see
                self.forget(*written)
            raise
        if kept.id != record.id:  # the same request came twice at once, and the other was first
            self.forget(*written)
            _same_request(kept.request_hash, idempotency)
        return kept

    def earlier(self, owner: str, idempotency: Idempotency) -> Record | Job | None:
        """The record or job that an earlier request with the same key made; None when this is the first.

        Raises:
            Conflict: the earlier request was another one.
        """
        earlier = self._database.find_idempotent(owner, idempotency.key)
        if earlier:
            _same_request(earlier.request_hash, idempotency)
        return earlier

    def replace_processed(self, record: Record, outcome: Outcome) -> Record:
        """Put another look's picture and detections in the place of a record's."""
        key = _processed_key(record.id, outcome.processed_media_type)
        self._storage.put(key, outcome.processed, outcome.processed_media_type)
        before = self._database.set_processed(
            record.id,
            record.owner,
            key,
            outcome.processed_media_type,
            outcome.parameters | {"keep_original": True},
            result_document(outcome),
            record.size_bytes + len(outcome.processed),
            detector=outcome.parameters["detector"],
        )
        if before is None:  # deleted meanwhile
            self.forget(key)
            raise NotFound()
        self.forget(before.processed_key)
        return self.get(record.id, record.owner)

    def get(self, record_id: str, owner: str) -> Record:
        """The record of an id."""
        if record := self._database.get_record(record_id, owner):
            return record
        raise NotFound("There is no image with this id.")

    def named(self, filename: str, owner: str) -> Record:
        """The owner's newest record of a file name."""
        if record := self._database.latest_named(filename, owner):
            return record
        raise NotFound("There is no image of this name.")

    def page(self, owner: str, limit: int, before: tuple[int, str] | None) -> list[Record]:
        """Records, newest first."""
        return self._database.list_records(owner, limit, before)

    def original(self, record: Record) -> Artifact:
        """The uploaded picture of a record."""
        if not record.original_key:
            raise NotFound("The original was not kept: the upload asked for keep_original=false.")
        return Artifact(record.original_key, record.media_type, record.filename, record.size_bytes, record.sha256)

    def processed(self, record: Record) -> Artifact:
        """The annotated picture of a record."""
        if not record.processed_key or not record.processed_media_type:
            raise NotFound("The processed picture was deleted. POST to this address makes it again.")
        stem = record.filename.rpartition(".")[0] or record.filename or "image"
        name = f"{stem}{ACCEPTED[record.processed_media_type]}"
        size = record.stored_bytes - (record.size_bytes if record.original_key else 0)
        etag = sha256_of(record.processed_key.encode())[:32]
        return Artifact(record.processed_key, record.processed_media_type, name, size, etag)

    def open(self, artifact: Artifact, start: int = 0, end: int | None = None) -> BinaryIO:
        """A stream of an artifact's bytes start..end (end exclusive)."""
        try:
            return self._storage.open(artifact.key, start, end)
        except FileNotFoundError:  # deleted since its row was read
            raise NotFound() from None

    def read(self, artifact: Artifact) -> bytes:
        """The whole of an artifact."""
        with self.open(artifact) as stream:
            return stream.read()

    def delete(self, record_id: str, owner: str) -> None:
        """Remove a record, then its files."""
        record = self._database.delete_record(record_id, owner)
        if record is None:
            raise NotFound("There is no image with this id.")
        self.forget(record.original_key, record.processed_key)

    def delete_processed(self, record: Record) -> None:
        """Remove the annotated picture of a record; the record and its detections stay."""
        size = record.size_bytes if record.original_key else 0
        before = self._database.set_processed(
            record.id, record.owner, None, None, record.parameters, record.result, size
        )
        if before is None or before.processed_key is None:
            raise NotFound("The processed picture was deleted already.")
        self.forget(before.processed_key)

    def forget(self, *keys: str | None) -> None:
        """Remove files that no row points at; one that cannot be removed now is left to the sweep."""
        for key in keys:
            if key:
                try:
                    self._storage.delete(key)
                except Exception:
                    log.warning("file left to the sweep", key=key, exc_info=True)


def new_record(
    upload: Upload,
    outcome: Outcome,
    owner: str,
    *,
    original_key: str | None,
    idempotency: Idempotency | None = None,
) -> Record:
    """A record of its own for an upload, under fresh keys where nothing is stored yet."""
    record_id = new_id()
    return Record(
        id=record_id,
        owner=owner,
        created_at=now_us(),
        filename=upload.filename,
        width=upload.width,
        height=upload.height,
        media_type=upload.media_type,
        size_bytes=len(upload.data),
        sha256=upload.sha256,
        detector=outcome.parameters["detector"],
        parameters=outcome.parameters | {"keep_original": original_key is not None},
        result=result_document(outcome),
        original_key=original_key,
        processed_key=_processed_key(record_id, outcome.processed_media_type),
        processed_media_type=outcome.processed_media_type,
        stored_bytes=len(outcome.processed) + (len(upload.data) if original_key else 0),
        idempotency_key=idempotency.key if idempotency else None,
        request_hash=idempotency.request_hash if idempotency else None,
    )


def result_document(outcome: Outcome) -> dict[str, Any]:
    """What a record keeps of a look besides its picture."""
    return asdict(outcome.result) | {"engine": outcome.engine, "timings_ms": outcome.timings_ms}


def new_id() -> str:
    """A fresh random id, 32 hexadecimal digits."""
    return secrets.token_hex(16)


def artifact_key(job_id: str, name: str, extension: str) -> str:
    """A fresh key for a file that a job made; the sweep finds the job by it.

    Args:
        name: lower-case letters, digits and dashes.
        extension: with its dot.
    """
    return f"{job_id}.{name}-{secrets.token_hex(4)}{extension}"


def _processed_key(record_id: str, media_type: str) -> str:
    # A key of its own each time: readers of the earlier picture keep reading whole bytes.
    extension = ACCEPTED[media_type]
    return f"{record_id}.processed-{secrets.token_hex(4)}{extension}"


def _same_request(request_hash: str | None, idempotency: Idempotency | None) -> None:
    if idempotency and request_hash != idempotency.request_hash:
        raise Conflict("This Idempotency-Key was used before with another image or other parameters.")
