"""The benchmark suite: ours beside the peers, side by side, on the same data.

The driver (`plan`, `pairs`, `environments`, `report`) runs in our environment. `worker` runs one
side in any environment and imports nothing but one module of `ours` or `theirs`.
"""
