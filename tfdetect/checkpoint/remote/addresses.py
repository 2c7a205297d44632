"""Files that are given by an address: Detectron2's schemes and https, and their local copies."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from tfdetect.checkpoint.formats.other_files import describe_file
from tfdetect.checkpoint.remote.download import download
from tfdetect.checkpoint.remote.hashes import NamedHash, hash_in_name
from tfdetect.errors import InputError
from tfdetect.files import cache_directory

_logger = logging.getLogger("tfdetect.checkpoint")

ZOO_URL = "TFDETECT_ZOO_URL"
"""Environment variable: a mirror of Detectron2's server, with the same paths below it."""

_SERVER = "https://dl.fbaipublicfiles.com"
_DETECTRON2 = "detectron2://"
_CATALOG = "catalog://"
_MATCHING = "?matching_heuristics=True"
# Detectron2's names of models of Detectron and of ImageNet (`ModelCatalog`): paths on its server.
_CATALOG_FILE = Path(__file__).with_name("catalog.json")
# Detectron2's cache, of iopath, and what it was called before.
_DETECTRON2_CACHE = "FVCORE_CACHE"
_DETECTRON2_CACHES = ("~/.torch/iopath_cache", "~/.torch/fvcore_cache")
# Of a part of a path, in bytes: what the names of a partial file and a lock add is free.
_LONGEST_NAME = 200
_HEAD_BYTES = 1024


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether this is an address such as "detectron2://..." or "https://..." and not a path."""
    return "://" in os.fspath(path)


def check_address(address: str, key: str = "") -> None:
    """Raise InputError if an address cannot be used, as far as that is known without the network.

    Args:
        address: see `local_file`.
        key: the option or configuration key that gives it, for messages; "" for none.
    """
    _resolve(address, key)


def local_file(path: str | os.PathLike[str], key: str = "") -> Path:
    """A file that is given by its path or its address, downloaded where there is no copy yet.

    Copies are kept in the cache ($TFDETECT_CACHE, else ~/.cache/tfdetect), in `weights`. What
    Detectron2 has downloaded to its own cache ($FVCORE_CACHE, else ~/.torch/iopath_cache) is used
    from there. If the name has digits of a hash (`hash_in_name`), they are checked whenever the
    copy is used. Nothing in the file is executed; that it is read as data is up to the caller.

    Args:
        path: of a file, which is returned as it is; or "detectron2://PATH" and "catalog://NAME",
            Detectron2's schemes, or an address of http or https. Files of Detectron2's server come
            from the mirror that the environment variable TFDETECT_ZOO_URL names, if it is set.
        key: the option or configuration key that gives it, for messages; "" for none.

    Raises:
        InputError: the address cannot be used, the server does not have the file or does not
            answer, the file is damaged or is a web page, or it cannot be written.
    """
    if not is_address(path):
        return Path(path)
    address = os.fspath(path)
    url, source = _resolve(address, key)
    parts = _path_parts(url)
    expected = hash_in_name(parts[-1], of_zoo=_is_of_zoo(url))
    for folder in _foreign_caches() if _is_of_zoo(url) else ():
        copy = folder.joinpath(*parts)
        if copy.is_file() and _is_whole(copy, expected):
            _logger.debug("%s: taken from Detectron2's cache, %s", address, copy)
            return copy
    copy = cache_directory().joinpath("weights", _host(url), *parts)
    if copy.is_file():
        if _is_whole(copy, expected):
            return copy
        _logger.warning("note: %s: does not have the hash in its name; downloading it again", copy)
    elif expected is None:
        _logger.warning(
            "note: %s: its name has no digits of a hash, so that only its size is checked",
            _where(address, ""),
        )
    download(source, copy, _where(address, key), lambda part: _check(part, copy, expected))
    return copy


def _is_whole(copy: Path, expected: NamedHash | None) -> bool:
    """Whether a copy has the hash in its name, as far as there is one."""
    try:
        return expected is None or expected.is_of(copy)
    except OSError as error:
        raise InputError(
            f"{copy}: cannot be read ({error.strerror}); remove it to download it again"
        ) from error


def _check(part: Path, path: Path, expected: NamedHash | None) -> str | None:
    """What is wrong with a file that has been downloaded; None if nothing is."""
    if expected is not None and not expected.is_of(part):
        return f"does not have the hash {expected.digits} of its name; it is damaged or another"
    with part.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    # What servers send in place of a file, some with status 200.
    what = describe_file(path, head, b"").partition(";")[0]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"[") or head[:7] == b"version":
        return f"what the server sent {what}"
    return None


def _resolve(address: str, key: str) -> tuple[SplitResult, str]:
    """The address of https that another one stands for, and the one to download from."""
    text = address.removesuffix(_MATCHING)
    if text.startswith(_DETECTRON2):
        text = f"{_SERVER}/detectron2/{text.removeprefix(_DETECTRON2)}"
    elif text.startswith(_CATALOG):
        name = text.removeprefix(_CATALOG)
        known = _catalog()
        if name not in known:
            raise InputError(
                f"{_where(address, key)} is not in Detectron2's catalog, which has "
                f"{', '.join(sorted(known)[-3:])} and others; correct the name"
            )
        text = f"{_SERVER}/detectron/{known[name]}"
    url = _split(text, _where(address, key))
    if url.path.endswith(".index.json"):
        raise InputError(
            f"{_where(address, key)} is the index of several files; download them all to one "
            "folder and give the path of the index"
        )
    if not _is_of_zoo(url):
        return url, text
    mirror = os.environ.get(ZOO_URL, "").rstrip("/")
    if not mirror:
        return url, text
    _split(f"{mirror}/", f"{ZOO_URL}: {mirror}", file=False)
    return url, mirror + text.removeprefix(_SERVER)


def _split(text: str, where: str, *, file: bool = True) -> SplitResult:
    try:
        url = urlsplit(text)
        usable = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:  # such as [::1 and port 99999
        usable = False
    else:
        if url.scheme not in ("http", "https"):
            raise InputError(
                f"{where}: {url.scheme}:// cannot be downloaded from; give detectron2://, https:// "
                "or the path of a file"
            )
    if not usable or any(ord(c) <= 32 for c in text):
        raise InputError(f"{where}: is not an address; correct it")
    if file and not _path_parts(url):
        raise InputError(f"{where}: names a server and no file; add the file's path")
    return url


def _is_of_zoo(url: SplitResult) -> bool:
    return f"{url.scheme}://{url.netloc}" == _SERVER


def _host(url: SplitResult) -> str:
    return _as_name((url.hostname or "") + (f":{url.port}" if url.port else ""))


def _path_parts(url: SplitResult) -> list[str]:
    """Folders and name below the cache; a query, which may say which file it is, is a folder."""
    parts = [_as_name(unquote(part)) for part in url.path.split("/") if part]
    if url.query:
        parts.insert(-1, _digest(url.query))
    return parts


def _as_name(text: str) -> str:
    """A part of a path that is a plain name, whatever the address has there."""
    plain = text not in ("", ".", "..") and not re.search(r"[\x00-\x1f/\\]", text)
    if plain and len(os.fsencode(text)) <= _LONGEST_NAME:
        return text
    return _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _where(address: str, key: str) -> str:
    """What messages begin with; of an address neither a password nor a query, which may be one."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    shown = f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
    return f"{key}: {shown}" if key else shown


def _foreign_caches() -> list[Path]:
    given = os.environ.get(_DETECTRON2_CACHE)
    return [Path(folder).expanduser() for folder in ([given] if given else _DETECTRON2_CACHES)]


@cache
def _catalog() -> dict[str, str]:
    found: dict[str, str] = json.loads(_CATALOG_FILE.read_text("utf-8"))
    return found
