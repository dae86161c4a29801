"""Votes and pages of a class: 200 phones at once, hostile requests, what is served, the command's end."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

import orthoviz as ov
from orthoviz.course.classroom import Refused, Votes, make_server, questions

pytestmark = pytest.mark.slow


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A class with a question of choices and one of a number; the second folder is not served."""
    monkeypatch.setenv("ORTHOVIZ_TALLY", "")
    ov.course.tally(tmp_path / "guesses.jsonl")
    pages = tmp_path / "pages"
    (pages / "view").mkdir(parents=True)
    (pages / "index.html").write_text("<p>all views</p>")
    (pages / "view" / "0.png").write_bytes(b"a picture")
    (pages / "notes.txt").write_text("not a page")
    (tmp_path / "secret.html").write_text("secret")
    (pages / "out.html").symlink_to(tmp_path / "secret.html")
    angle = next(questions("01"))
    votes = Votes([angle, angle._replace(text="how many", choices=[], low=0, high=100)])
    server, address, host = make_server(votes, pages=pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Room(votes, address, host)
    server.shutdown()
    server.server_close()
    thread.join(60)


class Room:
    """What a test does with a server."""

    def __init__(self, votes, address, host):
        self.votes, self.base, self.host = votes, urlsplit(address).path, urlsplit(host).path
        self.place = urlsplit(address).netloc

    def ask(self, method, path, body=None, **headers):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection(self.place, timeout=60)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def phone(self):
        """A new phone's cookie."""
        return self.ask("GET", self.base)[1]["Set-Cookie"].partition(";")[0]

    def vote(self, cookie, guess, number=0, turn=1):
        said = json.dumps({"number": number, "round": turn, "guess": guess})
        return self.ask("POST", f"{self.base}vote", said, Cookie=cookie)[0]

    def open(self, number, turn=1):
        assert self.ask("POST", f"{self.host}ask", json.dumps({"number": number, "round": turn}))[0] == 200

    def counts(self):
        return ov.course.tally.__globals__["count_guesses"](self.votes.asked[0].text)


def test_of_200_phones_at_once_no_vote_is_lost_and_none_counts_twice(room):
    room.open(0)
    cookies = [room.phone() for _ in range(200)]
    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(lambda i: room.vote(cookies[i], i % 4), range(200))) == {200}
        assert set(pool.map(lambda i: room.vote(cookies[i], 2), range(100))) == {200}  # they think again
    expected = Counter({float(k): 0 for k in range(4)})
    for i in range(200):
        expected[2.0 if i < 100 else float(i % 4)] += 1
    assert room.counts() == expected
    assert room.ask("POST", f"{room.host}reveal", json.dumps({"answer": 2}))[0] == 200
    now = json.loads(room.ask("GET", f"{room.base}now", Cookie=cookies[0])[2])
    assert now["counts"] == [[list(one) for one in sorted(expected.items())], []]
    assert (now["answer"], now["mine"]) == (2, 2)
    assert room.vote(cookies[0], 1) == 409  # it is over


def test_a_second_vote_replaces_the_first_and_both_are_shown(room):
    room.open(0)
    cookies = [room.phone() for _ in range(3)]
    assert [room.vote(cookie, 1) for cookie in cookies] == [200] * 3
    room.open(0, 2)
    assert [room.vote(cookie, 2, turn=2) for cookie in cookies[:2]] == [200] * 2
    assert room.counts() == Counter({2.0: 2, 1.0: 1})
    assert "counts" not in json.loads(
        room.ask("GET", f"{room.base}now")[2]
    )  # nobody sees them before the end
    room.ask("POST", f"{room.host}reveal", json.dumps({"answer": 2}))
    assert json.loads(room.ask("GET", f"{room.base}now")[2])["counts"] == [[[1, 3]], [[2, 2]]]


GOOD = '{"number": 0, "round": 1, "guess": 1}'
BAD_GUESSES = [
    *("4", "-1", "0.5", "NaN", "Infinity", "1e999", "9" * 400, "true", "null", '"1"', "[1]", '{"a": 1}'),
    '"<script>alert(1)</script>"',
]


