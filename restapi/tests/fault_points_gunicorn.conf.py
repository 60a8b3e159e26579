"""gunicorn as the project starts it, with places to fail: see fault_points.py."""

from pathlib import Path

_conf = Path(__file__).parents[1] / "gunicorn.conf.py"
exec(compile(_conf.read_text("utf-8"), str(_conf), "exec"))


def post_worker_init(worker):
    """Watch what requests change."""
    from tests import fault_points

    fault_points.install()
    worker.wsgi.wsgi_app = fault_points.FaultPoints(worker.wsgi.wsgi_app)
