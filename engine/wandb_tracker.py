"""Runs in Weights & Biases; with ``WANDB_MODE=offline`` they stay here for ``wandb sync``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PROJECT = "hardneg"  # unless WANDB_PROJECT names another


class WandbTracker:
    """One run of a W&B project.

    No code, console output or command line is sent: the last may hold a storage's password.
    """

    def __init__(
        self, name: str, group: str, settings: dict[str, Any], folder: Path, known: str | None
    ) -> None:
        import wandb

        quiet = wandb.Settings(
            silent=True,
            console="off",
            save_code=False,
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
        )
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            group=group or None,
            config=settings,
            dir=str(folder),
            id=known,
            resume="allow" if known else None,
            reinit="create_new",
            settings=quiet,
        )
        self.id = str(self.run.id)

    def log(self, figures: dict[str, float], step: int) -> None:
        """Send figures."""
        self.run.log(figures, step=step)

    def end(self, state: str) -> None:
        """Close the run; one that failed says so."""
        self.run.finish(exit_code=1 if state == "failed" else 0)


TRACKER = WandbTracker
