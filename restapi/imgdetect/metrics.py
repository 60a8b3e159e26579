"""Every counter and histogram of the service."""

from __future__ import annotations

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from imgdetect.config import metrics_dir

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

requests_total = Counter("http_requests_total", "Requests answered", ["method", "endpoint", "status_code"])
request_seconds = Histogram(
    "http_request_duration_seconds",
    "Time from the first byte read to the answer",
    ["method", "endpoint"],
    buckets=_SECONDS,
)
step_seconds = Histogram(
    "imgdetect_step_seconds", "Time of one step of a look at a picture", ["step"], buckets=_SECONDS
)
looks_total = Counter("imgdetect_looks_total", "Pictures looked at, by how it ended", ["detector", "outcome"])
detections_total = Counter("imgdetect_detections_total", "Objects found", ["detector", "class_name"])
cache_total = Counter(
    "imgdetect_cache_total", "Cache look-ups: hit or miss; error: the cache did not answer", ["outcome"]
)
rate_limit_total = Counter(
    "imgdetect_rate_limit_total", "Requests refused by the rate limit, or counted without the Redis", ["outcome"]
)
children_replaced_total = Counter("imgdetect_children_replaced_total", "Children ended early, by reason", ["reason"])
jobs_total = Counter("imgdetect_jobs_total", "Jobs ended, by state", ["state"])
callbacks_total = Counter("imgdetect_callbacks_total", "Attempts at callbacks, by how they ended", ["outcome"])
pruned_total = Counter("imgdetect_pruned_total", "Records and files removed by pruning", ["what"])
upload_bytes = Histogram(
    "image_size_bytes", "Size of uploads", buckets=(1e3, 1e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7)
)
video_frames_total = Counter("imgdetect_video_frames_total", "Frames of finished videos", ["what"])
model_load_seconds = Histogram(
    "model_load_time_seconds", "Time to load a network, at its first look in a child", buckets=_SECONDS
)
classifications_total = Counter(
    "image_classifications_total",
    "Classifications asked for by the dialects, by how they ended",
    ["model_name", "status"],
)
classification_seconds = Histogram(
    "image_classification_duration_seconds", "Time of such a classification, from the picture read", buckets=_SECONDS
)
classification_confidence = Histogram(
    "image_classification_confidence",
    "Confidence of the surest class of such a classification",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1),
)
slots_busy = Gauge("imgdetect_slots_busy", "Slots in use", multiprocess_mode="mostrecent")
line_waiting = Gauge("imgdetect_line_waiting", "Requests waiting for a slot", multiprocess_mode="mostrecent")


def observe_steps(timings_ms: dict[str, float]) -> None:
    """Enter the times of one look, milliseconds by step."""
    for step, milliseconds in timings_ms.items():
        step_seconds.labels(step).observe(milliseconds / 1000)
        if step == "load":
            model_load_seconds.observe(milliseconds / 1000)


def exposition() -> bytes:
    """The text exposition format, of all processes of this server together."""
    if not metrics_dir():
        return generate_latest(PROCESS_REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
