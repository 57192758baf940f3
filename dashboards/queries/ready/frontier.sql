/* The levels that no other level of any method beats in both primary and secondary accuracy */
SELECT
    sweep,
    dataset,
    task,
    model,
    method,
    variant,
    level,
    n_seeds AS seeds,
    primary_top1,
    primary_std,
    secondary_strongest,
    secondary_std,
    strongest,
    floor,
    mi_upper
FROM frontier
WHERE is_pareto_overall AND (sweep = getvariable('sweep') OR getvariable('sweep') IS NULL)
ORDER BY sweep, dataset, task, model, primary_top1 DESC
