-- Everything about a point in one line: accuracy, HCR bound, what an attacker reads of the secondary label, epsilon.
-- One row per sweep and point, whatever the sweep measured. It is the view overview.
WITH points AS (
    SELECT
        sweep,
        point_id,
        any_value(COLUMNS('^(curve_id|dataset|split|limit|train_limit|class_counts|task|input_size|model|weights|model_seed|cut|precision|level_name|level|seed|caveat)$'))
            AS "\1",
        any_value(value) FILTER (measure = 'accuracy' AND statistic = 'clean_top1') AS clean
    FROM measurements
    WHERE sweep IS NOT NULL
    GROUP BY ALL
),

-- Per search the median over images of a bound's mean over modes; any search's is a bound, so the largest counts.
hcr AS (
    SELECT
        sweep,
        point_id,
        max(value) AS hcr_std,
        arg_max(coalesce(nullif(regexp_extract(statistic, '^hcr_(\w+)_std_median$', 1), ''), options ->> 'search'), value)
            AS hcr_search,
        arg_max(n, value) AS hcr_images,
        arg_max(unit, value) AS hcr_unit
    FROM measurements
    WHERE sweep IS NOT NULL AND status = 'complete' AND (
        (measure = 'hcr' AND statistic = 'std_bound_median')
        OR (measure = 'bounds' AND regexp_full_match(statistic, 'hcr_\w+_std_median'))
    )
    GROUP BY ALL
),

joined AS (
    SELECT
        points.*,
        settings.setting,
        coalesce(method, 'none') AS method,
        place,
        variant,
        accuracies.images,
        accuracies.top1 AS accuracy,
        accuracies.top1_stderr AS accuracy_stderr,
        hcr.* EXCLUDE (sweep, point_id)
    FROM points
    JOIN methods USING (sweep, point_id)
    JOIN settings USING (sweep, point_id)
    LEFT JOIN best_accuracies AS accuracies USING (sweep, point_id)
    LEFT JOIN hcr USING (sweep, point_id)
)

SELECT
    joined.* EXCLUDE (clean),
    -- What nothing was done to: the points of the mechanism none; without any, the network without its noise, or of networks
    -- that are learned with it the best.
    coalesce(
        avg(joined.accuracy) FILTER (joined.method = 'none') OVER (PARTITION BY sweep, joined.setting),
        if(regexp_full_match(joined.method, '(gaussian|laplace)( \+ (gaussian|laplace))*'), joined.clean, NULL),
        max(joined.accuracy) OVER (PARTITION BY sweep, joined.setting)
    ) - joined.accuracy AS accuracy_loss,
    secondary.secondary_strongest AS secondary,
    secondary.secondary_stderr,
    secondary.strongest,
    secondary.floor,
    secondary.mi_upper,
    dp.epsilon
FROM joined
LEFT JOIN privacy AS secondary USING (sweep, point_id)
LEFT JOIN dp USING (sweep, point_id)
