"""One Prefect task per stage. Each adds what Prefect is for: a name, and a place in the machine's order.

Tasks carry no tags: for every tag Prefect asks the server for a concurrency slot before each task, and an embedded
server, whose SQLite is busy with events, answers many of these only on a second try, two seconds later.
"""
