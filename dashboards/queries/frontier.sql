-- The trade-off: one row per sweep, setting, method and level, averaged over seeds. It is the view frontier.
-- What failed, was stopped, does not apply or is not complete yet never enters. Means are over sorted values: in the
-- order in which threads find them, the last digit would differ from one query to the next.
WITH points AS (
    SELECT *, if(target_accuracy_loss IS NULL, level, NULL) AS given_level FROM privacy
    WHERE status = 'complete' AND coalesce(secondary_strongest, mi_upper) IS NOT NULL
),

-- A level that was searched for differs between seeds: what was asked for is the loss.
levels AS (
    SELECT
        sweep, setting, dataset, split, task, model, weights, cut, method, place, variant, level_name,
        target_accuracy_loss, given_level,
        avg(level ORDER BY level) AS level,
        count(DISTINCT seed) AS n_seeds,
        max(images) AS images,
        avg(primary_top1 ORDER BY primary_top1) AS primary_top1,
        stddev_samp(primary_top1 ORDER BY primary_top1) AS primary_std,
        avg(primary_validation ORDER BY primary_validation) AS primary_validation,
        avg(secondary_single ORDER BY secondary_single) AS secondary_single,
        avg(secondary_mask ORDER BY secondary_mask) AS secondary_mask,
        avg(secondary_average ORDER BY secondary_average) AS secondary_average,
        avg(secondary_strongest ORDER BY secondary_strongest) AS secondary_strongest,
        stddev_samp(secondary_strongest ORDER BY secondary_strongest) AS secondary_std,
        avg(secondary_validation ORDER BY secondary_validation) AS secondary_validation,
        string_agg(DISTINCT strongest, ', ' ORDER BY strongest) AS strongest,
        max(floor) AS floor,
        avg(secondary_information ORDER BY secondary_information) AS secondary_information,
        avg(mi_upper ORDER BY mi_upper) AS mi_upper,
        stddev_samp(mi_upper ORDER BY mi_upper) AS mi_upper_std,
        avg(mi_lower ORDER BY mi_lower) AS mi_lower,
        max(client_flops) AS client_flops,
        max(server_flops) AS server_flops,
        max(client_share) AS client_share,
        min(caveat) AS caveat
    FROM points
    GROUP BY ALL
),

planned AS (SELECT sweep, count(DISTINCT seed) AS seeds FROM sweeps GROUP BY ALL),

-- What nothing was done to; an attacker may be missing there. Without it, the best primary accuracy of the setting.
untouched AS (
    SELECT
        sweep,
        setting,
        'none' AS reference,
        avg(primary_top1 ORDER BY primary_top1) AS reference_primary,
        avg(primary_validation ORDER BY primary_validation) AS reference_validation,
        avg(secondary_strongest ORDER BY secondary_strongest) AS reference_secondary,
        avg(secondary_single ORDER BY secondary_single) AS reference_single
    FROM privacy
    WHERE method = 'none' AND primary_top1 IS NOT NULL
    GROUP BY ALL
),

best AS (
    SELECT DISTINCT ON (sweep, setting)
        sweep,
        setting,
        'best primary: ' || concat_ws(', ', method, variant, replace(level_name, '_', ' ') || ' ' || level) AS reference,
        primary_top1 AS reference_primary,
        primary_validation AS reference_validation,
        secondary_strongest AS reference_secondary,
        secondary_single AS reference_single
    FROM levels
    ORDER BY primary_top1 DESC, secondary_strongest, method, level
),

clean AS (
    FROM untouched
    UNION ALL
    FROM best WHERE (sweep, setting) NOT IN (SELECT (sweep, setting) FROM untouched)
),

-- Dominated: another level is at least as good in both, and better in one.
dominated AS (
    SELECT
        level.*,
        EXISTS (
            FROM levels AS other
            WHERE other.sweep = level.sweep AND other.setting = level.setting AND other.method = level.method
                AND other.place IS NOT DISTINCT FROM level.place
                AND other.primary_top1 >= level.primary_top1
                AND other.secondary_strongest <= level.secondary_strongest
                AND (other.primary_top1 > level.primary_top1 OR other.secondary_strongest < level.secondary_strongest)
        ) AS in_method,
        EXISTS (
            FROM levels AS other
            WHERE other.sweep = level.sweep AND other.setting = level.setting
                AND other.primary_top1 >= level.primary_top1
                AND other.secondary_strongest <= level.secondary_strongest
                AND (other.primary_top1 > level.primary_top1 OR other.secondary_strongest < level.secondary_strongest)
        ) AS overall,
        EXISTS (
            FROM levels AS other
            WHERE other.sweep = level.sweep AND other.setting = level.setting AND other.method = level.method
                AND other.place IS NOT DISTINCT FROM level.place
                AND other.primary_top1 >= level.primary_top1 AND other.mi_upper <= level.mi_upper
                AND (other.primary_top1 > level.primary_top1 OR other.mi_upper < level.mi_upper)
        ) AS in_method_mi,
        EXISTS (
            FROM levels AS other
            WHERE other.sweep = level.sweep AND other.setting = level.setting
                AND other.primary_top1 >= level.primary_top1 AND other.mi_upper <= level.mi_upper
                AND (other.primary_top1 > level.primary_top1 OR other.mi_upper < level.mi_upper)
        ) AS overall_mi
    FROM levels AS level
)

SELECT
    dominated.* EXCLUDE (given_level, in_method, overall, in_method_mi, overall_mi),
    if(method = 'none', n_seeds, greatest(seeds, n_seeds)) AS seeds,
    reference,
    reference_primary,
    reference_validation,
    reference_secondary,
    reference_single,
    reference_primary - primary_top1 AS primary_loss,
    reference_secondary - secondary_strongest AS secondary_drop,
    reference_single - secondary_single AS single_drop,
    if(secondary_strongest IS NULL, NULL, NOT in_method) AS is_pareto,
    if(secondary_strongest IS NULL, NULL, NOT overall) AS is_pareto_overall,
    if(mi_upper IS NULL, NULL, NOT in_method_mi) AS is_pareto_mi,
    if(mi_upper IS NULL, NULL, NOT overall_mi) AS is_pareto_mi_overall
FROM dominated
JOIN planned USING (sweep)
JOIN clean USING (sweep, setting)
