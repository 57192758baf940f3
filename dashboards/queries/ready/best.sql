/* Of every network and mechanism the level that hides most at no more accuracy lost than allowed: --loss, default 0.01 */
WITH levels AS (
    SELECT
        sweep,
        dataset,
        task,
        setting,
        model,
        method,
        variant,
        level_name,
        level,
        count(*) AS points,
        avg(accuracy) AS accuracy,
        avg(accuracy_loss) AS accuracy_loss,
        avg(hcr_std) AS hcr_std,
        avg(secondary) AS secondary,
        max(floor) AS floor,
        avg(epsilon) AS epsilon
    FROM overview
    WHERE (sweep = getvariable('sweep') OR getvariable('sweep') IS NULL) AND method <> 'none'
    GROUP BY ALL
)

SELECT DISTINCT ON (sweep, dataset, task, setting, method, variant) * EXCLUDE (setting)
FROM levels
WHERE accuracy_loss <= coalesce(getvariable('loss'), 0.01)
ORDER BY
    sweep, dataset, task, setting, method, variant,
    -- what an attacker reads counts before what a bound forbids, and that before a statement about training
    secondary NULLS LAST, hcr_std DESC NULLS LAST, epsilon NULLS LAST, accuracy DESC
