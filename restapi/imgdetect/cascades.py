"""Cascades that clients upload: tried out, kept in canonical form, and used by name by their owner alone.

Nothing of them is remembered outside the database, so that a detector that was made, deleted or made anew is so for
every process at once. What a child keeps loaded is asked for by its content.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from imgdetect.clock import now_us
from imgdetect.database import Database
from imgdetect.detection import UploadedCascade
from imgdetect.detectors import Detector, haar
from imgdetect.errors import (
    Conflict,
    EngineUnavailable,
    Forbidden,
    InvalidRequest,
    NotFound,
    Problem,
    TooManyRequests,
    UploadTooLarge,
)
from imgdetect.parameters import CascadeParameters, is_cascade_name
from imgdetect.pool import ProcessPool


class Limits(NamedTuple):
    """What this server allows."""

    cascades_per_key: int
    min_scale_factor: float
    working_pixels: int
    trial_seconds: float  # a trial takes no longer, the wait for a child included


class Own(NamedTuple):
    """A detector of a client's own."""

    cascade: UploadedCascade
    detector: Detector


class Cascades:
    """The uploaded cascades. Every method sees and touches only what belongs to the owner that it is given.

    Args:
        reserved: the names of the server's own detectors, which cannot be taken.

    Raises (all methods): a Problem, see errors.py.
    """

    def __init__(self, database: Database, pool: ProcessPool, reserved: Collection[str], limits: Limits) -> None:
        self._rows = database.detectors
        self._take_lease = database.take_lease
        self._pool = pool
        self._reserved = reserved
        self._limits = limits

    def admit(self, owner: str) -> None:
        """Refuse those who may not upload at all, before anything of the request is read."""
        if not owner:
            raise Forbidden("A detector belongs to an API key, and this server has none: see IMGDETECT_API_KEYS.")
        if not self._limits.cascades_per_key:
            raise Forbidden("This server takes no cascades: its IMGDETECT_MAX_CASCADES_PER_KEY is 0.")
        self._must_have_engine()

    def add(self, data: bytes, asked: CascadeParameters, owner: str) -> Own:
        """Try a cascade out and keep it.

        Args:
            data: the file as it was sent.
        """
        self.admit(owner)
        if len(data) > haar.MAX_BYTES:
            raise UploadTooLarge(f"A cascade may have {haar.MAX_BYTES} bytes.", max_bytes=haar.MAX_BYTES)
        if asked.name in self._reserved:
            raise Conflict(f"{asked.name!r} is a detector of this server; choose another name.")
        least = self._limits.min_scale_factor
        if asked.scale_factor is not None and asked.scale_factor < least:
            raise InvalidRequest.field("scale_factor", f"should be at least {least:g} on this server")
        self._rows.must_have_room(owner, asked.name, self._limits.cascades_per_key)
        with self._alone(owner):
            file: haar.CascadeFile = self._pool.run(1, "try_cascade", data)
            cascade = UploadedCascade(
                owner=owner,
                name=asked.name,
                created_at=now_us(),
                class_name=asked.class_name or asked.name,
                parameters=asked.model_dump(mode="json", exclude={"name", "class_name"}, exclude_none=True),
                sha256=file.sha256,
                size_bytes=len(file.xml),
                window_width=file.window_wh[0],
                window_height=file.window_wh[1],
                stages=file.stages,
            )
            self._rows.add(cascade, file.xml, self._limits.cascades_per_key)
        return self._own(cascade)

    def find(self, name: str, owner: str) -> Own | None:
        """The owner's detector of a name."""
        cascade = self._rows.get(owner, name) if owner and is_cascade_name(name) else None
        return self._own(cascade) if cascade else None

    def all_of(self, owner: str) -> list[Own]:
        """The owner's detectors, by name; not those whose name the server has given to one of its own since."""
        cascades = self._rows.all_of(owner) if owner else []
        return [self._own(cascade) for cascade in cascades if cascade.name not in self._reserved]

    def xml(self, cascade: UploadedCascade) -> bytes:
        """The cascade itself, for the child that looks with it."""
        self._must_have_engine()
        xml = self._rows.xml(cascade)
        if xml is None:
            raise InvalidRequest.field("detector", f"{cascade.name!r} was deleted in the meantime")
        return xml

    def delete(self, name: str, owner: str) -> None:
        """Remove a detector. Looks that have begun go on with their copy."""
        if owner and is_cascade_name(name) and self._rows.delete(owner, name):
            return
        if name in self._reserved:
            raise Forbidden(f"{name!r} is a detector of this server, which only its operator can take away.")
        raise NotFound("There is no detector of yours with this name.")

    def _own(self, cascade: UploadedCascade) -> Own:
        return Own(cascade, haar.uploaded(cascade, self._limits.working_pixels))

    @staticmethod
    def _must_have_engine() -> None:
        if haar.MISSING:
            raise EngineUnavailable("They need the engine fasthaar, which could not be loaded when the server started.")

    @contextmanager
    def _alone(self, owner: str) -> Iterator[None]:
        """One trial of an owner at a time, in all processes: trials are work, and their number is to be kept."""
        name, holder = f"cascade of {owner}", secrets.token_hex(8)
        if not self._take_lease(name, holder, self._limits.trial_seconds):
            raise TooManyRequests("Another cascade of this key is being tried out; send this one after it.")
        try:
            yield
        finally:
            with suppress(Problem):  # it runs out by itself
                self._take_lease(name, holder, 0)
