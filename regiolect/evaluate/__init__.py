"""Reference and engine on the same samples: scores, and times."""
