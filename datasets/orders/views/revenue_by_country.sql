SELECT country, count(*) AS orders, sum(cents) AS cents
FROM orders
GROUP BY country
