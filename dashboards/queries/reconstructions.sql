-- What attacks make of what leaves: one row per sweep, point and measure reconstruction. Errors are means over n images,
-- in normalised pixels squared. It is the view reconstructions.
WITH points AS (
    SELECT DISTINCT ON (sweep, point_id)
        sweep, curve_id, point_id, dataset, split, task, model, weights, cut, mechanism, seed, level_name, level, caveat
    FROM measurements
    WHERE sweep IS NOT NULL
    ORDER BY caveat NULLS LAST
),

numbers AS (
    SELECT
        sweep,
        point_id,
        measure_id,
        CASE
            WHEN bool_or(status = 'failed') THEN 'failed'
            WHEN bool_or(status = 'stopped') THEN 'stopped'
            WHEN bool_or(status = 'complete') THEN 'complete'
            ELSE 'not_applicable'
        END AS status,
        min(reason) FILTER (status <> 'complete') AS why,
        max(value) FILTER (statistic = 'mse') AS mse,
        max(stderr) FILTER (statistic = 'mse') AS mse_stderr,
        max(value) FILTER (statistic = 'mse_worst_off') AS mse_worst_off,
        max(value) FILTER (statistic = 'mse_grey') AS mse_grey,
        max(value) FILTER (statistic = 'psnr') AS psnr,
        max(value) FILTER (statistic = 'ssim') AS ssim,
        max(value) FILTER (statistic = 'lpips') AS lpips,
        max(value) FILTER (statistic = 'recognised') AS recognised,
        max(value) FILTER (statistic = 'reidentified') AS reidentified,
        max(value) FILTER (statistic = 'secondary') AS secondary,
        max(n) FILTER (statistic = 'mse') AS n
    FROM measurements
    WHERE measure = 'reconstruction' AND sweep IS NOT NULL
    GROUP BY ALL
),

lineups AS (
    SELECT point_id, measure_id, max(candidates) AS candidates
    FROM per_image_reconstruction
    GROUP BY ALL
),

-- The floor is that of the same number of images where it was measured, else that of most.
floors AS (
    SELECT DISTINCT ON (numbers.sweep, numbers.point_id, numbers.measure_id)
        numbers.sweep, numbers.point_id, numbers.measure_id, blind.mse AS mse_blind
    FROM numbers
    JOIN numbers AS blind USING (sweep, point_id)
    JOIN attack_names ON attack_names.sweep = blind.sweep AND attack_names.measure_id = blind.measure_id
    WHERE attack_names.attack = 'blind' AND blind.mse IS NOT NULL
    ORDER BY blind.n = numbers.n DESC NULLS LAST, blind.n DESC, blind.measure_id
)

SELECT
    points.*,
    settings.setting,
    methods.method,
    methods.place,
    methods.variant,
    measure_id,
    names.label AS attack,
    names.queries,
    names.masked,
    names.is_oracle,
    numbers.status,
    if(numbers.status <> 'complete', numbers.why, NULL) AS reason,
    mse,
    mse_stderr,
    mse_blind,
    mse_worst_off,
    mse_grey,
    psnr,
    ssim,
    lpips,
    recognised,
    reidentified,
    candidates,
    secondary,
    n
FROM numbers
JOIN points USING (sweep, point_id)
JOIN attack_names AS names USING (sweep, measure_id)
JOIN settings USING (sweep, point_id)
JOIN methods USING (sweep, point_id)
LEFT JOIN lineups USING (point_id, measure_id)
LEFT JOIN floors USING (sweep, point_id, measure_id)
