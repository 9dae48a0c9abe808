"""Fetch one file over HTTP, going on after a break where it stopped.

Written on urllib: pooch, the usual library for checksummed data files, starts a broken download again
from its first byte, which does not do for archives of a gigabyte on a bad line.
"""

import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from events.datasets.disk_space import require_space
from events.errors import DownloadError

# RFC 9110 section 15: these say that the same request may succeed later.
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
RANGE_NOT_SATISFIABLE = 416
USER_AGENT = "spikeline (event-camera data sets)"


@dataclass(frozen=True)
class FetchSettings:
    """How long to try.

    Attributes:
        attempts: Tries in a row that bring nothing new before giving up.
        backoff_s: Seconds before the second try; doubled before each further one.
        longest_wait_s: Longest wait in seconds, also where the server asks for more.
        timeout_s: Seconds without a byte after which a connection counts as broken.
        chunk_bytes: Bytes read and written at a time.
    """

    attempts: int = 5
    backoff_s: float = 1.0
    longest_wait_s: float = 60.0
    timeout_s: float = 30.0
    chunk_bytes: int = 1 << 20


class Fetched(NamedTuple):
    """What fetching a file took: whether bytes of an earlier try were kept, and what the server called it."""

    resumed: bool
    content_type: str


# Called with the bytes there are so far and, where the server said, the bytes there will be.
OnBytes = Callable[[int, int | None], None]


class _BrokenError(Exception):
    """A try failed in a way that may pass; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def fetch_partial(
    url: str,
    partial: Path,
    *,
    will_be_checked: bool,
    settings: FetchSettings,
    on_bytes: OnBytes | None = None,
) -> Fetched:
    """Fetch `url` into `partial`, continuing what is in it.

    The server's ETag (or date of change) is kept beside `partial`, so that a file that has changed
    meanwhile is fetched from its first byte.

    Args:
        url: http or https.
        partial: Kept after a failure, for the next run.
        will_be_checked: A checksum will be compared, so bytes may be continued even where the server
            gives nothing to recognise the file by.
        settings: How long to try.
        on_bytes: Called after each chunk.

    Raises:
        DownloadError: The address is wrong, the server refuses, tries are used up, or the disk is full.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: not an http or https address; correct it")
    useless_tries, most_bytes = 0, _size(partial)
    while True:
        try:
            return _fetch_once(
                url, partial, will_be_checked=will_be_checked, settings=settings, on_bytes=on_bytes
            )
        except _BrokenError as broken:
            useless_tries = 1 if _size(partial) > most_bytes else useless_tries + 1
            most_bytes = max(most_bytes, _size(partial))
            if useless_tries >= settings.attempts:
                raise DownloadError(
                    f"{url}: {broken} in {useless_tries} tries; {partial.name} keeps {_size(partial)} bytes, "
                    "run the same download again to continue"
                ) from broken
            wait_s = max(broken.wait_s, settings.backoff_s * 2 ** (useless_tries - 1))
            time.sleep(min(wait_s, settings.longest_wait_s))


def forget(partial: Path) -> None:
    """Remove a partial file and what is kept beside it."""
    partial.unlink(missing_ok=True)
    _validator_path(partial).unlink(missing_ok=True)


def forget_validator(partial: Path) -> None:
    """Remove what is kept beside a partial file that is now complete."""
    _validator_path(partial).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _validator_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_validator(partial: Path, url: str) -> str | None:
    """Return what the server said to recognise the file by, if it was this address."""
    try:
        kept = json.loads(_validator_path(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept.get("validator") if isinstance(kept, dict) and kept.get("url") == url else None


def _write_validator(partial: Path, url: str, headers: http.client.HTTPMessage) -> None:
    """Keep the strong ETag, else the date of change (RFC 9110 section 13.1.5 allows no weak ETag here)."""
    etag = headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    _validator_path(partial).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _fetch_once(
    url: str, partial: Path, *, will_be_checked: bool, settings: FetchSettings, on_bytes: OnBytes | None
) -> Fetched:
    """Send one request, continuing `partial` where that is safe, and write what comes."""
    done = _size(partial)
    validator = _read_validator(partial, url) if done else None
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if done and (validator or will_be_checked):
        headers["Range"] = f"bytes={done}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=settings.timeout_s
        )
    except urllib.error.HTTPError as error:
        with error:
            return _after_refusal(url, partial, error)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{url}: {reason.verify_message}; check this machine's certificates"
            ) from error
        raise _BrokenError(f"no answer ({reason})") from error
    with response:
        start = _body_start(response)
        if start > done:
            raise _BrokenError(f"the server sent bytes from {start} on, {done} was asked for")
        _write_body(response, url, partial, start, settings=settings, on_bytes=on_bytes)
        return Fetched(start > 0, response.headers.get_content_type())


def _after_refusal(url: str, partial: Path, error: urllib.error.HTTPError) -> Fetched:
    """Decide what a status that is no success means: done already, try again, or an error."""
    if error.code == RANGE_NOT_SATISFIABLE:
        match = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if match and int(match[1]) == _size(partial):
            return Fetched(resumed=True, content_type="")
        forget(partial)
        raise _BrokenError("the file has changed on the server") from error
    if error.code in PASSING_STATUS:
        asked = error.headers.get("Retry-After", "")
        raise _BrokenError(
            f"HTTP {error.code} {error.reason}", float(asked) if asked.isdecimal() else 0.0
        ) from error
    raise DownloadError(
        f"{url}: HTTP {error.code} {error.reason}; the file may have moved, look at the data set's page"
    ) from error


def _body_start(response: http.client.HTTPResponse) -> int:
    """Return which byte of the file an answer begins with; it may lie before the one asked for."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None:
        raise _BrokenError("the server sent a part of the file without saying which")
    return int(match[1])


def _write_body(
    response: http.client.HTTPResponse,
    url: str,
    partial: Path,
    done: int,
    *,
    settings: FetchSettings,
    on_bytes: OnBytes | None,
) -> None:
    """Write an answer's bytes behind the first `done` of `partial`, and see them onto the disk."""
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdecimal() else None
    if total is not None:
        require_space(partial.parent, total - done, what=url)
    try:
        with partial.open("r+b" if done else "wb") as out:
            if done:
                out.truncate(done)
                out.seek(done)
            _write_validator(partial, url, response.headers)
            while chunk := _read_chunk(response, settings.chunk_bytes):
                out.write(chunk)
                done += len(chunk)
                if on_bytes is not None:
                    on_bytes(done, total)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise DownloadError(
            f"{partial}: cannot be written ({error.strerror}); make room or choose another folder, "
            "then run again"
        ) from error
    if total is not None and done < total:
        raise _BrokenError(f"the connection ended after {done} of {total} bytes")


def _read_chunk(response: http.client.HTTPResponse, count: int) -> bytes:
    try:
        return response.read(count)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"the connection broke ({error})") from error
