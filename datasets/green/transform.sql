-- One trip in, one row out. Codes become words; what was an integer before pandas made it a double is one again.
SELECT
    CASE vendor_id
        WHEN 1 THEN 'CMT'
        WHEN 2 THEN 'VTS'
        ELSE CAST(vendor_id AS VARCHAR)
    END AS vendor,
    pickup_at,
    dropoff_at,
    CAST(passenger_count AS INT) AS passenger_count,
    trip_distance,
    CASE CAST(rate_code_id AS INT)
        WHEN 1 THEN 'standard'
        WHEN 2 THEN 'jfk'
        WHEN 3 THEN 'newark'
        WHEN 4 THEN 'nassau or westchester'
        WHEN 5 THEN 'negotiated'
        WHEN 6 THEN 'group'
        WHEN 99 THEN 'unknown'
        ELSE CAST(CAST(rate_code_id AS INT) AS VARCHAR)
    END AS rate_code,
    CASE store_and_fwd_flag
        WHEN 'Y' THEN true
        WHEN 'N' THEN false
    END AS store_and_fwd,
    CASE CAST(payment_type AS INT)
        WHEN 1 THEN 'credit card'
        WHEN 2 THEN 'cash'
        WHEN 3 THEN 'no charge'
        WHEN 4 THEN 'dispute'
        WHEN 5 THEN 'unknown'
        WHEN 6 THEN 'voided'
        ELSE CAST(CAST(payment_type AS INT) AS VARCHAR)
    END AS payment_type,
    CASE CAST(trip_type AS INT)
        WHEN 1 THEN 'street hail'
        WHEN 2 THEN 'dispatch'
        ELSE CAST(CAST(trip_type AS INT) AS VARCHAR)
    END AS trip_type,
    CAST(pickup_location_id AS INT) AS pickup_location_id,
    CAST(dropoff_location_id AS INT) AS dropoff_location_id,
    CAST(fare_amount AS DECIMAL(10, 2)) AS fare_amount,
    CAST(extra AS DECIMAL(10, 2)) AS extra,
    CAST(mta_tax AS DECIMAL(10, 2)) AS mta_tax,
    CAST(tip_amount AS DECIMAL(10, 2)) AS tip_amount,
    CAST(tolls_amount AS DECIMAL(10, 2)) AS tolls_amount,
    CAST(ehail_fee AS DECIMAL(10, 2)) AS ehail_fee,
    CAST(improvement_surcharge AS DECIMAL(10, 2)) AS improvement_surcharge,
    CAST(congestion_surcharge AS DECIMAL(10, 2)) AS congestion_surcharge,
    CAST(total_amount AS DECIMAL(10, 2)) AS total_amount,
    CAST(date_part('year', pickup_at) AS VARCHAR) AS pickup_year,
    CASE date_part('month', pickup_at)
        WHEN 1 THEN '01'
        WHEN 2 THEN '02'
        WHEN 3 THEN '03'
        WHEN 4 THEN '04'
        WHEN 5 THEN '05'
        WHEN 6 THEN '06'
        WHEN 7 THEN '07'
        WHEN 8 THEN '08'
        WHEN 9 THEN '09'
        WHEN 10 THEN '10'
        WHEN 11 THEN '11'
        WHEN 12 THEN '12'
    END AS pickup_month
FROM input
