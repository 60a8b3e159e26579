"""Artifacts as objects of an S3 store: `s3://bucket/prefix?endpoint_url=https://s3.example&region=eu-central-1`.

The key `3f9c5e.original.jpg` is the object `prefix/3f9c5e.original.jpg`. Credentials come from where AWS's own programs
take them (environment, shared file, role of the machine) and never from the URL. A call is tried three times, with
growing random pauses, where the store did not answer, answered 5xx or said that it is too busy; never where it said no.
A store that did not answer three times is left alone for two seconds: whoever needs it then is told so at once.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import urlsplit

import boto3
from botocore import exceptions
from botocore.config import Config

from imgdetect import errors, logs
from imgdetect.backends import refuse_unknown
from imgdetect.breaker import Breaker
from imgdetect.storages import StoredFile
from imgdetect.storages._keys import check_key, check_range, is_key
from imgdetect.storages._pieces import pieces

log = logs.get_logger(__name__)

TRIES = 3
REST_SECONDS = 2.0
LINK_SECONDS = 300  # long enough to begin a download, short enough for an address that is a permission
PART_BYTES = 8 << 20  # S3 takes parts from 5 MiB, and 10,000 of them
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_PREFIX = re.compile(r"([A-Za-z0-9_.-]+/)*", re.ASCII)
# A multipart upload that was never completed: `keys` lists it and `delete` aborts it, under this name.
_LEFTOVER = re.compile(r"tmp-([0-9a-z.-]+)/(\S+)")
_MISSING = {"NoSuchKey", "404"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}
_NO_ANSWER = (exceptions.HTTPClientError, exceptions.ConnectionError)
_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed"}
_PARAMETERS = ("endpoint_url", "public_endpoint_url", "region", "timeout_seconds", "downloads")


def create(target: str, parameters: dict[str, str]) -> S3Storage:
    """The storage in a bucket, which is not asked yet: it may be down for a moment when the service starts.

    Args:
        target: `//BUCKET` or `//BUCKET/PREFIX`.
        parameters: see docs/configuration.md.
    Raises:
        ValueError: a wrong target or parameter, or there are no credentials. What was given is not repeated.
    """
    refuse_unknown(parameters, *_PARAMETERS)
    bucket, _, prefix = target.removeprefix("//").partition("/")
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    if not target.startswith("//") or not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(prefix):
        raise ValueError("the s3 storage needs a bucket and takes a prefix, as in 's3://bucket/prefix'")
    for name in ("endpoint_url", "public_endpoint_url"):
        _check_endpoint(name, parameters.get(name))
    downloads = parameters.get("downloads", "proxied")
    if downloads not in ("proxied", "presigned"):
        raise ValueError("downloads of the s3 storage are 'proxied' or 'presigned'")
    timeout_seconds = float(parameters.get("timeout_seconds", 3))
    if not 0.1 <= timeout_seconds <= 60:
        raise ValueError("timeout_seconds of the s3 storage is a number from 0.1 to 60")
    session = boto3.session.Session(region_name=parameters.get("region"))
    try:
        if session.get_credentials() is None:
            raise ValueError(
                "the s3 storage has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
                " AWS_SHARED_CREDENTIALS_FILE, or give the machine a role"
            )
        endpoint = parameters.get("endpoint_url")
        public = parameters.get("public_endpoint_url", endpoint)
        clients = Clients(
            patient=_client(session, endpoint, timeout_seconds, TRIES),
            hasty=_client(session, endpoint, timeout_seconds, 2),
            signer=_client(session, public, timeout_seconds, 1) if downloads == "presigned" else None,
        )
    except exceptions.BotoCoreError as error:  # a profile or shared file that is named and wrong
        raise ValueError(f"the s3 storage cannot be set up: {error}") from error
    return S3Storage(clients, bucket, prefix)


class Clients(NamedTuple):
    """The ways to a store."""

    patient: Any  # three tries
    hasty: Any  # two tries, for a probe that has to answer soon
    signer: Any  # makes addresses for clients; None where downloads go through the service


class S3Storage:
    """Keeps artifacts in a bucket that many processes and machines may share.

    Args:
        clients: of the store.
        prefix: what stands before every key, empty or with a slash at its end.
    """

    def __init__(self, clients: Clients, bucket: str, prefix: str) -> None:
        self._clients = clients
        self._bucket = bucket
        self._prefix = prefix
        self._breaker = Breaker(REST_SECONDS)

    def put(self, key: str, data: bytes | BinaryIO, media_type: str) -> None:
        """Store or replace the whole of a key; more than a part of a stream goes up in parts."""
        check_key(key)
        if isinstance(data, bytes):
            self._put_whole(self._clients.patient, key, data, media_type)
            return
        parts = pieces(data, PART_BYTES)
        first, second = next(parts, b""), next(parts, None)
        if second is None:
            self._put_whole(self._clients.patient, key, first, media_type)
        else:
            self._put_parts(key, chain((first, second), parts), media_type)

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """A stream of the bytes start..end (end exclusive, None: to the end); the caller closes it."""
        check_key(key)
        check_range(start, end)
        if start == end:
            with self._answering(missing_is_an_answer=True):
                self._clients.patient.head_object(**self._of(key))
            return io.BytesIO()
        return cast(BinaryIO, io.BufferedReader(_Object(self, key, start, end), 1 << 16))

    def locate(self, key: str) -> Path | None:
        """None: there are no files."""
        check_key(key)
        return None

    def link(self, key: str, headers: dict[str, str]) -> str | None:
        """A signed address that is good for five minutes, where the URL asks for `downloads=presigned`."""
        check_key(key)
        if self._clients.signer is None:
            return None
        wanted = {f"Response{name.replace('-', '')}": value for name, value in headers.items()}
        with self._answering():
            address: str = self._clients.signer.generate_presigned_url(
                "get_object", Params=self._of(key) | wanted, ExpiresIn=LINK_SECONDS
            )
        return address

    def delete(self, key: str) -> None:
        """Remove a key or a leftover; one that is not there is no error."""
        if leftover := _LEFTOVER.fullmatch(key):
            check_key(leftover[1])
            self._abort(leftover[1], leftover[2])
            return
        check_key(key)
        with self._answering():
            self._clients.patient.delete_object(**self._of(key))

    def keys(self) -> Iterator[StoredFile]:
        """Every stored object, and uploads in parts that were never completed; objects of others are passed over."""
        for entry in self._pages("list_objects_v2", "Contents"):
            key = entry["Key"].removeprefix(self._prefix)
            if is_key(key):
                yield StoredFile(key, entry["Size"], entry["LastModified"].timestamp())
        try:
            for entry in self._pages("list_multipart_uploads", "Uploads"):
                key = entry["Key"].removeprefix(self._prefix)
                if is_key(key):
                    yield StoredFile(f"tmp-{key}/{entry['UploadId']}", 0, entry["Initiated"].timestamp())
        except _Unsupported:
            log.warning("this store does not list unfinished uploads; let a rule of the bucket remove them")

    def check(self) -> None:
        """Prove by a real write, read and delete that the storage works."""
        key = f"{secrets.token_hex(16)}.check"
        written = secrets.token_bytes(16)
        client = self._clients.hasty
        self._put_whole(client, key, written, "application/octet-stream")
        try:
            with self._answering(missing_is_an_answer=True):
                read = client.get_object(**self._of(key))["Body"].read()
        except FileNotFoundError as error:
            raise errors.BackendUnavailable("The storage lost what was just written.") from error
        finally:
            with self._answering():
                client.delete_object(**self._of(key))
        if read != written:
            raise errors.BackendUnavailable("The storage gives back other bytes than were written.")

    def fetch(self, key: str, start: int, end: int | None, etag: str | None = None) -> dict[str, Any] | None:
        """The store's answer with the bytes start..end of an object; None when it is not longer than start.

        Args:
            etag: where to go on in the middle of an object, the store's mark of its bytes.
        """
        wanted = self._of(key) | ({"IfMatch": etag} if etag else {})
        if start or end is not None:
            wanted["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            with self._answering(missing_is_an_answer=True):
                answer: dict[str, Any] = self._clients.patient.get_object(**wanted)
        except _OutOfRange:
            return None
        return answer

    def _put_whole(self, client: Any, key: str, data: bytes | memoryview, media_type: str) -> None:
        with self._answering():
            client.put_object(**self._of(key), Body=bytes(data), ContentType=media_type)

    def _put_parts(self, key: str, parts: Iterator[bytes | memoryview], media_type: str) -> None:
        client, done = self._clients.patient, []
        with self._answering():
            upload_id = client.create_multipart_upload(**self._of(key), ContentType=media_type)["UploadId"]
        try:
            for number, part in enumerate(parts, 1):
                place = {"UploadId": upload_id, "PartNumber": number}
                with self._answering():
                    etag = client.upload_part(**self._of(key), **place, Body=bytes(part))["ETag"]
                done.append({"PartNumber": number, "ETag": etag})
            with self._answering():
                client.complete_multipart_upload(**self._of(key), UploadId=upload_id, MultipartUpload={"Parts": done})
        except BaseException:
            with suppress(errors.Problem):  # what cannot be removed now is left to the sweep
                self._abort(key, upload_id)
            raise

    def _abort(self, key: str, upload_id: str) -> None:
        with suppress(FileNotFoundError, _Unsupported), self._answering(missing_is_an_answer=True):
            self._clients.patient.abort_multipart_upload(**self._of(key), UploadId=upload_id)

    def _pages(self, operation: str, entries: str) -> Iterator[dict[str, Any]]:
        """What the store lists, page by page."""
        pages = iter(self._clients.patient.get_paginator(operation).paginate(Bucket=self._bucket, Prefix=self._prefix))
        while True:
            with self._answering():
                page = next(pages, None)
            if page is None:
                return
            yield from page.get(entries, ())

    def _of(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    @contextmanager
    def _answering(self, *, missing_is_an_answer: bool = False) -> Iterator[None]:
        """Turn the store's errors into the seam's, and leave a store alone that does not answer."""
        if not self._breaker.permits():
            raise errors.BackendUnavailable("The storage does not answer.")
        try:
            yield
        except exceptions.ClientError as error:
            self._breaker.worked()
            raise _translated(error, missing_is_an_answer=missing_is_an_answer) from error
        except exceptions.BotoCoreError as error:
            if isinstance(error, _NO_ANSWER):
                self._breaker.failed()
            log.warning("the object store does not answer", error=type(error).__name__)
            raise errors.BackendUnavailable("The storage does not answer.") from error
        self._breaker.worked()


class _Unsupported(errors.BackendUnavailable):
    """The store does not know an operation."""


class _OutOfRange(Exception):
    """A range that begins behind the end of an object."""


class _Object(io.RawIOBase):
    """The bytes of an object as they come; where they stop coming it asks for the rest, of the same bytes only."""

    def __init__(self, storage: S3Storage, key: str, start: int, end: int | None) -> None:
        super().__init__()
        self._storage, self._key, self._position = storage, key, start
        self._answer: dict[str, Any] | None = None  # also for `close`, when there is no such object
        self._answer = storage.fetch(key, start, end)
        self._left = self._answer["ContentLength"] if self._answer else 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed's Buffer is not sliceable
        for _ in range(TRIES):
            if not self._left:
                return 0
            if self._answer is None:  # it was given up: this is not the end
                break
            try:
                data = self._answer["Body"].read(min(len(buffer), self._left))
            except (exceptions.BotoCoreError, OSError):
                data = b""
            if data:
                buffer[: len(data)] = data
                self._position += len(data)
                self._left -= len(data)
                return len(data)
            self._again()
        raise errors.BackendUnavailable("The storage stopped in the middle of a file.")

    def _again(self) -> None:
        etag = self._answer.get("ETag") if self._answer else None
        self._drop()
        if etag is None:  # nobody could say whether the rest belongs to the same bytes
            return
        log.warning("the object store stopped in the middle; asking for the rest", key=self._key)
        try:
            self._answer = self._storage.fetch(self._key, self._position, self._position + self._left, etag)
        except FileNotFoundError as error:  # deleted meanwhile
            raise errors.BackendUnavailable("The storage stopped in the middle of a file.") from error

    def _drop(self) -> None:
        if self._answer:
            self._answer["Body"].close()
            self._answer = None

    def close(self) -> None:
        self._drop()
        super().close()


def _translated(error: exceptions.ClientError, *, missing_is_an_answer: bool) -> Exception:
    """The seam's error for what the store refused."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if missing_is_an_answer and code in _MISSING | {"NoSuchUpload"}:
        return FileNotFoundError(code)
    if code == "InvalidRange":
        return _OutOfRange()
    if code in _FULL or status == 507:
        return errors.StorageFull()
    if code in _UNSUPPORTED or status in (405, 501):
        return _Unsupported("The storage does not know an operation.")
    log.warning("the object store refuses", code=code, status=status, operation=error.operation_name)
    return errors.BackendUnavailable("The storage cannot be used.")


def _client(session: Any, endpoint: str | None, timeout_seconds: float, tries: int) -> Any:
    # Checksums that older stores do not know are sent where S3 asks for them only.
    settings = Config(
        signature_version="s3v4",
        connect_timeout=min(timeout_seconds, 2),
        read_timeout=timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=64,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=settings)


def _check_endpoint(name: str, address: str | None) -> None:
    if address is None:
        return
    parts = urlsplit(address)
    plain = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.password)
    if not plain or parts.query or parts.fragment:
        raise ValueError(f"{name} of the s3 storage is an address like https://s3.example, without credentials")
