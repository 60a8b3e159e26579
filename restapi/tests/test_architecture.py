"""Imports point down only, and each library lives in few files."""

import ast
import functools
import unittest
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "imgdetect"
RANKS = (
    {
        "addresses",
        "detection",
        "errors",
        "config",
        "backends",
        "breaker",
        "metrics",
        "logs",
        "clock",
        "parameters",
        "nursery",
        "catalogue",
        "fetching",
    },
    {
        *{"archives", "datasets", "outgoing", "headers", "tiff", "tracks", "video_files", "video_headers"},
        *{"boxes", "masks", "images", "annotate", "augment", "processing"},
    },
    {
        *{"detectors", "storages", "queues", "cache", "redis_cache", "pool"},
        *{
            "database",
            "detector_rows",
            "job_rows",
            "verdict_rows",
            "processed_rows",
            "feedback_rows",
            "schema",
            "connections",
            "postgresql",
            "migrations",
        },
    },
    {
        "attempts",
        "equipment",
        "pipeline",
        "records",
        "documents",
        "cascades",
        "models",
        "several",
        "remote",
        "exports",
        "video",
    },
    {"service"},
    {"jobs", "callbacks", "videos"},
    {"housekeeping", "batches"},
    {"web", "cli", "model_commands", "dataset_commands", "wsgi", "worker"},
)
HOMES = {
    "flask": {"web", "wsgi"},
    "werkzeug": {"web"},
    "flasgger": {"web"},
    "flask_limiter": {"web/limits"},
    "cv2": {"images", "processing", "annotate", "augment", "boxes", "masks", "detectors"},
    "fasthaar": {"detectors/_engines"},
    "onnxruntime": {"detectors/_session", "detectors/_smaller"},
    "onnx": {"detectors/_smaller"},
    "PIL": set(),  # headers are read with bounded walks of our own
    "sqlalchemy": {
        "database",
        "detector_rows",
        "job_rows",
        "verdict_rows",
        "processed_rows",
        "feedback_rows",
        "connections",
        "postgresql",
        "schema",
        "migrations",
    },
    "alembic": {"database", "connections", "migrations"},
    "psycopg": {"postgresql"},
    "cachetools": {"cache"},
    "redis": {"redis_cache"},
    "prometheus_client": {"metrics"},
    "boto3": {"storages/s3"},
    "botocore": {"storages/s3"},
    "structlog": {"logs"},
    "av": {"video_files"},
    "click": {"cli", "model_commands", "dataset_commands"},
    "tqdm": {"cli", "model_commands"},
    "celery": {"queues/celery"},
    "kombu": {"queues/celery"},
}
DATABASE = {
    "database",
    "detector_rows",
    "job_rows",
    "verdict_rows",
    "processed_rows",
    "feedback_rows",
    "connections",
    "postgresql",
    "schema",
    "migrations",
}
SEAMS = 2
MAX_LINES = 400


@functools.cache
def modules() -> dict[str, ast.Module]:
    """The parsed modules by path below the package, without suffix."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {p.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(p.read_text("utf-8")) for p in paths}


def imported(tree: ast.Module) -> set[str]:
    """Dotted names of everything a module imports; `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rank(name: str) -> int:
    return next(i for i, members in enumerate(RANKS) if name in members)


class ArchitectureTest(unittest.TestCase):
    def test_every_module_has_a_rank(self):
        known = set().union(*RANKS) | {"__init__", "__main__"}
        self.assertEqual({name.split("/")[0] for name in modules()} - known, set())

    def test_imports_point_down_only(self):
        wrong = []
        for name, tree in modules().items():
            here = name.split("/")[0]
            if here in ("__init__", "__main__"):
                continue
            for target in imported(tree):
                parts = target.split(".")
                if parts[0] != "imgdetect" or len(parts) < 2 or parts[1] in (here, "__version__"):
                    continue
                one_part = {here, parts[1]} <= DATABASE
                if rank(parts[1]) > rank(here) or (rank(parts[1]) == rank(here) == SEAMS and not one_part):
                    wrong.append(f"{name} imports {target}")
        self.assertEqual(wrong, [])

    def test_backends_of_a_seam_never_import_each_other(self):
        wrong = []
        for name, tree in modules().items():
            folder, _, file = name.partition("/")
            if folder in ("detectors", "storages", "queues") and file not in ("__init__", ""):
                siblings = {t.split(".")[2] for t in imported(tree) if t.startswith(f"imgdetect.{folder}.")}
                files = {other.rpartition("/")[2] for other in modules() if other.startswith(f"{folder}/")}
                wrong += [f"{name}: {s}" for s in siblings & files if not s.startswith("_")]
        self.assertEqual(wrong, [])

    def test_each_library_lives_in_few_files(self):
        wrong = []
        for name, tree in modules().items():
            for target in imported(tree):
                homes = HOMES.get(target.split(".")[0])
                if homes is not None and not any(name == h or name.startswith(f"{h}/") for h in homes):
                    wrong.append(f"{name} imports {target}")
        self.assertEqual(wrong, [])

    def test_the_environment_is_read_in_config_only(self):
        wrong = []
        for name, tree in modules().items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv"):
                    of_os = isinstance(node.value, ast.Name) and node.value.id == "os"
                    if of_os and name != "config":
                        wrong.append(f"{name}:{node.lineno}")
        self.assertEqual(wrong, [])

    def test_only_service_jobs_housekeeping_and_the_ways_in_see_the_settings(self):
        seen = {name.split("/")[0] for name, tree in modules().items() if "imgdetect.config.Settings" in imported(tree)}
        known = {"service", "equipment", "jobs", "housekeeping", "web", "cli", "model_commands", "wsgi", "worker"}
        self.assertLessEqual(seen, known)

    def test_no_module_is_longer_than_400_lines(self):
        long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text("utf-8").splitlines())) > MAX_LINES}
        self.assertEqual(long, {})
