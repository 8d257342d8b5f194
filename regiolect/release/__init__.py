"""What a release does with its engines: stages, outcomes, approval, drills, and what takes the place of what is served."""
