"""What is known of Keras's built-in layer classes: one declaration for each class, in one module for each family."""
