"""What both queries share: reading the files, the rules about neighbours, and writing the tables.

The rules are those of `dataflows/online/rules.rs`: a device's event and its next one say whether and until when the device was online.
Events that come twice need no care here: the first of the two makes an empty interval on the same day.
"""

import argparse
import time

import duckdb

READ = """
CREATE VIEW events AS SELECT * FROM read_csv('{events}', header = true, columns = {{
    'timestamp': 'TIMESTAMP', 'device_id': 'UBIGINT', 'user_id': 'UBIGINT', 'server_id': 'UBIGINT', 'connected': 'BOOLEAN'}});
CREATE VIEW servers AS SELECT * FROM read_csv('{servers}', header = true, nullstr = ['', 'NULL', '\\N'], columns = {{
    'id': 'UBIGINT', 'created_at': 'TIMESTAMP', 'destroyed_at': 'TIMESTAMP'}});
"""

# Of several rows of a server the one destroyed later counts; alive is latest.
DESTROYED = """
CREATE TABLE destroyed AS
SELECT id, max(destroyed_at) AS destroyed_at FROM servers GROUP BY id HAVING count(*) = count(destroyed_at);
"""

# The window goes by the tie order: user, server, connected. No interval goes past as-of, which is the latest event.
INTERVALS = """
CREATE TABLE intervals AS
WITH pairs AS (
    SELECT device_id, user_id, server_id, timestamp AS online_from, connected,
        lead(timestamp) OVER next AS next_timestamp,
        lead(server_id) OVER next AS next_server,
        lead(connected) OVER next AS next_connected
    FROM events
    WINDOW next AS (PARTITION BY device_id ORDER BY timestamp, user_id, server_id, connected)
), as_of AS (
    SELECT max(timestamp) AS as_of FROM events
), ends AS (
    SELECT device_id, user_id, online_from, CASE
        WHEN next_connected AND next_server = server_id THEN next_timestamp
        WHEN next_connected THEN least(next_timestamp, destroyed_at)
        WHEN next_server = server_id THEN next_timestamp
        ELSE least(as_of, destroyed_at)
    END AS online_until
    FROM pairs LEFT JOIN destroyed ON server_id = id, as_of
    WHERE connected
)
-- Every day that the interval overlaps, and at least that of its start; its end is not part of it.
SELECT device_id, user_id, online_from::DATE AS first_day,
    greatest(online_from::DATE, (online_until - INTERVAL 1 MICROSECOND)::DATE) AS last_day
FROM ends;
CREATE TABLE last_day AS SELECT max(timestamp)::DATE AS last_day FROM events;
"""

BUCKETS = [("1-2", 1), ("3-9", 3), ("10-99", 10), ("100-999", 100), ("1000+", 1000)]


def bucket(count):
    """SQL for a bucket's number, from 0."""
    cases = " ".join(f"WHEN {count} >= {lower} THEN {number}" for number, (_, lower) in reversed(list(enumerate(BUCKETS))))
    return f"CASE {cases} END"


def write(connection, table, path):
    """Writes (day, bucket, devices) as retally does."""
    labels = "[" + ", ".join(f"'{label}'" for label, _ in BUCKETS) + "]"
    connection.execute(f"""
        COPY (
            SELECT day, {labels}[bucket + 1] AS fleet_size, devices FROM {table}
            WHERE devices > 0 AND day <= (SELECT last_day FROM last_day) ORDER BY day, bucket
        ) TO '{path}' (HEADER, DELIMITER ',')
    """)


def main(daily_and_rolling, about):
    """Runs a script's queries, which make the tables `daily` and `rolling`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("events")
    parser.add_argument("servers")
    parser.add_argument("out", help="a folder that is there")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    started = time.monotonic()
    connection = duckdb.connect(config={"threads": arguments.threads, "preserve_insertion_order": "false"})
    connection.execute("SET enable_progress_bar = false")
    connection.execute(READ.format(events=arguments.events, servers=arguments.servers) + DESTROYED + INTERVALS)
    print(f"intervals after {time.monotonic() - started:.1f} s", flush=True)
    connection.execute(daily_and_rolling)
    write(connection, "daily", f"{arguments.out}/online_daily.csv")
    write(connection, "rolling", f"{arguments.out}/online_rolling_28d.csv")
    print(f"done after {time.monotonic() - started:.1f} s", flush=True)
