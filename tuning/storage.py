"""Where a study is kept: SQLite in its folder, a journal file, or a PostgreSQL or MySQL server."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.study import StudyDirection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..datasets.errors import DataError, HardnegError, ResourceError, UsageError

NAME = "hardneg"
DATABASE = "study.db"
IDENTITY = "hardneg:id"
ADDRESS = "HARDNEG_STORAGE"  # the environment variable that gives an address with its password
WAIT = 60.0  # seconds a worker waits for another one's transaction
DRIVERS = {"postgresql": "psycopg or psycopg2-binary", "mysql": "mysqlclient or PyMySQL"}
FULL = re.compile(r"full|no space left|ENOSPC|quota|file too large", re.IGNORECASE)
LOCKED = re.compile(r"database is locked|could not be acquired", re.IGNORECASE)


class _Lock(BaseJournalFileLock):
    """Guards a journal file; the system releases it when its holder is killed."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(f"{path}.lock", timeout=WAIT)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


def hide_password(place: str) -> str:
    """Write a URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", place)


def whole_address(place: str) -> str:
    """Return the address of which a study keeps no password: the environment has it."""
    if "***" not in place:
        return place
    if not os.environ.get(ADDRESS):
        raise UsageError(
            f"the study is in {place}, and its password is written nowhere; set {ADDRESS} to the "
            "whole address, which `tune` takes as --storage, too"
        )
    return os.environ[ADDRESS]


def describe(folder: Path, storage: str) -> str:
    """Return where the study is kept, for people."""
    return hide_password(storage) if storage else str(folder / DATABASE)


def name_of(folder: Path, storage: str) -> str:
    """Return the study's name; on a server that of its folder, for others are there too."""
    return f"{NAME}-{folder.resolve().name}" if storage else NAME


def open_storage(folder: Path, storage: str = "") -> BaseStorage:
    """Open the storage.

    Args:
        folder: the study folder.
        storage: empty for SQLite in the folder, the path of a journal file, or a URL.

    Raises:
        ResourceError: it is locked or cannot be reached. DataError: it is something else.
        UsageError: it is from another version, or the driver is not installed.
    """
    with opening_errors(describe(folder, storage)):
        if storage and "://" not in storage:
            path = Path(storage)
            if path.is_dir() or not path.parent.is_dir():
                raise UsageError(f"storage = {storage!r}: give a file in a folder that exists")
            backend = JournalFileBackend(str(path), lock_obj=_Lock(path))
            return JournalStorage(backend)
        url = storage or f"sqlite:///{(folder / DATABASE).resolve()}"
        # SQLAlchemy 2.1 takes psycopg for PostgreSQL when none is named, earlier ones psycopg2.
        if url.startswith("postgresql://") and not find_spec("psycopg") and find_spec("psycopg2"):
            url = url.replace("://", "+psycopg2://", 1)
        options = {"connect_args": {"timeout": WAIT}} if url.startswith("sqlite") else {}
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **options})


def open_record(
    folder: Path, storage: str, directions: list[StudyDirection], identity: str = ""
) -> optuna.Study:
    """Open the study, or begin it.

    Args:
        folder: of the study.
        storage: as `open_storage` takes it.
        directions: of the objectives.
        identity: what tells this study from another of the same name in a shared storage.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Optuna's own making of tables and studies fails where two workers begin at once; and where
    # the first was killed amid it, SQLite lacks the index that holds a name to one study.
    name = name_of(folder, storage)
    with FileLock(folder / ".open.lock"), opening_errors(describe(folder, storage)):
        kept = open_storage(folder, storage)
        if name in optuna.get_all_study_names(kept):
            record = optuna.load_study(study_name=name, storage=kept)
            if identity and record.user_attrs.get(IDENTITY, identity) != identity:
                raise UsageError(
                    f"{describe(folder, storage)} holds a study {name!r} of another folder; choose "
                    "an --out of another name, or another storage"
                )
        else:
            if any(folder.glob("trials/*")):  # new ones would go on from their checkpoints
                raise DataError(
                    f"{describe(folder, storage)} holds no study {name!r}, but {folder} has its "
                    "trials; restore it, or give the folder its old name back"
                )
            record = optuna.create_study(storage=kept, study_name=name, directions=directions)
            record.set_user_attr(IDENTITY, identity)
    if record.directions != directions:
        raise UsageError(
            f"{describe(folder, storage)} holds a study of {len(record.directions)} objectives, "
            f"not of these {len(directions)}; choose another --out"
        )
    return record


@contextmanager
def storage_errors(place: str) -> Iterator[None]:
    """Turn what a storage raises into one sentence; the study stays as it was."""
    try:
        yield
    except HardnegError:
        raise
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, TimeoutError) as error:
        raise _explain(place, error) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _explain(place, error) from None


@contextmanager
def opening_errors(place: str) -> Iterator[None]:
    """Do the same while a storage is opened.

    Only here: while trials run, an import that fails or a wrong value is somebody else's.
    """
    try:
        with storage_errors(place):
            yield
    except HardnegError:
        raise
    except ImportError as error:
        server = re.split(r"[+:]", place)[0]
        need = DRIVERS.get(server, "its driver")
        raise UsageError(
            f"storage {place}: {_first(error)}; install {need}, or leave --storage out"
        ) from None
    except RuntimeError as error:
        if "version" not in str(error):
            raise
        raise UsageError(
            f"storage {place} was written by another version of Optuna than "
            f"{optuna.__version__}; upgrade optuna, or choose another storage"
        ) from None
    except (ValueError, KeyError) as error:
        if type(error) not in (ValueError, KeyError) and "json" not in type(error).__module__:
            raise
        raise DataError(f"storage {place} is damaged ({_first(error)}); restore it") from None


def _explain(place: str, error: Exception) -> HardnegError:
    cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
    text = f"{cause} {error}"
    if LOCKED.search(text):
        return ResourceError(
            f"storage {place} is locked by another program for {WAIT:g} seconds; close it and "
            "start again, everything finished is kept"
        )
    if FULL.search(text):
        return ResourceError(
            f"storage {place}: the disk is full; free some space and start again, everything "
            "finished is kept"
        )
    if "disk i/o error" in text.lower():
        return ResourceError(
            f"storage {place}: the disk does not take what is written (disk I/O error); check its "
            "free space and the limit on the size of files, and start again"
        )
    if isinstance(cause, ArgumentError):
        return UsageError(f"storage {place} is no URL; write e.g. postgresql://user@host/base")
    if "not a database" in text or "malformed" in text:
        return DataError(f"storage {place} is not an SQLite database; restore it")
    if "readonly" in text:
        return ResourceError(f"storage {place} cannot be written; change its permissions")
    return ResourceError(
        f"storage {place} cannot be reached ({_first(cause)}); check the address and that the "
        "server runs, and start again"
    )


def _first(error: BaseException) -> str:
    reason = getattr(error, "orig", None) or error
    return " ".join(str(reason).splitlines()[0].split()) if str(reason) else type(error).__name__
