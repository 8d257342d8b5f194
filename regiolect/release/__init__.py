"""What becomes of a region's approved engines: whether they may take the place of those that are served."""
