"""Pictures of the dataset that were processed, so that they may be looked at by id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "processed_images",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("filename", sa.Text, primary_key=True),
        sa.Column("scale", sa.Float, nullable=False),
        sa.Column("processed_at", sa.BigInteger, nullable=False),
    )
    op.create_index("processed_images_by_age", "processed_images", ["owner", "processed_at"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("processed_images")
