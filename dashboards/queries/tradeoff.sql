-- Accuracy and HCR bound side by side: one row per sweep and point, and per pair of measures where a point has
-- several accuracy or HCR measures. It is the view tradeoff.
WITH accuracy AS (
    SELECT
        sweep,
        point_id,
        measure_id AS accuracy_measure_id,
        max(n) FILTER (statistic = 'top1') AS accuracy_images,
        max(value) FILTER (statistic = 'top1') AS top1,
        max(stderr) FILTER (statistic = 'top1') AS top1_stderr,
        max(value) FILTER (statistic = 'clean_top1') AS clean_top1
    FROM measurements
    WHERE measure = 'accuracy' AND sweep IS NOT NULL
    GROUP BY ALL
),

hcr AS (
    SELECT
        sweep,
        point_id,
        measure_id AS hcr_measure_id,
        max(n) FILTER (statistic = 'std_bound_median') AS hcr_images,
        max(value) FILTER (statistic = 'std_bound_median') AS std_bound_median,
        max(unit) FILTER (statistic = 'std_bound_median') AS std_bound_unit
    FROM measurements
    WHERE measure = 'hcr' AND sweep IS NOT NULL
    GROUP BY ALL
),

points AS (
    SELECT DISTINCT ON (sweep, point_id)
        sweep, curve_id, point_id, dataset, split, model, weights, mechanism, seed, level_name, level, caveat
    FROM measurements
    WHERE sweep IS NOT NULL
    ORDER BY caveat NULLS LAST
)

SELECT *
FROM points
LEFT JOIN accuracy USING (sweep, point_id)
LEFT JOIN hcr USING (sweep, point_id)
