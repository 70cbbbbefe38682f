"""Tensors of a dataset directory on disk: one file each, or one HDF5 file."""
