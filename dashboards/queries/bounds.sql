-- Every bound of every point: one row per sweep, point, measure, bound, search and basis. It is the view bounds.
-- mean_ and median_ are over the images whose bound is complete; what follows them is the column of
-- per_image_bounds, whose own mean, median or max is over the modes of one image.
WITH about AS (
    SELECT DISTINCT ON (sweep, point_id, measure_id)
        sweep, curve_id, point_id, measure_id, measure, options, dataset, split, model, weights, cut, mechanism, seed,
        level_name, level, applied_noise_std, caveat
    FROM measurements
    ORDER BY caveat NULLS LAST
),

-- The measure hcr is the bound of that name from one search.
images AS (
    SELECT * EXCLUDE (mse_estimate_stderr) FROM per_image_bounds WHERE bound IS NOT NULL
    UNION ALL BY NAME
    SELECT DISTINCT
        point_id, measure_id, image_index, 'hcr' AS bound, options ->> 'search' AS search,
        'unbiased estimators' AS holds_for, 'dct' AS basis,
        std_bound_mean, std_bound_median, std_bound_max, std_bound_low_mean, mse_bound, status, reason
    FROM per_image_hcr JOIN about USING (point_id, measure_id)
),

summaries AS (
    SELECT
        point_id,
        measure_id,
        bound,
        search,
        max(basis) AS basis,
        max(holds_for) AS holds_for,
        count(*) FILTER (status = 'complete') AS images,
        count(*) FILTER (status <> 'complete') AS images_without,
        min(reason) FILTER (status <> 'complete') AS reason,
        max(success_bound) AS success_bound,
        avg(COLUMNS('^((std|mse)_(bound|estimate).*|rank|active_features|non_identifiable|unresolved|(still_|infinite_|linear_)?shifts|radius|distance)$'))
            FILTER (status = 'complete') AS "mean_\1",
        median(COLUMNS('^((std|mse)_(bound|estimate).*|rank|active_features|non_identifiable|unresolved|(still_|infinite_|linear_)?shifts|radius|distance)$'))
            FILTER (status = 'complete') AS "median_\1"
    FROM images
    GROUP BY ALL
),

-- A chance that rests on all images together stands in no row of an image.
chances AS (
    SELECT DISTINCT point_id, measure_id, regexp_extract(statistic, '^(.*)_success$', 1) AS bound, value AS chance
    FROM measurements
    WHERE statistic LIKE '%\_success' ESCAPE '\' AND status = 'complete'
)

SELECT about.*, summaries.* EXCLUDE (point_id, measure_id) REPLACE (coalesce(success_bound, chance) AS success_bound)
FROM about
JOIN summaries USING (point_id, measure_id)
LEFT JOIN chances USING (point_id, measure_id, bound)
