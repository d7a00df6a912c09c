"""Convert many checkpoints: what to convert, in which processes, what was done before, what came out."""
