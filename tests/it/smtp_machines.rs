//! Two machines and a fake wire: whatever is written, the server machine ends in one piece and says valid replies only, and a
//! message goes from client to server machine unaltered however the wire cuts it.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use mailweir::mail::Path;
use mailweir::protocol::smtp::{
    BareNewline, Client, Dialect, DotStuffer, Event, Extension, Extensions, Identity, Reply, ReplyReader, Server, Step,
    Trust,
};
use proptest::prelude::*;

use super::smtp_conversation::settings;

fn server(now: Instant) -> Server {
    let offer = Extensions::own(2000).with(Extension::Dsn).with(Extension::EightBitMime).with(Extension::Chunking);
    Server::new(settings(BareNewline::Reject), offer, Trust { xclient: true, xforward: true }, Identity::default(), now)
}

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Answers every question with 250; the messages that came through.
fn drive(server: &mut Server, input: &mut BytesMut, now: Instant, messages: &mut Vec<(usize, Vec<u8>)>) -> bool {
    while let Some(event) = server.receive(input, now) {
        match event {
            Event::Message { envelope, raw } => {
                messages.push((envelope.recipients.len(), raw.to_vec()));
                server.answer(&Reply::new(250, [2, 0, 0], "Ok"), now);
            }
            Event::Mail(_) | Event::Rcpt(_) => server.answer(&Reply::new(250, [2, 1, 0], "Ok"), now),
            Event::StartTls => server.tls_started(now),
            Event::Close => return false,
            Event::Reset | Event::Reconnected => {}
        }
    }
    true
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"EHLO a\r\n",
        b"HELO a\r\n",
        b"MAIL FROM:<a@b.c>\r\n",
        b"MAIL FROM:<> SIZE=5\r\n",
        b"RCPT TO:<x@y.z>\r\n",
        b"DATA\r\n",
        b"BDAT 5\r\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 3 LAST\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"\r\n.\r\n",
        b".\r\n",
        b"\r",
        b"\n",
        b"\0",
        b".",
        b"a",
        b"\r\n",
        b"XFORWARD ADDR=1.2.3.4\r\n",
        b"XCLIENT NAME=x\r\n",
        b"\xff\xfe",
    ];
    proptest::collection::vec(proptest::sample::select(words), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_conversation_is_answered_with_valid_replies(bytes in words(), step in 1usize..40) {
        let now = start();
        let mut machine = server(now);
        let mut input = BytesMut::new();
        machine.greet(&input, now);
        let (mut said, mut messages) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            let open = drive(&mut machine, &mut input, now, &mut messages);
            said.append(machine.output());
            if !open {
                break;
            }
        }
        let (mut reader, mut input) = (ReplyReader::default(), BytesMut::from(said.as_slice()));
        while reader.next(&mut input).expect("valid replies only").is_some() {}
        prop_assert!(input.is_empty());
        for (recipients, raw) in messages {
            prop_assert!(recipients > 0);
            let text = String::from_utf8_lossy(&raw).replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n', '\0']));
        }
    }

    #[test]
    fn the_place_of_a_read_never_matters(mut bytes in words(), options in any::<u8>()) {
        bytes.insert(0, options);
        mailweir::protocol::smtp::check_conversation(&bytes, start());
    }

    #[test]
    fn a_message_goes_from_machine_to_machine(
        lines in proptest::collection::vec("[.a\u{e9}]{0,8}", 0..20),
        there in 1usize..30,
        back in 1usize..30,
    ) {
        let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let now = start();
        let mut machine = server(now);
        let mut client = Client::new(Dialect::Smtp);
        let (mut to_server, mut messages) = (BytesMut::new(), Vec::new());
        machine.greet(&to_server, now);
        let mut asked = 0;
        let mut steps = Vec::new();
        loop {
            let replies = std::mem::take(machine.output());
            let mut from_server = BytesMut::new();
            for piece in replies.chunks(back) {
                from_server.extend_from_slice(piece);
                while !client.is_unusable()
                    && let Some((step, reply)) = client.receive(&mut from_server).unwrap()
                {
                    prop_assert!(reply.code < 400, "{step:?} {reply:?}");
                    steps.push(step);
                }
            }
            match asked {
                0 => client.greet("client.example").unwrap(),
                1 => {
                    client.mail(&Path::new("a@b.example")).unwrap();
                    client.rcpt(&Path::new("c@d.example")).unwrap();
                    client.rcpt(&Path::new("e@d.example")).unwrap();
                }
                2 => client.data().unwrap(),
                3 => {
                    let mut stuffer = DotStuffer::default();
                    stuffer.write(text.as_bytes(), client.output());
                    stuffer.finish(client.output());
                    client.content_sent().unwrap();
                }
                4 => client.quit().unwrap(),
                _ => break,
            }
            asked += 1;
            let wire = std::mem::take(client.output());
            for piece in wire.chunks(there) {
                to_server.extend_from_slice(piece);
                drive(&mut machine, &mut to_server, now, &mut messages);
            }
        }
        prop_assert_eq!(messages, vec![(2, text.into_bytes())]);
        let expected = [Step::Banner, Step::Greeting, Step::Mail, Step::Rcpt, Step::Rcpt, Step::Data, Step::Content, Step::Quit];
        prop_assert_eq!(steps, expected);
    }
}

#[test]
fn deadlines_are_totals() {
    let now = start();
    let mut machine = server(now);
    let mut input = BytesMut::new();
    machine.greet(&input, now);
    let second = |n: u64| now + Duration::from_secs(n);
    assert_eq!(machine.deadline(), Some(second(300)));
    // Half a command gains no time.
    input.extend_from_slice(b"EHL");
    assert_eq!(machine.receive(&mut input, second(100)), None);
    assert_eq!(machine.deadline(), Some(second(300)));
    input.extend_from_slice(b"O a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n");
    drive(&mut machine, &mut input, second(200), &mut Vec::new());
    assert_eq!(machine.deadline(), Some(second(500)));
    // Content earns a second for each 500 bytes.
    input.extend_from_slice(&b"x\r\n".repeat(500));
    drive(&mut machine, &mut input, second(210), &mut Vec::new());
    assert_eq!(machine.deadline(), Some(second(503)));
    machine.timed_out();
    assert!(String::from_utf8_lossy(machine.output()).ends_with("421 4.4.2 Timeout exceeded\r\n"));
    assert_eq!(machine.receive(&mut input, second(600)), Some(Event::Close));
}
