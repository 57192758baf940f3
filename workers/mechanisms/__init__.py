"""What is done to activations before they leave: one idea per file, named in one table."""
