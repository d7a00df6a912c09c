"""Files that are not on this machine: the only part that imports fsspec, and only when a URL is given."""
