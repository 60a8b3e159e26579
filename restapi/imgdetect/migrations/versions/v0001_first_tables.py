"""Records, jobs and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "records",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("detector", sa.Text, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
        sa.Column("original_key", sa.Text),
        sa.Column("processed_key", sa.Text),
        sa.Column("processed_media_type", sa.Text),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.Text),
    )
    op.create_index("records_of_owner", "records", ["owner", "created_at", "id"])
    op.create_index("records_of_name", "records", ["owner", "filename", "created_at", "id"])
    op.create_index("records_by_age", "records", ["created_at", "id", "stored_bytes"])
    op.create_index("records_idempotent", "records", ["owner", "idempotency_key"], unique=True)
    op.create_index("records_of_original", "records", ["original_key"])
    op.create_index("records_of_processed", "records", ["processed_key"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("original_key", sa.Text),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("keep_original", sa.Boolean, nullable=False),
        sa.Column("record_id", sa.Text),
        sa.Column("problem", sa.JSON),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.Text),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "created_at"])
    op.create_index("jobs_by_end", "jobs", ["finished_at"])
    op.create_index("jobs_idempotent", "jobs", ["owner", "idempotency_key"], unique=True)
    op.create_index("jobs_of_original", "jobs", ["original_key"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("held_until", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("leases", "jobs", "records"):
        op.drop_table(table)
