//! A receiver of traces: OTLP over HTTP, as far as a process under test sends it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A span as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty for one that begins a trace.
    pub(super) parent: String,
    /// 1: within the process, 2: of a server, 3: of a client.
    pub(super) kind: u64,
    pub(super) attributes: BTreeMap<String, String>,
    /// Trace and span.
    pub(super) links: Vec<(String, String)>,
    /// 2: an error.
    pub(super) status: u64,
    pub(super) nanoseconds: u64,
    /// What the process is that sent it.
    pub(super) resource: BTreeMap<String, String>,
}

/// What came so far.
#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    bodies: Vec<u8>,
    wrong: Vec<String>,
}

/// Takes all that it is sent, for as long as the test lasts.
pub(super) struct Receiver {
    /// Where it is sent to.
    pub(super) endpoint: String,
    received: Arc<Mutex<Received>>,
}

impl Receiver {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Received::default()));
        let taken = Arc::clone(&received);
        let _listening = thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, taken) = (stream.unwrap(), Arc::clone(&taken));
                let _connection = thread::spawn(move || {
                    let reading = BufReader::new(stream.try_clone().unwrap());
                    serve(reading, stream, &taken);
                });
            }
        });
        Self { endpoint, received }
    }

    /// The spans that came so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        assert!(received.wrong.is_empty(), "{:?}", received.wrong);
        received.spans.clone()
    }

    /// True if a text was in any of the bodies.
    pub(super) fn has_seen(&self, text: &str) -> bool {
        let received = self.received.lock().unwrap();
        received.bodies.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Answers the requests of a connection, until the other side ends it.
fn serve(mut reading: BufReader<TcpStream>, mut writing: TcpStream, taken: &Mutex<Received>) {
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reading.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_ascii_lowercase());
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        reading.read_exact(&mut body).unwrap();
        let mut received = taken.lock().unwrap();
        let right =
            head[0] == "post /v1/traces http/1.1" && head.contains(&"content-type: application/x-protobuf".into());
        match decoded(&body).filter(|_| right) {
            Some(spans) => received.spans.extend(spans),
            None => received.wrong.push(format!("{head:?}: {body:?}")),
        }
        received.bodies.extend(body);
        drop(received);
        writing
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
    }
}

/// The value of a field of a message.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bytes(_) => None,
        }
    }

    fn text(self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn hex(self) -> Option<String> {
        Some(self.bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The fields of a message, by number; `None` if it is none.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => Value::Number(u64::from_le_bytes(cut(&mut message, 8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Value::Bytes(cut(&mut message, length)?)
            }
            5 => Value::Number(u32::from_le_bytes(cut(&mut message, 4)?.try_into().ok()?).into()),
            _ => return None,
        };
        found.push((tag >> 3, value));
    }
    Some(found)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = cut(message, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn cut<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (first, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(first)
}

/// The spans of an `ExportTraceServiceRequest`.
fn decoded(body: &[u8]) -> Option<Vec<Span>> {
    let mut spans = Vec::new();
    for (_, of_resource) in fields(body)?.into_iter().filter(|(number, _)| *number == 1) {
        let of_resource = fields(of_resource.bytes()?)?;
        let mut resource = BTreeMap::new();
        for (number, value) in &of_resource {
            match number {
                1 => resource.extend(attributes(value.bytes()?, 1)?),
                2 => {
                    for (_, value) in fields(value.bytes()?)?.into_iter().filter(|(number, _)| *number == 2) {
                        spans.push(span(value.bytes()?)?);
                    }
                }
                _ => {}
            }
        }
        for span in &mut spans {
            if span.resource.is_empty() {
                span.resource.clone_from(&resource);
            }
        }
    }
    Some(spans)
}

fn span(message: &[u8]) -> Option<Span> {
    let mut span = Span { attributes: attributes(message, 9)?, ..Span::default() };
    let (mut begin, mut end) = (0, 0);
    for (number, value) in fields(message)? {
        match number {
            1 => span.trace = value.hex()?,
            2 => span.id = value.hex()?,
            4 => span.parent = value.hex()?,
            5 => span.name = value.text()?,
            6 => span.kind = value.number()?,
            7 => begin = value.number()?,
            8 => end = value.number()?,
            13 => {
                let link = fields(value.bytes()?)?;
                let part = |wanted| link.iter().find(|(number, _)| *number == wanted)?.1.hex();
                span.links.push((part(1)?, part(2)?));
            }
            15 => {
                let status = fields(value.bytes()?)?.into_iter().find(|(number, _)| *number == 3);
                span.status = status.map_or(Some(0), |(_, code)| code.number())?;
            }
            _ => {}
        }
    }
    span.nanoseconds = u64::checked_sub(end, begin)?;
    Some(span)
}

/// The attributes in the fields `wanted` of a message, as texts.
fn attributes(message: &[u8], wanted: u64) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (_, attribute) in fields(message)?.into_iter().filter(|(number, _)| *number == wanted) {
        let attribute = fields(attribute.bytes()?)?;
        let part = |wanted| attribute.iter().find(|(number, _)| *number == wanted).map(|(_, value)| *value);
        let text = match fields(part(2)?.bytes()?)?.first()? {
            (1, text) => text.text()?,
            (2, flag) => (flag.number()? != 0).to_string(),
            (3, number) => number.number()?.to_string(),
            _ => return None,
        };
        found.insert(part(1)?.text()?, text);
    }
    Some(found)
}
