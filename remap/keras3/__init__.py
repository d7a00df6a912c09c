"""What Keras 3 writes and reads: names, order, configs, masks, training state. Pure: no files and no HDF5."""
