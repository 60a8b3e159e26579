"""The tables. Times are microseconds since the epoch, so that both databases store and compare them alike."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

# The newest migration in migrations/versions.
HEAD = "0006"

metadata = MetaData()
_json = JSON(none_as_null=True)

# The columns of the first two tables are the fields of the dataclasses Record and Job.
records = Table(
    "records",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("filename", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("detector", Text, nullable=False),
    Column("parameters", _json, nullable=False),
    Column("result", _json, nullable=False),
    Column("original_key", Text),
    Column("processed_key", Text),
    Column("processed_media_type", Text),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Index("records_of_owner", "owner", "created_at", "id"),
    Index("records_of_name", "owner", "filename", "created_at", "id"),
    # Holds the size too, so that the sum over all records reads this index alone.
    Index("records_by_age", "created_at", "id", "stored_bytes"),
    Index("records_idempotent", "owner", "idempotency_key", unique=True),
    Index("records_of_original", "original_key"),
    Index("records_of_processed", "processed_key"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("filename", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("original_key", Text),
    Column("options", _json, nullable=False),
    Column("keep_original", Boolean, nullable=False),
    Column("record_id", Text),
    Column("problem", _json),
    Column("finished_at", BigInteger),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("kind", Text, nullable=False),
    Column("parent_id", Text),
    Column("position", Integer),
    Column("total", Integer),
    Column("done", Integer),
    Column("failed", Integer),
    Column("artifacts", _json),
    Column("callback_url", Text),
    Column("callback_state", Text),
    Column("callback_attempts", Integer),
    Column("callback_at", BigInteger),
    Index("jobs_by_state", "state", "created_at"),
    Index("jobs_by_end", "finished_at"),
    Index("jobs_of_parent", "parent_id", "position"),
    Index("jobs_by_callback", "callback_at"),
    Index("jobs_idempotent", "owner", "idempotency_key", unique=True),
    Index("jobs_of_original", "original_key"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("held_until", BigInteger, nullable=False),
)

# Besides the fields of UploadedCascade, the cascade itself: in one row they cannot disagree.
detectors = Table(
    "detectors",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("class_name", Text, nullable=False),
    Column("parameters", _json, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("window_width", Integer, nullable=False),
    Column("window_height", Integer, nullable=False),
    Column("stages", Integer, nullable=False),
    Column("xml", LargeBinary, nullable=False),
)

# What people say of detections. A row has the box it is about, for the record may be looked at again.
verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("record_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("detector", Text, nullable=False),
    Column("class_name", Text),
    Column("x", Integer),
    Column("y", Integer),
    Column("width", Integer),
    Column("height", Integer),
    Column("note", Text),
    Index("verdicts_of_record", "record_id", "created_at", "id"),
    Index("verdicts_of_owner", "owner", "detector", "verdict", "x"),
)

processed_images = Table(
    "processed_images",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("filename", Text, primary_key=True),  # in the dataset
    Column("scale", Float, nullable=False),
    Column("processed_at", BigInteger, nullable=False),
    Index("processed_images_by_age", "owner", "processed_at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("report", Text, nullable=False),  # as it was sent
    Index("feedback_by_age", "owner", "created_at"),
)
