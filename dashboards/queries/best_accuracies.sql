-- The accuracy that counts of a point with several: the one over most images, then most draws. It is the view
-- best_accuracies, one row per sweep and point.
SELECT
    sweep,
    point_id,
    any_value(options ->> 'draws')::INTEGER AS draws,
    max(n) FILTER (statistic = 'top1') AS images,
    max(value) FILTER (statistic = 'top1') AS top1,
    max(stderr) FILTER (statistic = 'top1') AS top1_stderr,
    coalesce(max(value) FILTER (statistic = 'validation_top1'), max(validation_top1)) AS validation_top1
FROM measurements
WHERE measure = 'accuracy' AND sweep IS NOT NULL AND status = 'complete'
GROUP BY sweep, point_id, measure_id
QUALIFY row_number() OVER (
    PARTITION BY sweep, point_id ORDER BY images DESC NULLS LAST, draws DESC NULLS LAST, measure_id
) = 1
