//! What the wire format promises: every message comes back, everything else is an error.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn read_all(wire: &[u8], from: Side) -> anyhow::Result<Vec<(u32, String)>> {
    let mut source = wire;
    let mut buffer = FrameBuffer::new();
    let mut decoder = Decoder::new(from);
    let mut messages = Vec::new();
    while buffer.fill(&mut source)? > 0 {
        while let Some(frame) = buffer.next_frame()? {
            let session = frame.header.session;
            if let Some(message) = decoder.decode(frame)? {
                messages.push((session, format!("{message:?}")));
            }
        }
    }
    Ok(messages)
}

fn refusal(frame: &[u8], from: Side) -> String {
    format!("{:#}", read_all(frame, from).unwrap_err())
}

fn raw(session: u32, kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        session,
        kind,
        flags,
        length: payload.len() as u32,
    };
    [&header.encode()[..], payload].concat()
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![
        Just(Stream::Stdin),
        Just(Stream::Stdout),
        Just(Stream::Stderr)
    ]
}

/// Messages that fit one frame, with the side that sends them.
fn message() -> impl Strategy<Value = (Side, u32, Message<'static>)> {
    let hello = (any::<u64>(), any::<u64>()).prop_map(|(started_us, sent_us)| {
        let side = Side::Guest;
        let hello = Hello {
            side,
            started_us,
            sent_us,
        };
        (side, MACHINE, Message::Hello(hello))
    });
    let machine = prop_oneof![
        Just((Side::Guest, Message::SetupDone)),
        Just((Side::Host, Message::PowerOff)),
        any::<i64>().prop_map(|shift_ns| (Side::Host, Message::Clock { shift_ns })),
        any::<u64>().prop_map(|now_ns| (Side::Guest, Message::Time { now_ns })),
        "[ -~]{0,80}".prop_map(|reason| (Side::Guest, Message::Failed(reason))),
    ]
    .prop_map(|(side, message)| (side, MACHINE, message));
    let of_stream = (stream(), 1..=WINDOW).prop_flat_map(|(stream, bytes)| {
        let sender = stream.sender();
        let receiver = if sender == Side::Host {
            Side::Guest
        } else {
            Side::Host
        };
        prop_oneof![
            Just((
                sender,
                Message::Data {
                    stream,
                    bytes: b"some bytes"
                }
            )),
            Just((sender, Message::Eof(stream))),
            Just((receiver, Message::Credit { stream, bytes })),
            Just((receiver, Message::Close(stream))),
        ]
    });
    let execution = prop_oneof![
        any::<u32>().prop_map(|pid| (Side::Guest, Message::Started { pid })),
        (125u8..=127, "[ -~]{0,80}")
            .prop_map(|(code, message)| { (Side::Guest, Message::ExecFailed { code, message }) }),
        any::<(SocketAddr, bool, bool)>().prop_map(|(address, datagrams, patient)| {
            let connect = Connect {
                address,
                datagrams,
                patient,
            };
            (Side::Host, Message::Connect(connect))
        }),
        any::<(u16, u16)>().prop_map(|(rows, cols)| (Side::Host, Message::Resize { rows, cols })),
        (1u8..=64).prop_map(|signal| (Side::Host, Message::Signal(signal))),
        any::<u8>().prop_map(|code| (Side::Guest, Message::Exit(Exit::Code(code)))),
        Just((Side::Host, Message::Detach)),
        Just((Side::Guest, Message::Detached)),
        (1u8..=64).prop_map(|signal| (Side::Guest, Message::Exit(Exit::Signal(signal)))),
    ];
    let session = (1u32.., prop_oneof![of_stream, execution])
        .prop_map(|(session, (side, message))| (side, session, message));
    prop_oneof![hello, machine, session]
}

