"""The WSGI door for hosts that run Passenger, such as cPanel's: a thin relay to one hub on a Unix socket.

Passenger keeps several processes of this door, each with one request at a time, and ends them as it likes.
So the hub is a process of its own: whoever calls first starts it, everybody relays to it, and when it is
gone the next caller starts another. `deploy/cpanel/passenger_wsgi.py` is what Passenger loads.
"""

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, InvalidURL
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from .errors import HubAbsent, HubError, HubStopped, InvalidRequest
from .rules.openai import DONE, error_event
from .settings import SettingsError, load

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]

SOCKET = "hub.sock"
LOG = "hub.log"
STARTING = "start.lock"
LARGEST_LOG = 5 * 1024 * 1024
START_S = 20.0
"""How long a hub may take to listen; it waits for the one before it for half of that."""
LOOK_S = 0.02
SILENCE_S = 900.0
"""A hub that says nothing for longer is given up; it keeps every stream alive, and no request lasts so long."""
PIECE = 64 * 1024
HARMLESS = {"GET", "HEAD", "OPTIONS"}
"""Asked again when the hub dies before it answers: nothing can happen twice."""
HOP_BY_HOP = {
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class Door:
    """The WSGI application. `root` is the folder with `hub.toml`, where the hub works."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._environ = os.environ | {"HUB_HOSTING_KIND": "shared"}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._ask(environ)
        except HubError as error:
            return _refuse(error, start_response)
        answer.begin(start_response)
        return answer

    def _ask(self, environ: Environ) -> "Answer":
        """The hub's answer. Raises HubAbsent, HubStopped, InvalidRequest."""
        try:
            return _relay(environ, self._connect())
        except HubStopped:
            if environ["REQUEST_METHOD"] not in HARMLESS:
                raise
            return _relay(environ, self._connect())

    def _connect(self) -> "HubConnection":
        """A connection to the hub, which is started if need be. Raises HubAbsent."""
        try:
            data = self._root / load(environ=self._environ, directory=self._root).data
            connection = HubConnection(data / SOCKET)
            if not connection.opens():
                self._start(data, connection)
        except (SettingsError, OSError) as error:
            print(f"lmarena-hub: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the host's error log
            raise HubAbsent(retry_after=5) from None
        return connection

    def _start(self, data: Path, connection: "HubConnection") -> None:
        """Whoever is first starts the hub; the others wait until it listens. Raises HubAbsent."""
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(data / STARTING):
            if connection.opens():
                return
            hub = self._run_hub(data)
            deadline = time.monotonic() + START_S
            while not connection.opens():
                if hub.poll() is not None or time.monotonic() > deadline:
                    raise HubAbsent(retry_after=5)
                time.sleep(LOOK_S)

    def _run_hub(self, data: Path) -> "subprocess.Popen[bytes]":
        """The hub in a session of its own, so that it outlives the process that started it."""
        with _log(data / LOG) as log:
            hub = subprocess.Popen(  # noqa: S603 - our own program
                [_python(), "-m", "hub", "serve", "--unix", str(data / SOCKET)],
                cwd=self._root,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Somebody must hear of its end, or it would stay behind as a zombie.
        threading.Thread(target=hub.wait, name="the hub's end", daemon=True).start()
        return hub


def _python() -> str:
    """This environment's Python; where Python is embedded, as in LiteSpeed, the executable is another."""
    own = Path(sys.prefix) / "bin" / "python"
    return str(own) if own.exists() else sys.executable


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _log(path: Path) -> Iterator[BinaryIO]:
    with suppress(FileNotFoundError):
        if path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".log.old"))
    with path.open("ab") as log:
        path.chmod(0o600)
        yield log


class HubConnection(HTTPConnection):
    """A connection to the hub's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("hub", timeout=SILENCE_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise

    def opens(self) -> bool:
        """Whether a hub listens there; then the connection is open."""
        try:
            self.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def _relay(environ: Environ, connection: HubConnection) -> "Answer":
    """Send a caller's request on, and wait for the answer's head. Raises HubStopped, InvalidRequest."""
    try:
        # A hub that refuses a body does so before it has read all of it, and hangs up.
        with suppress(BrokenPipeError, ConnectionResetError):
            _send(environ, connection)
        return Answer(connection, connection.getresponse())
    except (InvalidURL, ValueError):
        connection.close()
        message = "The request's first line or a header holds a forbidden character."
        raise InvalidRequest(message) from None
    except (HTTPException, OSError):
        connection.close()
        raise HubStopped from None


def _send(environ: Environ, connection: HubConnection) -> None:
    connection.putrequest(
        environ["REQUEST_METHOD"], _target(environ), skip_host=True, skip_accept_encoding=True
    )
    for name, value in _headers(environ):
        connection.putheader(name, value)
    connection.endheaders()
    for piece in _body(environ):
        connection.send(piece)


def _target(environ: Environ) -> str:
    """Path and query as the caller wrote them, below the address at which the application stands."""
    prefix: str = environ.get("SCRIPT_NAME", "")
    written: str = environ.get("REQUEST_URI", "")
    if written.startswith(prefix + "/"):
        return written.removeprefix(prefix)
    path: str = environ.get("PATH_INFO") or "/"
    query = environ.get("QUERY_STRING")
    return f"{path}?{query}" if query else path


def _headers(environ: Environ) -> Iterator[tuple[str, str]]:
    """The caller's headers, and what a proxy adds: the caller's address, and how it came."""
    for key, value in environ.items():
        name = key[5:].replace("_", "-").lower()
        if (
            key.startswith("HTTP_")
            and name not in HOP_BY_HOP
            and not name.startswith("x-forwarded-")
        ):
            yield name, value
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            yield key.replace("_", "-").lower(), environ[key]
    if _comes_in_chunks(environ):
        yield "transfer-encoding", "chunked"
    before = environ.get("HTTP_X_FORWARDED_FOR")
    address = environ.get("REMOTE_ADDR", "")
    yield "x-forwarded-for", f"{before}, {address}" if before else address
    yield "x-forwarded-proto", environ.get("wsgi.url_scheme", "http")
    yield "connection", "close"


def _comes_in_chunks(environ: Environ) -> bool:
    return "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH")


def _body(environ: Environ) -> Iterator[bytes]:
    """What is to be sent after the head. Raises HTTPException if the caller hangs up midway."""
    source = environ["wsgi.input"]
    if _comes_in_chunks(environ):
        while piece := source.read(PIECE):
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"
        return
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left:
        piece = source.read(min(left, PIECE))
        if not piece:
            raise IncompleteRead(b"", left)
        left -= len(piece)
        yield piece


class Answer:
    """The hub's answer on its way: every piece at once, and an end that is not a clean one is told."""

    def __init__(self, connection: HubConnection, response: HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def begin(self, start_response: StartResponse) -> None:
        response = self._response
        headers = [(k, v) for k, v in response.getheaders() if k.lower() not in HOP_BY_HOP]
        start_response(f"{response.status} {response.reason}", headers)

    def __iter__(self) -> Iterator[bytes]:
        try:
            while piece := self._response.read1(PIECE):
                yield piece
            if self._response.length:
                raise IncompleteRead(b"", self._response.length)
        except (HTTPException, OSError):
            if not self._is_stream:
                raise  # its Content-Length tells the caller that something is missing
            # A server in front would end this as if all had come.
            yield b"\n\n" + error_event(HubStopped()) + DONE

    @property
    def _is_stream(self) -> bool:
        return (self._response.getheader("Content-Type") or "").startswith("text/event-stream")

    def close(self) -> None:
        """The caller has everything, or has left: then the hub hears of it by this."""
        self._response.close()
        self._connection.close()


def _refuse(error: HubError, start_response: StartResponse) -> list[bytes]:
    body = orjson.dumps(error.body())
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(
        f"{error.status} {HTTPStatus(error.status).phrase}", headers + list(error.headers().items())
    )
    return [body]
