"""Downloads that resume, and are checked before they are opened."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from orthoviz.datasets import official, store
from orthoviz.datasets.dataset import DataError


def fetch(name: str = "cifar10", *, url: str | None = None, replace: bool = False) -> str:
    """Download a data set, check its SHA-256, and add it.

    What has arrived is kept when the line breaks; the next call goes on from there. A second call at the
    same time says that it waits, and waits for the first.

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
    with store.writing(f".{name}.lock", f"another download of {name}") as folder:
        store.check_free(name, replace)
        partial = folder / f".{official.FOLDER}.tar.gz.part"
        try:
            _download(url, partial)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise DataError(
                f"{url} could not be downloaded ({error}). What has arrived is kept: run the command again "
                "to go on.\n    A way on without it: get cifar-10-python.tar.gz from a mirror (--url "
                "MIRROR) or a colleague and run 'orthoviz data add cifar10 PATH'. Every lesson also works "
                "on the built-in digits."
            ) from error
        if difference := official.find_difference(partial):
            partial.unlink()
            raise DataError(
                f"{url} is not the official archive: {difference}. The download was deleted.\n"
                "    Try again, or another mirror with --url."
            )
        report = store.add(name, partial, replace=replace)
        partial.unlink()
    return report


def _download(url: str, partial: Path) -> None:
    """Append to ``partial`` what is missing of it."""
    have = partial.stat().st_size if partial.exists() else 0
    if have >= official.SIZE:
        return  # the checksum decides
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if resumed else 0
        left = response.headers.get("Content-Length")
        total = have + int(left) if left else None
        with open(partial, "ab" if resumed else "wb") as file:
            bar = tqdm.wrapattr(file, "write", total=total, initial=have, desc="downloading", disable=None)
            with bar as shown:
                shutil.copyfileobj(response, shown)
        if total is not None and partial.stat().st_size < total:
            raise ConnectionError(f"{partial.stat().st_size:,} of {total:,} bytes arrived")
