/* Accuracy, HCR bound and secondary accuracy of every network, mechanism and level together, means over seeds */
SELECT
    dataset,
    model,
    method,
    variant,
    level_name,
    level,
    count(*) AS points,
    avg(accuracy) AS accuracy,
    avg(accuracy_loss) AS accuracy_loss,
    avg(hcr_std) AS hcr_std,
    any_value(hcr_unit) AS hcr_unit,
    avg(secondary) AS secondary,
    max(floor) AS floor,
    avg(epsilon) AS epsilon,
    min(caveat) AS caveat
FROM overview
WHERE sweep = getvariable('sweep') OR getvariable('sweep') IS NULL
GROUP BY sweep, dataset, task, setting, model, method, place, variant, level_name, level
ORDER BY dataset, task, model, method, variant NULLS FIRST, level NULLS FIRST
