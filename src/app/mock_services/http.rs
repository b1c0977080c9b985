//! HTTP services by path: `POST /v1/analyse` (NLP), `POST /v1/url` (URL analyser), `POST /v1/chat/completions`
//! (OpenAI-compatible), `GET /domain/NAME` (RDAP).
//!
//! The NLP service and the chat model call a text phishing that speaks of a password; the URL analyser calls a URL phishing
//! whose host begins with `evil`, and fails at those that begin with `broken`; RDAP says that domains beginning with `new` were registered on 2026-11-20, and others in 2001, and
//! knows nothing of those beginning with `unknown`. Asked with `"want"`, the two analysers give `nlu` and `link_analysis` too; the
//! chat model does not.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufStream};
use tokio::net::TcpStream;

use super::Fault;
use super::wire::Dialect;

const MAX_HEAD: u64 = 64 << 10;
const MAX_BODY: usize = 4 << 20;

#[derive(Clone, Copy)]
pub(super) struct Http;

impl Dialect for Http {
    async fn answer(self, stream: &mut BufStream<TcpStream>, fault: Fault) -> io::Result<Option<Vec<u8>>> {
        let Some((method, path, body)) = request(stream).await? else { return Ok(None) };
        let (status, body) = match fault {
            Fault::ServerError => ("500 Internal Server Error", json!({"error": "mock"})),
            Fault::TooMany => ("429 Too Many Requests\r\nRetry-After: 1", json!({"error": "slow down"})),
            _ => answer(&method, &path, &serde_json::from_slice(&body).unwrap_or(Value::Null)),
        };
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
        Ok(Some(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()))
    }

    fn endless(self) -> &'static [u8] {
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\""
    }
}

async fn request(stream: &mut BufStream<TcpStream>) -> io::Result<Option<(String, String, Vec<u8>)>> {
    let (mut head, mut length) = (Vec::new(), 0);
    let mut limited = stream.take(MAX_HEAD);
    loop {
        let mut line = String::new();
        if limited.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap_or(0),
            _ => {}
        }
        head.push(line.to_owned());
    }
    let mut words = head.first().map_or("", String::as_str).split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut body = vec![0; length.min(MAX_BODY)];
    stream.read_exact(&mut body).await?;
    Ok(Some((method, path, body)))
}

fn answer(method: &str, path: &str, body: &Value) -> (&'static str, Value) {
    match (method, path) {
        ("POST", "/v1/analyse") => {
            let said = format!("{} {}", text(&body["subject"]), text(&body["text"])).to_lowercase();
            let mut reading = reading(&said);
            if body["want"] == "nlu" {
                let intent = json!({"name": reading["intent"], "confidence": "high"});
                reading["nlu"] =
                    json!({"language": "en", "intents": [intent], "topics": [], "tags": [], "entities": []});
            }
            ("200 OK", reading)
        }
        ("POST", "/v1/url") => {
            let host = text(&body["url"]).split("://").nth(1).unwrap_or_default();
            if host.starts_with("broken") {
                return ("500 Internal Server Error", json!({"error": "mock"}));
            }
            let verdict = if host.starts_with("evil") { "phishing" } else { "clean" };
            let mut reading = json!({"verdict": verdict, "confidence": 0.9});
            if body["want"] == "link_analysis" {
                let disposition = if verdict == "clean" { "benign" } else { "phishing" };
                let credphish = json!({"disposition": disposition, "confidence": "high"});
                reading["link_analysis"] =
                    json!({"credphish": credphish, "effective_url": body["url"], "status_code": 200});
            }
            ("200 OK", reading)
        }
        ("POST", "/v1/chat/completions") => {
            // What the gateway says to the model stands first; the letter is the last message.
            let letter =
                body["messages"].as_array().and_then(|all| all.last()).map_or("", |last| text(&last["content"]));
            let content = reading(&letter.to_lowercase()).to_string();
            ("200 OK", json!({"choices": [{"message": {"role": "assistant", "content": content}}]}))
        }
        ("GET", path) if path.starts_with("/domain/") => {
            let name = path.trim_start_matches("/domain/");
            if name.starts_with("unknown") {
                return ("404 Not Found", json!({"errorCode": 404}));
            }
            let date = if name.starts_with("new") { "2026-11-20T00:00:00Z" } else { "2001-05-17T12:00:00Z" };
            let events = json!([{"eventAction": "registration", "eventDate": date}]);
            ("200 OK", json!({"objectClassName": "domain", "ldhName": name, "events": events}))
        }
        _ => ("404 Not Found", json!({"error": "no such path"})),
    }
}

fn reading(text: &str) -> Value {
    match text.contains("password") {
        true => json!({"phishing": 0.93, "intent": "cred_theft"}),
        false => json!({"phishing": 0.05, "intent": "benign"}),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
