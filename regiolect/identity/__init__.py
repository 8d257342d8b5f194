"""What a build key is made of: Regiolect's own code and tools, the code of a model's files, and its objects."""
