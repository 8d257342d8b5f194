"""One Prefect task per stage. Each adds what Prefect is for: a name, tags, a place in the machine's order."""
