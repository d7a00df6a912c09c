"""Whether an SSH server is who it says: only servers that `ssh` knows are spoken to."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["known_hosts"]


@cache
def known_hosts() -> Any:
    """Give a policy for paramiko that accepts the keys in the known_hosts files of `ssh`, and no others.

    fsspec would accept every key of a server that it does not know. It keeps a connection for each policy, so this is one.
    """
    import paramiko

    class KnownHosts(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, _client: Any, hostname: str, key: Any) -> None:
            for path in (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")):
                if path.is_file() and paramiko.HostKeys(str(path)).check(hostname, key):
                    return
            raise paramiko.SSHException(
                f"the key of {hostname} is not in ~/.ssh/known_hosts: connect once with ssh, and compare it"
            )

    return KnownHosts()
