"""Turn Keras multi-GPU checkpoints into the single-model files they should have been."""

__version__ = "0.1.0"
