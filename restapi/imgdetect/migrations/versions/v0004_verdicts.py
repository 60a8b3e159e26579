"""What people say of detections: right, wrong, or missing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("record_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("detector", sa.Text, nullable=False),
        sa.Column("class_name", sa.Text),
        sa.Column("x", sa.Integer),
        sa.Column("y", sa.Integer),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("note", sa.Text),
    )
    op.create_index("verdicts_of_record", "verdicts", ["record_id", "created_at", "id"])
    op.create_index("verdicts_of_owner", "verdicts", ["owner", "detector", "verdict", "x"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("verdicts")
