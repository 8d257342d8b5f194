"""A nightly's time and zone: hours that a change of the clocks skips or repeats, and a host without time zone data."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from regiolect.cli.policy_facts import check_of
from regiolect.cli.tables import print_policy_check
from regiolect.policy import PolicyBook
from regiolect.policy.clock_changes import unclear_times
from regiolect.policy.rules import NightlyRules

# A year that is over, so that no country changes its mind about it.
NEW_YEAR = datetime(2025, 1, 1, 9, 30, 20, tzinfo=UTC)
SPRING, AUTUMN = "does not exist on 2025-03-30", "comes twice on 2025-10-26"
POLICY = """region: {region}
title: Nights
reason: A policy for trying out at what time its nights are.
precision: FP16
accuracy: {{metric: accuracy, limit: 0.5}}
targets: [{{name: cpu-x86, backend: openvino}}]
nightly: {{timezone: {timezone}, cron: "{cron}"}}
"""
# The command as it is, in a Python that finds no time zone data: neither the system's nor the package's.
WITHOUT_DATA = "import sys; sys.modules['tzdata'] = None; from regiolect.cli.app import main; main()"


@pytest.mark.parametrize(
    ("cron", "zone", "told"),
    [
        ("30 2 * * *", "Europe/Brussels", [f"02:30 {SPRING}", f"02:30 {AUTUMN}"]),
        ("0 2 * * *", "Europe/Brussels", [f"02:00 {SPRING}", f"02:00 {AUTUMN}"]),
        ("0 3 * * *", "Europe/Brussels", []),
        ("59 1 * * *", "Europe/Brussels", []),
        ("0 2 * * 1-5", "Europe/Brussels", []),
        ("*/20 2 * 10 *", "Europe/Brussels", [f"02:00 {AUTUMN}"]),
        ("0 2 * * *", "America/New_York", ["02:00 does not exist on 2025-03-09"]),
        ("0 1 * * *", "America/New_York", ["01:00 comes twice on 2025-11-02"]),
        # Half an hour, and the southern half of the world.
        ("45 1 * * *", "Australia/Lord_Howe", ["01:45 comes twice on 2025-04-06"]),
        ("0 0 * * *", "Africa/Cairo", ["00:00 does not exist on 2025-04-25"]),
        ("30 23 * * *", "Africa/Cairo", ["23:30 comes twice on 2025-10-30"]),
        ("0 2 * * *", "Asia/Tokyo", []),
        ("0 2 * * *", "UTC", []),
        ("0 2 29 2 *", "Europe/Brussels", []),
    ],
)
def test_a_time_inside_a_change_of_the_clocks_is_told_as_what_it_is(cron: str, zone: str, told: list[str]) -> None:
    times = unclear_times(NightlyRules(cron=cron, timezone=zone), NEW_YEAR)
    assert [time.partition(", when clocks of ")[0] for time in times] == told
    assert all(f"clocks of {zone} go from " in time for time in times)


def test_validate_notes_such_a_time_and_takes_the_policy_all_the_same(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.yaml").write_text(POLICY.format(region="a", timezone="Europe/Brussels", cron="30 2 * * *"))
    (tmp_path / "b.yaml").write_text(POLICY.format(region="b", timezone="Europe/Brussels", cron="30 4 * * *"))
    print_policy_check(check := check_of(PolicyBook(tmp_path)))
    assert not check.unusable
    valid, note, more, remedy, other, last = capsys.readouterr().out.splitlines()
    assert valid.startswith("a: valid") and other.startswith("b: valid")
    assert note.startswith("  note      02:30 ") and more.startswith("            02:30 ")
    assert {"does not exist", "comes twice"} == {
        each for each in ("does not exist", "comes twice") if each in note + more
    }
    assert remedy.startswith("  remedy    state another time in nightly.cron")
    assert last == "2 files, no mistake, 1 to note"


def test_a_host_without_time_zone_data_is_told_so_and_not_that_the_zone_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICY.format(region="a", timezone="Europe/Brussels", cron="30 4 * * *"))
    (tmp_path / "b.yaml").write_text(POLICY.format(region="b", timezone="UTC", cron="30 4 * * *"))
    command = [sys.executable, "-c", WITHOUT_DATA, "policies", "validate", "--policies", str(tmp_path)]
    environment = {**os.environ, "PYTHONTZPATH": "", "REGIOLECT_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.splitlines()[:5] == [
        "InvalidPolicy",
        f"  at        {tmp_path}/a.yaml:7 nightly.timezone",
        f"  expected  time zone data on this host, for nightly.timezone in {tmp_path}/a.yaml",
        "  found     nightly.timezone: this host has no time zone data to look it up, found 'Europe/Brussels'",
        "  remedy    pip install tzdata, or the system's package tzdata (Debian: apt install tzdata); then: "
        "regiolect policies validate",
    ]
    assert "b: valid" in done.stdout


def test_a_zone_that_is_none_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICY.format(region="a", timezone="Europe/Brusels", cron="30 4 * * *"))
    (mistake,) = PolicyBook(tmp_path).mistakes("a")
    assert "no time zone (did you mean 'Europe/Brussels'?)" in mistake.found
