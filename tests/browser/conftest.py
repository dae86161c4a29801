"""One server and one Chromium for all tests of the browser."""

import pytest

from tests.browser import lab


@pytest.fixture(scope="package", autouse=True)
def chromium():
    with lab.browser():  # pages that are opened while it is open share its Chromium
        yield


@pytest.fixture(scope="package")
def address(chromium, tmp_path_factory):
    with lab.server(tmp_path_factory.mktemp("lab")) as address:
        yield address
