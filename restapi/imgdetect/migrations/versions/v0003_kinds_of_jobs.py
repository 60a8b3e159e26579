"""Kinds of jobs: batches with their children, progress, files that a job made, and callbacks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MAY_BE_MISSING = {
    "parent_id": sa.Text,
    "position": sa.Integer,
    "total": sa.Integer,
    "done": sa.Integer,
    "failed": sa.Integer,
    "artifacts": sa.JSON,
    "callback_url": sa.Text,
    "callback_state": sa.Text,
    "callback_attempts": sa.Integer,
    "callback_at": sa.BigInteger,
}


def upgrade() -> None:
    """Add the columns; every job so far is one of a single image."""
    op.add_column("jobs", sa.Column("kind", sa.Text, nullable=False, server_default="image"))
    for name, kind in _MAY_BE_MISSING.items():
        op.add_column("jobs", sa.Column(name, kind))
    op.create_index("jobs_of_parent", "jobs", ["parent_id", "position"])
    op.create_index("jobs_by_callback", "jobs", ["callback_at"])


def downgrade() -> None:
    """Drop the columns, and the jobs that make no sense without them."""
    op.execute("DELETE FROM jobs WHERE kind <> 'image' OR parent_id IS NOT NULL")
    op.drop_index("jobs_by_callback", "jobs")
    op.drop_index("jobs_of_parent", "jobs")
    for name in ("kind", *_MAY_BE_MISSING):
        op.drop_column("jobs", name)
