#!/usr/bin/env python3
"""Writes events.csv and servers.csv for `online` in which nothing follows from anything: each event's kind and server are drawn at random.

usage: hard.py DIR [EVENTS] [DEVICES]

So half of the intervals have no end but that of their server, and the others mostly depend on it. The same numbers give the same files.
"""

import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

START = datetime(2016, 1, 1)
SECONDS = 3 * 365 * 86_400
SERVERS = 200


def main(folder, events=10_000_000, devices=100_000):
    """Writes both files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(42)
    with open(folder / "servers.csv", "w") as file:
        file.write("id,created_at,destroyed_at\n")
        for server in range(SERVERS):
            destroyed = "" if server % 3 == 0 else START + timedelta(seconds=draw.randrange(SECONDS))
            file.write(f"{server},{START - timedelta(days=30)},{destroyed}\n")
    times = sorted(draw.randrange(SECONDS) for _ in range(events))
    with open(folder / "events.csv", "w") as file:
        file.write("timestamp,device_id,user_id,server_id,connected\n")
        for second in times:
            device = draw.randrange(devices)
            # Most users have 4 devices, some 500; a device of those is now and then somebody else's.
            user = device // 500 if draw.random() < 0.3 else 1_000_000 + device // 4
            connected = "true" if draw.random() < 0.5 else "false"
            file.write(f"{START + timedelta(seconds=second)},{device},{user},{draw.randrange(SERVERS)},{connected}\n")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
