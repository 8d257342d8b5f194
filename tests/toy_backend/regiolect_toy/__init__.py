"""ONNX's own reference evaluator as a backend of Regiolect: slow, and the same on every machine."""
