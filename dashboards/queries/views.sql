-- What the raw files add up to. Beforehand, connection.py makes a view raw_<table> of every table's files and the
-- table sweeps (sweep, point_id, measure_id, curve_id, label) of the plans; afterwards a view of each table per image, and
-- of the pictures, that leaves out what does not count.

-- One computation per (point, measure) counts: one with an answer before one that failed or was stopped early, then the
-- latest, so that two trials which computed the same are not counted twice, and a repetition on purpose replaces what
-- was there.
CREATE TABLE counted AS
WITH computations AS (
    SELECT
        point_id,
        measure_id,
        computed_by,
        bool_and(status = 'failed') AS failed,
        bool_and(status = 'stopped') AS stopped,
        bool_or(status = 'complete') AS complete,
        max(computed_at) AS finished
    FROM raw_measurements
    GROUP BY ALL
)
SELECT DISTINCT ON (point_id, measure_id) *
FROM computations
ORDER BY failed OR stopped, finished DESC NULLS LAST, computed_by;

-- One row per statistic and per sweep that asks for it; sweep is null for rows that no plan names any more.
CREATE VIEW measurements AS
SELECT sweeps.sweep, raw.*
FROM raw_measurements AS raw
JOIN counted USING (point_id, measure_id, computed_by)
LEFT JOIN sweeps USING (point_id, measure_id)
WHERE counted.failed OR raw.status <> 'failed';

-- Each shard of a trial leaves the mean over its own images.
CREATE VIEW modes AS
SELECT
    point_id,
    measure_id,
    computed_by,
    bound,
    basis,
    channel,
    "row",
    "column",
    search,
    sum(std_bound * n) / nullif(sum(n) FILTER (std_bound IS NOT NULL), 0) AS std_bound,
    sum(std_estimate * n) / nullif(sum(n) FILTER (std_estimate IS NOT NULL), 0) AS std_estimate,
    sum(non_identifiable * n) / nullif(sum(n) FILTER (non_identifiable IS NOT NULL), 0) AS non_identifiable,
    sum(unresolved * n) / nullif(sum(n) FILTER (unresolved IS NOT NULL), 0) AS unresolved,
    sum(n)::BIGINT AS n
FROM raw_modes
JOIN counted USING (point_id, measure_id, computed_by)
WHERE counted.complete
GROUP BY ALL;

-- A shift serves all points of its trial.
CREATE VIEW shifts AS
SELECT * FROM raw_shifts
WHERE (measure_id, computed_by) IN (SELECT (measure_id, computed_by) FROM counted WHERE complete);
