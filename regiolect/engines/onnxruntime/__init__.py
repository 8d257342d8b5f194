"""ONNX Runtime's CPU provider: the portable engine, and the reference."""
