"""The business questions that benchmarks ask; `{t}` is the table: of trips, and of orders."""

QUERIES = {
    "trips a month": "SELECT pickup_year, pickup_month, count(*) FROM {t} GROUP BY 1, 2 ORDER BY 1, 2",
    "revenue by payment": "SELECT payment_type, sum(total_amount), count(*) FROM {t} GROUP BY 1 ORDER BY 1",
    "one month, filtered": "SELECT count(*), sum(tip_amount), avg(trip_distance) FROM {t} "
    "WHERE pickup_year = '2019' AND pickup_month = '07' AND trip_distance > 2",
    "busiest zones": "SELECT pickup_location_id, count(*) AS n, sum(fare_amount) FROM {t} "
    "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
}

ORDERS = {
    "orders a month": "SELECT month, count(*), sum(cents) FROM {t} GROUP BY 1 ORDER BY 1",
    "revenue by country": "SELECT country, sum(cents), count(*) FROM {t} GROUP BY 1 ORDER BY 1",
    "one month, filtered": "SELECT count(*), sum(cents), avg(cents) FROM {t} WHERE month = '2025-07' AND cents > 50000",
    "best customers": "SELECT customer, sum(cents) AS spent, count(*) FROM {t} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
}
