"""A class's votes and pages, served from the lecturer's laptop to phones in the same room.

Nothing is served but the pages, the question that is open, and its counts; nothing is written but guesses,
into a file that ``course.tally`` reads. A random cookie makes it one vote a phone. No name is asked for.
"""

import ast
import json
import math
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import segno

from orthoviz.course.tally import record, tally
from orthoviz.lab import find_lesson, notebooks

_MOST_BYTES, _MOST_PHONES = 1024, 2000
_BURST, _A_SECOND = 500, 100  # votes at once, and in each second after that
_TYPES = {".html": "text/html; charset=utf-8", ".png": "image/png"}


class Question(NamedTuple):
    """What phones are asked: one of ``choices``, or a number from ``low`` to ``high``."""

    text: str
    choices: list[str]
    low: float
    high: float
    unit: str


class Refused(Exception):  # noqa: N818
    """A request that gets this status and changes nothing."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


def questions(lesson: str) -> Iterator[Question]:
    """The guesses that a lesson asks for, from its notebook.

    Args:
        lesson: its name, or how that begins: ``"01"``.
    """
    notebook = json.loads((notebooks() / f"{find_lesson(lesson)}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "course.predict(" not in source:
            continue
        nodes = list(ast.walk(ast.parse(source)))
        names = {
            node.targets[0].id: node.value
            for node in nodes
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for call in (node for node in nodes if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "predict":
                given = {one.arg: one.value for one in call.keywords}
                given = {
                    key: names.get(v.id, v) if isinstance(v, ast.Name) else v for key, v in given.items()
                }
                known = {key: ast.literal_eval(value) for key, value in given.items()}
                choices = list(known.get("choices", ()))
                ends = known.get("low", 0), known.get("high", len(choices) - 1)
                yield Question(ast.literal_eval(call.args[0]), choices, *ends, known.get("unit", ""))


class Votes:
    """The question that is open, and what each phone has said. Each method may be called by any thread.

    Args:
        asked: all questions of the class.
    """

    def __init__(self, asked: list[Question]) -> None:
        self.asked = asked
        self._lock = threading.Lock()
        self._open, self._round, self._answer = -1, 0, None  # type: int, int, float | None
        self._phones: set[str] = set()
        self._said: dict[tuple[int, int], dict[str, float]] = {}
        self._left, self._filled = float(_BURST), time.monotonic()

    def join(self, phone: str) -> str:
        """The phone's own cookie, or a new one."""
        with self._lock:
            if phone in self._phones:
                return phone
            if len(self._phones) >= _MOST_PHONES:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE)
            phone = secrets.token_hex(8)
            self._phones.add(phone)
            return phone

    def ask(self, number: int, turn: int) -> None:
        """Open a question, for the first or the second time."""
        if type(number) is not int or type(turn) is not int or turn not in (1, 2):
            raise Refused(HTTPStatus.BAD_REQUEST)
        if not -1 <= number < len(self.asked):
            raise Refused(HTTPStatus.BAD_REQUEST)
        with self._lock:
            self._open, self._round, self._answer = number, turn, None

    def reveal(self, answer: float) -> None:
        """Show the answer and all counts."""
        with self._lock:
            self._answer = self._check(answer)

    def vote(self, phone: str, number: int, turn: int, guess: float) -> None:
        """Take a phone's vote; the last one counts."""
        with self._lock:
            now = time.monotonic()
            self._left = min(_BURST, self._left + _A_SECOND * (now - self._filled)) - 1
            self._filled = now
            if self._left < 0:
                self._left = 0
                raise Refused(HTTPStatus.TOO_MANY_REQUESTS)
            if phone not in self._phones:
                raise Refused(HTTPStatus.FORBIDDEN)
            if type(number) is not int or type(turn) is not int:
                raise Refused(HTTPStatus.BAD_REQUEST)
            if (number, turn) != (self._open, self._round) or self._answer is not None:
                raise Refused(HTTPStatus.CONFLICT)
            guess = self._check(guess)
            said = self._said.setdefault((number, turn), {})
            before = said.get(phone, self._said.get((number, 1), {}).get(phone))
            record(self.asked[number].text, guess, before)
            said[phone] = guess

    def _check(self, guess: Any) -> float:
        """A guess as a number; the lock is held."""
        if self._open < 0 or type(guess) not in (int, float):
            raise Refused(HTTPStatus.BAD_REQUEST)
        question = self.asked[self._open]
        if not question.low <= guess <= question.high or not math.isfinite(guess):
            raise Refused(HTTPStatus.BAD_REQUEST)
        if question.choices and guess != int(guess):
            raise Refused(HTTPStatus.BAD_REQUEST)
        return float(guess)

    def look(self, phone: str | None) -> dict[str, Any]:
        """What a phone may know now: counts only after :meth:`reveal`. None: the lecturer's page."""
        with self._lock:
            question = self.asked[self._open]._asdict() if self._open >= 0 else None
            said = self._said.get((self._open, self._round), {})
            found: dict[str, Any] = {
                "number": self._open, "round": self._round, "question": question, "answer": self._answer,
                "voted": len(said), "phones": len(self._phones), "mine": said.get(phone or ""),
            }  # fmt: skip
            if self._answer is not None:
                rounds = (self._said.get((self._open, turn), {}) for turn in (1, 2))
                found["counts"] = [sorted(Counter(one.values()).items()) for one in rounds]
            return found


