"""Reads a steering dataset directory and serves it in batches; curriculum and loaders."""
