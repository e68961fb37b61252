//! Portions, outcomes, and what becomes of requests side by side.

use std::net::SocketAddr;
use std::sync::Arc;

use tidemark_shared::ambient::System;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::cache::Cache;
use crate::calls::{CallOutcome, Calls};
use crate::client::Client;
use crate::leases::Leases;
use crate::url::OpenSearchUrl;
use crate::view::OpenSearchViewSettings;

#[test]
fn a_body_names_each_document_before_it() {
    let partition: LogPartition = "a \"topic\"/3".parse().unwrap();
    let body = body(&partition, &[0, 17].map(Document::filtered));
    let lines: Vec<Value> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(read).collect();
    let ids: Vec<String> = [0, 17].map(|offset| document_id(&partition, offset)).into();
    assert_eq!(lines[0], json!({"create": {"_id": ids[0]}}));
    assert_eq!(lines[1], json!({"offset": 0, "kind": "filtered"}));
    assert_eq!((&lines[2], &lines[3]["offset"]), (&json!({"create": {"_id": ids[1]}}), &json!(17)));
    assert_eq!(lines.len(), 4);
}

#[test]
fn portions_hold_all_documents_in_order_and_are_bounded() {
    let documents: Vec<Document> = (10..17).map(Document::filtered).collect();
    let each = documents[0].text.len();
    for (bytes_max, wanted) in
        [(each * 3, vec![3, 3, 1]), (each * 7, vec![7]), (1, vec![1; 7]), (each * 2 + 1, vec![2, 2, 2, 1])]
    {
        let portions = portions(&documents, bytes_max);
        assert_eq!(portions.iter().map(|portion| portion.len()).collect::<Vec<_>>(), wanted, "{bytes_max} bytes");
        let offsets: Vec<u64> =
            portions.iter().flat_map(|portion| portion.iter()).map(|document| document.offset).collect();
        assert_eq!(offsets, (10..17).collect::<Vec<_>>());
    }
    assert!(portions(&[], 10).is_empty());
}

#[test]
fn what_is_to_be_sent_again_is_gathered_of_all_portions() {
    let refused = |offset| Sent {
        bytes: 10,
        again: vec![Document::filtered(offset)],
        reason: format!("{offset} is one too many"),
        is_too_large: offset == 4,
    };
    let taken = || Sent { bytes: 10, ..Sent::default() };
    let sent = taken().and(refused(7)).and(refused(4)).and(taken());
    let offsets: Vec<u64> = sent.again.iter().map(|document| document.offset).collect();
    assert_eq!((sent.bytes, offsets), (40, vec![7, 4]));
    assert_eq!((sent.reason.as_str(), sent.is_too_large), ("4 is one too many", true));
    assert!(!taken().and(refused(7)).is_too_large);
}

fn read(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap()
}

#[test]
fn an_outcome_says_what_to_do() {
    for (status, kind, wanted) in [
        (201, "", Verdict::Taken),
        (409, "version_conflict_engine_exception", Verdict::Taken),
        (429, "rejected_execution_exception", Verdict::Again),
        (429, "cluster_block_exception", Verdict::Again),
        (403, "cluster_block_exception", Verdict::Again),
        (503, "unavailable_shards_exception", Verdict::Again),
        (404, "index_not_found_exception", Verdict::Lost),
        (400, "mapper_parsing_exception", Verdict::Bare),
        (400, "strict_dynamic_mapping_exception", Verdict::Bare),
    ] {
        assert_eq!(verdict(status, kind), wanted, "{status} {kind}");
    }
}

/// Knows how requests ended, in that order.
#[derive(Debug)]
struct Told(watch::Sender<Vec<CallOutcome>>);

impl Calls for Told {
    fn ended(&self, _: Call, outcome: CallOutcome, _: Duration) {
        self.0.send_modify(|told| told.push(outcome));
    }
}

/// A cluster at an address, which gets one document a request.
fn cluster(address: SocketAddr, calls: Arc<dyn Calls>) -> Cluster {
    let url: OpenSearchUrl = format!("opensearch+http://{address}").parse().expect("an address");
    let settings = OpenSearchViewSettings { bulk_bytes_max: 1, ..OpenSearchViewSettings::default() };
    Cluster {
        client: Client::new(&url, settings.timeout, calls).expect("a client"),
        prefix: url.prefix.clone(),
        ambient: Arc::new(System),
        leases: Leases::default(),
        cache: Cache::new(settings.cache_bytes_max),
        handles: Default::default(),
        usage: Default::default(),
        settings,
    }
}

/// Refuses the first request that comes; takes the documents of others once one has been told of.
async fn refuse_the_first(listener: TcpListener, told: watch::Receiver<Vec<CallOutcome>>) {
    let (mut connections, mut is_first) = (JoinSet::new(), true);
    while let Ok((client, _)) = listener.accept().await {
        let (refuses, mut told) = (std::mem::take(&mut is_first), told.clone());
        connections.spawn(async move {
            let answer = async {
                if refuses {
                    return ("400 Bad Request", r#"{"error":{"type":"a","reason":"b"}}"#);
                }
                drop(told.wait_for(|told| !told.is_empty()).await);
                ("200 OK", r#"{"errors":false,"items":[{"create":{"status":201}}]}"#)
            };
            drop(exchange(client, answer).await);
        });
    }
}

/// Reads a request and gives it its answer.
async fn exchange(
    mut client: TcpStream,
    answer: impl Future<Output = (&'static str, &'static str)>,
) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).await?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    client.read_exact(&mut vec![0; length.unwrap_or(0)]).await?;
    let (status, body) = answer.await;
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}

#[tokio::test]
async fn after_a_failure_what_is_under_way_is_told_of_and_nothing_more_is_begun() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let told = Arc::new(Told(watch::Sender::new(Vec::new())));
    let mut server = JoinSet::new();
    server.spawn(refuse_the_first(listener, told.0.subscribe()));
    let cluster = cluster(address, Arc::clone(&told) as Arc<dyn Calls>);
    let index = IndexRef { name: "i".to_owned(), alias: "i".to_owned(), uuid: String::new() };
    let documents = (0..5).map(Document::filtered).collect();
    let written = cluster.write_documents(&index, &"t/3".parse().expect("a partition"), documents).await;
    assert!(matches!(&written, Err(BulkError::Failed(Failure::Refused { status: 400, .. }))), "{written:?}");
    assert_eq!(*told.0.borrow(), [CallOutcome::Refused, CallOutcome::Done]);
}
