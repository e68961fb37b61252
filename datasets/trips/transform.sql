-- One trip in, one row out. Codes that are words in some years and numbers in others become the same words.
SELECT
    CASE vendor
        WHEN '1' THEN 'CMT'
        WHEN '2' THEN 'VTS'
        ELSE vendor
    END AS vendor,
    pickup_at,
    dropoff_at,
    CAST(passenger_count AS INT) AS passenger_count,
    trip_distance,
    CASE rate_code
        WHEN '1' THEN 'standard'
        WHEN '2' THEN 'jfk'
        WHEN '3' THEN 'newark'
        WHEN '4' THEN 'nassau or westchester'
        WHEN '5' THEN 'negotiated'
        WHEN '6' THEN 'group'
        WHEN '99' THEN 'unknown'
        ELSE rate_code
    END AS rate_code,
    CASE store_and_fwd_flag
        WHEN 'Y' THEN true
        WHEN '1' THEN true
        WHEN 'N' THEN false
        WHEN '0' THEN false
    END AS store_and_fwd,
    CASE payment_type
        WHEN '1' THEN 'credit card'
        WHEN '2' THEN 'cash'
        WHEN '3' THEN 'no charge'
        WHEN '4' THEN 'dispute'
        WHEN '5' THEN 'unknown'
        WHEN '6' THEN 'voided'
        WHEN 'CREDIT' THEN 'credit card'
        WHEN 'Credit' THEN 'credit card'
        WHEN 'Cre' THEN 'credit card'
        WHEN 'CRE' THEN 'credit card'
        WHEN 'CRD' THEN 'credit card'
        WHEN 'CASH' THEN 'cash'
        WHEN 'Cash' THEN 'cash'
        WHEN 'Cas' THEN 'cash'
        WHEN 'CAS' THEN 'cash'
        WHEN 'CSH' THEN 'cash'
        WHEN 'No Charge' THEN 'no charge'
        WHEN 'No' THEN 'no charge'
        WHEN 'No ' THEN 'no charge'
        WHEN 'NOC' THEN 'no charge'
        WHEN 'Dispute' THEN 'dispute'
        WHEN 'Dis' THEN 'dispute'
        WHEN 'DIS' THEN 'dispute'
        WHEN 'NA' THEN 'unknown'
        WHEN 'UNK' THEN 'unknown'
        ELSE payment_type
    END AS payment_type,
    pickup_longitude,
    pickup_latitude,
    dropoff_longitude,
    dropoff_latitude,
    pickup_location_id,
    dropoff_location_id,
    -- Money: some years print doubles, 8.9000000000000004. The cast rounds to the cent.
    CAST(fare_amount AS DECIMAL(10, 2)) AS fare_amount,
    CAST(extra AS DECIMAL(10, 2)) AS extra,
    CAST(mta_tax AS DECIMAL(10, 2)) AS mta_tax,
    CAST(tip_amount AS DECIMAL(10, 2)) AS tip_amount,
    CAST(tolls_amount AS DECIMAL(10, 2)) AS tolls_amount,
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
