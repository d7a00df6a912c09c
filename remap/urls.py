"""Names of files: which of them are URLs, and how a URL is shown without what is secret in it."""

from __future__ import annotations

import os
import re

__all__ = [
    "SCHEMES",
    "WRITABLE",
    "base_name",
    "join",
    "masked",
    "parent",
    "remote",
    "scheme_of",
    "scrubbed",
    "url_in",
]

WRITABLE = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "sftp", "ssh"))
"""Schemes of URLs that outputs can have."""
SCHEMES = WRITABLE | {"http", "https"}
"""Schemes of URLs that files can be read from."""
# pathlib makes one slash of two. A single letter is a drive of Windows.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.+)", re.DOTALL)
_LIBRARIES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "http": "aiohttp",
    "https": "aiohttp",
}
_SECRET = "***"  # noqa: S105 - what stands in place of one
_SHORTEST = 4  # characters; shorter values of a query tell nothing, and occur in any text


def url_in(name: str) -> str | None:
    """Give the URL that was meant by the name of a file, None for any other name.

    >>> url_in("s3:/bucket/model.h5")
    's3://bucket/model.h5'
    """
    match = _URL.fullmatch(name)
    if match is None:
        return None
    return name if name[match.end(1) :].startswith("://") else f"{match[1]}://{match[2]}"


def remote(name: str | os.PathLike[str]) -> str | None:
    """Give the URL that was meant by the name of a file if it is of one of `SCHEMES`."""
    url = url_in(os.fsdecode(name))
    return url if url is not None and scheme_of(url) in SCHEMES else None


def scheme_of(url: str) -> str:
    """Give the scheme of a URL in small letters."""
    return url.partition(":")[0].lower()


def libraries(*names: str) -> tuple[str, ...]:
    """Name the libraries that files will need, as far as they start no threads when they are loaded.

    >>> libraries("s3://bucket/model.h5", "model.h5")
    ('fsspec', 's3fs')
    """
    schemes = [scheme_of(url) for url in map(remote, names) if url is not None]
    return tuple(
        sorted(
            {"fsspec", *(_LIBRARIES[scheme] for scheme in schemes if scheme in _LIBRARIES)} if schemes else ()
        )
    )


def masked(name: str | os.PathLike[str]) -> str:
    """Give a name as it may be shown: of a URL without its password, query and fragment; a path as it is.

    >>> masked("sftp://ada:secret@host/runs/model.h5")
    'sftp://ada:***@host/runs/model.h5'
    >>> masked("https://host/model.h5?X-Amz-Signature=0123")
    'https://host/model.h5?***'
    >>> masked("runs/model.h5")
    'runs/model.h5'
    """
    name = os.fsdecode(name)
    url = url_in(name)
    if url is None:
        return name
    scheme, place, query = _split(url)
    user, host = _user(place)
    if user:
        login, colon, _ = user.partition(":")
        # What stands alone before a host of the web is often a token.
        user = f"{login}:{_SECRET}@" if colon else f"{_SECRET if scheme.startswith('http') else login}@"
    return f"{scheme}://{user}{host}{query[:1] + _SECRET if query else ''}"


def scrubbed(text: str, *names: str) -> str:
    """Give a message of a library without the secrets of URLs.

    >>> scrubbed("403 for https://host/m.h5?sig=abcd", "https://host/m.h5?sig=abcd")
    '403 for https://host/m.h5?***'
    """
    from urllib.parse import parse_qsl, unquote

    for url in filter(None, map(url_in, names)):
        text = text.replace(url, masked(url))
        _, place, query = _split(url)
        password = _user(place)[0].partition(":")[2]
        values = [value for _, value in parse_qsl(query[1:]) if len(value) >= _SHORTEST]
        for secret in filter(None, (query[1:], password, unquote(password), *values)):
            text = text.replace(secret, _SECRET)
    return text


def base_name(url: str) -> str:
    """Give the last part of a URL.

    >>> base_name("https://host/runs/model.h5?signature=0123")
    'model.h5'
    """
    return _split(url)[1].rpartition("/")[2]


def join(url: str, relative: str) -> str:
    """Give the URL of a file below a directory.

    >>> join("s3://bucket/single/", "a/b.h5")
    's3://bucket/single/a/b.h5'
    """
    return f"{url.rstrip('/')}/{relative}"


def parent(url: str) -> str:
    """Give the URL of the directory of a file.

    >>> parent("s3://bucket/single/model.h5")
    's3://bucket/single'
    """
    return url.rpartition("/")[0]


def _split(url: str) -> tuple[str, str, str]:
    """Give the scheme; user, host and path; and the query with the mark before it.

    Only URLs of the web have fragments: a # in the name of an object of a store is a character like others.
    """
    scheme, _, rest = url.partition("://")
    place = re.split(r"[?#]" if scheme.lower().startswith("http") else r"\?", rest, maxsplit=1)[0]
    return scheme, place, rest[len(place) :]


def _user(place: str) -> tuple[str, str]:
    """Give the user with the password, and the rest; also of a password that holds a slash, as it should not."""
    host, slash, path = place.partition("/")
    user, at, server = host.rpartition("@")
    if at:
        return user, server + slash + path
    port = host.rpartition(":")[2]
    if ":" in host and not port.isdecimal() and not host.endswith("]") and "@" in path:
        user, _, server = place.rpartition("@")
        return user, server
    return "", place
