-- One order in, one row out; `month` is the partition it lands in.
SELECT
    id,
    cents,
    at,
    customer,
    country,
    substr(CAST(at AS VARCHAR), 1, 7) AS month
FROM input
