"""online_daily and online_rolling_28d in DuckDB, as someone would write them who knows what is expensive: ranges, never days.

1. A device's intervals become ranges of days, merged where they overlap or touch (gaps and islands). Islands are counted by RANGE:
   ranges that start on the same day come in any order, and must be of the same island in each.
2. A range is +1 at its first day and -1 after its last; running sums by user are the sizes of fleets from one change to the next.
3. From a change on, a fleet contributes its size to its bucket, until its next one; running sums by bucket are the table.

For the 28 days, ranges are extended by 27 days and merged once more. Only steps 2 and 3 see them again, not the events.
"""

import intervals


def merged(source, days, extended=0):
    """Ranges of days by device and user, each extended at its end, merged."""
    return f"""
    CREATE TABLE {days} AS
    WITH marked AS (
        SELECT device_id, user_id, first_day, last_day + {extended} AS last_day,
            max(last_day + {extended}) OVER (
                PARTITION BY device_id, user_id ORDER BY first_day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS before
        FROM {source}
    ), islands AS (
        SELECT device_id, user_id, first_day, last_day,
            count_if(before IS NULL OR first_day > before + 1) OVER (
                PARTITION BY device_id, user_id ORDER BY first_day RANGE UNBOUNDED PRECEDING
            ) AS island
        FROM marked
    )
    SELECT device_id, user_id, min(first_day) AS first_day, max(last_day) AS last_day
    FROM islands GROUP BY device_id, user_id, island;
    """


def counted(days, table):
    """Devices by day and bucket, from ranges."""
    old, new = intervals.bucket("devices - change"), intervals.bucket("devices")
    return f"""
    CREATE TABLE {table} AS
    WITH changes AS (
        SELECT user_id, day, sum(change)::BIGINT AS change FROM (
            SELECT user_id, first_day AS day, 1 AS change FROM {days}
            UNION ALL
            SELECT user_id, last_day + 1, -1 FROM {days}
        ) GROUP BY user_id, day HAVING sum(change) <> 0
    ), fleets AS (
        SELECT day, change, sum(change) OVER (PARTITION BY user_id ORDER BY day ROWS UNBOUNDED PRECEDING)::BIGINT AS devices FROM changes
    ), steps AS (
        SELECT day, bucket, sum(step)::BIGINT AS step FROM (
            SELECT day, {new} AS bucket, devices AS step FROM fleets WHERE devices > 0
            UNION ALL
            SELECT day, {old}, change - devices FROM fleets WHERE devices > change
        ) GROUP BY day, bucket
    ), calendar AS (
        SELECT unnest(generate_series((SELECT min(day) FROM steps), (SELECT last_day FROM last_day), INTERVAL 1 DAY))::DATE AS day
    ), buckets AS (
        SELECT unnest(range({len(intervals.BUCKETS)})) AS bucket
    )
    SELECT day, bucket,
        sum(coalesce(step, 0)) OVER (PARTITION BY bucket ORDER BY day ROWS UNBOUNDED PRECEDING)::BIGINT AS devices
    FROM calendar CROSS JOIN buckets LEFT JOIN steps USING (day, bucket);
    """


QUERIES = (
    merged("intervals", "days")
    + counted("days", "daily")
    + merged("days", "days_28", extended=27)
    + counted("days_28", "rolling")
)

if __name__ == "__main__":
    intervals.main(QUERIES, __doc__)
