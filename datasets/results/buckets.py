"""Results in S3: a folder of this machine stands for a bucket's prefix, and gets its files as they are asked for.

A file of the bucket appears at once, whole: an object that is put is there when all of it is there. The folder may be
deleted at any time while nothing runs.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hushsweep.datasets.results.errors import StoreError

_ADDRESS = re.compile(r"s3:/{1,2}([^/@:]+)(/.*)?")  # Path("s3://bucket") has lost one of its slashes
_MARK = ".bucket"
"""File in the folder that says which bucket it stands for."""
_OF_THIS_MACHINE = ("cache/images", "cache/frozen", "cache/tune", "cache/duckdb", "mlartifacts", ".mlflow")
"""Where the paths begin of what is large and can be made again, or is another process's own."""
_LARGE = (".f32",)
_RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=120)}


def bucket_address(results: Path | str) -> str | None:
    """Return the address ``s3://bucket/prefix`` that a results folder is given by or stands for; None of others.

    Raises:
        StoreError: it is the address of something else.
    """
    text = str(results)
    if re.match(r"s3:/[^@]*@", text):
        raise StoreError(
            f"s3://{text.rpartition('@')[2]}: credentials do not belong into an address, where others read them; set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, and give s3://BUCKET/PREFIX"
        )
    if found := _ADDRESS.fullmatch(text):
        return f"s3://{found[1]}{(found[2] or '').rstrip('/')}"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise StoreError(
            f"{text}: results go to a local or mounted folder, or to s3://BUCKET/PREFIX with its "
            "credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY); give one of these as --results"
        )
    mark = Path(text).expanduser() / _MARK
    return mark.read_text().strip() if mark.is_file() else None


def results_folder(results: Path | str) -> Path:
    """Return the folder of this machine that holds results, or that stands for a bucket's.

    Raises:
        StoreError: an address of something else than S3, or the folder cannot be made.
    """
    address = bucket_address(results)
    if address is None or not _ADDRESS.fullmatch(str(results)):
        return Path(results).expanduser().absolute()
    caches = os.environ.get("HUSHSWEEP_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    key = f"{address} {os.environ.get('AWS_ENDPOINT_URL', '')}"
    folder = (
        Path(caches).expanduser().absolute() / "hushsweep" / hashlib.sha256(key.encode()).hexdigest()[:20]
    )
    if (folder / _MARK).is_file():
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(address)
        Path(file.name).replace(folder / _MARK)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be made ({error.strerror}); it holds copies of what is read from {address}: "
            "name another place in HUSHSWEEP_CACHE"
        ) from error
    return folder


def results_name(results: Path | str) -> str:
    """Return what results are called wherever they are used from: their address in S3, or the folder."""
    return bucket_address(results) or str(results)


def bucket_of(path: Path) -> "Bucket | None":
    """Return the bucket that has the file `path`, None of a file of this machine alone."""
    for folder in path.parents:
        bucket = _bucket(folder)
        if bucket is not None:
            return None if bucket.is_of_this_machine(path) else bucket
    return None


@lru_cache(maxsize=1024)
def _bucket(folder: Path) -> "Bucket | None":
    """Of a folder that stands for one. Folders do not become buckets later: this is asked for each file."""
    mark = folder / _MARK
    return Bucket(mark.read_text().strip(), folder) if mark.is_file() else None


class Seen(NamedTuple):
    """What the bucket says of one file."""

    size: int
    modified: datetime
    tag: str | None