def make_server(
    votes: Votes, *, pages: Path | None = None, bind: str = "127.0.0.1", port: int = 0
) -> tuple[ThreadingHTTPServer, str, str]:
    """A server of votes and pages, not yet started.

    Args:
        pages: the folder that ``orthoviz pages`` wrote; None serves votes only.
        bind: the address of this machine that phones reach; the default is this machine alone.
        port: 0 takes one that is free.

    Returns:
        The server, the address for phones and that for the lecturer's page, each with a code in it.
    """
    code, key = secrets.token_hex(3), secrets.token_hex(16)
    template = (resources.files("orthoviz.course") / "class.html").read_text(encoding="utf-8")
    files = {} if pages is None else _list_pages(pages)
    posts: dict[str, Callable[[str, dict[str, Any]], None]] = {
        f"/{code}/vote": lambda phone, said: votes.vote(phone, said["number"], said["round"], said["guess"]),
        f"/{code}/{key}/ask": lambda _, said: votes.ask(said["number"], said["round"]),
        f"/{code}/{key}/reveal": lambda _, said: votes.reveal(said["answer"]),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in (f"/{code}/", f"/{code}/{key}/"):
                hosts = path.endswith(f"{key}/")
                shown = template.replace("@HOST@", str(hosts).lower())
                code_of = segno.make(address).svg_inline() if hosts else ""
                self._send(shown.replace("@CODE@", code_of), new_phone=True)
            elif path == f"/{code}/now":
                self._send(json.dumps(votes.look(self._phone())), "application/json")
            elif path == f"/{code}/{key}/now":
                known = votes.look(None) | {"asked": [q.text for q in votes.asked], "address": address}
                self._send(json.dumps(known), "application/json")
            elif path in (f"/{code}/views/{name}" for name in files):
                name = path.partition("/views/")[2]
                self._send(files[name].read_bytes(), _TYPES[files[name].suffix])
            else:
                self._refuse(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            try:
                if self.path not in posts:
                    raise Refused(HTTPStatus.NOT_FOUND)
                length = self.headers.get("Content-Length", "")
                if not length.isascii() or not length.isdigit():
                    raise Refused(HTTPStatus.LENGTH_REQUIRED)
                if len(length) > 4 or int(length) > _MOST_BYTES:
                    raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                said = json.loads(self.rfile.read(int(length)))
                posts[self.path](self._phone(), said)
            except Refused as refused:
                self._refuse(refused.status)
            except (ValueError, KeyError, TypeError, RecursionError):
                self._refuse(HTTPStatus.BAD_REQUEST)
            except OSError:  # the guesses' file, or the connection
                self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            else:
                self._send("{}", "application/json")

        def _phone(self) -> str:
            for part in self.headers.get("Cookie", "").split(";"):
                name, _, value = part.strip().partition("=")
                if name == "phone":
                    return value
            return ""

        def _send(self, body: str | bytes, kind: str = _TYPES[".html"], *, new_phone: bool = False) -> None:
            data = body.encode() if isinstance(body, str) else body
            try:
                cookie = votes.join(self._phone()) if new_phone else ""
            except Refused as refused:
                return self._refuse(refused.status)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Content-Type-Options", "nosniff")
            if cookie:
                self.send_header("Set-Cookie", f"phone={cookie}; Path=/{code}/; HttpOnly; SameSite=Strict")
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(data)

        def _refuse(self, status: HTTPStatus) -> None:
            with suppress(ConnectionError):
                self.send_error(status)

        def log_message(self, *_: Any) -> None:
            """Nothing about anybody is printed."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server((bind, port), Handler)
    shown = _own_address() if bind == "0.0.0.0" else bind
    address = f"http://{shown}:{server.server_port}/{code}/"
    return server, address, f"{address}{key}/"


def serve(
    lesson: str = "01", *, pages: str | None = None, bind: str = "127.0.0.1", port: int = 0,
    file: str = "guesses.jsonl",
) -> None:  # fmt: skip
    """Serve a lesson's questions until Ctrl-C. What is printed says what to do."""
    asked = list(questions(lesson))
    if not asked:
        raise ValueError(f"lesson {lesson} asks for no guess")
    tally(file)
    folder = None if pages is None else Path(pages)
    server, address, host = make_server(Votes(asked), pages=folder, bind=bind, port=port)
    with server:
        print(f"phones:      {address}")
        segno.make(address).terminal(compact=True)
        print(f"your page:   {host}   (keep it to yourself)")
        print(f'notebook:    ov.course.tally("{Path(file).resolve()}")')
        if bind == "127.0.0.1":
            print("Only this machine can reach it. For a class: --bind 0.0.0.0, in a network that you trust.")
        print("Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _list_pages(folder: Path) -> dict[str, Path]:
    """The files that are served, by the name in their address: no other is."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix in _TYPES and path.is_file() and not path.is_symlink()
    }
    if "index.html" not in files:
        raise ValueError(f"{folder} has no index.html: orthoviz pages {folder} writes one")
    return files


def _own_address() -> str:
    """This machine's address in its network, as another one would see it; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of no machine
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
