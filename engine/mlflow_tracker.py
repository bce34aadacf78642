"""Runs in MLflow, where ``MLFLOW_TRACKING_URI`` says: a folder or database needs no network."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

EXPERIMENT = "hardneg"  # unless MLFLOW_EXPERIMENT_NAME names another
LONGEST = 500  # characters of a setting that every MLflow server takes
STATES = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowTracker:
    """One run of an MLflow experiment; the client only, so that no global run is touched."""

    def __init__(
        self, name: str, group: str, settings: dict[str, Any], folder: Path, known: str | None
    ) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        if known is not None:
            self.id = known
            self.client.update_run(known, status="RUNNING")
            return
        tags = {"mlflow.runName": name, **({"study": group} if group else {})}
        run = self.client.create_run(self._experiment(), run_name=name, tags=tags)
        self.id = run.info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in settings.items()]
        self.client.log_batch(self.id, params=params)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except Exception:  # another worker was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def log(self, figures: dict[str, float], step: int) -> None:
        """Send figures; MLflow's names have no @."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        named = {key.replace("@", "_at_"): value for key, value in figures.items()}
        metrics = [Metric(key, value, now, step) for key, value in named.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def end(self, state: str) -> None:
        """Close the run."""
        self.client.set_terminated(self.id, status=STATES[state])


TRACKER = MlflowTracker
