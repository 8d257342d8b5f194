"""PostgreSQL, S3, MLflow and Prefect as server processes on this machine, from parts that pip installs.

`local.LocalServers` starts and stops them. All of them listen on 127.0.0.1 alone and keep everything below one folder.
Prefect and MLflow run as processes of their own: nothing here imports them.
"""
