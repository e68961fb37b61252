//! Forms that the TLC's files took over the years.

/// How one month's file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The header of 2014: names with leading blanks, coordinates in place of zones, words for codes.
    pub(super) old_header: bool,
    /// Lines end with CR LF.
    pub(super) crlf: bool,
    /// The file is compressed.
    pub(super) gzip: bool,
    /// Surcharge for congestion not yet introduced: its field is empty.
    pub(super) congestion_empty: bool,
    /// Some lines break off, are too wide, blank or hold no number. The second year's files are whole, so that a plain
    /// CSV reader can be compared on them.
    pub(super) broken_lines: bool,
    /// The meter's operator no longer tells the number of passengers in some records.
    pub(super) passengers_gaps: bool,
}

impl Layout {
    /// The form of month `index` of `months`: one month with the old header, one with CR LF, one compressed.
    pub(super) fn of_month(index: u32, months: u32) -> Self {
        Self {
            old_header: index == 1 && months > 3,
            crlf: index == 2 && months > 3,
            gzip: index == 3,
            congestion_empty: index < 12,
            broken_lines: index < 12,
            passengers_gaps: index >= 18 || (months < 18 && index + 1 == months),
        }
    }

    /// The header line, without its end.
    pub(super) fn header(self) -> &'static str {
        if self.old_header {
            "vendor_id, pickup_datetime, dropoff_datetime, passenger_count, trip_distance, pickup_longitude, \
             pickup_latitude, rate_code, store_and_fwd_flag, dropoff_longitude, dropoff_latitude, payment_type, \
             fare_amount, surcharge, mta_tax, tip_amount, tolls_amount, total_amount"
        } else {
            "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,\
             store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,\
             tolls_amount,improvement_surcharge,total_amount,congestion_surcharge"
        }
    }

    /// The line end.
    pub(super) fn line_end(self) -> &'static str {
        if self.crlf { "\r\n" } else { "\n" }
    }

    /// What is unusual, for the manifest.
    pub(super) fn form(self) -> Vec<String> {
        let marks = [(self.old_header, "layout-2014"), (self.crlf, "crlf"), (self.gzip, "gzip")];
        marks.iter().filter(|(is, _)| *is).map(|(_, name)| (*name).to_owned()).collect()
    }
}
