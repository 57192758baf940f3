-- How much less of the secondary task a server learns where the primary task loses at most `most`: one row per sweep,
-- setting and method, with its best level. It is the table function secondary_drop(most := 0.01).
WITH rows_of AS (
    SELECT
        *,
        bool_and(primary_validation IS NOT NULL AND reference_validation IS NOT NULL) OVER method AS has_primary,
        bool_and(secondary_validation IS NOT NULL) OVER method AS has_secondary
    FROM frontier
    WHERE method <> 'none' AND secondary_strongest IS NOT NULL
    WINDOW method AS (PARTITION BY sweep, setting, method, place)
),

-- Levels are chosen on validation images where these were measured, and reported on test images: the loss reported
-- may be above the one allowed. 1e-9 forgives rounding.
allowed AS (
    FROM rows_of
    WHERE if(has_primary, reference_validation - primary_validation, primary_loss) <= most + 1e-9
),

chosen AS (
    SELECT DISTINCT ON (sweep, setting, method, place) *
    FROM allowed
    ORDER BY if(has_secondary, secondary_validation, secondary_strongest), primary_top1 DESC, level, variant
)

SELECT
    asked.*,
    chosen.variant,
    chosen.level_name,
    chosen.level,
    chosen.n_seeds,
    chosen.seeds,
    chosen.primary_top1,
    chosen.primary_std,
    chosen.primary_loss,
    chosen.secondary_single,
    chosen.single_drop,
    chosen.strongest,
    chosen.secondary_strongest,
    chosen.secondary_std,
    chosen.secondary_drop,
    chosen.mi_upper,
    chosen.client_share
FROM (
    SELECT DISTINCT
        sweep, setting, dataset, split, task, model, weights, cut, method, place, reference, reference_primary,
        reference_secondary, max(floor) OVER (PARTITION BY sweep, setting) AS floor,
        CASE
            WHEN has_primary AND has_secondary THEN 'validation'
            WHEN has_secondary THEN 'test primary, validation secondary'
            WHEN has_primary THEN 'validation primary, test secondary'
            ELSE 'test'
        END AS chosen_on
    FROM rows_of
) AS asked
LEFT JOIN chosen
    ON chosen.sweep = asked.sweep AND chosen.setting = asked.setting AND chosen.method = asked.method
    AND chosen.place IS NOT DISTINCT FROM asked.place
