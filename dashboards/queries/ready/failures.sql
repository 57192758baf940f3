/* Why points failed or were stopped, the most frequent reason first */
SELECT
    sweep,
    status,
    reason,
    count(DISTINCT (point_id, measure_id)) AS results,
    min(model) AS a_model,
    min(mechanism) AS a_mechanism,
    max(computed_at) AS last
FROM measurements
WHERE status IN ('failed', 'stopped') AND (sweep = getvariable('sweep') OR getvariable('sweep') IS NULL)
GROUP BY sweep, status, reason
ORDER BY results DESC, sweep, status, reason
