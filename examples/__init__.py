"""Models that the README, the demo and the tests use. They ship with the repository, not with the package."""
