"""Settings: `IMGDETECT_*` variables, typed, read once, all errors reported at once.

A secret may also come from a file: `IMGDETECT_API_KEYS_FILE=/run/secrets/keys`.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from imgdetect import addresses

PREFIX = "IMGDETECT_"
SECRETS = ("api_keys", "callback_secret", "cache_url", "database_url", "queue_url")
# What Kubernetes puts into every container for a Service that is named imgdetect.
_SERVICE_LINK = re.compile(r"IMGDETECT_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)$")
MAX_SIDE = 16_384
_SECRET_LENGTH = 16
# In the repository; the image has none.
_SAMPLES = Path(__file__).parents[2] / "test_images" / "input"


class SettingsError(Exception):
    """Every wrong setting, one line each."""


class Settings(BaseSettings):
    """All settings; the description of each is the help that `imgdetect config` prints."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    bind: str = Field("127.0.0.1:8000", pattern=r".+:\d+$", description="Address that gunicorn listens on")
    workers: int = Field(1, ge=1, le=64, description="Processes that serve; they share the slots")
    data_dir: Path = Field(Path("data"), description="Folder of everything that is kept by default")
    database_url: str = Field(
        "", description="postgresql://USER:PASSWORD@HOST/NAME or sqlite:///FILE; empty: SQLite in the data folder"
    )
    database_connections: int = Field(
        10, ge=1, le=100, description="Connections to PostgreSQL of each process; with none free for a second: 503"
    )
    storage_url: str = Field(
        "", description="Where pictures are kept: file:FOLDER, s3://BUCKET or memory:; empty: the data folder"
    )
    queue_url: str = Field("threads:", description="Who runs asynchronous jobs: threads: or inline:")
    cache_url: str = Field(
        "memory:", description="Cache of results: memory:?max_bytes=N&ttl_seconds=N, redis://HOST:PORT/DB, or none:"
    )
    default_detector: str = Field("face", description="Detector of a request that names none")
    deepstack_detector: str = Field(
        "",
        description="Detectors of /v1/vision/detection, for DeepStack's clients: face,car; empty: the default one",
    )
    classifier_detector: str = Field(
        "", description="Detector of the classifier's dialects; empty: the first classification that there is"
    )
    analysis_detector: str = Field(
        "", description="Detector of /run-image-object-detection; empty: the default detector"
    )
    images_detector: str = Field("", description="Detector of /predict for images by id; empty: the default detector")
    dataset_dir: Path | None = Field(
        None,
        description="Folder of pictures that clients may name; empty: dataset in the data folder, or the samples",
    )
    cascades_dir: Path | None = Field(None, description="Folder of your own cascades: NAME.xml becomes detector NAME")
    models_dir: Path | None = Field(
        None, description="Folder of 'imgdetect models': each is a detector; empty: models in the data folder"
    )
    detectors: str = Field("", description="More detectors, separated by blanks: NAME=haar:FILE.xml?min_neighbors=5")
    max_cascades_per_key: int = Field(
        20, ge=0, le=1000, description="Cascades that each API key may have uploaded; 0: uploading is off"
    )
    api_keys: str = Field("", description="NAME:SHA256 of each API key, separated by blanks; empty: open server")
    callback_secret: str = Field("", description="Key that callbacks are signed with; empty: no callbacks")
    allow_remote_images: bool = Field(
        default=False, description="Fetch an image from the URL that a JSON upload names; public addresses only."
    )
    allowed_callback_nets: str = Field(
        "",
        description="Networks besides public addresses for callbacks and fetched images: 10.1.0.0/16 fd00::/8",
    )
    allowed_hosts: str = Field(
        "localhost 127.0.0.1 [::1]", description="Host names an open server answers to, separated by blanks; * for all"
    )
    rate_limit: str = Field(
        "",
        description="Requests of one key or address, N/second, /minute, /hour or /day, separated by blanks; empty: off",
    )
    cors_origins: str = Field("", description="Origins whose pages may call the API, separated by blanks")
    max_upload_bytes: int = Field(25_000_000, ge=1, description="Largest upload, bytes")
    max_batch_bytes: int = Field(500_000_000, ge=1, description="Largest batch, bytes, as sent and as unpacked")
    max_batch_images: int = Field(1000, ge=1, le=10_000, description="Most images of a batch")
    max_video_bytes: int = Field(500_000_000, ge=1, description="Largest video, bytes")
    max_video_seconds: float = Field(600, gt=0, le=86_400, description="Longest video, seconds")
    spool_dir: Path | None = Field(None, description="Folder of large bodies on their way in; empty: the data folder")
    max_pixels: int = Field(25_000_000, ge=1, le=100_000_000, description="Largest image, pixels")
    working_pixels: int = Field(
        2_100_000, ge=10_000, description="Larger images are scaled down to this many pixels for detection"
    )
    max_windows: int = Field(50_000_000, ge=1, description="Most windows one request may cost, all rotations together")
    min_scale_factor: float = Field(1.05, gt=1, le=2, description="Smallest scale_factor a request may ask for")
    deadline_seconds: float = Field(30, gt=0, le=600, description="Time after which the work on a picture is stopped")
    slots: int = Field(0, ge=0, description="Pictures looked at at once, by all processes together; 0: one a core")
    video_slots: int = Field(
        1, ge=0, le=64, description="Videos looked at at once, beside the pictures; 0: videos are off"
    )
    waiting_line: int = Field(16, ge=0, description="Requests that may wait for a slot; more get 503")
    pool_dir: Path | None = Field(None, description="Folder where processes meet that share slots; gunicorn sets it")
    retention_days: float = Field(0, ge=0, description="Records older than this are pruned; 0: never")
    max_stored_bytes: int = Field(0, ge=0, description="Oldest records are pruned above this many bytes; 0: no limit")
    accel_prefix: str = Field("", description="nginx location for X-Accel-Redirect, for example /_files/; empty: off")
    trusted_proxies: int = Field(0, ge=0, le=5, description="Proxies in front whose X-Forwarded-* headers are believed")
    log_format: str = Field("plain", pattern="^(plain|json)$", description="plain or json")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")

    @field_validator("api_keys")
    @classmethod
    def _keys_are_hashes(cls, value: str) -> str:
        for entry in value.split():
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}:[0-9a-f]{64}", entry):
                raise ValueError("each entry is NAME:SHA256 (64 hexadecimal digits), made by 'imgdetect keys add NAME'")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _rates_are_rates(cls, value: str) -> str:
        for rate in value.split():
            if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", rate):
                raise ValueError(f"{rate!r} is not a rate; one looks like 600/minute (second, minute, hour or day)")
        return value

    @field_validator("callback_secret")
    @classmethod
    def _secret_is_long(cls, value: str) -> str:
        if value and len(value) < _SECRET_LENGTH:
            raise ValueError(f"should have {_SECRET_LENGTH} characters or more; 'openssl rand -hex 32' makes one")
        return value

    @field_validator("allowed_callback_nets")
    @classmethod
    def _nets_are_networks(cls, value: str) -> str:
        addresses.networks(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: str) -> str:
        for origin in value.split():
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise ValueError(f"{origin!r} is not an origin; one looks like https://app.example (no path, no *)")
        return value

    @model_validator(mode="after")
    def _keep_memory_in_one_process(self) -> Settings:
        if self.workers > 1:
            for name in ("storage_url", "database_url"):
                value = getattr(self, name)
                if value.startswith("memory:") or value in ("sqlite://", "sqlite:///:memory:"):
                    raise ValueError(f"{name}: {value} lives in one process; set IMGDETECT_WORKERS=1 or use another")
        return self

    @property
    def effective_database_url(self) -> str:
        return self.database_url or f"sqlite:///{(self.data_dir / 'imgdetect.db').absolute()}"

    @property
    def effective_storage_url(self) -> str:
        return self.storage_url or f"file:{(self.data_dir / 'images').absolute()}"

    @property
    def effective_spool_dir(self) -> Path:
        return self.spool_dir or self.data_dir / "spool"

    @property
    def effective_models_dir(self) -> Path:
        return self.models_dir or self.data_dir / "models"

    @property
    def fetched_dataset_dir(self) -> Path:
        """Where 'imgdetect dataset fetch' puts pictures."""
        return self.dataset_dir or self.data_dir / "dataset"

    @property
    def effective_dataset_dir(self) -> Path:
        """The folder that is set, or was fetched into; else the sample pictures, where this runs in the repository."""
        fetched = self.fetched_dataset_dir
        return _SAMPLES if not self.dataset_dir and not fetched.is_dir() and _SAMPLES.is_dir() else fetched

    @property
    def effective_slots(self) -> int:
        """Pictures looked at at once: one for each core this machine or container may use, unless set."""
        return self.slots or usable_cores()


