"""What a release does with its engines: stages, outcomes, approval, drills, and what takes whose place in serving."""
