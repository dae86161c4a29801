"""What more than one file of tests needs."""

import pytest

import orthoviz as ov


@pytest.fixture(scope="session")
def ledger():
    """Every claim with its verdict on the stored tables."""
    return ov.claims.ledger()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store of data sets; the folder itself does not exist yet."""
    folder = tmp_path / "store"
    monkeypatch.setenv("ORTHOVIZ_DATA", str(folder))
    return folder
