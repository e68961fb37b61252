//! The process itself: its door, its end, and a second one beside it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use tidemark_e2e::server::Server;

use super::{SUMS, Shop, answered, apply, orders, records, sums, until};
use crate::support::Home;

const TOKEN: &str = "correct horse battery staple";

/// A request that the server has begun to answer and that waits for its body: the server says when it does.
fn under_way(server: &Server, path: &str, content_type: &str, body_bytes: usize) -> TcpStream {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {content_type}\r\n\
         content-length: {body_bytes}\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut told = vec![0; CONTINUE.len()];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, CONTINUE, "{}", String::from_utf8_lossy(&told));
    stream
}

#[test]
fn a_termination_drains_and_a_second_one_ends_at_once() {
    let shop = Shop::open();
    let token = shop.take(0..10);
    assert_eq!(shop.server.stop().unwrap(), Some(0));
    assert!(!shop.home.tidemark.data_dir().join("endpoints.json").exists());
    let server = Server::start(&shop.home.tidemark, &["--batch-interval", "none"]).unwrap();
    let answer = answered(&server, &json!({"sql": SUMS, "at_least": token}));
    assert_eq!(answer["rows"], sums(10), "what was acknowledged is there");
    // what the log had was archived when the first process ended
    shop.home.tidemark.run(&["batch", "run", "orders"]).unwrap().expect_code(0).unwrap();
    assert_eq!(answered(&server, &json!({"sql": SUMS}))["stats"]["rows_batch"], 10);

    // A request whose body does not come keeps the door from closing.
    let _stream = under_way(&server, "/v1/sql", "application/json", 99);
    server.signal("TERM").unwrap();
    let endpoints = shop.home.tidemark.data_dir().join("endpoints.json");
    until("the end of the endpoints file", || (!endpoints.exists()).then_some(()));
    server.signal("TERM").unwrap();
    // One that waits for the drain ends with 0, or not at all within what `ended` waits.
    assert_eq!(server.ended().unwrap(), Some(130), "it does not wait for the drain");
}

#[test]
fn a_request_under_way_ends_while_the_process_drains() {
    let shop = Shop::open();
    let body = orders(0..5);
    let (first, rest) = body.split_at(20);
    let mut stream = under_way(&shop.server, "/v1/datasets/orders/records", "application/x-ndjson", body.len());
    stream.write_all(first.as_bytes()).unwrap();
    shop.take(5..6);
    shop.server.signal("TERM").unwrap();
    let endpoints = shop.home.tidemark.data_dir().join("endpoints.json");
    until("the end of the endpoints file", || (!endpoints.exists()).then_some(()));
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"accepted\":5"), "{answer}");
    assert_eq!(shop.server.ended().unwrap(), Some(0));
    let server = Server::start(&shop.home.tidemark, &["--batch-interval", "none"]).unwrap();
    until("all six orders", || (answered(&server, &json!({"sql": SUMS}))["rows"] == sums(6)).then_some(()));
}

#[test]
fn a_second_process_on_the_same_data_is_told_of_the_first() {
    let shop = Shop::open();
    let second = shop.home.tidemark.run(&["up", "--http", "127.0.0.1:0"]).unwrap().expect_code(1).unwrap();
    let pid = shop.server.pid().to_string();
    assert!(second.stderr.contains(&pid) && second.stderr.contains(&shop.server.url), "{}", second.stderr);
    assert_eq!(shop.at_least(SUMS, &shop.take(0..3))["rows"], sums(3), "the first one goes on");
    shop.server.kill().unwrap();
    let server = Server::start(&shop.home.tidemark, &["--batch-interval", "none"]).unwrap();
    until("the orders", || (answered(&server, &json!({"sql": SUMS}))["rows"] == sums(3)).then_some(()));
}

#[test]
fn a_copy_of_the_data_does_not_lead_to_the_originals_process() {
    let shop = Shop::open();
    let copy = shop.home.folder.path().join("copy");
    std::fs::create_dir_all(copy.join("store")).unwrap();
    // What the process writes meanwhile comes and goes, the definitions stay.
    for (part, to) in [("store/definitions", "store"), ("endpoints.json", ".")] {
        let from = shop.home.tidemark.data_dir().join(part);
        let copied = std::process::Command::new("cp").arg("-a").args([&from, &copy.join(to)]).status();
        assert!(copied.unwrap().success(), "{part}");
    }
    let there = shop.home.tidemark.run_json(&["status", "--json"]).unwrap();
    assert!(there["server"].is_object(), "{there}");
    let here = tidemark_e2e::platform::Tidemark::new(&copy).unwrap();
    let status = here.run_json(&["status", "--json"]).unwrap();
    assert!(status["server"].is_null() && status["datasets"][0]["dataset"] == "orders", "{status}");
    let refused = here.run(&["produce", "orders", "-"]).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("no `tidemark up` runs"), "{}", refused.stderr);
}

