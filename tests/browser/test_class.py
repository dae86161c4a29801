"""A class of six in the browser: the lecturer asks, five phones vote twice, the answer is shown."""

import os
import threading

import pytest
from playwright.sync_api import expect

import orthoviz as ov
from orthoviz.course.classroom import Votes, make_server, questions
from tests.browser import lab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lab.CHROMIUM is None, reason="no Chromium on this machine"),
]
PICTURES = os.environ.get("ORTHOVIZ_PICTURES")
"""A folder for screenshots, if any."""


def shoot(page, name):
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def test_a_class_votes_twice_and_sees_the_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("ORTHOVIZ_TALLY", "")
    ov.course.tally(tmp_path / "guesses.jsonl")
    server, address, host = make_server(Votes(list(questions("01"))))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with lab.browser() as any_page:
        contexts = [any_page.context.browser.new_context(**options) for options in [{}, *5 * [phone]]]
        front, *phones = (context.new_page() for context in contexts)
        errors = []
        for page, where in zip((front, *phones), (host, *5 * [address]), strict=True):
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(where)
        expect(phones[0].locator("#question")).to_contain_text("No question is open")
        front.get_by_role("button", name="1: angle between").click()
        for i, page in enumerate(phones):
            page.get_by_role("button", name=("45 degrees", "90 degrees")[i == 0], exact=True).tap()
            expect(page.locator("#said")).to_contain_text("Sent: ")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
        shoot(phones[1], "phone after a vote")
        expect(front.locator("#said")).to_contain_text("5 of 5")
        assert front.locator("#counts").inner_text() == ""  # before the end no bars
        shoot(front, "front while they vote")
        front.get_by_role("button", name="vote again").click()
        for page in phones:
            expect(page.locator("#said")).to_contain_text("Vote again")
            page.get_by_role("button", name="90 degrees", exact=True).tap()
            expect(page.locator("#said")).to_contain_text("Sent: 90 degrees")
        front.get_by_role("button", name="reveal: 90 degrees").click()
        expect(front.locator("#counts")).to_contain_text("45 degrees: 4")
        expect(front.locator("#counts .right")).to_contain_text("90 degrees, right: 1, then 5")
        expect(phones[4].locator("#said")).to_have_text("You were right: 90 degrees.")
        shoot(front, "front at the end")
        shoot(phones[4], "phone at the end")
        for context in contexts:
            context.close()
    server.shutdown()
    server.server_close()
    assert errors == []
    guess = ov.course.predict("angle between the rows of the polar factor", choices=dict.fromkeys(
        ["1 degree", "45 degrees", "90 degrees", "180 degrees"], ""))  # fmt: skip
    assert "the class: 90 degrees 5" in guess.draw("90 degrees").data  # in the lecturer's notebook
