"""One server and one Chromium for all tests of the browser."""

import pytest

from tests.browser import lab


@pytest.fixture(scope="package")
def address(tmp_path_factory):
    with lab.server(tmp_path_factory.mktemp("lab")) as address, lab.browser():
        yield address
