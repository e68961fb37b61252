-- One order in, one row out; `month` is the partition it lands in.
SELECT
    id,
    cents,
    at,
    customer,
    country,
    to_char(at, '%Y-%m') AS month
FROM input
