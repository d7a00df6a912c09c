"""A file system of fsspec behind a URL: how it is reached, with which limits, and what its errors mean.

Credentials come from where each library looks for them itself: its environment variables, configuration files, agents
and metadata services. None is taken from anywhere else, and none is shown.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from remap.errors import RemapError, UsageRefused
from remap.urls import masked, remote, scheme_of, scrubbed

__all__ = ["Changed", "Store", "identity_in"]

ATTEMPTS = 4
"""How often a request is made in all, where the library behind a URL does not repeat it by itself."""
PAUSE = 0.2
"""Seconds before the second attempt; twice as long before each further one."""
CONNECT, READ = 15, 30
"""Seconds to wait for a connection, and for the next bytes."""
_OWN_RETRIES = frozenset(("http", "https", "sftp", "ssh"))
"""Schemes whose libraries make a request once."""
_WORDS = 200
"""Characters of a library's message that are shown."""
_GONE = (404, 410)
_DENIED = (401, 403, 407)
_REFUSALS = ("redential", "uthenticat", "AccessDenied")
_Result = TypeVar("_Result")


_waiting = 0
_enabled = False
_counting = threading.Lock()


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect no garbage while a server is asked.

    libhdf5 asks for bytes while h5py holds its lock, and fsspec gets them in a thread of its own. If the collector
    happened to run in that thread and found an object of h5py, it would wait for the lock, and the lock for the bytes
    (https://docs.h5py.org/en/stable/high/file.html, "Python file-like objects").
    """
    global _waiting, _enabled
    with _counting:
        if not _waiting:
            _enabled = gc.isenabled()
            gc.disable()
        _waiting += 1
    try:
        yield
    finally:
        with _counting:
            _waiting -= 1
            if not _waiting and _enabled:
                gc.enable()


class Changed(Exception):
    """The object behind a URL is no longer the one that was opened."""


class Store:
    """The file system that a URL leads to, and the path of the file there.

    Every method that asks the server raises the error class that the caller gave, with the URL without its secrets.
    """

    def __init__(self, url: str, refusal: type[RemapError]) -> None:
        """Connect.

        Args:
            url: The URL of a file.
            refusal: The error to raise.

        Raises:
            UsageRefused: The extra `remote` is not installed.
            RemapError: The server cannot be reached, or does not accept who asks.
        """
        url = remote(url) or url
        self.url = url
        self.scheme = scheme_of(url)
        self.shown = masked(url)
        self._refusal = refusal
        self.files, self.path = self._connected()

    @property
    def encrypted(self) -> bool:
        """Tell whether the connection is known to notice bytes that were changed on the way."""
        if self.scheme in ("https", "hf", "sftp", "ssh"):
            return True
        if self.scheme in ("s3", "s3a"):
            return str(self.files.s3.meta.endpoint_url).startswith("https:")
        if self.scheme in ("gs", "gcs"):
            return str(getattr(self.files, "_location", "")).startswith("https:")
        return str(getattr(self.files, "account_url", "")).startswith("https:")

    def asked(self, request: Callable[[], _Result]) -> _Result:
        """Make a request that may be repeated.

        Args:
            request: Asks the server, by `files` and `path`.

        Returns:
            What it returns.

        Raises:
            RemapError: It failed, as often as it was repeated.
        """
        attempts = ATTEMPTS if self.scheme in _OWN_RETRIES else 1
        for attempt in range(1, attempts + 1):
            try:
                with _garbage_kept():
                    return request()
            except RemapError:
                raise
            except Exception as error:  # libraries raise errors of many classes, and of their dependencies'
                if attempt == attempts or not _may_pass(error):
                    raise self.refused(error) from None
            time.sleep(PAUSE * 2 ** (attempt - 1))
            if self.scheme in ("sftp", "ssh"):
                type(self.files).clear_instance_cache()  # its connection has ended
                self.files, self.path = self._connected()
        raise AssertionError  # the last attempt returns or raises

    def info(self) -> dict[str, Any]:
        """Ask what the store knows of the file."""
        self.files.invalidate_cache()
        found: dict[str, Any] = self.asked(lambda: self.files.info(self.path))
        return found

    def found(self) -> dict[str, Any] | None:
        """Ask what the store knows of what is at the path; None if there is nothing."""

        def look() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = self.files.info(self.path)
            except Exception as error:
                if not _is_missing(error):
                    raise
                return None
            return found

        self.files.invalidate_cache()
        return self.asked(look)

    def exists(self) -> bool:
        """Ask whether there is something at the path."""
        return self.found() is not None

    def refused(self, error: BaseException) -> RemapError:
        """Put an error of a library into words.

        Args:
            error: The error.

        Returns:
            The error to raise.
        """
        status = _status(error)
        if isinstance(error, Changed) or type(error).__name__ == "FileExpired":
            return self._refusal(
                "the file was changed while it was read",
                where=self.shown,
                hint="wait until nothing writes to it and try again",
            )
        if _is_missing(error):
            return self._refusal("there is no such file", where=self.shown, hint="check the URL")
        text = self.words(error)
        if status in _DENIED or isinstance(error, PermissionError) or any(word in text for word in _REFUSALS):
            return self._refusal(
                f"access is denied: {text}",
                where=self.shown,
                hint="check the credentials, which are taken from where the library of this scheme finds them",
            )
        return self._refusal(
            f"the server does not answer as it should: {text}",
            where=self.shown,
            hint="check the address and the connection, and try again",
        )

    def words(self, error: BaseException) -> str:
        """Give the message of a library in one line, without secrets of the URL."""
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        text = " ".join(scrubbed(f"{type(cause).__name__}: {cause}", self.url).split())
        return text.rstrip(":. ")[:_WORDS]

    def _connected(self) -> tuple[Any, str]:
        try:
            import fsspec
        except ImportError as error:
            raise self._missing(error) from None
        try:
            options = _options(self.scheme)
            if self.scheme in ("sftp", "ssh"):
                files, path = fsspec.filesystem("sftp", **options, **_login(self.url)), _path(self.url)
            else:
                files, path = fsspec.url_to_fs(self.url, **options)
        except ImportError as error:
            raise self._missing(error) from None
        except Exception as error:
            raise self.refused(error) from None
        return files, path

    def _missing(self, error: ImportError) -> UsageRefused:
        return UsageRefused(
            f"this URL needs a package that is not installed: {error.name or scrubbed(str(error), self.url)}",
            where=self.shown,
            hint="pip install 'h5remap[remote]'",
        )


def identity_in(info: dict[str, Any]) -> str:
    """Name the version of an object by what its store says of it: "" if it says nothing that would change with it.

    Args:
        info: What `Store.info` gives.

    Returns:
        The entity tag, generation, version or commit, or the size and the time of the last change.
    """
    for name in ("ETag", "etag", "generation", "VersionId", "blob_id"):
        if info.get(name):
            return f"{name} {info[name]}"
    for name in ("Last-Modified", "last_modified", "LastModified", "updated", "mtime"):
        if info.get(name):
            return f"{info.get('size')} bytes of {info[name]}"
    return ""


def _options(scheme: str) -> dict[str, Any]:
    """Give what is set for a library: limits on waiting, and what makes it read files as they are."""
    if scheme in ("http", "https"):
        import aiohttp

        return {
            "client_kwargs": {
                "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=READ),
                "trust_env": True,  # proxies, and ~/.netrc
                "headers": {"Accept-Encoding": "identity"},
            }
        }
    if scheme in ("s3", "s3a"):
        return {
            "use_listings_cache": False,
            "config_kwargs": {
                "connect_timeout": CONNECT,
                "read_timeout": READ,
                "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
            },
        }
    if scheme in ("sftp", "ssh"):
        from remap.remote.host_keys import known_hosts

        return {
            "host_key_policy": known_hosts(),
            "timeout": CONNECT,
            "banner_timeout": CONNECT,
            "auth_timeout": CONNECT,
            "channel_timeout": READ,
        }
    return {}


def _login(url: str) -> dict[str, Any]:
    """Give server and user of an SFTP URL, in which a user or password may be quoted, as fsspec does not expect."""
    parts = urlsplit(url)
    found = {
        "host": parts.hostname,
        "port": parts.port,
        "username": parts.username,
        "password": parts.password,
    }
    return {
        name: unquote(value) if isinstance(value, str) else value
        for name, value in found.items()
        if value is not None
    }


def _path(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]


def _status(error: BaseException) -> int | None:
    """Give the status of HTTP that an error carries, or the error that caused it."""
    for one in (error, error.__cause__, error.__context__):
        # In a cause, `code` may be that of a parser.
        for name in ("status", "status_code", "code")[: 3 if one is error else 2]:
            status = getattr(one, name, None)
            if isinstance(status, int):
                return status
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(response, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _is_missing(error: BaseException) -> bool:
    """Tell whether a server says that there is no such file; fsspec says so of whatever happens to a HEAD request."""
    status = _status(error)
    if status is not None:
        return status in _GONE
    return isinstance(error, FileNotFoundError) and error.__cause__ is None


def _may_pass(error: BaseException) -> bool:
    """Tell whether an error may be gone when the request is made again."""
    if isinstance(error, Changed | PermissionError | ImportError | TypeError):
        return False
    status = _status(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    return not _is_missing(error)
