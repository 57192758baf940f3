-- Accuracy and HCR bound side by side: one row per point of the sweep $sweep, and per pair of measures if it has
-- several accuracy or HCR measures.
WITH accuracy AS (
    SELECT
        point_id,
        measure_id AS accuracy_measure_id,
        max(n) FILTER (statistic = 'top1') AS accuracy_images,
        max(value) FILTER (statistic = 'top1') AS top1,
        max(stderr) FILTER (statistic = 'top1') AS top1_stderr,
        max(value) FILTER (statistic = 'clean_top1') AS clean_top1
    FROM measurements
    WHERE sweep = $sweep AND measure = 'accuracy'
    GROUP BY ALL
),

hcr AS (
    SELECT
        point_id,
        measure_id AS hcr_measure_id,
        max(n) FILTER (statistic = 'std_bound_median') AS hcr_images,
        max(value) FILTER (statistic = 'std_bound_median') AS std_bound_median,
        max(stderr) FILTER (statistic = 'std_bound_median') AS std_bound_median_stderr,
        max(unit) FILTER (statistic = 'std_bound_median') AS std_bound_unit
    FROM measurements
    WHERE sweep = $sweep AND measure = 'hcr'
    GROUP BY ALL
),

points AS (
    SELECT DISTINCT ON (point_id)
        sweep, curve_id, point_id, dataset, split, model, weights, mechanism, seed, level_name, level, caveat
    FROM measurements
    WHERE sweep = $sweep
    ORDER BY caveat NULLS LAST
)

SELECT *
FROM points
LEFT JOIN accuracy USING (point_id)
LEFT JOIN hcr USING (point_id)
ORDER BY dataset, model, weights, mechanism, seed, curve_id, level, accuracy_measure_id, hcr_measure_id;
