"""OpenVINO: the engine for x86-64 and Arm processors."""
