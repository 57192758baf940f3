/* What a sweep asks for and nothing has answered yet */
SELECT sweeps.sweep, sweeps.label, sweeps.measure, coalesce(max(found.reason), 'never run') AS reason
FROM sweeps
LEFT JOIN measurements AS found USING (sweep, point_id, measure_id)
WHERE sweeps.sweep = getvariable('sweep') OR getvariable('sweep') IS NULL
GROUP BY sweeps.sweep, sweeps.label, sweeps.measure, sweeps.point_id, sweeps.measure_id
HAVING coalesce(bool_and(found.status IN ('failed', 'stopped')), true)
ORDER BY ALL
