-- Bounds below, attacks above: one row per sweep, point and bound, with the attack whose error is least. An attack is
-- held against a bound for unbiased estimators by its error on images as they are, against one for every estimator
-- only by its error on the quantity that the bound is about, from the measure sandwich. It is the view sandwich.
WITH points AS (
    SELECT DISTINCT ON (sweep, point_id)
        sweep, curve_id, point_id, dataset, split, task, model, weights, cut, mechanism, seed, level_name, level, caveat
    FROM measurements
    WHERE sweep IS NOT NULL
    ORDER BY caveat NULLS LAST
),

-- These bounds are about a reader of one output.
best AS (
    SELECT DISTINCT ON (sweep, point_id)
        sweep, point_id, attack, mse AS attack_mse, mse_stderr AS attack_mse_stderr, n AS attack_images, mse_blind
    FROM reconstructions
    WHERE mse IS NOT NULL AND NOT is_oracle AND queries = 1 AND NOT masked
    ORDER BY mse, attack
),

-- Each search of a bound is a bound, so the largest counts.
unbiased AS (
    SELECT DISTINCT ON (sweep, point_id, bound)
        sweep, point_id, bound, search, 1 AS queries, mean_mse_bound AS mse_bound, holds_for, images
    FROM bounds
    WHERE holds_for LIKE 'unbiased%' AND mean_mse_bound IS NOT NULL
    ORDER BY mean_mse_bound DESC, search, measure_id
),

statistics AS (
    SELECT
        *,
        regexp_extract(statistic, '^(.*)_(mse_bound|attack_mse|gap|violated)$', 1) AS bound,
        regexp_extract(statistic, '^(.*)_(mse_bound|attack_mse|gap|violated)$', 2) AS what
    FROM measurements
    WHERE measure = 'sandwich' AND sweep IS NOT NULL AND value IS NOT NULL
),

held AS (
    SELECT
        sweep,
        point_id,
        measure_id,
        bound,
        max(value) FILTER (what = 'mse_bound') AS mse_bound,
        max(holds_for) AS holds_for,
        max(n) AS images,
        max(value) FILTER (what = 'attack_mse') AS attack_mse,
        max(stderr) FILTER (what = 'attack_mse') AS attack_mse_stderr,
        coalesce(bool_or(value = 1) FILTER (what = 'violated'), false) AS is_violated
    FROM statistics
    GROUP BY ALL
    HAVING mse_bound IS NOT NULL AND attack_mse IS NOT NULL
),

-- Attacks on the same inputs are rivals; a single one below the bound is enough to be told.
rivals AS (
    SELECT
        held.*,
        names.label AS attack,
        names.queries,
        if(bound = 'two_point', (options ->> 'distance')::DOUBLE, NULL) AS distance,
        if(bound = 'van_trees', (options ->> 'prior_std')::DOUBLE, NULL) AS prior_std,
        bool_or(is_violated) OVER rivals AS any_violated,
        min(attack_mse) FILTER (names.attack = 'blind') OVER rivals AS mse_blind
    FROM held
    JOIN attack_names AS names USING (sweep, measure_id)
    WHERE NOT is_oracle
    WINDOW rivals AS (PARTITION BY sweep, point_id, bound, images, names.queries, distance, prior_std)
),

every_estimator AS (
    SELECT DISTINCT ON (sweep, point_id, bound, images, queries, distance, prior_std) *
    FROM rivals
    ORDER BY attack_mse / nullif(mse_bound, 0) NULLS LAST, attack
),

both_kinds AS (
    SELECT
        *,
        if(
            attack_mse < mse_bound,
            'attack below a bound for unbiased estimators: the attack is biased, which is legitimate',
            NULL
        ) AS flag
    FROM unbiased
    JOIN best USING (sweep, point_id)
    UNION ALL BY NAME
    SELECT
        * EXCLUDE (measure_id, is_violated, any_violated),
        images AS attack_images,
        if(any_violated, 'violated: one of the two programs is wrong', NULL) AS flag
    FROM every_estimator
)

SELECT
    points.*,
    settings.setting,
    methods.method,
    methods.place,
    methods.variant,
    bound,
    search,
    queries,
    distance,
    prior_std,
    mse_bound,
    split_part(holds_for, '; ', 1) AS holds_for,
    -- a bound per mode says nothing of averages: its mean over modes is that over pixels
    coalesce(nullif(split_part(holds_for, '; ', 2), ''), 'average over the modes') AS averages_over,
    images,
    attack,
    attack_mse,
    attack_mse_stderr,
    attack_images,
    mse_blind,
    attack_mse / nullif(mse_bound, 0) AS gap,
    flag
FROM both_kinds
JOIN points USING (sweep, point_id)
JOIN settings USING (sweep, point_id)
JOIN methods USING (sweep, point_id)