proptest! {
    #[test]
    fn every_message_comes_back((from, session, message) in message()) {
        let mut wire = Vec::new();
        message.encode(session, &mut wire).unwrap();
        let messages = read_all(&wire, from).unwrap();
        prop_assert_eq!(messages, vec![(session, format!("{message:?}"))]);
    }

    #[test]
    fn no_message_is_taken_from_the_wrong_side((from, session, message) in message()) {
        let other = if from == Side::Host { Side::Guest } else { Side::Host };
        let mut wire = Vec::new();
        message.encode(session, &mut wire).unwrap();
        prop_assert!(read_all(&wire, other).is_err());
    }

    #[test]
    fn arbitrary_frames_never_panic(
        session in 0u32..3, kind in 0u16..40, flags in 0u16..3,
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let wire = raw(session, kind, flags, &payload);
        for side in [Side::Host, Side::Guest] {
            if let Ok(messages) = read_all(&wire, side) {
                prop_assert!(messages.len() <= 1);
            }
        }
    }
}

proptest! {
    // Each case is some hundred kilobytes: a few are enough.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_execution_of_any_length_comes_back(
        byte in 1u8.., lengths in prop::collection::vec(0usize..100_000, 1..4),
    ) {
        let exec = Exec {
            argv: lengths.iter().map(|n| ByteString(vec![byte; *n])).collect(),
            ..Exec::default()
        };
        let message = Message::Exec(Box::new(exec));
        let mut wire = Vec::new();
        message.encode(7, &mut wire).unwrap();
        let messages = read_all(&wire, Side::Host).unwrap();
        prop_assert_eq!(messages, vec![(7, format!("{message:?}"))]);
    }
}

#[test]
fn a_setup_comes_back() {
    let setup = Setup {
        hostname: Some("box".into()),
        clock_ns: Some(1_769_860_800_000_000_000),
        root: Root::Plan9 {
            tag: "root".into(),
            options: "msize=512000".into(),
            read_only: false,
        },
        mounts: vec![Mount {
            file: Some("file".into()),
            fill: false,
            beside: false,
            upper: None,
            file_system: FileSystem::Virtiofs,
            source: "store".into(),
            mount_point: "/nix/store".into(),
            read_only: true,
            options: String::new(),
        }],
        users: vec![User {
            name: "web".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/web".into(),
        }],
        write_etc: true,
        read_only: true,
        hosts: vec![("10.0.0.7".parse().unwrap(), "db".into())],
        resolver: Resolver {
            servers: vec!["10.0.2.3".parse().unwrap()],
            search: vec!["example".into()],
            options: vec!["ndots:2".into()],
        },
        links: vec![Link {
            mac: [2, 0, 0, 0, 0, 1],
            name: "eth0".into(),
            mtu: 1500,
            addresses: vec![
                ("10.0.2.15".parse().unwrap(), 24),
                ("fd00::2".parse().unwrap(), 64),
            ],
            gateways: vec!["fe80::1".parse().unwrap()],
            closed: Some("10.0.2.2".parse().unwrap()),
        }],
        console_level: Some(4),
        secrets: vec![SecretFile {
            name: "key".into(),
            link: Some("/etc/key".into()),
            owner: "web".into(),
            mode: 0o400,
            value: SecretValue::from(vec![0xff, 0]),
        }],
        working_folder: Some("/srv".into()),
        ports: vec!["mvm.more".into()],
    };
    let message = Message::Setup(Box::new(setup));
    let mut wire = Vec::new();
    message.encode(MACHINE, &mut wire).unwrap();
    let messages = read_all(&wire, Side::Host).unwrap();
    assert_eq!(messages, vec![(MACHINE, format!("{message:?}"))]);
}

