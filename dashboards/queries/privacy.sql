-- What the client keeps and what a curious server can still learn: one row per sweep and point, for sweeps that
-- measure secondary accuracy or mutual information. It is the view privacy.
WITH asked AS (
    SELECT sweep, point_id, measure_id, measure FROM sweeps
    WHERE measure IN ('accuracy', 'secondary', 'information')
),

-- How every measure of a point ended; one that no row tells of is missing.
units AS (
    SELECT
        asked.*,
        CASE
            WHEN count(found.status) = 0 THEN 'missing'
            WHEN bool_or(found.status = 'failed') THEN 'failed'
            WHEN bool_or(found.status = 'stopped') THEN 'stopped'
            WHEN bool_or(found.status = 'complete') THEN 'complete'
            ELSE 'not_applicable'
        END AS status,
        min(found.reason) FILTER (found.status <> 'complete') AS reason
    FROM asked
    LEFT JOIN measurements AS found USING (sweep, point_id, measure_id)
    GROUP BY ALL
),

-- A point counts once its accuracy and all the attackers asked for are there: fewer attackers are weaker ones.
statuses AS (
    SELECT
        sweep,
        point_id,
        CASE
            WHEN bool_or(status = 'failed') FILTER (measure <> 'information') THEN 'failed'
            WHEN bool_or(status = 'stopped') FILTER (measure <> 'information') THEN 'stopped'
            WHEN bool_or(status = 'missing') FILTER (measure <> 'information') THEN 'missing'
            WHEN bool_or(status = 'complete') FILTER (measure = 'accuracy')
                AND coalesce(bool_or(status = 'complete') FILTER (measure = 'secondary'), true) THEN 'complete'
            ELSE 'not_applicable'
        END AS status,
        min(reason) FILTER (measure <> 'information' AND status <> 'complete') AS reason
    FROM units
    GROUP BY ALL
    HAVING bool_or(measure <> 'accuracy')
),

points AS (
    SELECT
        sweep,
        point_id,
        any_value(COLUMNS('^(curve_id|dataset|split|limit|train_limit|class_counts|task|input_size|model|weights|model_seed|cut|precision|mechanism|mechanism_json|level_name|level|penalty|target_accuracy_loss|seed|caveat|client_flops|server_flops)$'))
            AS "\1"
    FROM measurements
    WHERE sweep IS NOT NULL
    GROUP BY ALL
),

attackers AS (
    SELECT
        sweep,
        point_id,
        measure_id,
        any_value(options ->> 'attacker') AS attacker,
        any_value(options ->> 'queries') AS queries,
        max(value) FILTER (statistic = 'top1') AS top1,
        max(stderr) FILTER (statistic = 'top1') AS stderr,
        max(value) FILTER (statistic = 'validation_top1') AS validation,
        max(value) FILTER (statistic = 'floor') AS floor,
        max(value) FILTER (statistic = 'information') AS information,
        max(value) FILTER (statistic = 'entropy') AS entropy,
        {'validation': coalesce(validation, -1), 'top1': top1} AS strength
    FROM measurements
    WHERE measure = 'secondary' AND sweep IS NOT NULL AND status = 'complete'
    GROUP BY sweep, point_id, measure_id
    HAVING top1 IS NOT NULL
),

-- Which attacker is the strongest is chosen on validation images; its number is the one on test images.
secondary AS (
    SELECT
        sweep,
        point_id,
        arg_max(top1, strength) FILTER (attacker = 'single') AS secondary_single,
        arg_max(top1, strength) FILTER (attacker = 'mask') AS secondary_mask,
        arg_max(top1, strength) FILTER (attacker = 'average') AS secondary_average,
        arg_max(top1, strength) AS secondary_strongest,
        arg_max_null(stderr, strength) AS secondary_stderr,
        arg_max_null(validation, strength) AS secondary_validation,
        arg_max(attacker || if(attacker = 'average' AND queries IS NOT NULL, ' of ' || queries, ''), strength)
            AS strongest,
        max(floor) AS floor,
        arg_max_null(information, strength) AS secondary_information,
        max(entropy) AS secondary_entropy
    FROM attackers
    GROUP BY ALL
),

-- Every upper bound holds, so the smallest counts; mi_upper_full only where its row has nothing to add: with few
-- images it is too small as a bound. Of lower bounds the largest.
information AS (
    SELECT
        sweep,
        point_id,
        min(value) FILTER (
            statistic IN ('mi_upper_diagonal', 'mi_upper_held_out') OR (statistic = 'mi_upper_full' AND reason IS NULL)
        ) AS mi_upper,
        max(value) FILTER (statistic = 'mi_lower_infonce') AS mi_lower,
        max(value) FILTER (statistic = 'mi_lower_cap') AS mi_lower_cap,
        max(value) FILTER (statistic = 'mi_published') AS mi_published,
        max(value) FILTER (statistic = 'entropy_published') AS entropy_published,
        max(value) FILTER (statistic = 'mi_knn') AS mi_knn,
        max(value) FILTER (statistic = 'mi_knn_shuffled') AS mi_knn_shuffled
    FROM measurements
    WHERE measure = 'information' AND sweep IS NOT NULL AND status = 'complete'
    GROUP BY ALL
)

SELECT
    points.* EXCLUDE (mechanism_json),
    settings.setting,
    methods.method,
    methods.place,
    methods.variant,
    statuses.status,
    statuses.reason,
    accuracies.images,
    accuracies.top1 AS primary_top1,
    accuracies.top1_stderr AS primary_stderr,
    accuracies.validation_top1 AS primary_validation,
    secondary.* EXCLUDE (sweep, point_id),
    information.* EXCLUDE (sweep, point_id),
    client_flops / server_flops AS client_share
FROM points
JOIN statuses USING (sweep, point_id)
JOIN methods USING (sweep, point_id)
JOIN settings USING (sweep, point_id)
LEFT JOIN best_accuracies AS accuracies USING (sweep, point_id)
LEFT JOIN secondary USING (sweep, point_id)
LEFT JOIN information USING (sweep, point_id)
