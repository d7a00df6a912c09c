"""What HDF5 does: the only modules that import h5py."""
