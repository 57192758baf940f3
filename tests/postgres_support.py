"""A PostgreSQL of the tests' own: a folder, a port on loopback, and a process that may be killed."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PASSWORD = "s3cret"


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs: that of the PATH, or the newest that Debian has."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(on_path).resolve().parent if on_path else found[-1].parent if found else None


class Postgres:
    """A server whose data survive it; PostgreSQL refuses to be root, so as root it is somebody else."""

    def __init__(self, folder: Path, port: int) -> None:
        programs = binaries()
        assert programs is not None
        self._programs, self._folder, self._port = programs, folder, port
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)  # the folder is closed
        self._run("initdb", "-D", "data", "-U", "mlflow", "--auth=scram-sha-256", "--pwfile=password")
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, **self._user)
        assert done.returncode == 0, done.stderr

    def uri(self, database: str, driver: str = "postgresql") -> str:
        return f"{driver}://mlflow:{PASSWORD}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start, after a kill as well: the killed one's processes have to end first."""
        options = ["-h", "127.0.0.1", "-p", str(self._port), "-k", str(self._folder)]
        deadline = time.monotonic() + 60
        while True:
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [str(self._programs / "postgres"), "-D", "data", *options],
                    cwd=self._folder,
                    stdout=log,
                    stderr=log,
                    **self._user,
                )
            while self._process.poll() is None:
                with suppress(Exception):
                    self.ask("postgres", "SELECT 1")
                    return
                time.sleep(0.1)
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it as ``pg_ctl stop -m immediate`` does, with all its processes."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)

    def ask(self, database: str, sql: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.uri(database), connect_timeout=5, autocommit=True) as connection:
            cursor = connection.execute(sql)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str) -> str:
        """Make an empty database and return its address."""
        self.ask("postgres", f"CREATE DATABASE {database}")
        return self.uri(database)


@contextmanager
def postgres(port: int) -> Iterator[Postgres]:
    """A running server; it and its folder are gone afterwards."""
    folder = Path(
        tempfile.mkdtemp(prefix="hushsweep-postgres-")
    )  # pytest's folders are closed to other users
    try:
        server = Postgres(folder, port)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
