"""The networks of `keras.applications`, as the releases of Keras built them: reference models that need no file."""
