"""Data: one YAML per region, and the JSON schema for editors."""
