use super::*;

#[test]
fn what_a_prefix_does_not_determine_is_told() {
    let yes = ["SELECT count(*) FROM trips", "SELECT a, sum(b) FROM merged.trips GROUP BY a ORDER BY 2"];
    for sql in yes {
        assert_eq!(classify(sql), Auditable::Yes, "{sql}");
    }
    let no = [
        "SELECT * FROM trips LIMIT 3",
        "SELECT now()",
        "SELECT * FROM (SELECT a FROM trips ORDER BY a LIMIT 1)",
        "SELECT approx_distinct(a) FROM trips",
        "SELECT row_number() OVER (ORDER BY a) FROM trips",
        "DELETE FROM trips",
    ];
    for sql in no {
        assert!(matches!(classify(sql), Auditable::No { .. }), "{sql}");
    }
}

#[test]
fn a_template_is_plain_sql() {
    let template = Template {
        groups: vec!["month".to_owned()],
        aggregates: vec![Aggregate::Count, Aggregate::Sum("cents".to_owned())],
    };
    let sql = template.sql("merged.orders");
    assert_eq!(sql, "SELECT \"month\", count(*), sum(\"cents\") FROM merged.orders GROUP BY \"month\"");
}
