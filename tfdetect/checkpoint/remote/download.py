"""Downloads over http: resumed after an interruption, whole or not there at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import requests
import urllib3
from tqdm import tqdm

from tfdetect.errors import InputError
from tfdetect.files import check_writable

_logger = logging.getLogger("tfdetect.checkpoint")

# Seconds: to connect, and until the next bytes.
_TIMEOUT = (10, 30)
# Without a byte that was not there before; and of all.
_ATTEMPTS = 4
_MOST_ATTEMPTS = 50
# Seconds before the second attempt; twice as many before each further one.
_WAIT = 1.0
_CHUNK = 1 << 16
_POLL = 0.2
_RETRIED = (408, 425, 429)
# Where a bar cannot be drawn over the last one, seconds between two.
_LOG_SECONDS = 10


class _Cut(Exception):
    """A transfer that ended early, and may succeed in another attempt."""


class _Unreachable(_Cut):
    """There was no connection at all."""


@dataclass(frozen=True)
class _Version:
    """What the server says of a file, by which a later attempt knows that it is the same one.

    Attributes:
        url: of the file.
        validator: its ETag, or when it was modified; "" if neither is known.
    """

    url: str
    validator: str


def download(url: str, target: Path, where: str, check: Callable[[Path], str | None]) -> None:
    """Download a file, unless another process that is doing it leaves it here meanwhile.

    What an attempt has received stays beside `target`, in NAME.part, and the next attempt
    continues from there, in this call or a later one, if the server can send a part and still has
    the same file. `target` appears when it is complete and checked.

    Args:
        url: of http or https; redirections are followed, but not from https to http.
        target: the file.
        where: what messages begin with: the key, and the address as the user knows it.
        check: gets the complete file, under a temporary name, and says what is wrong with it; such
            a file is removed.

    Raises:
        InputError: the server does not have the file or cannot be reached, what it sends does not
            pass `check`, or the file cannot be written.
    """
    try:
        check_writable(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
    except (InputError, OSError) as error:
        said = str(error).removeprefix(f"{target.parent}: ").partition(";")[0]
        reason = getattr(error, "strerror", None) or said
        raise InputError(
            f"{where}: cannot be kept in {target.parent} ({reason}); set TFDETECT_CACHE to a "
            "folder that can be written"
        ) from error
    with _locked(target):
        if target.is_file() and check(target) is None:
            return
        transfer = _Transfer(url, target, where)
        try:
            problem = transfer.run(check)
            if problem is not None and transfer.resumed:
                # Its beginning may be an earlier attempt's, of another file.
                transfer.discard()
                problem = transfer.run(check)
        except KeyboardInterrupt as interrupt:
            kept = f"{_size(transfer.received)} of {target.name} are kept"
            interrupt.args = (f"{kept}, and the same command continues from there",)
            raise
        if problem is not None:
            transfer.discard()
            raise InputError(f"{where}: {problem}; try again, or give the path of a good copy")
        transfer.finish()


class _Transfer:
    """The attempts of one download."""

    def __init__(self, url: str, target: Path, where: str):
        self._url, self._target, self._where = url, target, where
        self._part = target.with_name(f"{target.name}.part")
        self._notes = target.with_name(f"{target.name}.part.json")
        self.resumed = False
        self._connected = False

    @property
    def received(self) -> int:
        """Bytes that are there."""
        return self._part.stat().st_size if self._part.exists() else 0

    def run(self, check: Callable[[Path], str | None]) -> str | None:
        """Receive the file, in as many attempts as are needed; gives what `check` says."""
        most, failures = self.received, 0
        for _ in range(_MOST_ATTEMPTS):
            try:
                self._attempt()
                return check(self._part)
            except _Cut as cut:
                reason, unreachable = str(cut), isinstance(cut, _Unreachable)
            except OSError as error:
                raise self._unwritable(error) from error
            failures = 1 if self.received > most else failures + 1
            most = max(most, self.received)
            if failures == _ATTEMPTS or (unreachable and not self._connected):
                break
            _logger.info("%s: %s; trying again", self._where, reason)
            time.sleep(_WAIT * 2 ** (failures - 1))
        kept = ""
        if self.received:
            size = _size(self.received)
            kept = f"; {size} are kept, and the same command continues from there"
        raise InputError(
            f"{self._where}: {reason}{kept}; check the network (a proxy is given in HTTPS_PROXY), "
            "or download it elsewhere and give its path"
        )

    def discard(self) -> None:
        """Forget what was received."""
        self._part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self.resumed = False

    def finish(self) -> None:
        """Give the file its name."""
        try:
            os.replace(self._part, self._target)
        except OSError as error:
            raise self._unwritable(error) from error
        self._notes.unlink(missing_ok=True)

    def _attempt(self) -> None:
        """Receive what is missing.

        Raises:
            _Cut: not all of it came.
            InputError: the server will not send it.
            OSError: it cannot be written.
        """
        start, version = self.received, self._version()
        headers = {"Accept-Encoding": "identity"}
        if start and version.validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": version.validator}
        # What requests raises is an OSError, too; those of files are not raised in here.
        with _network_errors(), requests.Session() as session:
            session.hooks["response"].append(self._check_redirection)
            response = session.get(self._url, headers=headers, stream=True, timeout=_TIMEOUT)
        self._connected = True
        with contextlib.closing(response):
            total = self._total(response, start)
            if response.status_code == 416:
                return
            if response.status_code != 206:
                start = 0
            self.resumed = self.resumed or start > 0
            self._check_space(total, start)
            with self._part.open("ab" if start else "wb") as file:
                if not start:
                    self._note(response.headers)
                self._receive(response, file, start, total)
                file.flush()
                os.fsync(file.fileno())

    def _total(self, response: requests.Response, start: int) -> int | None:
        """The size of the whole file, where the server says it.

        Raises:
            _Cut: the answer is of no use, but another one may be.
            InputError: the server will not send the file.
        """
        status, headers = response.status_code, response.headers
        said = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", ""))
        length = headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        if status in (206, 416):
            total = int(said[2]) if said and said[2] != "*" else None
            if start and status == 416 and total == start:
                return total
            if start and status == 206 and said and said[1] and int(said[1]) == start:
                return total if total is not None or size is None else start + size
            # Parts of another file, or not the part that was asked for: all of it is next.
            self.discard()
            raise _Cut("the server sends another part of the file than it was asked for")
        if status in _RETRIED or status >= 500:
            raise _Cut(f"the server answers {status} {response.reason}")
        if status != 200:
            raise InputError(f"{self._where}: {_refusal(status, str(response.reason))}")
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise InputError(
                f"{self._where}: the server sends it compressed ({encoding}); download and unpack "
                "it, and give its path"
            )
        return size

    def _receive(
        self, response: requests.Response, file: IO[bytes], start: int, total: int | None
    ) -> None:
        name, terminal = self._target.name, sys.stderr.isatty()
        done = start
        with tqdm(
            total=total,
            initial=start,
            desc=name,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            mininterval=0.1 if terminal else _LOG_SECONDS,
            leave=False,
        ) as bar:
            chunks = response.iter_content(_CHUNK)
            while True:
                with _network_errors():
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                file.write(chunk)
                done += len(chunk)
                bar.update(len(chunk))
        if total is not None and done < total:
            raise _Cut(f"the connection ended after {done} of {total} bytes")
        if done == 0:
            raise _Cut("the server sent nothing")

    def _check_redirection(self, response: requests.Response, **_: object) -> None:
        """Raise InputError where an encrypted connection would be left for one that is not."""
        following = response.headers.get("Location", "")
        secure = response.url.lower().startswith("https:")
        if response.is_redirect and secure and following.lower().startswith("http:"):
            raise InputError(
                f"{self._where}: the server redirects from https to http, where anybody on the way "
                "can change the file; give another address"
            )

    def _check_space(self, total: int | None, start: int) -> None:
        needed = 0 if total is None else total - start
        free = shutil.disk_usage(self._part.parent).free
        if needed > free:
            raise InputError(
                f"{self._where}: {self._part.parent} has {_size(free)} of disk left for "
                f"{_size(needed)}; free some, or set TFDETECT_CACHE to another place"
            )

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"{self._where}: {self._target.parent} cannot be written ({error.strerror or error}); "
            f"free some space, or set TFDETECT_CACHE to another place ({_size(self.received)} are "
            "kept, and the same command continues from there)"
        )

    def _version(self) -> _Version:
        """What is noted of the file whose beginning is there."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            found = _Version(**json.loads(self._notes.read_text("utf-8")))
            if found.url == self._url and isinstance(found.validator, str):
                return found
        return _Version(self._url, "")

    def _note(self, headers: Mapping[str, str]) -> None:
        tag = headers.get("ETag", "")
        # A weak one does not say that the bytes are the same.
        validator = tag if tag.startswith('"') else headers.get("Last-Modified", "")
        self._notes.write_text(json.dumps(asdict(_Version(self._url, validator))), "utf-8")


