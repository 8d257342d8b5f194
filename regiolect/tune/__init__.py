"""Tuning on the target: which batch and which settings of a backend make an engine fast on the device that it runs on.

`candidates` says what is tried, `bench` loads and measures, `journal` keeps every measurement, `figures` works out what
they come to, `run` puts it together; `compare` tells two devices of one type apart, `words` says it all to people.
"""
