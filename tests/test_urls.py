"""URLs are told from paths, and shown without their secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from remap.errors import InputRefused, OutputRefused
from remap.hdf5.output import new_file
from remap.hdf5.reader import open_checkpoint
from remap.urls import base_name, join, masked, parent, remote, scrubbed, url_in


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("s3://bucket/m.h5", "s3://bucket/m.h5"),
        ("s3:/bucket/m.h5", "s3://bucket/m.h5"),
        ("https:/example.org/m.h5", "https://example.org/m.h5"),
        ("https://example.org//m.h5", "https://example.org//m.h5"),
        ("C:/models/m.h5", None),
        ("models/a:/m.h5", None),
        ("m.h5", None),
    ],
)
def test_a_url_is_told_from_a_path(name: str, url: str | None) -> None:
    assert url_in(name) == url
    assert remote(Path(name)) == (None if url is None else url.replace("org//", "org/"))


def test_a_url_of_an_unknown_scheme_is_no_missing_file() -> None:
    with pytest.raises(
        InputRefused, match=r"URLs of this kind are not supported: ftp://u:\*\*\*@bucket/m\.h5"
    ):
        open_checkpoint("ftp://u:secret@bucket/m.h5")
    with (
        pytest.raises(OutputRefused, match=r"URLs of this kind are not supported: ftp://bucket/m\.h5"),
        new_file(Path("ftp://bucket/m.h5"), overwrite=False),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("runs/a?b#c@d.h5", "runs/a?b#c@d.h5"),
        ("s3://bucket/a@b#c.h5", "s3://bucket/a@b#c.h5"),
        ("s3://bucket/a.h5?versionId=1", "s3://bucket/a.h5?***"),
        (
            "abfs://container@account.dfs.core.windows.net/a.h5",
            "abfs://container@account.dfs.core.windows.net/a.h5",
        ),
        ("https://token@host/a.h5", "https://***@host/a.h5"),
        ("https://ada:pass@host:8443/a.h5?sig=1#x", "https://ada:***@host:8443/a.h5?***"),
        ("https://ada:pa/ss@host/a.h5", "https://ada:***@host/a.h5"),
        ("https://host:8443/a@b.h5", "https://host:8443/a@b.h5"),
        ("https://[::1]/a@b.h5", "https://[::1]/a@b.h5"),
        ("https://host/a.h5#token", "https://host/a.h5#***"),
        ("sftp://ada@host/a.h5", "sftp://ada@host/a.h5"),
        ("sftp://ada:p%40ss@host/a.h5", "sftp://ada:***@host/a.h5"),
    ],
)
def test_a_url_is_shown_without_password_and_query(name: str, shown: str) -> None:
    assert masked(name) == shown


def test_what_a_library_says_is_shown_without_the_secrets_of_the_url() -> None:
    url = "https://ada:p%40ssword@host/a.h5?X-Sig=0123abcd&v=1"
    said = f"401 for {url}; user ada, p@ssword; sig=0123abcd"
    assert scrubbed(said, url) == "401 for https://ada:***@host/a.h5?***; user ada, ***; sig=***"


def test_parts_of_urls() -> None:
    assert base_name("https://host/a/b.h5?sig=/x") == "b.h5"
    assert join("s3://bucket/out/", "a/b.h5") == "s3://bucket/out/a/b.h5"
    assert parent("s3://bucket/out/b.h5") == "s3://bucket/out"
