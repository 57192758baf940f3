-- What a point's mechanism is called: one row per sweep and point. method names it with the part of the server's
-- network, place says where it acts, variant the parameters in which points of one method differ. It is the view methods.
WITH points AS (
    SELECT sweep, point_id, any_value(COLUMNS('^(mechanism|mechanism_json|level_name)$')) AS "\1"
    FROM measurements
    WHERE sweep IS NOT NULL
    GROUP BY ALL
),

stages AS (
    SELECT
        sweep,
        point_id,
        level_name,
        stage.key::INTEGER AS position,
        stage.value ->> 'name' AS name,
        stage.value ->> 'at' AS stage_place,
        stage.value -> 'parameters' AS parameters,
        CASE
            WHEN name IN ('cloak', 'shredder', 'obfuscator') THEN 'frozen'
            WHEN name = 'dpfe' THEN 'tuned'
            ELSE 'scratch'
        END AS usual_server,
        coalesce(stage.value ->> '$.parameters.server', usual_server) AS server,
        stage.value ->> 'target_accuracy_loss' AS target
    FROM points, json_each(if(json_type(mechanism_json) = 'ARRAY', mechanism_json, '[]')) AS stage
),

-- A server that is not learned as usual with the mechanism, or not at all, is named.
named AS (
    SELECT
        sweep,
        point_id,
        string_agg(
            name || CASE
                WHEN server = 'frozen' THEN ', frozen server'
                WHEN server = usual_server THEN ''
                WHEN server = 'tuned' THEN ', tuned server'
                ELSE ', retrained'
            END,
            ' + ' ORDER BY position
        ) FILTER (name <> 'none') AS method,
        string_agg(DISTINCT stage_place, ' + ' ORDER BY stage_place DESC) FILTER (name <> 'none') AS place,
        coalesce(
            max(position) FILTER (target IS NOT NULL),
            max(position) FILTER (list_contains(json_keys(parameters), level_name))
        ) AS level_position
    FROM stages
    GROUP BY ALL
),

-- Parameters other than the level, and those of them in which points of one method differ.
parameters AS (
    SELECT sweep, point_id, method, place, position, parameter.key, trim(parameter.value::VARCHAR, '"') AS value
    FROM stages AS stage
    JOIN named USING (sweep, point_id), json_each(stage.parameters) AS parameter
    WHERE parameter.key <> 'server'
        AND (parameter.key <> coalesce(stage.level_name, '') OR position <> coalesce(level_position, -1))
),

varying AS (
    SELECT sweep, method, place, position, key
    FROM parameters
    JOIN (SELECT sweep, method, place, count(*) AS points FROM named GROUP BY ALL) USING (sweep, method, place)
    GROUP BY sweep, method, place, position, key, points
    HAVING count(DISTINCT value) > 1 OR count(*) < points
),

variants AS (
    SELECT
        sweep,
        point_id,
        string_agg(replace(key, '_', ' ') || ' ' || value, ', ' ORDER BY position, key) AS variant
    FROM parameters
    JOIN varying USING (sweep, method, place, position, key)
    GROUP BY ALL
)

SELECT
    sweep,
    point_id,
    CASE WHEN regexp_full_match(mechanism, 'none(@input)?( \+ none(@input)?)*') THEN 'none'
        ELSE coalesce(named.method, mechanism) END AS method,
    named.place,
    variants.variant
FROM points
LEFT JOIN named USING (sweep, point_id)
LEFT JOIN variants USING (sweep, point_id)
