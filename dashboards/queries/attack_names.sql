-- What the attack of a measure is called: one row per sweep and measure that reconstructs images. label is the attack
-- with how it looks, and with the options in which measures differ that would be called the same. It is the view
-- attack_names.
WITH asked AS (
    SELECT sweep, measure_id, measure, any_value(options) AS options
    FROM measurements
    WHERE measure IN ('reconstruction', 'sandwich') AND sweep IS NOT NULL
    GROUP BY ALL
),

named AS (
    SELECT
        *,
        options ->> 'attack' AS attack,
        coalesce((options ->> 'queries')::INTEGER, 1) AS queries,
        coalesce((options ->> 'masked')::BOOLEAN, false) AS masked,
        attack = 'bayes' AS is_oracle,
        concat_ws(
            ', ',
            replace(attack, '_', ' '),
            if(queries > 1, queries || ' queries', NULL),
            if(masked, 'mask', NULL),
            if(options ->> 'levels' IS NOT NULL, 'all levels', NULL),
            replace(options ->> 'prior', '_', ' ') || ' prior'
        ) AS name
    FROM asked
),

choices AS (
    SELECT sweep, measure, measure_id, name, option.key, option.value::VARCHAR AS value
    FROM named, json_each(options) AS option
),

varying AS (
    SELECT sweep, measure, name, key
    FROM choices
    GROUP BY ALL
    HAVING count(DISTINCT coalesce(value, 'null')) > 1
),

others AS (
    SELECT sweep, measure_id, string_agg(replace(key, '_', ' ') || ' ' || value, ', ' ORDER BY key) AS words
    FROM choices
    JOIN varying USING (sweep, measure, name, key)
    WHERE value <> 'null'
    GROUP BY ALL
)

SELECT
    sweep,
    measure_id,
    measure,
    attack,
    concat_ws(', ', name, words) AS label,
    queries,
    masked,
    is_oracle,
    options
FROM named
LEFT JOIN others USING (sweep, measure_id)
