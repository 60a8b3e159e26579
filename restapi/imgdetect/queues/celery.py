"""Hands jobs to workers through a broker, with Celery: `celery+redis://HOST:6379/0`, `celery+amqp://USER:KEY@HOST/`.

The servers only submit; `imgdetect worker` calls `serve`. A message is the id of a job. It is acknowledged when the job
has been tried, and losing or repeating one does no harm: the row says whether there is something to do.
"""

from __future__ import annotations

import os
import signal
import socket
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from celery import Celery, Task, platforms, signals
from celery.exceptions import CPendingDeprecationWarning, InvalidTaskError
from celery.worker import state
from celery.worker.request import Request
from kombu.asynchronous import get_event_loop
from kombu.entity import Queue

from imgdetect import errors, logs
from imgdetect.backends import refuse_unknown

Run = Callable[[str], None]

# A request waits no longer for the broker, whatever that does: refuse, keep silent, or have a name that is not found.
SUBMIT_SECONDS = 1.5
# One silent broker must not hold up the thread that publishes for much longer than those who wait for it.
_SOCKET_SECONDS = 1.0
# After the soft limit has told a job to end; then its process is killed.
_HARD_AFTER_SECONDS = 10.0
_RETRY_SECONDS = 5
# A connection that was lost without a word is noticed in half a minute.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
_CHILD_MEMORY_KIB = 512 << 10
_TASK = "imgdetect.run_job"
_TRANSPORTS = ("amqp", "redis")
_log = logs.get_logger(__name__)


class Broker(NamedTuple):
    """What a URL says."""

    url: str  # kombu's
    queue: str
    limit_seconds: float | None  # longest time of a job
    close_seconds: float  # how long running jobs may go on when a worker is stopped


def create(target: str, parameters: dict[str, str], run: Run) -> CeleryQueue:
    """A queue that hands ids to a broker.

    Args:
        target: `redis://[:PASSWORD@]HOST[:PORT][/NUMBER]` or `amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]`.
        parameters: `queue`, its name at the broker (imgdetect); `limit_seconds`, the longest time of a job (by
            default what the caller of `serve` says); `close_seconds`, how long a worker that is stopped lets running
            jobs go on (30).
        run: of no use here; the workers have their own.
    Raises:
        ValueError: the URL names no broker, or an unknown or wrong parameter.
    """
    return CeleryQueue(_broker(target, parameters))


def _broker(target: str, parameters: dict[str, str]) -> Broker:
    refuse_unknown(parameters, "queue", "limit_seconds", "close_seconds")
    transport, _, rest = target.partition(":")
    address = urlsplit(target)
    if transport not in _TRANSPORTS or not rest.startswith("//") or not address.hostname:
        raise ValueError(
            "a broker's URL looks like celery+redis://HOST:6379/0 or celery+amqp://USER:PASSWORD@HOST:5672/"
        )
    if transport == "redis" and not (address.path.strip("/") or "0").isdecimal():
        raise ValueError("the path of a redis broker is the number of a database: celery+redis://HOST:6379/0")
    _ = address.port  # raises ValueError when it is none
    queue = parameters.get("queue", "imgdetect")
    limit_seconds = float(parameters["limit_seconds"]) if "limit_seconds" in parameters else None
    close_seconds = float(parameters.get("close_seconds", 30))
    if not queue or not 0 < close_seconds <= 3600 or not (limit_seconds is None or 1 <= limit_seconds <= 86_400):
        raise ValueError("queue must be a name, limit_seconds 1..86400 and close_seconds above 0 and at most 3600")
    return Broker(target, queue, limit_seconds, close_seconds)


class _Application(Celery):  # type: ignore[misc] # celery has no types
    """Celery, except that a consumer that has lost the broker looks for it every few seconds, not every 30."""

    def connection_for_read(self, *arguments: Any, **options: Any) -> Any:
        """The connection of a consumer."""
        connection = super().connection_for_read(*arguments, **options)
        patience = {"interval_start": 1, "interval_step": 1, "interval_max": _RETRY_SECONDS}
        connection.ensure_connection = partial(connection.ensure_connection, **patience)
        return connection


