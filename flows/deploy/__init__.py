"""What a Prefect server is given and asked: deployments, work pools, and the checkup of both."""
