"""Security of all requests: allowed hosts and origins, security headers, and no stack traces in responses."""

from __future__ import annotations

import ipaddress
import logging
from typing import Any, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from .answers import refuse
from .limits import Refusal

logger = logging.getLogger(__name__)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": browsers would then also hide the origin of this server's own forms.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
FAILED = Refusal(500, "failed", "Internal error: see the log of the server.")


class Guard:
    """ASGI middleware that checks requests and adds security headers.

    Args:
        app: the application.
        hosts: host names that requests may use in addition to IP addresses and ``localhost``. Other names are
            refused, as they may belong to a web site that uses DNS rebinding.
    """

    def __init__(self, app: Any, hosts: Iterable[str] = ()):
        self.app = app
        self.hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._admit(scope["method"], Headers(scope=scope))
            await self.app(scope, receive, send_guarded)
        except Refusal as refusal:
            await refuse(refusal, scope["path"])(scope, receive, send_guarded)
        except Exception:
            logger.exception(f"{scope['method']} {scope['path'][:100]!r} failed")
            if not started:
                await refuse(FAILED, scope["path"])(scope, receive, send_guarded)

    def _admit(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refusal(421, "unknown-host", "Unknown host name: start the server with --allow-host to allow it.")
        if method in ("GET", "HEAD"):
            return
        origin = headers.get("origin")
        foreign = origin is not None and _network_location(origin) != host.lower()
        if foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refusal(403, "foreign-origin", "Requests from pages of other sites are not allowed.")

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name.rstrip(".") in self.hosts or _is_address(name)


def _network_location(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
