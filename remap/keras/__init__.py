"""What Keras means: pure decisions, no files and no HDF5."""
