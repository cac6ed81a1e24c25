use super::*;
use proptest::prelude::*;
use std::io::Cursor;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader, FrameSocket};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A frame of a client with an all-zero mask.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = unmasked(first, payload);
    bytes[1] |= MASKED;
    let at = bytes.len() - payload.len();
    bytes.splice(at..at, [0; 4]);
    bytes
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(short as u8),
        middle @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn violation(sender: Sender, reserved: u8, bytes: &[u8]) -> Option<&'static str> {
    Frames::new(sender, reserved).feed(bytes, false).violation.map(|violation| violation.0)
}

#[test]
fn data_frames_are_told_from_control_frames() {
    let mut frames = Frames::new(Sender::Client, 0);
    let ping = masked(0x89, b"are you there");
    let chunk = frames.feed(&ping, false);
    assert_eq!((chunk.data_frames, chunk.data, chunk.used), (0, false, ping.len()));
    let text = masked(0x81, b"hello");
    let chunk = frames.feed(&text, false);
    assert_eq!((chunk.data_frames, chunk.data, chunk.used), (1, true, text.len()));
    assert!(!frames.closed());
    frames.feed(&masked(0x88, &[3, 232]), false);
    assert!(frames.closed());
}

#[test]
fn the_rest_of_a_long_frame_is_data_too() {
    let bytes = masked(0x82, &[7; 70_000]);
    let mut frames = Frames::new(Sender::Client, 0);
    assert_eq!(frames.feed(&bytes[..20], false).data_frames, 1);
    let rest = frames.feed(&bytes[20..], false);
    assert_eq!((rest.data_frames, rest.data), (0, true));
    assert!(frames.at_boundary());
}

#[test]
fn a_payload_of_63_bits_is_awaited_without_being_kept() {
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(u64::MAX >> 1).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    let mut frames = Frames::new(Sender::Client, 0);
    assert_eq!(frames.feed(&head, false).violation, None);
    assert_eq!(frames.feed(&[1; 1000], false).used, 1000);
    assert!(!frames.at_boundary());
}

#[test]
fn every_rule_of_framing_is_held() {
    use Sender::{Client, Workspace};
    for (sender, reserved, bytes, expected) in [
        (Client, 0, unmasked(0x81, b"x"), Some("a wrong masking")),
        (Workspace, 0, masked(0x81, b"x"), Some("a wrong masking")),
        (Client, 0, masked(0x83, b"x"), Some("a reserved opcode")),
        (Client, 0, masked(0x8b, b"x"), Some("a reserved opcode")),
        (Client, 0, masked(0x09, b"x"), Some("a control frame in pieces")),
        (Client, 0, masked(0x89, &[0; 126]), Some("a control frame that is too long")),
        (Client, 0, masked(0x89, &[0; 125]), None),
        (Client, 0, masked(0x80, b"x"), Some("a continuation of nothing")),
        (Client, 0, [masked(0x01, b"x"), masked(0x81, b"y")].concat(), Some("a new message inside another")),
        (Client, 0, [masked(0x01, b"x"), masked(0x89, b""), masked(0x80, b"y")].concat(), None),
        (Client, 0, masked(0xc1, b"x"), Some("a reserved bit that no extension uses")),
        (Client, RSV1, masked(0xc1, b"x"), None),
        (Client, RSV1, masked(0xa1, b"x"), Some("a reserved bit that no extension uses")),
        (Client, RSV1, masked(0xc9, b"x"), Some("a reserved bit that no extension uses")),
        (Client, RESERVED, masked(0xf1, b"x"), None),
        (Client, 0, [&[0x82, 0xff][..], &[0x80; 8], &[0; 4]].concat(), Some("a length of more than 63 bits")),
    ] {
        assert_eq!(violation(sender, reserved, &bytes), expected, "{sender:?} {bytes:x?}");
    }
}

#[test]
fn only_negotiated_extensions_may_use_reserved_bits() {
    assert_eq!(reserved_bits([].into_iter()), 0);
    assert_eq!(reserved_bits(["permessage-deflate"].into_iter()), RSV1);
    assert_eq!(reserved_bits(["x-other"].into_iter()), RESERVED);
    assert_eq!(reserved_bits(["permessage-deflate", "x-other"].into_iter()), RESERVED);
}

#[test]
fn what_came_before_a_broken_frame_goes_on_and_nothing_of_it_does() {
    let good = unmasked(0x81, b"good");
    let bytes = [good.clone(), unmasked(0x83, b"bad")].concat();
    let mut frames = Frames::new(Sender::Workspace, 0);
    let chunk = frames.feed(&bytes, false);
    assert_eq!(chunk.used, good.len());
    assert!(chunk.violation.is_some() && frames.at_boundary());
    let mut frames = Frames::new(Sender::Workspace, 0);
    assert_eq!(frames.feed(&[0x81], false).used, 1);
    assert_eq!(frames.feed(&[0x85], false).used, 0);
    assert!(!frames.at_boundary(), "half a head of it is on its way already");
}

#[test]
fn nothing_is_read_behind_a_boundary_that_is_wanted() {
    let first = unmasked(0x82, &[1; 200]);
    let bytes = [first.clone(), unmasked(0x82, &[2; 200])].concat();
    let mut frames = Frames::new(Sender::Workspace, 0);
    frames.feed(&bytes[..50], false);
    let chunk = frames.feed(&bytes[50..], true);
    assert_eq!(chunk.used, first.len() - 50);
    assert!(frames.at_boundary());
    assert_eq!(frames.feed(&bytes, true).used, 0);
}

