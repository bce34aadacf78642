"""What of a job an exact resume needs: weights, optimizer, buffers and generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from . import checkpoint
from .job import Job


def state_of(job: Job) -> dict[str, Any]:
    """Return the state of every part of a job and of the process's generators."""
    cuda = {"cuda_rng": torch.cuda.get_rng_state()} if job.device.type == "cuda" else {}
    return {
        "model": dict(job.model.state_dict()),
        "optimizer": job.optimizer.state_dict() if job.trains else {},
        "sampler": checkpoint.values(job.sampler),
        "batches": checkpoint.values(job.batches),
        "loss_values": checkpoint.values(job.loss),
        "terms": checkpoint.values(job.terms),
        "generator": job.generator.get_state(),
        "cpu_rng": torch.get_rng_state(),
        **cuda,
    }


def restore_job(job: Job, state: dict[str, Any], path: Path) -> None:
    """Take up what `state_of` returned; `path` is what messages name."""
    checkpoint.load_weights(job.model, state["model"], path)
    if job.trains:
        job.optimizer.load_state_dict(state["optimizer"])
    checkpoint.restore_values(job.sampler, state["sampler"])
    checkpoint.restore_values(job.batches, state.get("batches", {}))
    checkpoint.restore_values(job.loss, state["loss_values"])
    checkpoint.restore_values(job.terms, state["terms"])
    job.generator.set_state(state["generator"].cpu())
    torch.set_rng_state(state["cpu_rng"].cpu())
    if "cuda_rng" in state and job.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"].cpu())
