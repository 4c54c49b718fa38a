//! Frames cut out of a stream, and bad ones refused.
#![forbid(unsafe_code)]

use bytes::BytesMut;
use ringlog_protocol::limits::HEADER_BYTES;
use ringlog_protocol::messages::*;
use ringlog_protocol::{
    EncodeError, ErrorCode, ErrorReply, FrameError, Kind, encode, encode_error, encode_into, frame_len,
    limits, split_frame, try_encode,
};

fn header(length: u32, kind: u8, flags: u8, body_words: u16) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = kind;
    bytes[5] = flags;
    bytes[6..8].copy_from_slice(&body_words.to_le_bytes());
    bytes
}

fn refusal(bytes: &[u8]) -> FrameError {
    let error = split_frame(bytes).expect_err("this is no frame");
    assert_eq!(frame_len(bytes), Err(error.clone()), "both ways to look at a header agree");
    error
}

#[test]
fn a_frame_is_there_only_when_its_last_byte_is() {
    let frame = encode(Kind::Credit, 1, 2, 0, &Credit { bytes: 3 });
    for end in 0..frame.len() {
        assert_eq!(split_frame(&frame[..end]), Ok(None), "{end} bytes");
        let known = if end < HEADER_BYTES { None } else { Some(frame.len()) };
        assert_eq!(frame_len(&frame[..end]), Ok(known), "{end} bytes");
    }
    assert!(split_frame(&frame).expect("valid").is_some());
}

#[test]
fn frames_written_one_behind_the_other_are_cut_apart_again() {
    let mut out = BytesMut::new();
    for request in 1..=3 {
        let body = Produced { base_offset: i64::from(request), start_offset: 0 };
        encode_into(&mut out, Kind::Produced, request, 9, 0, &body, 0);
        encode_into(&mut out, Kind::CloseReply, request, 9, 0, &(), 0);
    }
    let mut rest = &out[..];
    for request in 1..=3 {
        let (frame, taken) = split_frame(rest).expect("valid").expect("whole");
        let produced = frame.access::<Produced>().expect("valid");
        assert_eq!(produced.base_offset.to_native(), i64::from(request));
        rest = &rest[taken..];
        let (frame, taken) = split_frame(rest).expect("valid").expect("whole");
        assert_eq!((frame.header.kind, frame.header.request), (Kind::CloseReply, request));
        rest = &rest[taken..];
    }
    assert!(rest.is_empty());
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_header() {
    let length = (limits::MAX_FRAME_BYTES - HEADER_BYTES + 1) as u32;
    assert_eq!(refusal(&header(length, 0x93, 0, 2)), FrameError::TooLarge { length });
    assert_eq!(refusal(&header(u32::MAX, 0x93, 0, 2)), FrameError::TooLarge { length: u32::MAX });
}

#[test]
fn a_frame_of_the_largest_size_is_taken() {
    let length = limits::MAX_FRAME_BYTES - HEADER_BYTES;
    let bytes = header(length as u32, Kind::Fetched as u8, 0, 2);
    assert_eq!(frame_len(&bytes), Ok(Some(limits::MAX_FRAME_BYTES)));
}

#[test]
fn a_frame_of_length_zero_is_a_frame_without_a_body() {
    let bytes = header(0, Kind::Ping as u8, 0, 0);
    assert_eq!(frame_len(&bytes), Ok(Some(HEADER_BYTES)));
    let bytes = header(0, Kind::Fetch as u8, 0, 0);
    let (frame, _) = split_frame(&bytes).expect("a header like any").expect("whole");
    assert!(matches!(frame.message::<Fetch>(), Err(FrameError::Body { kind: Kind::Fetch, .. })));
}

#[test]
fn an_unknown_kind_is_refused() {
    assert_eq!(refusal(&header(0, 0x42, 0, 0)), FrameError::UnknownKind { kind: 0x42 });
    assert_eq!(refusal(&header(0, 0x00, 0, 0)), FrameError::UnknownKind { kind: 0 });
}

#[test]
fn flags_without_a_meaning_are_refused() {
    assert_eq!(
        refusal(&header(0, Kind::Ping as u8, 1, 0)),
        FrameError::UnknownFlags { kind: Kind::Ping, flags: 1 }
    );
}

#[test]
fn a_body_longer_than_its_frame_is_refused() {
    assert!(matches!(
        refusal(&header(8, Kind::Open as u8, 0, 2)),
        FrameError::BodyLongerThanFrame { kind: Kind::Open, body: 16, length: 8 }
    ));
}

#[test]
fn an_all_body_frame_has_whole_words() {
    assert!(matches!(
        refusal(&header(9, Kind::MetadataReply as u8, 0, u16::MAX)),
        FrameError::BodyNotWhole { kind: Kind::MetadataReply, body: 9 }
    ));
}

#[test]
fn a_body_over_the_limit_of_its_kind_is_refused() {
    let error = refusal(&header(4096, Kind::Hello as u8, 0, 512));
    assert!(matches!(error, FrameError::BodyTooLarge { kind: Kind::Hello, body: 4096, .. }));
    assert_eq!(error.code(), ErrorCode::FrameTooLarge);
    // Not even a request can use the long form to get past its limit.
    let length = limits::MAX_BODY_BYTES as u32 + 8;
    assert!(matches!(
        refusal(&header(length, Kind::Metadata as u8, 0, u16::MAX)),
        FrameError::BodyTooLarge { kind: Kind::Metadata, .. }
    ));
}

#[test]
fn a_payload_where_none_belongs_is_refused() {
    assert!(matches!(
        refusal(&header(8, Kind::Ping as u8, 0, 0)),
        FrameError::PayloadTooLarge { kind: Kind::Ping, payload: 8, limit: 0 }
    ));
}

#[test]
fn a_batch_over_the_limit_is_refused_from_its_header() {
    let length = limits::MAX_BATCH_BYTES as u32 + 1;
    assert!(matches!(
        refusal(&header(length, Kind::Produce as u8, 2, 0)),
        FrameError::PayloadTooLarge { kind: Kind::Produce, .. }
    ));
}

#[test]
fn a_body_of_the_wrong_message_is_refused() {
    let frame = encode(Kind::Unsubscribe, 1, 2, 0, &Unsubscribe { subscription: 3 });
    let (frame, _) = split_frame(&frame).expect("valid").expect("whole");
    let error = frame.message::<Credit>().expect_err("not a credit");
    assert_eq!(error, FrameError::WrongKind { kind: Kind::Unsubscribe, message: "Credit" });
}

#[test]
fn an_unknown_variant_is_refused() {
    let mut bytes = encode(Kind::ListOffsets, 1, 2, 0, &ListOffsets { at: Position::End });
    let root = bytes.len() - 9;
    bytes[root] = 4;
    let (frame, _) = split_frame(&bytes).expect("valid").expect("whole");
    let error = frame.message::<ListOffsets>().expect_err("four is no position");
    assert!(matches!(error, FrameError::Body { kind: Kind::ListOffsets, .. }));
    assert_eq!(error.code(), ErrorCode::MalformedFrame);
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut bytes =
        try_encode(Kind::Open, 1, 0, 0, &Open { topic: "x".repeat(20), partition: 0 }).expect("small");
    let at = bytes.windows(20).position(|window| window == [b'x'; 20]).expect("the name is there");
    bytes[at + 5] = 0xff;
    let (frame, _) = split_frame(&bytes).expect("valid").expect("whole");
    assert!(matches!(frame.message::<Open>(), Err(FrameError::Body { .. })));
}

#[test]
fn a_list_longer_than_its_body_is_refused_before_anything_is_made_of_it() {
    let request = MetadataRequest { topics: Some(vec!["a".into()]) };
    let mut bytes = try_encode(Kind::Metadata, 1, 0, 0, &request).expect("small");
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&u32::MAX.to_le_bytes());
    let (frame, _) = split_frame(&bytes).expect("valid").expect("whole");
    assert!(matches!(frame.message::<MetadataRequest>(), Err(FrameError::Body { .. })));
}

