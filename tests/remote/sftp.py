"""An SFTP server for the tests: `python -m tests.remote.sftp DIRECTORY` writes its port and its key, and serves."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import asyncssh

__all__ = ["PASSWORD", "USER"]

USER, PASSWORD = "ada", "p@ss/word"


class _Server(asyncssh.SSHServer):  # type: ignore[misc]
    def begin_auth(self, _username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


async def _serve(directory: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")

    def files(channel: Any) -> Any:
        return asyncssh.SFTPServer(channel, chroot=directory.encode())

    server = await asyncssh.create_server(_Server, "127.0.0.1", 0, server_host_keys=[key], sftp_factory=files)
    public = key.export_public_key().decode().strip()
    print(server.get_port(), public, flush=True)  # noqa: T201 - read by the test
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
