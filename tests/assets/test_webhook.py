"""What answers at the webhook is not trusted: slow, endless, leading away or broken, it costs ten seconds at most."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from gradsentry_assets.http_post import NotDelivered, post


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server of raw bytes; gives its URL and what it was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                asked.append(peer.recv(65536))
                with suppress(OSError):  # hung up on
                    answer(peer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook?x=1", asked
    finally:
        listener.close()


def test_a_message_gets_through() -> None:
    with server(lambda peer: peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")) as (url, asked):
        post(url, {"text": "hello"})
    assert asked[0].startswith(b"POST /hook?x=1 HTTP/1.1\r\n")


def test_a_redirect_is_not_followed() -> None:
    with server(lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as (inner, inside):
        for status in (301, 302, 303, 307, 308):
            moved = f"HTTP/1.1 {status} Moved\r\nLocation: {inner}\r\nContent-Length: 0\r\n\r\n".encode()
            with (
                server(lambda peer, moved=moved: peer.sendall(moved)) as (url, asked),
                pytest.raises(NotDelivered, match=f"redirect .{status}., which is not followed"),
            ):
                post(url, {})
            assert len(asked) == 1
        assert inside == []


def drip(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        peer.sendall(b"a")
        time.sleep(0.02)


def test_silence_and_dripping_end_at_the_time_limit() -> None:
    for answer in (lambda peer: threading.Event().wait(2), drip):
        with server(answer) as (url, _), pytest.raises(NotDelivered, match=r"no answer within 0.2 s|timed out"):
            post(url, {}, timeout=0.2)


def test_an_endless_answer_is_not_read() -> None:
    sent = []

    def flood(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(peer.send(b"x" * 65536))

    with server(flood) as (url, _):
        post(url, {})
    assert sum(sent) < 64 << 20


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 503 \x1b[31m\r\n\r\n",
        b"\x00\xff" * 50,
    ],
)
def test_broken_answers_are_told_not_raised(answer: bytes) -> None:
    with server(lambda peer: peer.sendall(answer)) as (url, _), pytest.raises(NotDelivered) as told:
        post(url, {})
    assert len(str(told.value)) < 500


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hostname", "nonsense", "http://", "http://h:99999/", "http://a b/", "http://u:p@h/", "http://[/"],
)
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(NotDelivered):
        post(url, {})


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        server(lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as (proxy, through),
        server(lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as (url, asked),
    ):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        post(url, {})
        assert (len(asked), through) == (1, [])
        monkeypatch.setenv("GRADSENTRY_WEBHOOK_PROXY", proxy)
        with pytest.raises(NotDelivered):
            post("http://nowhere.invalid/hook", {})  # this proxy's peer is no HTTP server behind the tunnel
        assert through[0].startswith(b"CONNECT nowhere.invalid:80")