class Bucket:
    """A prefix in S3; paths are those of the files in the folder that stands for it."""

    def __init__(self, address: str, root: Path) -> None:
        """Reach it with what the environment says: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION and others.

        Raises:
            StoreError: obstore is not installed, or the address is wrong.
        """
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise StoreError(
                f"{address}: S3 needs a package of its own; pip install 'hushsweep[s3]' on every node, or give a folder"
            ) from error
        self.address, self.root = address, root
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        with self._asking(root, "reached"):
            self._store = S3Store(
                bucket, prefix=prefix or None, client_options={"allow_http": plain}, retry_config=_RETRIES
            )
        self._listed = dict[str, Seen]()

    def spelled(self, path: Path) -> str:
        """Return the address of a file."""
        return f"{self.address}/{self._key(path)}"

    def is_of_this_machine(self, path: Path) -> bool:
        """Tell whether a file stays in the folder."""
        return path.suffix in _LARGE or self._key(path).startswith(_OF_THIS_MACHINE)

    def files(self, folder: Path) -> dict[str, Seen]:
        """List the files of a folder. Copies of deleted ones go."""
        objects, _ = self._list(folder)
        found = {one["path"].rpartition("/")[2]: _seen(one) for one in objects}
        self._listed |= {self._key(folder / name): seen for name, seen in found.items()}
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in found and entry.name[0] != "." and entry.is_file():
                    Path(entry.path).unlink(missing_ok=True)
        return found

    def size(self, path: Path) -> int:
        """Return the bytes of a file that was listed."""
        return self._listed[self._key(path)].size

    def folders(self, folder: Path) -> list[str]:
        """List the names of the folders in a folder."""
        _, prefixes = self._list(folder)
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes]

    def fetch(self, path: Path, *, listed: bool = False) -> bool:
        """Bring a file's copy up to date; tell whether the file is there.

        Args:
            path: Where the copy is to be.
            listed: Ask the bucket nothing where the file was listed before and its copy is as it was then.
        """
        key = self._key(path)
        seen = self._listed.get(key) if listed else None
        if seen is not None and _is_copy(path, seen):
            return True
        try:
            with self._asking(path, "read"):
                import obstore

                if seen is None:
                    seen = _seen(obstore.head(self._store, key))
                    if _is_copy(path, seen):
                        return True
                self._copy(obstore.get(self._store, key), path)
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return False
        return True

    def _copy(self, found: Any, path: Path) -> None:
        try:
            with _beside(path) as partial:
                with partial.open("wb") as stream:
                    stream.writelines(found.stream(min_chunk_size=2**23))
                _place(partial, path, _seen(found.meta))
        except OSError as error:
            raise StoreError(
                f"{path}: the copy of {self.spelled(path)} could not be written ({error.strerror or error}); free "
                "space there, or name another place in HUSHSWEEP_CACHE"
            ) from error

    def put(self, path: Path, partial: Path) -> None:
        """Make a file of this machine the file `path`, at once."""
        import obstore

        with self._writing(path):
            put = obstore.put(self._store, self._key(path), partial)
            seen = _seen(obstore.head(self._store, self._key(path)))
        self._listed[self._key(path)] = seen
        if seen.tag == put["e_tag"]:  # else somebody has replaced it meanwhile
            _place(partial, path, seen)

    def remove(self, path: Path) -> None:
        """Delete a file that may be gone already."""
        import obstore

        with contextlib.suppress(FileNotFoundError), self._asking(path, "deleted"):
            obstore.delete(self._store, self._key(path))
        path.unlink(missing_ok=True)

    def read_end(self, path: Path, size: int) -> bytes:
        """Read the last bytes of a file, without a copy.

        Raises:
            FileNotFoundError: it is not there.
        """
        import obstore

        with self._asking(path, "read"):
            found = obstore.get(self._store, self._key(path), options={"range": {"suffix": size}})
            return bytes(found.bytes())

    def read_small(self, path: Path) -> tuple[bytes, Seen] | None:
        """Read a file past its copy, None if it is not there."""
        import obstore

        try:
            with self._asking(path, "read"):
                found = obstore.get(self._store, self._key(path))
                return bytes(found.bytes()), _seen(found.meta)
        except FileNotFoundError:
            return None

    def write_small(self, path: Path, content: bytes, *, over: str | None) -> str | None:
        """Write a file if it is as it was: of the tag `over`, or not there. Return its tag, None if it was not so."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if over is None else {"e_tag": over}
        try:
            with self._writing(path) if over is None else self._asking(path, "written"):
                put = obstore.put(self._store, self._key(path), content, mode=mode)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return None
        return str(put["e_tag"])

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _list(self, folder: Path) -> tuple[Any, Any]:
        import obstore

        with self._asking(folder, "listed"):
            found = obstore.list_with_delimiter(self._store, self._key(folder))
        return found["objects"], found["common_prefixes"]

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            with self._asking(path, "written"):
                yield
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.spelled(path)}: could not be written (there is no such bucket); make it, or name another"
            ) from error

    @contextlib.contextmanager
    def _asking(self, path: Path, verb: str) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            yield
        except (FileNotFoundError, AlreadyExistsError, PreconditionError):
            raise
        except (BaseError, OSError) as error:
            reason = " ".join(str(error).split("Debug source:")[0].split())[:400]
            raise StoreError(
                f"{self.spelled(path)}: could not be {verb} ({reason}); check the bucket, AWS_ENDPOINT_URL, AWS_REGION "
                "and the credentials in the environment, then run again: what is stored already is kept"
            ) from error


def _seen(meta: Any) -> Seen:
    return Seen(meta["size"], meta["last_modified"], meta["e_tag"])


def _is_copy(path: Path, seen: Seen) -> bool:
    """Tell whether a file of this machine is the one that was seen, as rsync does: by size and time."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_size == seen.size and abs(found.st_mtime - seen.modified.timestamp()) < 1e-3


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Name a new file beside `path`, which is gone after the block unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _place(partial: Path, path: Path, seen: Seen) -> None:
    time = seen.modified.timestamp()
    os.utime(partial, (time, time))
    partial.replace(path)
