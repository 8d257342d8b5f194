"""What `regiolect doctor` finds on this machine and at the servers that its environment names.

    finding.py       what a check says, and how a check is bounded in time
    examination.py   every check, in the order in which they are made; secrets are taken out of what is said
    installation.py  code, Python packages, backends
    project.py       policies, models, the home and its disk
    signing.py       the key that releases sign with, and the trust file
    places.py        stores, registry, clocks, the servers of `regiolect up`
    orchestration.py the way to `flows.deploy.checkup`, which looks at Prefect

A check changes nothing but one small record per store and machine, which is written anew each time and tells other
machines which code runs here. Opening a store marks a new one
as its region's, as every other command does.
"""
