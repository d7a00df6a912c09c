"""What today's Keras means: its names, its order, its configs. Pure: no files and no HDF5."""

from remap.keras3.training import add_training
from remap.keras3.translation import Translation, translate

__all__ = ["Translation", "add_training", "translate"]
