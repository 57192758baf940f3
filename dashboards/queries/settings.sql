-- A short name of the data, network and cut that a point's numbers may be compared within: one row per sweep and point.
-- It is the view settings.
WITH points AS (
    SELECT
        sweep,
        point_id,
        any_value(COLUMNS('^(dataset|split|limit|train_limit|class_counts|task|input_size|model|weights|model_seed|cut|precision)$'))
            AS "\1"
    FROM measurements
    WHERE sweep IS NOT NULL
    GROUP BY ALL
)

SELECT
    sweep,
    point_id,
    -- Not weights_digest: it changes with what is learned.
    left(md5([
        dataset, split, "limit"::VARCHAR, train_limit::VARCHAR, class_counts, task, input_size::VARCHAR, model, weights,
        model_seed::VARCHAR, cut, precision
    ]::VARCHAR), 12) AS setting
FROM points