#[test]
fn definitions_are_looked_for_every_so_often_and_when_records_come() {
    let home = Home::empty();
    apply(&home, "orders");
    let server = Server::start(&home.tidemark, &["--batch-interval", "none", "--definitions-interval", "1h"]).unwrap();
    apply(&home, "trips");
    let known = || server.get("/v1/status").unwrap()["datasets"].as_array().unwrap().len();
    assert_eq!(known(), 1, "nobody has looked");
    let typed = [("content-type", "application/x-ndjson")];
    let taken = until("the stream of trips", || {
        let reply = records(&server, "trips", &typed, b"{}\n");
        assert!([200, 429].contains(&reply.status), "{}", reply.text);
        (reply.status == 200).then_some(reply)
    });
    assert_eq!((taken.json()["accepted"].clone(), known()), (json!(1), 2));
    drop(server);
    let home = Home::empty();
    let server = Server::start(&home.tidemark, &["--batch-interval", "none"]).unwrap();
    apply(&home, "orders");
    until("a look by itself", || {
        let status = server.get("/v1/status").unwrap();
        (status["datasets"][0]["dataset"] == "orders").then_some(())
    });
}

#[test]
fn without_tokens_the_door_is_for_this_machine_alone() {
    let home = Home::empty();
    let open = home.tidemark.run(&["up", "--http", "0.0.0.0:0"]).unwrap().expect_code(2).unwrap();
    assert!(open.stderr.contains("tokens"), "{}", open.stderr);
    let server = Server::start(&home.tidemark, &[]).unwrap();
    let reply = server.ask("GET", "/v1/datasets", &[("host", "example.com")], b"").unwrap();
    assert_eq!(reply.problem(), (403, "host_not_allowed".to_owned()));
}

#[test]
fn with_tokens_only_who_has_one_comes_in() {
    let home = Home::empty();
    apply(&home, "orders");
    let tokens = home.file("tokens", format!("# of the shop\n{TOKEN}\n"));
    let server = Server::start(&home.tidemark, &["--http", "0.0.0.0:0", "--tokens-file", &tokens]);
    let server = server.or_else(|_| Server::start(&home.tidemark, &["--tokens-file", &tokens])).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let line = orders(1..2);
    let typed = ("content-type", "application/x-ndjson");
    for (case, headers, status) in [
        ("none", vec![typed], 401),
        ("another", vec![typed, ("authorization", "Bearer correct horse battery stable")], 401),
        ("not Bearer", vec![typed, ("authorization", TOKEN)], 401),
        ("right", vec![typed, ("authorization", bearer.as_str())], 200),
    ] {
        let reply = records(&server, "orders", &headers, line.as_bytes());
        assert_eq!(reply.status, status, "{case}: {}", reply.text);
    }
    for (path, status) in [("/healthz", 200), ("/openapi.json", 200), ("/v1/datasets", 401), ("/metrics", 401)] {
        assert_eq!(server.ask("GET", path, &[], b"").unwrap().status, status, "{path}");
    }
    let refused = home.tidemark.run(&["sql", SUMS, "--json"]).unwrap();
    assert!(refused.code != 0 && refused.stdout.contains("TIDEMARK_TOKEN"), "{refused:?}");
    let known = home.tidemark.clone().with_env("TIDEMARK_TOKEN", TOKEN);
    until("the order", || {
        let answer = known.run_json(&["sql", SUMS, "--json"]).unwrap();
        (answer["rows"] == json!([[1, 1]])).then_some(())
    });
}

#[test]
fn a_full_view_makes_room_by_itself_and_slows_who_produces() {
    let shop = Shop::open_with(&["--batch-interval", "none", "--live-bytes-max", "1MiB"]);
    let (mut taken, mut slowed) = (0, 0);
    let mut token = json!({});
    while taken < 60_000 {
        let body = orders(taken..taken + 2_000);
        let reply = until("room for records", || {
            let reply = records(&shop.server, "orders", &[("content-type", "application/x-ndjson")], body.as_bytes());
            if reply.status == 429 {
                slowed += 1;
                assert_eq!(reply.problem().1, "busy");
                assert!(reply.headers.contains_key("retry-after"));
                assert_eq!(shop.server.ask("GET", "/readyz", &[], b"").unwrap().status, 200);
                return None;
            }
            assert_eq!(reply.status, 200, "{reply:?}");
            Some(reply)
        });
        taken += 2_000;
        for (partition, end) in super::entries(&reply.json()["at_least"]["orders"]) {
            token["orders"][partition] = json!(end);
        }
    }
    assert!(slowed > 0, "60,000 orders do not fit into 1 MiB");
    let answer = shop.at_least(SUMS, &token);
    assert_eq!(answer["rows"], sums(60_000));
    assert!(super::split(&answer).0 > 0, "batch runs made room");
    let level = || shop.server.get("/v1/status").unwrap()["live"]["level"].as_str().map(str::to_owned);
    until("room", || (level().as_deref() == Some("ok")).then_some(()));
    shop.audit("orders");
}

#[test]
fn what_nothing_names_goes_by_itself_once_it_is_a_day_old() {
    let shop = Shop::open_with(&["--batch-interval", "100ms", "--vacuum-interval", "100ms"]);
    let folder = shop.home.tidemark.data_dir().join("store/raw/orders/files/data/0/0");
    std::fs::create_dir_all(&folder).unwrap();
    let [old, young] = ["old.csv", "young.csv"].map(|name| folder.join(name));
    for path in [&old, &young] {
        std::fs::write(path, "id\n").unwrap();
    }
    let days_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3_600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(days_ago).unwrap();
    let mut taken = 0;
    until("a vacuum", || {
        shop.take(taken..taken + 1);
        taken += 1;
        (!old.exists()).then_some(())
    });
    assert!(young.exists());
}
