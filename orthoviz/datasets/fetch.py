"""Downloads that resume, and are checked before they are opened."""

import errno
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from orthoviz.datasets import official, store
from orthoviz.datasets.dataset import DataError


def fetch(name: str = "cifar10", *, url: str | None = None, replace: bool = False) -> str:
    """Download a data set, check its SHA-256, and add it.

    What has arrived is kept when the line breaks; the next call goes on from there.

    Args:
        name: ``"cifar10"``, the only one so far.
        url: a mirror of the official archive. The checksum stays the official one.
        replace: as in :func:`orthoviz.datasets.add`.

    Returns:
        What was found, in a few lines.

    Raises:
        DataError: no such data set, no connection, wrong checksum, no room.
    """
    if name != "cifar10":
        raise DataError(f"Only cifar10 can be fetched, got {name!r}. Add others with 'orthoviz data add'.")
    url = url or official.URL
    store.check_free(name, replace)
    partial = store.location() / f".{official.FOLDER}.tar.gz.part"
    with store.writing_to(store.location()):
        try:
            _download(url, partial)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise DataError(
                f"{url} could not be downloaded ({error}). What has arrived is kept: run the command again "
                "to go on.\n    A way on without it: get cifar-10-python.tar.gz from a mirror (--url "
                "MIRROR) or a colleague and run 'orthoviz data add cifar10 PATH'. Every lesson also works "
                "on the built-in digits."
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # the disk is full: leave no trace on it
                partial.unlink(missing_ok=True)
            raise
    found = official.checksum(partial)
    if found != official.SHA256:
        partial.unlink()
        raise DataError(
            f"{url} is not the official archive: its SHA-256 is {found}, expected {official.SHA256}. "
            "The download was deleted.\n    Try again, or another mirror with --url."
        )
    report = store.add(name, partial, replace=replace)
    partial.unlink()
    return report


def _download(url: str, partial: Path) -> None:
    """Append to ``partial`` what is missing of it."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is here; the checksum decides
        raise
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if resumed else 0
        left = response.headers.get("Content-Length")
        total = have + int(left) if left else None
        with (
            open(partial, "ab" if resumed else "wb") as file,
            tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc="downloading", disable=None
            ) as bar,
        ):
            while chunk := response.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and partial.stat().st_size < total:
            raise ConnectionError(f"{partial.stat().st_size:,} of {total:,} bytes arrived")
