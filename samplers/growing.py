"""State whose size is known only once there are data."""

from __future__ import annotations

from torch import nn


class Growing(nn.Module):
    """A module whose buffers take the shapes that a checkpoint has."""

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        # Clusters and counts have their size only once there are data: take the checkpoint's.
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