def _size(count: int) -> str:
    """A number of bytes, such as "169MiB"."""
    return tqdm.format_sizeof(count, "iB" if count >= 1024 else " bytes", 1024)


def _refusal(status: int, reason: str) -> str:
    if status in (404, 410):
        return f"there is no such file on the server ({status}); correct the address"
    if status in (401, 403):
        return (
            f"the server does not allow it ({status} {reason}); give an address that needs no "
            "password, or download the file and give its path"
        )
    return f"the server answers {status} {reason}; download it another way and give its path"


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """What requests and urllib3 raise becomes `_Cut`, or an error where trying again is of no use.

    Raises:
        _Cut: the connection failed, or did for too long nothing.
        InputError: the address, the certificate or the redirections are wrong.
    """
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise InputError(
            f"{_address(error)}: the server's certificate is not trusted ({_reason(error)}); for a "
            "certificate of your organisation set REQUESTS_CA_BUNDLE"
        ) from error
    except requests.exceptions.TooManyRedirects as error:
        raise InputError(f"{_address(error)}: is redirected endlessly; give another") from error
    except requests.exceptions.Timeout as error:
        raise _Cut(f"the server did not answer in {_TIMEOUT[1]} seconds") from error
    except (requests.exceptions.InvalidSchema, ValueError) as error:
        raise InputError(f"{_address(error)}: cannot be used ({_reason(error)})") from error
    except requests.exceptions.ConnectionError as error:
        connected = not isinstance(_innermost(error), urllib3.exceptions.NewConnectionError)
        raise (_Cut if connected else _Unreachable)(_reason(error)) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Cut(_reason(error)) from error


