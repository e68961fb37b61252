use super::*;
use crate::position::LogPartition;

const SPAN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_traceparent_is_read_as_w3c_writes_it() {
    let read = TraceParent::parse(SPAN.as_bytes()).expect("a span");
    assert_eq!(read.trace_id(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    assert_eq!((read.span_id(), read.sampled()), (0xb7ad_6b71_6920_3331, true));
    assert_eq!(read.to_string(), SPAN);
    for (text, sampled) in [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(false)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe", Some(false)),
        (" 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03\t", Some(true)),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later", Some(true)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", None),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
        ("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None),
        ("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("", None),
    ] {
        assert_eq!(TraceParent::parse(text.as_bytes()).map(|span| span.sampled()), sampled, "{text:?}");
    }
    assert_eq!(TraceParent::parse(b"00-\xff"), None);
}

#[test]
fn records_name_a_few_spans_that_they_came_from() {
    let span = |id: u64| TraceParent::new(7, id, true).expect("ids");
    let of = |ids: &[u64]| {
        let values: Vec<String> = ids.iter().map(|id| span(*id).to_string()).collect();
        origins(values.iter().map(String::as_bytes))
    };
    assert_eq!(of(&[]), []);
    assert_eq!(of(&[3, 3, 5, 3]), [span(3), span(5)]);
    let many: Vec<u64> = (1..100).collect();
    assert_eq!(of(&many), (1..=8).map(span).collect::<Vec<_>>());
    assert_eq!(origins([&b"nonsense"[..], SPAN.as_bytes()].into_iter()).len(), 1);
}

#[test]
fn positions_are_short() {
    let partition = |number| -> LogPartition { format!("orders/{number}").parse().expect("a partition") };
    let few: Coverage = [(partition(0), 12), (partition(1), 7)].into_iter().collect();
    assert_eq!(positions(&few), "orders/0:12 orders/1:7");
    let many: Coverage = (0..1_000).map(|number| (partition(number), 1)).collect();
    let shown = positions(&many);
    assert!(shown.ends_with(" …") && shown.split(' ').count() == PARTITIONS_SHOWN + 1, "{shown}");
}

#[test]
fn what_has_no_sign_is_cut_to_what_has_one() {
    assert_eq!((number(7_u64), number(u64::MAX), number(3_usize)), (7, i64::MAX, 3));
}

#[test]
fn records_name_their_origin_where_there_is_room() {
    let origin = TraceParent::parse(SPAN.as_bytes()).expect("a span");
    let named = |sizes: &[usize]| {
        let record = |bytes: &usize| Record { value: Some(vec![0; *bytes].into()), ..Record::default() };
        let mut records: Vec<Record> = sizes.iter().map(record).collect();
        name_origin(&mut records, origin);
        let values =
            records.iter().map(|record| record.header(TRACEPARENT).and_then(|value| TraceParent::parse(value)));
        values.collect::<Vec<_>>()
    };
    let room = RECORD_BYTES_MAX - TRACEPARENT.len() - SPAN.len();
    assert_eq!(named(&[]), []);
    assert_eq!(named(&[1, room]), [Some(origin), Some(origin)]);
    assert_eq!(named(&[1, room + 1]), [None, None]);
    let many = APPEND_BYTES_MAX / room;
    assert_eq!(named(&vec![room; many]), vec![Some(origin); many]);
    assert_eq!(named(&vec![room; many + 1]), vec![None; many + 1]);
}
