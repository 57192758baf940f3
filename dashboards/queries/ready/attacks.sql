/* How far the best attack of every noise level is from the strongest bound below it, and what that gap means */
WITH levels AS (
    SELECT
        sweep,
        dataset,
        task,
        setting,
        model,
        method,
        place,
        variant,
        level_name,
        level,
        holds_for,
        queries,
        bound,
        averages_over,
        count(DISTINCT seed) AS seeds,
        avg(mse_bound) AS mse_bound,
        string_agg(DISTINCT attack, ' or ' ORDER BY attack) AS attack,
        avg(attack_mse) AS attack_mse,
        avg(mse_blind) AS mse_blind,
        avg(attack_mse) / nullif(avg(mse_bound), 0) AS gap,
        bool_or(flag LIKE 'violated%') AS is_violated
    FROM sandwich
    WHERE sweep = getvariable('sweep') OR getvariable('sweep') IS NULL
    -- bounds with other options are other bounds
    GROUP BY
        sweep, dataset, task, setting, model, method, place, variant, level_name, level, holds_for, queries, bound,
        averages_over, distance, prior_std, images
)

SELECT DISTINCT ON (sweep, dataset, task, setting, model, method, place, variant, level, holds_for, queries)
    * EXCLUDE (setting, place, is_violated),
    CASE
        WHEN is_violated THEN 'violated: one of the two programs is wrong'
        WHEN gap IS NULL THEN 'the bound is 0: it forbids nothing'
        WHEN holds_for LIKE 'unbiased%' AND gap < 1
            THEN 'the attack is biased, so it may be below: this bound does not stop it'
        WHEN holds_for LIKE 'unbiased%'
            THEN printf('an unbiased attack has no less than 1/%.3g of this error, a biased one may', gap)
        WHEN gap < 1.1 THEN 'closed: no attack is noticeably better'
        ELSE printf('open: no attack has less than 1/%.3g of this error; a better one than this may exist', gap)
    END || if(attack_mse > 0.98 * mse_blind, '; hardly better than the mean image', '') AS meaning
FROM levels
ORDER BY
    sweep, dataset, task, setting, model, method, place, variant, level NULLS FIRST, holds_for, queries,
    -- an error of a program before what is tight
    is_violated DESC, gap NULLS LAST
