"""Whether two files hold the same model. Shares reading with the conversion, and the declarations of layers."""
