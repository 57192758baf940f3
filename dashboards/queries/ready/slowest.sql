/* Where the time went: by sweep, network, mechanism and measure, the longest first */
WITH passes AS (
    -- a trial's time on a measure is of all its points together
    SELECT sweep, model, mechanism, measure, computed_by, count(DISTINCT point_id) AS points, max(seconds) AS seconds
    FROM measurements
    WHERE sweep = getvariable('sweep') OR getvariable('sweep') IS NULL
    GROUP BY sweep, model, mechanism, measure, measure_id, computed_by
)

SELECT sweep, model, mechanism, measure, sum(points)::BIGINT AS points, count(*) AS passes, sum(seconds) AS seconds
FROM passes
GROUP BY sweep, model, mechanism, measure
ORDER BY seconds DESC NULLS LAST, sweep, model, mechanism, measure
