"""What the machine is that this process runs on, as far as engines care. Cheap; imports no vendor's library."""