def _address(error: Exception) -> str:
    request = getattr(error, "request", None)
    return str(getattr(request, "url", None) or "the address").partition("?")[0]


def _innermost(error: BaseException) -> BaseException:
    """Of errors that wrap one another: requests' have urllib3's, and these have a reason."""
    while True:
        within = [getattr(error, "reason", None), *error.args[-1:]]
        following = next((inner for inner in within if isinstance(inner, BaseException)), None)
        if following is None:
            return error
        error = following


def _reason(error: BaseException) -> str:
    """The innermost error in a few words."""
    error = _innermost(error)
    if isinstance(error, urllib3.exceptions.IncompleteRead):
        done, missing = error.partial, error.expected
        return f"the connection ended after {done} of {done + missing} bytes"
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    # urllib3 begins with the connection as an object.
    return " ".join(text.rpartition(">: ")[2].split())[:200]


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of a download; what another process downloads is waited for."""
    path = target.with_name(f"{target.name}.lock")
    try:
        handle = open(path, "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); set TFDETECT_CACHE to a folder that can"
        ) from error
    with handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    _logger.warning("note: waiting for another process's %s", target.name)
                told = True
                time.sleep(_POLL)
            except OSError as error:
                raise InputError(
                    f"{path}: cannot be locked ({error.strerror}); set TFDETECT_CACHE to a folder "
                    "on a local disk"
                ) from error
        yield
