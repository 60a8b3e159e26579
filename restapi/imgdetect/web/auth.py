"""Who may ask: API keys where some are configured; on an open server only this machine's own pages and programs."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from flask import Request

from imgdetect.config import Settings
from imgdetect.detection import sha256_of
from imgdetect.errors import Forbidden, Unauthorized

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class Gate:
    """Lets requests in. Built once from the settings."""

    def __init__(self, settings: Settings) -> None:
        entries = (entry.split(":") for entry in settings.api_keys.split())
        self._owners = [(digest, name) for name, digest in entries]
        self._hosts = set(settings.allowed_hosts.lower().split())
        self._origins = set(settings.cors_origins.split())

    @property
    def open(self) -> bool:
        """Whether no key is configured."""
        return not self._owners

    def owner(self, request: Request, form_key: str = "") -> str:
        """The name of the key that a request carries; "" on an open server.

        Args:
            form_key: a key from a form field, for pages that can send no header.
        Raises:
            Unauthorized: there is no key, or nobody has it.
        """
        if self.open:
            return ""
        given = request.headers.get("x-api-key", "") or form_key
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not given and scheme.lower() == "bearer":
            given = token.strip()
        if not given:
            raise Unauthorized("Send the key as 'x-api-key: KEY' or 'Authorization: Bearer KEY'.")
        digest = sha256_of(given.encode("utf-8", "surrogateescape"))
        found = ""
        for known, name in self._owners:  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = name
        if not found:
            raise Unauthorized("This key is not known here.")
        return found

    def refuse_strangers(self, request: Request) -> None:
        """Keep foreign pages away from an open server, where being able to connect is all the permission one needs.

        Raises:
            Forbidden: the Host is not one of ours (DNS rebinding), or another site's page sent a write.
        """
        if not self.open:
            return
        host = (urlsplit(f"//{request.host}").hostname or "").lower()
        host = f"[{host}]" if ":" in host else host
        if "*" not in self._hosts and host not in self._hosts:
            raise Forbidden(
                "This server has no API keys and does not answer to this host name. Add the name to"
                " IMGDETECT_ALLOWED_HOSTS, or configure IMGDETECT_API_KEYS."
            )
        if request.method in _SAFE_METHODS:
            return
        origin = request.headers.get("Origin")
        if origin in self._origins:
            return
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != request.host.lower()
        if foreign or site not in ("same-origin", "none"):
            raise Forbidden("Pages of other sites may not write here. IMGDETECT_CORS_ORIGINS lists those that may.")

    def allows_origin(self, origin: str | None) -> bool:
        """Whether pages of an origin may call the API."""
        return origin in self._origins

    @property
    def has_origins(self) -> bool:
        """Whether any foreign origin may call the API."""
        return bool(self._origins)
