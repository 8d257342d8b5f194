"""A bundle, what a region's consumers load: its manifest, how it is written and verified, whose decisions it has."""
