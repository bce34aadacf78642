"""Pages for people: one HTML file each, without script or network."""