class _Request(Request):  # type: ignore[misc] # celery has no types
    """A message under way. One that cannot be acknowledged is a sign that its connection is lost.

    Celery only logs that, and then waits for ever for the room that the message still takes. And it does not outlive a
    message of another form than its own.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        try:
            super().__init__(*arguments, **options)
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidTaskError(str(error)) from error

    def acknowledge(self) -> None:
        """The job was tried."""
        super().acknowledge()
        self._look_later()

    def reject(self, requeue: bool = False) -> None:
        """Its process was killed."""
        super().reject(requeue)
        self._look_later()

    def _look_later(self) -> None:
        """Have the event loop look when it has told the broker, which it does in its next turn, in no certain order."""
        if loop := get_event_loop():
            loop.call_soon(loop.call_soon, self._must_be_settled)  # type: ignore[no-untyped-call]

    def _must_be_settled(self) -> None:
        if state.should_stop is None and not self.message.acknowledged:
            raise ConnectionError("a message could not be acknowledged")


class CeleryQueue:
    """Publishes ids, one at a time."""

    def __init__(self, broker: Broker) -> None:
        options = {"socket_timeout": _SOCKET_SECONDS, "socket_connect_timeout": _SOCKET_SECONDS}
        if broker.url.startswith("amqp:"):
            options = {"read_timeout": _SOCKET_SECONDS, "write_timeout": _SOCKET_SECONDS, "confirm_publish": True}
        self._app, self._task = _application(
            broker, lambda job_id: None, options, broker_connection_timeout=_SOCKET_SECONDS
        )
        self._queue = self._app.amqp.queues[broker.queue]
        # A thread of its own: nothing else bounds the time that looking up a name takes. It starts with the first id.
        self._thread = ThreadPoolExecutor(1, "publisher")
        self._connection: Any = None
        self._closed = False

    def submit(self, job_id: str) -> None:
        """Hand an id to the broker, which may get it more than once."""
        self._tell(lambda producer: self._task.apply_async((job_id,), producer=producer, retry=False))

    def check(self) -> None:
        """Have the broker count the ids that wait."""
        self._tell(lambda producer: self._queue(producer.channel).queue_declare())

    def work(self) -> None:
        """Nothing runs here: `imgdetect worker` does the jobs."""

    def close(self) -> None:
        """Leave the broker."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._disconnect)
            self._thread.shutdown()

    def _tell(self, call: Callable[[Any], Any]) -> None:
        """Have the thread talk to the broker, and wait a bounded time for it."""
        if self._closed:
            raise errors.Busy("The server is shutting down.")
        future = self._thread.submit(self._talk, call)
        try:
            future.result(SUBMIT_SECONDS)
        except TookTooLong:
            future.cancel()
            raise errors.BackendUnavailable("The broker of jobs does not answer.") from None
        except Exception as error:
            _log.warning("broker does not answer", cause=f"{type(error).__name__}: {error}"[:200])
            raise errors.BackendUnavailable("The broker of jobs does not answer.") from None

    def _talk(self, call: Callable[[Any], Any]) -> None:
        """Talk on the connection that is there, else, or when that is broken, on a new one."""
        if self._connection is not None:
            try:
                call(self._app.amqp.Producer(self._connection))
            except Exception:
                self._disconnect()
            else:
                return
        try:
            self._connection = self._app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, interval_max=0)
            call(self._app.amqp.Producer(self._connection))
        except Exception:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect(socket_timeout=0.1)  # `close` would talk to the broker, which may be silent