#[test]
fn a_close_frame_is_one_that_clients_understand() {
    let mut socket = WebSocket::from_partially_read(
        Cursor::new(Vec::new()),
        close_frame(4503, "stopped"),
        Role::Client,
        None,
    );
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("not a close") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4503, "stopped"));
    assert_eq!(close_frame(1000, &"ä".repeat(200)).len(), 2 + 2 + 122);
}

/// What all chunks of a stream contained together.
fn totals(bytes: &[u8], cuts: &[usize]) -> (u32, Option<Violation>, bool) {
    let mut frames = Frames::new(Sender::Client, 0);
    let mut data_frames = 0;
    let mut at = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let end = (at + cut).min(bytes.len());
        let chunk = frames.feed(&bytes[at..end], false);
        data_frames += chunk.data_frames;
        if chunk.violation.is_some() {
            return (data_frames, chunk.violation, false);
        }
        at = end;
    }
    (data_frames, None, frames.at_boundary())
}

/// A stream of a client's frames that keep the rules.
fn stream() -> impl Strategy<Value = Vec<(OpCode, bool, Vec<u8>)>> {
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    let message = prop::collection::vec((payload, any::<bool>()), 1..4);
    prop::collection::vec(message, 1..6).prop_map(|messages| {
        let mut frames = Vec::new();
        for pieces in messages {
            let last = pieces.len() - 1;
            for (at, (payload, ping_before)) in pieces.into_iter().enumerate() {
                if ping_before {
                    frames.push((
                        OpCode::Control(Control::Ping),
                        true,
                        payload[..payload.len().min(125)].to_vec(),
                    ));
                }
                let data = if at == 0 { Data::Binary } else { Data::Continue };
                frames.push((OpCode::Data(data), at == last, payload));
            }
        }
        frames
    })
}

fn encode(frames: &[(OpCode, bool, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, is_final, payload) in frames {
        let header = FrameHeader {
            is_final: *is_final,
            opcode: *code,
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::default()
        };
        Frame::from_payload(header, payload.clone().into()).format(&mut bytes).unwrap();
    }
    bytes
}

proptest! {
    #[test]
    fn any_split_into_chunks_gives_the_same_counts(
        frames in stream(),
        cuts in prop::collection::vec(0_usize..40, 0..200),
    ) {
        let bytes = encode(&frames);
        let expected = frames.iter().filter(|(code, ..)| matches!(code, OpCode::Data(_))).count() as u32;
        prop_assert_eq!(totals(&bytes, &[]), (expected, None, true));
        prop_assert_eq!(totals(&bytes, &cuts), (expected, None, true));
    }

    #[test]
    fn tungstenite_counts_the_same_frames(frames in stream()) {
        let bytes = encode(&frames);
        let mut socket = FrameSocket::from_partially_read(Cursor::new(Vec::new()), bytes.clone());
        let mut data_frames = 0;
        while let Ok(Some(frame)) = socket.read(None) {
            data_frames += u32::from(matches!(frame.header().opcode, OpCode::Data(_)));
        }
        prop_assert_eq!(totals(&bytes, &[]).0, data_frames);
    }

    #[test]
    fn tungstenite_finds_the_same_streams_broken(
        frames in stream(),
        change in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cuts in prop::collection::vec(0_usize..40, 0..200),
    ) {
        let mut bytes = encode(&frames);
        let at = change.index(bytes.len());
        bytes[at] = value;
        let (_, ours, _) = totals(&bytes, &[]);
        prop_assert_eq!(totals(&bytes, &cuts).1, ours, "the split does not matter");
        if let Some(theirs) = is_broken_for_tungstenite(&bytes) {
            prop_assert_eq!(ours.is_some(), theirs, "{:?}", ours);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..500), reserved in any::<u8>()) {
        for sender in [Sender::Client, Sender::Workspace] {
            let mut frames = Frames::new(sender, reserved & RESERVED);
            let chunk = frames.feed(&bytes, false);
            prop_assert!(chunk.used <= bytes.len());
        }
    }
}

/// More than any frame of these tests holds: tungstenite makes room at once for whatever a head announces.
const ANNOUNCED_MAX: usize = 1 << 20;

/// Whether tungstenite finds an error of framing; `None` if it stopped for a reason that is none of ours: a text
/// that is not UTF-8, a Close, or a size limit.
fn is_broken_for_tungstenite(bytes: &[u8]) -> Option<bool> {
    let config = WebSocketConfig::default().max_frame_size(Some(ANNOUNCED_MAX)).max_message_size(None);
    let input = Cursor::new(Vec::new());
    let mut socket = WebSocket::from_partially_read(input, bytes.to_vec(), Role::Server, Some(config));
    loop {
        match socket.read() {
            Ok(Message::Close(_)) => return None,
            Ok(_) => {}
            // It judges whole frames, we their heads: of a last one that is not whole it can say nothing.
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return is_whole(bytes).then_some(false);
            }
            Err(Error::Protocol(ProtocolError::InvalidCloseSequence)) => return None,
            Err(Error::Protocol(_)) => return Some(true),
            Err(_) => return None,
        }
    }
}

/// Whether a stream ends with a frame's end.
fn is_whole(bytes: &[u8]) -> bool {
    let mut socket = FrameSocket::from_partially_read(Cursor::new(Vec::new()), bytes.to_vec());
    while let Ok(Some(_)) = socket.read(Some(ANNOUNCED_MAX)) {}
    socket.into_inner().1.is_empty()
}
