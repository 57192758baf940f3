/* Is the difference of two points real? compare A B tests what this SQL pairs image by image, of the points that begin with getvariable('a') and getvariable('b') */
WITH sides AS (
    -- the same image has the same number and label in both only if the data are the same
    SELECT
        point_id,
        starts_with(point_id, getvariable('a')::VARCHAR) AS is_a,
        starts_with(point_id, getvariable('b')::VARCHAR) AS is_b,
        any_value([dataset, split, data_fingerprint, task]) AS data
    FROM measurements
    WHERE starts_with(point_id, getvariable('a')::VARCHAR) OR starts_with(point_id, getvariable('b')::VARCHAR)
    GROUP BY point_id
),

found AS (
    -- accuracies with more or fewer draws estimate the same and may be paired
    SELECT
        point_id, measure_id, '' AS pairs_with, 'accuracy' AS measure, 'top-1' AS quantity, 'fraction' AS unit,
        image_index, image, "label", draws, hits_top1 / draws AS value
    FROM per_image_accuracy WHERE draws > 0 AND status = 'complete'
    UNION ALL
    SELECT
        point_id, measure_id, measure_id, 'secondary', 'secondary top-1', 'fraction',
        image_index, image, "label", draws, hits_top1 / draws
    FROM per_image_secondary WHERE draws > 0 AND status = 'complete'
    UNION ALL
    SELECT
        point_id, measure_id, measure_id, 'hcr', 'hcr std', 'normalised pixel',
        image_index, image, "label", NULL, std_bound_mean
    FROM per_image_hcr WHERE status = 'complete'
    UNION ALL
    SELECT
        point_id, measure_id, measure_id, 'bounds',
        bound || if(std_bound_mean IS NULL, ' mse', ' std') || coalesce(' (' || search || ')', ''),
        if(std_bound_mean IS NULL, 'normalised pixel^2', 'normalised pixel'),
        image_index, image, "label", NULL, coalesce(std_bound_mean, mse_bound)
    FROM per_image_bounds WHERE status = 'complete'
),

paired AS (
    SELECT
        measure,
        quantity,
        unit,
        (a.measure_id, b.measure_id) AS pair,
        image_index,
        a.image,
        a.label,
        a.draws AS draws_a,
        b.draws AS draws_b,
        a.value AS a,
        b.value AS b
    FROM found AS a
    JOIN sides AS side_a ON side_a.point_id = a.point_id AND side_a.is_a
    JOIN found AS b USING (pairs_with, measure, quantity, unit, image_index)
    JOIN sides AS side_b ON side_b.point_id = b.point_id AND side_b.is_b
    WHERE side_a.data = side_b.data AND a.label IS NOT DISTINCT FROM b.label
        AND isfinite(a.value) AND isfinite(b.value)
),

-- of a quantity measured several times the one over most images, then most draws; attackers of several kinds are
-- several quantities
chosen AS (
    SELECT
        quantity,
        attacker,
        arg_max(pair, (images, draws, pair)) AS pair
    FROM (
        SELECT quantity, pair, count(*) AS images, coalesce(max(draws_a + draws_b), 0) AS draws
        FROM paired
        GROUP BY quantity, pair
    )
    JOIN (
        SELECT measure_id, coalesce(any_value(options ->> 'attacker'), '') AS attacker FROM measurements GROUP BY measure_id
    ) AS asked ON asked.measure_id = pair[1]
    GROUP BY quantity, attacker
)

SELECT
    paired.* EXCLUDE (pair) REPLACE (trim(quantity || ' ' || attacker) AS quantity)
FROM paired
JOIN chosen USING (quantity, pair)
ORDER BY measure, quantity, image_index