#[test]
fn two_lists_cannot_share_their_elements() {
    // Otherwise a small body could be made to cost a large multiple of itself in memory.
    let name = "a name that is not inline".to_owned();
    let request = MetadataRequest { topics: Some(vec![name.clone(), name.clone()]) };
    let mut bytes = try_encode(Kind::Metadata, 1, 0, 0, &request).expect("small");
    // The two strings stand right before the root of 9 bytes: let the second refer to what the first owns.
    let (first, second) = (bytes.len() - 9 - 16, bytes.len() - 9 - 8);
    let offset_of = |at: usize| i32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes"));
    assert_eq!(
        offset_of(second) - offset_of(first),
        name.len() as i32 - 8,
        "the strings are where this test thinks"
    );
    let shared = offset_of(first) - 8;
    bytes[second + 4..second + 8].copy_from_slice(&shared.to_le_bytes());
    let (frame, _) = split_frame(&bytes).expect("valid").expect("whole");
    assert!(matches!(frame.message::<MetadataRequest>(), Err(FrameError::Body { .. })));
}

#[test]
fn a_message_over_its_limit_is_not_sent() {
    let open = Open { topic: "x".repeat(limits::MAX_TOPIC_BODY_BYTES), partition: 0 };
    let error = try_encode(Kind::Open, 1, 0, 0, &open).expect_err("too long");
    assert!(matches!(
        error,
        EncodeError::BodyTooLarge { kind: Kind::Open, limit: limits::MAX_TOPIC_BODY_BYTES, .. }
    ));
}

#[test]
fn an_error_with_a_long_message_is_cut_at_a_character() {
    let long = "é".repeat(limits::MAX_ERROR_MESSAGE);
    let bytes = encode_error(7, 0, ErrorCode::Overloaded, &format!("x{long}"));
    let (frame, _) = split_frame(&bytes).expect("valid").expect("whole");
    let reply = frame.message::<ErrorReply>().expect("valid");
    assert_eq!(reply.message.len(), limits::MAX_ERROR_MESSAGE - 1);
    assert!(reply.retryable);
    assert_eq!(reply.error_code(), ErrorCode::Overloaded);
}

#[test]
fn an_error_made_by_hand_with_an_endless_message_is_refused() {
    let reply = ErrorReply { code: 50, retryable: false, message: "x".repeat(4096) };
    assert!(try_encode(Kind::Error, 1, 0, 0, &reply).is_err());
}
