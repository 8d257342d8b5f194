"""One Prefect task per stage. Each adds retries, tags and a name; its body is one call."""
