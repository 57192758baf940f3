"""SQL over the results: views and the functions that run them."""
