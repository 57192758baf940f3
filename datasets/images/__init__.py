"""Input images: loaders, lookup and the decoded cache."""
