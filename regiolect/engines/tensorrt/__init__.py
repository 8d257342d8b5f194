"""TensorRT in two flavours: NVIDIA TensorRT itself, and TensorRT-RTX, whose engines are built on any x86-64 machine.

What both do lies in the modules named as in every backend; `plain` and `rtx` hold what each does its own way. Nothing
but those two imports a vendor's library, and neither imports the other's.
"""