#[test]
fn bodies_of_two_sessions_may_be_interleaved() {
    let wire = [
        raw(1, 16, 1, br#"{"argv":["a"],"env":[],"#),
        raw(2, 16, 1, br#"{"argv":["b"],"env":[],"#),
        raw(1, 16, 0, br#""stdin":true,"init":null}"#),
        raw(2, 16, 0, br#""stdin":false,"init":null}"#),
    ]
    .concat();
    let messages = read_all(&wire, Side::Host).unwrap();
    let sessions: Vec<u32> = messages.iter().map(|(session, _)| *session).collect();
    assert_eq!(sessions, [1, 2]);
    assert!(messages[0].1.contains("argv: [\"a\"]"), "{messages:?}");
}

#[test]
fn an_endless_body_is_refused() {
    let piece = raw(1, 16, 1, &vec![b' '; MAX_PAYLOAD]);
    let wire = piece.repeat(MAX_BODY / MAX_PAYLOAD + 1);
    let error = refusal(&wire, Side::Host);
    assert_eq!(
        error,
        format!("body of session 1 is longer than {MAX_BODY} bytes")
    );
}

#[test]
fn a_body_that_is_too_long_is_not_sent() {
    let exec = Exec {
        argv: vec![ByteString(vec![b'x'; MAX_BODY])],
        ..Exec::default()
    };
    let error = Message::Exec(Box::new(exec))
        .encode(1, &mut Vec::new())
        .unwrap_err();
    assert!(error.to_string().contains("can be passed on"), "{error}");
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let mut wire = Vec::new();
    let reason = "ä".repeat(MAX_REASON);
    Message::Failed(reason).encode(MACHINE, &mut wire).unwrap();
    assert_eq!(wire.len(), HEADER_SIZE + MAX_REASON);
    assert!(read_all(&wire, Side::Guest).is_ok());
}

#[test]
fn a_reason_does_not_reach_the_terminal_raw() {
    let messages = read_all(&raw(MACHINE, 4, 0, b"a\x1b[2Jb"), Side::Guest).unwrap();
    assert_eq!(messages[0].1, "Failed(\"a [2Jb\")");
}

#[test]
fn another_version_is_named() {
    let mut wire = Vec::new();
    let hello = Hello {
        side: Side::Guest,
        started_us: 1,
        sent_us: 2,
    };
    Message::Hello(hello).encode(MACHINE, &mut wire).unwrap();
    wire[HEADER_SIZE + 4] = 9;
    let error = refusal(&wire, Side::Guest);
    assert_eq!(
        error,
        "bad frame of kind 1: the other end speaks version 9 of the protocol, this program speaks 1"
    );
}

#[test]
fn frames_out_of_form_are_refused() {
    let cases: [(Vec<u8>, &str); 14] = [
        (raw(1, 99, 0, b""), "unexpected frame of kind 99"),
        (raw(1, 16, 0, b"{}"), "unexpected frame of kind 16"),
        (raw(1, 19, 0, b"x"), "unexpected frame of kind 19"),
        (raw(0, 20, 0, b"x"), "frame of kind 20 in session 0"),
        (raw(1, 3, 0, b""), "frame of kind 3 in session 1"),
        (raw(1, 20, 1, b"x"), "frame of kind 20 is cut in pieces"),
        (
            raw(1, 20, 2, b"x"),
            "frame of kind 20 has the reserved flags 0x2",
        ),
        (
            raw(1, 20, 0, b""),
            "bad frame of kind 20: data without a byte",
        ),
        (
            raw(1, 22, 0, b"\0"),
            "bad frame of kind 22: Stdin goes the other way",
        ),
        (
            raw(1, 22, 0, b"\x03"),
            "bad frame of kind 22: there is no stream 3",
        ),
        (
            raw(1, 23, 0, &[0; 5]),
            "bad frame of kind 23: credit of 0 bytes, 1 to 1048576 are allowed",
        ),
        (
            raw(1, 27, 0, &[1, 99]),
            "bad frame of kind 27: there is no exit 1, 99",
        ),
        (
            raw(1, 18, 0, &[1]),
            "bad frame of kind 18: 1 is no status of a failed start",
        ),
        (
            raw(1, 17, 0, &[0; 3]),
            "bad frame of kind 17: 3 bytes are too few",
        ),
    ];
    for (wire, expected) in cases {
        assert_eq!(refusal(&wire, Side::Guest), expected);
    }
}
