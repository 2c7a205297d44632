"""Detection over HTTP: what is accepted, how it is answered, and the model behind it."""
