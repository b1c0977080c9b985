//! The client machine against scripted replies, split at every byte.

use super::*;

fn feed(client: &mut Client, text: &str, step: usize) -> Result<Vec<(Step, u16)>, ClientError> {
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    for piece in text.as_bytes().chunks(step) {
        input.extend_from_slice(piece);
        while (!client.is_unusable() || out.is_empty())
            && let Some((step, reply)) = client.receive(&mut input)?
        {
            out.push((step, reply.code));
        }
    }
    Ok(out)
}

fn greeted(dialect: Dialect) -> Client {
    let mut client = Client::new(dialect);
    feed(&mut client, "220 hop\r\n", 1).unwrap();
    client.greet("us.example").unwrap();
    feed(&mut client, "250-hop\r\n250-PIPELINING\r\n250 DSN\r\n", 1).unwrap();
    client
}

#[test]
fn one_message() {
    for step in 1..20 {
        let mut client = greeted(Dialect::Smtp);
        assert!(client.is_ready() && client.pipelines());
        client.mail(&Path { text: "a@b.example".into(), params: vec!["RET=HDRS".into()] }).unwrap();
        client.rcpt(&Path::new("c@d.example")).unwrap();
        client.rcpt(&Path::new("e@d.example")).unwrap();
        let wire =
            "EHLO us.example\r\nMAIL FROM:<a@b.example> RET=HDRS\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@d.example>\r\n";
        assert_eq!(String::from_utf8_lossy(client.output()), wire);
        let got = feed(&mut client, "250 ok\r\n250 ok\r\n550-no\r\n550 way\r\n", step).unwrap();
        assert_eq!(got, [(Step::Mail, 250), (Step::Rcpt, 250), (Step::Rcpt, 550)]);
        client.data().unwrap();
        feed(&mut client, "354 go\r\n", step).unwrap();
        client.content_sent().unwrap();
        assert_eq!(feed(&mut client, "250 queued\r\n", step), Ok(vec![(Step::Content, 250)]));
        assert!(client.is_ready());
    }
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let mut client = greeted(Dialect::Lmtp);
    client.mail(&Path::new("")).unwrap();
    client.rcpt(&Path::new("a@b.example")).unwrap();
    client.rcpt(&Path::new("c@b.example")).unwrap();
    feed(&mut client, "250 ok\r\n250 ok\r\n250 ok\r\n", 1).unwrap();
    client.data().unwrap();
    feed(&mut client, "354 go\r\n", 1).unwrap();
    client.content_sent().unwrap();
    assert_eq!(feed(&mut client, "250 one\r\n450 two\r\n", 1).unwrap().len(), 2);
    assert!(client.is_ready());
}

#[test]
fn doubt_makes_it_unusable() {
    let mut late = greeted(Dialect::Smtp);
    assert_eq!(feed(&mut late, "250 late\r\n", 1), Err(ClientError::Unsolicited));
    assert!(late.mail(&Path::new("")).is_err());

    let mut early = greeted(Dialect::Smtp);
    early.mail(&Path::new("")).unwrap();
    let _ = feed(&mut early, "250 ok\r\n250 more\r\n", 100);
    assert!(early.is_unusable());

    let mut closing = greeted(Dialect::Smtp);
    closing.mail(&Path::new("")).unwrap();
    assert_eq!(feed(&mut closing, "421 bye\r\n", 1), Ok(vec![(Step::Mail, 421)]));
    assert!(closing.is_unusable());

    let mut odd = greeted(Dialect::Smtp);
    odd.mail(&Path::new("")).unwrap();
    assert!(feed(&mut odd, "354 what\r\n", 1).is_err());
}

#[test]
fn injection_after_starttls() {
    let mut client = greeted(Dialect::Smtp);
    client.start_tls().unwrap();
    let mut input = BytesMut::from("220 go\r\n250 injected\r\n");
    assert!(client.receive(&mut input).unwrap().is_some());
    assert_eq!(client.tls_started(&input), Err(ClientError::Unsolicited));
    assert!(client.is_unusable());
}

#[test]
fn out_of_order_and_line_breaks() {
    let mut client = greeted(Dialect::Smtp);
    assert!(client.rcpt(&Path::new("a@b.example")).is_err());
    assert!(client.data().is_err() && client.content_sent().is_err());
    assert!(client.mail(&Path::new("a@b.example>\r\nRCPT TO:<x@y.example")).is_err());
    client.mail(&Path::new("a@b.example")).unwrap();
    assert!(client.data().is_err());
}
