"""Callbacks: who wants to be told when a job has ended is sent a signed POST.

What is to be told stands in the row of the job, and becomes due in the transaction that ends it. Any process takes what
is due under a lease, sends it, and notes how that ended: so each callback comes at least once, with restarts and kills
at any moment, and more than once only when the note was lost. Its receiver tells it by the id of the delivery.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from imgdetect import addresses, documents, logs, metrics
from imgdetect.addresses import AddressRefused, NameUnknown, target_of
from imgdetect.clock import now_us
from imgdetect.detection import Job
from imgdetect.errors import InvalidRequest
from imgdetect.outgoing import NoAnswer, exchange
from imgdetect.service import DetectionService

log = logs.get_logger(__name__)
MAX_ATTEMPTS = 8
FIRST_PAUSE_SECONDS = 10.0
PAUSE_FACTOR = 3.0
LONGEST_PAUSE_SECONDS = 3600.0
_LOOK_EVERY_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_ANSWER_BYTES = 1024
# Longer than an attempt may take: looking up the name, then the exchange.
_LEASE_SECONDS = 60.0
_AT_ONCE = 4
_GONE = 410


class Callbacks:
    """Admits callbacks, and delivers them in a thread of its own."""

    def __init__(self, service: DetectionService) -> None:
        settings = service.settings
        self._rows = service.database.jobs
        self._secret = settings.callback_secret.encode()
        self._allowed = addresses.networks(settings.allowed_callback_nets)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="callbacks", daemon=True)

    def admit(self, url: str | None) -> None:
        """Refuse a callback that could not be delivered; the form of its URL was checked before.

        Raises:
            InvalidRequest: there are none here, or it leads where none may go.
        """
        if url is None:
            return
        if not self._secret:
            raise InvalidRequest.field("callback_url", "is off: the operator has set no IMGDETECT_CALLBACK_SECRET")
        try:
            addresses.refuse_at_once(target_of(url), self._allowed)
        except AddressRefused as error:
            raise InvalidRequest.field("callback_url", str(error)) from None

    def start(self) -> None:
        """Start delivering, where callbacks are on."""
        if self._secret:
            self._thread.start()

    def close(self) -> None:
        """Stop delivering; what is being sent is waited for."""
        self._stop.set()
        if self._secret:
            self._thread.join()

    def deliver(self) -> int:
        """Send what is due, once; returns how many that were."""
        due = self._rows.claim_callbacks(_AT_ONCE, _LEASE_SECONDS)
        if due:
            with ThreadPoolExecutor(len(due), "callback") as senders:
                list(senders.map(self._attempt, due))
        return len(due)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                # Reading first: writing for nothing would take the lock of the database once a second.
                while self._rows.has_callbacks() and not self._stop.is_set():
                    self.deliver()
            except Exception:
                log.exception("callbacks failed; they are tried again")
            self._stop.wait(_LOOK_EVERY_SECONDS)

    def _attempt(self, job: Job) -> None:
        attempts = int(job.callback_attempts or 1)
        try:
            delivered, final = self._send(job, attempts)
        except AddressRefused:
            metrics.callbacks_total.labels("refused").inc()
            self._rows.end_callback(job, "failed")
        else:
            if delivered:
                metrics.callbacks_total.labels("delivered").inc()
                self._rows.end_callback(job, "delivered")
            elif final or attempts >= MAX_ATTEMPTS:
                metrics.callbacks_total.labels("failed").inc()
                self._rows.end_callback(job, "failed")
            else:
                metrics.callbacks_total.labels("retried").inc()
                self._rows.end_callback(job, "pending", now_us() + int(pause_seconds(attempts) * 1e6))

    def _send(self, job: Job, attempts: int) -> tuple[bool, bool]:
        """Send a callback once; returns whether it was taken, and whether there is no use in another try."""
        target = target_of(str(job.callback_url))
        body = json.dumps({"event": "job.ended", "delivery": job.id, "job": documents.job_document(job)}).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "imgdetect",
            "X-Imgdetect-Delivery": job.id,
            "X-Imgdetect-Attempt": str(attempts),
            "X-Imgdetect-Signature": signature(self._secret, int(time.time()), body),
        }
        told = {"job_id": job.id, "host": target.host, "attempt": attempts}  # the rest of a URL may be a secret
        try:
            answer = exchange(
                *(target, "POST", headers, body),
                allowed=self._allowed,
                seconds=_ANSWER_SECONDS,
                max_bytes=_ANSWER_BYTES,
            )
        except (NameUnknown, NoAnswer) as error:
            log.info("callback not delivered", cause=str(error), **told)
            return False, False
        log.info("callback answered", status=answer.status, **told)
        return 200 <= answer.status < 300, answer.status == _GONE


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """The value of X-Imgdetect-Signature: `t=SECONDS,v1=HEX`, an HMAC-SHA256 of `SECONDS.BODY`."""
    digest = hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def pause_seconds(attempts: int) -> float:
    """How long to wait after so many attempts: three times as long each time, and never all at the same moment."""
    pause = min(FIRST_PAUSE_SECONDS * PAUSE_FACTOR ** (attempts - 1), LONGEST_PAUSE_SECONDS)
    return pause * random.uniform(0.75, 1.25)  # noqa: S311 - nothing depends on its being hard to guess