def serve(
    target: str, parameters: dict[str, str], open_run: Callable[[], Run], *, concurrency: int, limit_seconds: float
) -> int:
    """Do jobs until SIGTERM; in a process of its own without threads, for it forks those that do them.

    Args:
        target, parameters: as for `create`.
        open_run: called once in each of them; what it returns does the job of an id and never raises.
        concurrency: jobs at once.
        limit_seconds: longest time of a job unless the URL says otherwise.
    Returns:
        The exit code.
    """
    broker = _broker(target, parameters)
    limit_seconds = broker.limit_seconds or limit_seconds
    child = _Child(open_run, limit_seconds)
    # The broker hands an id that is not acknowledged in this time to somebody else. That would do no harm, for there is
    # nothing to claim while the job runs; but it is of no use either.
    options: dict[str, Any] = {"visibility_timeout": limit_seconds + _HARD_AFTER_SECONDS + 60}
    options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    # A message is JSON and names no code, so that running as root adds nothing to what a broker can do.
    warnings.simplefilter("ignore", platforms.SecurityWarning)
    app, _ = _application(
        broker,
        child.run,
        options if broker.url.startswith("redis:") else {},
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_heartbeat=10,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_soft_time_limit=limit_seconds,
        task_time_limit=limit_seconds + _HARD_AFTER_SECONDS,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_max_memory_per_child=_CHILD_MEMORY_KIB,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=60.0,
        worker_redirect_stdouts=False,
    )
    worker = app.Worker(
        concurrency=concurrency,
        pool="prefork",
        optimization="fair",
        quiet=True,
        without_gossip=True,
        without_heartbeat=True,
        without_mingle=True,
    )

    def give_back(*unused: Any) -> None:
        for pid in worker.pool.info["processes"]:
            os.kill(pid, signal.SIGUSR2)

    def stopping(**unused: Any) -> None:
        signal.signal(signal.SIGALRM, give_back)
        signal.setitimer(signal.ITIMER_REAL, broker.close_seconds)

    signals.setup_logging.connect(lambda **unused: None, weak=False)  # it is set up already
    signals.worker_ready.connect(_hush, weak=False)
    signals.worker_process_init.connect(child.prepare, weak=False)
    signals.worker_shutting_down.connect(stopping, weak=False)
    worker.start()
    return int(worker.exitcode or 0)


def _application(broker: Broker, run: Run, transport_options: dict[str, Any], **settings: Any) -> tuple[Celery, Task]:
    app = _Application("imgdetect", broker=broker.url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_transport_options=transport_options,
        task_default_queue=broker.queue,
        task_ignore_result=True,
        # The default exchange needs no binding, which a broker that lost its data would not have any more.
        task_queues=[Queue(broker.queue, routing_key=broker.queue)],  # type: ignore[no-untyped-call]
        task_serializer="json",
        **settings,
    )

    @app.task(name=_TASK, Request=_Request)  # type: ignore[untyped-decorator] # celery has no types
    def run_job(job_id: str) -> None:
        run(str(job_id))

    return app, run_job


def _hush(**unused: Any) -> None:
    """Celery, once it is ready, has switched on warnings of defaults that suit us."""
    warnings.simplefilter("ignore", CPendingDeprecationWarning)


class _Child:
    """A process that does one job at a time."""

    def __init__(self, open_run: Callable[[], Run], limit_seconds: float) -> None:
        self._open_run = open_run
        self._limit_seconds = limit_seconds
        self._run: Run | None = None

    def prepare(self, **unused: Any) -> None:
        """Open what jobs need, before there is one."""
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            self._run = self._open_run()
        except (ValueError, errors.Problem) as error:
            _log.warning("not ready for jobs; tried again with the next", cause=str(error))

    def run(self, job_id: str) -> None:
        """Do a job, unless it is told to end: by the limit of time, or because the worker is stopped."""
        if self._run is None:
            self.prepare()
        if self._run is None:
            return  # the id comes again from the database
        signal.signal(signal.SIGUSR1, self._out_of_time)
        signal.signal(signal.SIGUSR2, self._stopped)
        try:
            self._run(job_id)
        finally:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    def _out_of_time(self, *unused: Any) -> None:
        raise errors.WaitTooLong(f"The job did not finish in {self._limit_seconds:g} s.")

    def _stopped(self, *unused: Any) -> None:
        raise errors.Busy("The worker is being stopped.")  # which gives the job back without counting the attempt
