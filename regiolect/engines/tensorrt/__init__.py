"""TensorRT-RTX: engines for NVIDIA RTX-class GPUs, built on any x86-64 machine."""
