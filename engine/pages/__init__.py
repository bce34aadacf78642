"""Pages for people: one HTML file each, without network."""
