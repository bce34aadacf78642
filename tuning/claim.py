"""Who works on a trial: one worker at a time, and none that is dead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState

from .setting import Setting

BEAT = 20.0  # seconds between signs of life
SILENCE = 120.0  # without one for so long, a worker on another machine is taken for dead


@contextmanager
def claim(setting: Setting, trial: FrozenTrial) -> Iterator[bool]:
    """Try to become the one worker of a trial; yields whether that went well.

    The lock is the operating system's: it goes when its holder is killed, however that happens.
    """
    locks = setting.folder / ".locks"
    locks.mkdir(exist_ok=True)
    lock = FileLock(locks / f"{trial.number:04d}", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        now = next(t for t in setting.record.get_trials(deepcopy=False) if t.number == trial.number)
        elsewhere = now.user_attrs.get("host") not in (None, socket.gethostname())
        alive = elsewhere and time.time() - now.user_attrs.get("beat", 0.0) < SILENCE
        yield now.state == TrialState.RUNNING and not alive
    finally:
        lock.release()


@contextmanager
def heartbeat(trial: Trial) -> Iterator[None]:
    """Leave signs of life in the storage, for workers on other machines."""
    trial.set_user_attr("host", socket.gethostname())
    trial.set_user_attr("beat", time.time())
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            try:
                trial.storage.set_trial_user_attr(trial._trial_id, "beat", time.time())
            except Exception:  # a sign missed; the worker itself meets the trouble
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
