"""The machine and what runs on it: processors, memory, GPUs, files, locks, and child processes. No vendor's library."""
