"""One message to a webhook, bounded in every direction: whatever answers there cannot hold up, lead away or fill us.

No redirect is followed: it could lead the message to an address inside (a metadata service, this machine). No proxy
of the environment is used, only one that GRADSENTRY_WEBHOOK_PROXY names. Of the answer only the status is looked at.
"""

import http.client
import json
import socket
import threading
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gradsentry_lib import settings

TIMEOUT = 10.0  # seconds for one post, from the look-up of the name to the answer's status


class NotDelivered(Exception):
    """The message did not get through; the text says why."""


def post(url: str, value: dict[str, Any], timeout: float = TIMEOUT) -> None:
    """Posts `value` as JSON. Raises NotDelivered, after `timeout` seconds at the latest."""
    outcome: list[Exception | int] = []
    try:
        connection, path = _connection(urlsplit(url), timeout)
        body = json.dumps(value).encode()
    except ValueError as error:
        raise NotDelivered(str(error)) from None

    def send() -> None:
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            outcome.append(connection.getresponse().status)
        except Exception as error:  # whatever it is: it is told, not raised in a thread
            outcome.append(error)
        finally:
            connection.close()

    # A timeout of a socket is one of silence: who sends a byte now and then would never meet it.
    sender = threading.Thread(target=send, daemon=True, name="webhook")
    sender.start()
    sender.join(timeout)
    if not outcome:
        _hang_up(connection)
        raise NotDelivered(f"no answer within {timeout:g} s")
    _judge(outcome[0])


def _connection(url: SplitResult, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("GRADSENTRY_WEBHOOK is no http(s) URL of the form https://host/path")
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    proxy = urlsplit(settings.value("webhook_proxy") or "")
    try:
        if not proxy.hostname:
            return kind(url.hostname, url.port, timeout=timeout), path
        connection = kind(proxy.hostname, proxy.port, timeout=timeout)
        connection.set_tunnel(url.hostname, url.port)
    except http.client.HTTPException as error:
        raise ValueError(f"GRADSENTRY_WEBHOOK cannot be used: {error}") from None
    return connection, path


def _hang_up(connection: http.client.HTTPConnection) -> None:
    try:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread
    except OSError:
        pass


def _judge(outcome: Exception | int) -> None:
    if isinstance(outcome, Exception):
        raise NotDelivered(str(outcome) or type(outcome).__name__) from outcome
    if 300 <= outcome < 400:
        raise NotDelivered(f"answered with a redirect ({outcome}), which is not followed: name its target instead")
    if not 200 <= outcome < 300:
        raise NotDelivered(f"HTTP Error {outcome}: {http.client.responses.get(outcome, '')}".rstrip(": "))