@pytest.mark.parametrize(("body", "status"), [
    *((GOOD.replace("1}", f"{guess}}}"), 400) for guess in BAD_GUESSES),
    *((body, 400) for body in ("", "null", "[]", "{}", '"text"', "{", "\x00", "[" * 1000, '{"a":' * 200)),
    (GOOD.replace('"number": 0', '"number": 1'), 409), (GOOD.replace('"number": 0', '"number": -1'), 409),
    (GOOD.replace('"number": 0', '"number": "0"'), 400), (GOOD.replace('"round": 1', '"round": 2'), 409),
    (GOOD.replace('"round": 1', '"round": true'), 400), (GOOD + " " * 1024, 413), ("x" * 100_000, 413),
])  # fmt: skip
def test_a_hostile_vote_has_its_status_and_no_effect(room, body, status):
    room.open(0)
    cookie = room.phone()
    try:
        found = room.ask("POST", f"{room.base}vote", body.encode(), Cookie=cookie)[0]
    except (BrokenPipeError, ConnectionResetError):  # it was not read to its end
        found = 413
    assert found == status
    assert room.counts() == Counter()
    assert room.vote(cookie, 1) == 200


@pytest.mark.parametrize(("method", "path", "headers", "status"), [
    ("POST", "{base}vote", {"Cookie": "phone=made-up"}, 403),
    ("POST", "{base}vote", {}, 403),
    ("POST", "{base}ask", {}, 404),
    ("POST", "{base}0123/ask", {}, 404),
    ("GET", "/", {}, 404),
    ("GET", "/now", {}, 404),
    ("GET", "{base}host/now", {}, 404),
    ("GET", "{base}views/", {}, 404),
    ("GET", "{base}views/notes.txt", {}, 404),
    ("GET", "{base}views/out.html", {}, 404),
    ("GET", "{base}views/../../secret.html", {}, 404),
    ("GET", "{base}views/%2e%2e/%2e%2e/secret.html", {}, 404),
    ("GET", "{base}views//etc/passwd", {}, 404),
    ("PUT", "{base}vote", {}, 501),
    ("DELETE", "{base}vote", {}, 501),
])  # fmt: skip
def test_nothing_else_is_served_or_taken(room, method, path, headers, status):
    room.open(0)
    body = GOOD if method == "POST" else None
    assert room.ask(method, path.format(base=room.base), body, **headers)[0] == status
    assert room.counts() == Counter()


def test_pages_are_served_by_their_names(room):
    assert room.ask("GET", f"{room.base}views/index.html")[2] == b"<p>all views</p>"
    status, headers, body = room.ask("GET", f"{room.base}views/view/0.png")
    assert (status, headers["Content-Type"], body) == (200, "image/png", b"a picture")


def test_who_floods_is_told_to_wait_and_the_class_goes_on(room):
    room.open(0)
    cookie = room.phone()
    with ThreadPoolExecutor(8) as pool:
        found = Counter(pool.map(lambda i: room.vote(cookie, i % 4), range(1500)))
    assert found[429] > 100
    assert set(found) == {200, 429}
    assert sum(room.counts().values()) == 1


def test_a_class_has_an_end_of_phones():
    votes = Votes(list(questions("01")))
    cookies = {votes.join("") for _ in range(2000)}
    assert len(cookies) == 2000
    with pytest.raises(Refused) as refused:
        votes.join("")
    assert refused.value.status == 503
    assert votes.join(cookies.pop())


def test_every_guess_of_a_lesson_is_a_question():
    for lesson in ov.lab.lessons():
        source = (ov.lab.notebooks() / f"{lesson}.ipynb").read_text(encoding="utf-8")
        found = list(questions(lesson))
        assert len(found) == source.count("course.predict("), lesson
        assert all(one.low < one.high for one in found)


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    command = [sys.executable, "-P", "-m", "orthoviz.cli", "class", "01"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    lines = []
    while not lines or not lines[-1].startswith("Ctrl-C"):
        lines.append(process.stdout.readline())
    text = "".join(lines)
    address = urlsplit(re.search(r"phones: +(\S+)", text)[1])
    assert address.hostname == "127.0.0.1"
    assert "Only this machine can reach it" in text
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    connection.request("GET", address.path)
    assert b"One moment." in connection.getresponse().read()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(address.netloc, timeout=5).request("GET", address.path)
    assert list(tmp_path.iterdir()) == []