def load(overrides: dict[str, Any] | None = None) -> Settings:
    """Read the environment.

    Args:
        overrides: settings that win over the environment (tests and the command line).
    Raises:
        SettingsError: with every wrong setting, one line each.
    """
    values, problems = _from_files()
    try:
        settings = Settings(**(values | (overrides or {})))
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            given = f" (given: {item['input']!r})" if where and where not in SECRETS else ""
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{PREFIX}{where.upper()}: {message}{given}" if where else PREFIX + message)
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _from_files() -> tuple[dict[str, Any], list[str]]:
    """The secrets given as files, and a line for each variable that is no setting."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in os.environ.items():
        setting = name.removeprefix(PREFIX).lower()
        if not name.startswith(PREFIX) or setting in Settings.model_fields:
            continue
        secret = setting.removesuffix("_file")
        if secret == setting or secret not in SECRETS:
            if not _SERVICE_LINK.match(name):
                problems.append(f"{name}: there is no such setting; 'imgdetect config' lists them all")
        elif os.environ.get(PREFIX + secret.upper()):
            problems.append(f"{name}: {PREFIX}{secret.upper()} is set too; use one of them")
        else:
            try:
                values[secret] = Path(value).read_text(encoding="utf-8").strip()
            except OSError as error:
                problems.append(f"{name}: cannot read {value}: {error.strerror}")
    return values, problems


def make_api_key(name: str) -> tuple[str, str]:
    """A fresh API key for its owner, and its entry in IMGDETECT_API_KEYS; only the hash is kept here."""
    key = secrets.token_urlsafe(32)
    return key, f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


def usable_cores() -> int:
    """Cores this process may really use: affinity and cgroup limits (v2 and v1) counted, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quotas = []
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        quotas.append((quota, period))
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            quotas.append(((folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()))
        except OSError:
            pass
    for quota, period in quotas:
        if quota.strip() not in ("max", "-1"):
            cores = min(cores, max(1, int(quota) // int(period)))
    return max(1, cores)


def limit_native_libraries() -> None:
    """Tell OpenCV's decoders and the numeric libraries their limits; has to run before cv2 and numpy are imported."""
    pixels = os.environ.get(PREFIX + "MAX_PIXELS", "")
    limit = int(pixels) if pixels.isdigit() else Settings.model_fields["max_pixels"].default
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(limit)
    os.environ["OPENCV_IO_MAX_IMAGE_WIDTH"] = os.environ["OPENCV_IO_MAX_IMAGE_HEIGHT"] = str(MAX_SIDE)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # A pool of one thread per core in every child would only fight the other children for the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def metrics_dir() -> str | None:
    """The folder where the processes of one server share their metrics; None with a single process."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")


def share_folder() -> bool:
    """Make the folder where this process and those that it starts share their metrics and the children that look.

    prometheus_client reads its name when it is imported: the caller has to begin anew where there was none.

    Returns:
        False when this process, before it began anew, has made one already.
    """
    mark = f"imgdetect-{os.getpid()}-"
    if Path(metrics_dir() or "").name.startswith(mark):
        return False
    folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=mark)
    os.environ[f"{PREFIX}POOL_DIR"] = folder
    return True


def remove_shared_folder() -> None:
    """Remove what `share_folder` made."""
    shutil.rmtree(str(metrics_dir()), ignore_errors=True)
