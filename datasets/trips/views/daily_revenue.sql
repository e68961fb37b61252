SELECT
    date_trunc('day', pickup_at) AS day,
    payment_type,
    count(*) AS trips,
    sum(total_amount) AS revenue
FROM trips
GROUP BY 1, 2
