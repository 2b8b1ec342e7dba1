"""online_daily and online_rolling_28d in DuckDB, as one would write them first: a row per device and day, and count distinct.

The running 28 days are kinder than a join of every day with 28 others: an interval is on the window of every day from
its first to 27 after its last, so a device gets a row for each of those.
"""

import intervals


def counted(table, extended):
    """Devices by day and bucket, from a row for each device and day."""
    return f"""
    CREATE TABLE {table} AS
    WITH online AS (
        SELECT device_id, user_id, unnest(generate_series(first_day, last_day + {extended}, INTERVAL 1 DAY))::DATE AS day FROM intervals
    ), fleets AS (
        SELECT day, user_id, count(DISTINCT device_id) AS devices FROM online GROUP BY day, user_id
    )
    SELECT day, {intervals.bucket("devices")} AS bucket, sum(devices)::BIGINT AS devices FROM fleets GROUP BY ALL;
    """.replace("GROUP BY ALL", f"GROUP BY day, {intervals.bucket('fleets.devices')}")


QUERIES = counted("daily", 0) + counted("rolling", 27)

if __name__ == "__main__":
    intervals.main(QUERIES, __doc__)
