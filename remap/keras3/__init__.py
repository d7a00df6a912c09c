"""What today's Keras means: its names, its order, its configs. Pure: no files and no HDF5."""

from remap.keras3.translation import Translation, translate

__all__ = ["Translation", "translate"]
