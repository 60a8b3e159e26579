"""How gunicorn serves the application; `imgdetect serve` and the container start it with this file."""

import ctypes
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

# What the processes of one server share while they run: their metrics, in files that any of them can add up, and the
# children that look at pictures. prometheus_client wants to know its folder before it is imported for the first time.
# A reload reads this file again in the same process: it goes on counting, and its workers have children of their own.
_shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
if not Path(_shared).name.startswith(f"imgdetect-{os.getpid()}-"):
    _shared = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=f"imgdetect-{os.getpid()}-")
_pool = os.environ["IMGDETECT_POOL_DIR"] = tempfile.mkdtemp(prefix="pool-", dir=_shared)

from prometheus_client import multiprocess  # noqa: E402

from imgdetect import equipment as _equipment  # noqa: E402
from imgdetect import jobs as _jobs  # noqa: E402
from imgdetect.config import SettingsError, load  # noqa: E402
from imgdetect.errors import Problem  # noqa: E402


def _return_memory():
    """Keep processes of many threads that handle pictures at the size they need (glibc)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-8, 2)  # M_ARENA_MAX: else there are many, and each keeps what was freed in it
        libc.mallopt(-3, 1 << 18)  # M_MMAP_THRESHOLD: larger blocks go back at once, and it stays there


_return_memory()


def _refuse(error):
    print(f"imgdetect: {error}", file=sys.stderr)
    shutil.rmtree(_shared, ignore_errors=True)
    sys.exit(2)


try:
    _settings = load()
except SettingsError as error:
    _refuse(error)
bind = _settings.bind
workers = _settings.workers
worker_class = "imgdetect.web.gunicorn_worker.Worker"
# A thread for each picture in work or in the line, and some that are always left for short requests.
threads = _settings.effective_slots + _settings.waiting_line + 8
worker_connections = 1000
backlog = 512
# Native work has a deadline of its own in a child that can be killed; this one is for the process as a whole.
timeout = 120
graceful_timeout = int(_settings.deadline_seconds) + 5
keepalive = 75  # longer than nginx keeps its idle connections, so that it is nginx that closes them
limit_request_line = 4094
limit_request_fields = 60
limit_request_field_size = 8190
# The heartbeat file must not wait for a disk.
_memory = Path("/dev/shm")  # noqa: S108 - gunicorn makes a file of its own there
worker_tmp_dir = str(_memory) if _memory.is_dir() else None
control_socket_disable = True
forwarded_allow_ips = ""  # which proxies are believed is the application's business: IMGDETECT_TRUSTED_PROXIES
proc_name = "imgdetect"
accesslog = None
errorlog = "-"
loglevel = "warning"


def on_starting(server):
    """Refuse to start rather than fail later; what is imported for it here, the workers need not import again."""
    try:
        _equipment.prove(_settings)
        _jobs.create_queue(_settings.queue_url, print)
    except (ValueError, Problem) as error:
        _refuse(error)


def when_ready(server):
    """Tell a person what serves, and where to look."""
    host, _, port = bind.rpartition(":")
    url = f"http://{host}:{port}"
    print(f"{'engine':>15}  {_equipment.engine()}", file=sys.stderr, flush=True)
    for what, path in (("page", "/"), ("API", "/api/v1/objectdetection"), ("documentation", "/apidocs/")):
        print(f"{what:>15}  {url}{path}", file=sys.stderr, flush=True)


def worker_exit(server, worker):
    """Close what `create_app` built."""
    if app := getattr(worker, "wsgi", None):
        app.extensions["imgdetect"].close()
    if os.getppid() != worker.ppid:
        _remove_after_the_last()


def _remove_after_the_last():
    """Remove what the processes shared in the place of a master that was killed, once the children are gone."""
    until = time.monotonic() + 5
    while Path(_pool, "nursery.sock").exists():
        if time.monotonic() > until:  # another worker still needs it, and will come here too
            return
        time.sleep(0.05)
    shutil.rmtree(_shared, ignore_errors=True)


def child_exit(server, worker):
    """Forget the gauges of a worker that is gone."""
    multiprocess.mark_process_dead(worker.pid)


def on_exit(server):
    """Remove what the processes shared."""
    shutil.rmtree(_shared, ignore_errors=True)
