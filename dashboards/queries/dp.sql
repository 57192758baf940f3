-- Accuracy beside differential privacy: one row per sweep and point, for sweeps that measure epsilon. Points without
-- privacy are there, too, without an epsilon. It is the view dp.
WITH points AS (
    SELECT
        sweep,
        point_id,
        any_value(COLUMNS('^(curve_id|dataset|split|limit|train_limit|class_counts|task|model|weights|cut|level_name|level|seed|caveat)$'))
            AS "\1"
    FROM measurements
    WHERE sweep IN (SELECT sweep FROM sweeps WHERE measure = 'epsilon')
    GROUP BY ALL
),

epsilons AS (
    SELECT
        sweep,
        point_id,
        max(value) FILTER (statistic = 'epsilon_pld') AS epsilon,
        max(value) FILTER (statistic = 'epsilon_rdp') AS epsilon_rdp,
        max(value) FILTER (statistic = 'epsilon_rdp_classic') AS epsilon_rdp_classic,
        max(value) FILTER (statistic = 'epsilon_person') AS epsilon_person,
        max(reason) FILTER (statistic = 'epsilon_person') AS person_reason,
        max(value) FILTER (statistic = 'epsilon_query') AS epsilon_query,
        max(value) FILTER (statistic = 'delta') AS delta,
        max(value) FILTER (statistic = 'noise_multiplier') AS noise_multiplier,
        max(value) FILTER (statistic = 'sampling_rate') AS sampling_rate,
        max(value) FILTER (statistic = 'steps') AS steps,
        max(value) FILTER (statistic = 'examples') AS examples
    FROM measurements
    WHERE measure = 'epsilon' AND sweep IS NOT NULL AND status IN ('complete', 'not_applicable')
    GROUP BY ALL
),

-- Of several measurements the one over most images.
memberships AS (
    SELECT
        sweep,
        point_id,
        max(value) FILTER (statistic = 'loss_auc') AS loss_auc,
        max(value) FILTER (statistic = 'lira_auc') AS lira_auc,
        max(value) FILTER (statistic = 'loss_tpr_fpr_0.001') AS loss_tpr_at_01_percent,
        max(value) FILTER (statistic = 'lira_tpr_fpr_0.001') AS lira_tpr_at_01_percent,
        max(value) FILTER (statistic = 'tpr_bound_fpr_0.001') AS tpr_bound_at_01_percent,
        max(value) FILTER (statistic = 'loss_tpr_fpr_0.01') AS loss_tpr_at_1_percent,
        max(value) FILTER (statistic = 'lira_tpr_fpr_0.01') AS lira_tpr_at_1_percent,
        max(value) FILTER (statistic = 'tpr_bound_fpr_0.01') AS tpr_bound_at_1_percent
    FROM measurements
    WHERE measure = 'membership' AND sweep IS NOT NULL AND status = 'complete'
    GROUP BY sweep, point_id, measure_id
    QUALIFY row_number() OVER (PARTITION BY sweep, point_id ORDER BY max(n) DESC, measure_id) = 1
)

SELECT
    points.*,
    method,
    place,
    variant,
    accuracies.images,
    accuracies.top1,
    accuracies.top1_stderr,
    epsilons.* EXCLUDE (sweep, point_id),
    memberships.* EXCLUDE (sweep, point_id)
FROM points
JOIN methods USING (sweep, point_id)
LEFT JOIN best_accuracies AS accuracies USING (sweep, point_id)
LEFT JOIN epsilons USING (sweep, point_id)
LEFT JOIN memberships USING (sweep, point_id)
