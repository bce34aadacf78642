"""The peers' side; each module runs in the environment of its peer."""
