"""Download a file whose size and checksum are known: resumable, and whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import WeightsError

# Told what is being done, and how many bytes of how many are there (of 0: not known).
Progress = Callable[[str, int, int], None]

CHUNK = 1 << 18  # bytes read at once
TIMEOUT = 30  # seconds without a byte after which a connection counts as lost
ATTEMPTS = 3  # connections to one address
PAUSE = 1.0  # seconds before the second attempt; twice as long before the third


class _TransferError(Exception):
    """A connection that did not bring what was asked for; `again` says whether another one may."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def silent(what: str, done: int, total: int) -> None:
    """The `Progress` that tells nobody."""


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download(urls: Sequence[str], target: Path, *, size: int, sha256: str, progress: Progress = silent) -> None:
    """Bring a file from the first address that has it.

    What has arrived is kept beside the target in a `.part` file named after the checksum, from which this goes on
    after an interruption, whichever address it came from. The target appears only whole and checked.

    Args:
        urls: addresses, tried in turn.
        target: where the file goes; its folder exists. A file already there is replaced.
        size: in bytes.
        sha256: 64 hexadecimal digits.
        progress: told how far it is.

    Raises:
        WeightsError: no address brought the file; the message says why for each.
        OSError: it can't be written, the disk is full for one. The `.part` file is then gone.
    """
    part = target.with_name(f"{target.name}.{sha256[:12]}.part")
    reasons = []
    for url in urls:
        try:
            _bring(url, part, size, sha256, lambda done: progress(target.name, done, size))
        except _TransferError as error:
            reasons.append(f"{url}: {error}")
        except OSError:
            part.unlink(missing_ok=True)
            raise
        else:
            os.replace(part, target)
            return
    raise WeightsError(f"{target.name} could not be downloaded ({'; '.join(reasons)}).")


def _bring(url: str, part: Path, size: int, sha256: str, tell: Callable[[int], None]) -> None:
    """Fill the part file until its checksum is right."""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        start = part.stat().st_size if part.exists() else 0
        try:
            if start != size:
                _transfer(url, part, start, size, tell)
            if sha256_of(part) == sha256:
                return
            part.unlink()
            # Bytes left over from before may be to blame; a file that came in one go is another file altogether.
            raise _TransferError("it is another file than the pinned one (wrong SHA-256)", again=start > 0)
        except _TransferError as error:
            if not error.again or attempt == ATTEMPTS - 1:
                raise


def _transfer(url: str, part: Path, start: int, size: int, tell: Callable[[int], None]) -> None:
    """One connection: append to the part file what is missing of it, or begin anew where the server wants that."""
    with _connect(url, start, part) as response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise _TransferError("the server sent another range than asked for", again=True)
        done = start if resumed else 0
        with open(part, "ab" if resumed else "wb") as out:
            tell(done)
            for chunk in _chunks(response):
                out.write(chunk)
                done += len(chunk)
                if done > size:
                    break
                tell(done)
    if done > size:
        part.unlink()
        raise _TransferError(f"it is larger than the pinned file of {size} bytes", again=start > 0)
    if done < size:
        raise _TransferError(f"the connection ended after {done} of {size} bytes", again=True)


def _connect(url: str, start: int, part: Path) -> Any:
    """The response to a request for the file from byte `start` on."""
    # Compressed in transit, byte ranges would count the compressed bytes.
    headers = {"User-Agent": "point-prompt-defender", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        again = error.code >= 500 or error.code in (
            http.client.REQUESTED_RANGE_NOT_SATISFIABLE,
            http.client.TOO_MANY_REQUESTS,
        )
        raise _TransferError(f"the server answered {error.code} {error.reason}", again) from None
    except urllib.error.URLError as error:
        # A name that does not resolve or a host that refuses will do so again in a second.
        raise _TransferError(f"no connection, {error.reason}", again=False) from None
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(f"no connection, {error}", again=True) from None


def _chunks(response: Any) -> Iterator[bytes]:
    """The body in pieces. A network's OSErrors end here, so that those of the disk can be told from them."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(f"the connection was lost, {error}", again=True) from None
