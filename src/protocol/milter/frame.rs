//! Milter frames: a 32-bit big-endian length, then that many bytes, of which the first is the command.
//!
//! The reader has two states. It lends whole frames out of the caller's bytes and copies only those that arrive in pieces;
//! it never allocates by the length field, only for bytes that have come. A length of 0 or above the limit is an error.

use super::Error;

/// A frame, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The command byte (`SMFIC_*` from the MTA, `SMFIR_*` from the filter).
    pub command: u8,
    /// What follows the command.
    pub data: &'a [u8],
}

/// Capacity kept for the next split frame; more is given back by [`FrameReader::shrink`].
const KEEP_BYTES: usize = 4 << 10;

/// Cuts bytes into frames.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    state: State,
    /// What has come of a frame that did not come in one piece. Valid in state `Data`, and until the next call after it.
    partial: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length { bytes: [u8; 4], have: usize },
    Data { length: usize },
}

const START: State = State::Length { bytes: [0; 4], have: 0 };

impl FrameReader {
    /// A reader that takes frames of up to `limit` bytes after the length field.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: START, partial: Vec::new() }
    }

    /// The next frame, or `None` when more bytes are needed; what is used is cut off the front of `input`.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'s>>, Error> {
        if let State::Length { mut bytes, mut have } = self.state {
            let (head, rest) = input.split_at(input.len().min(4 - have));
            bytes[have..have + head.len()].copy_from_slice(head);
            have += head.len();
            *input = rest;
            if have < 4 {
                self.state = State::Length { bytes, have };
                return Ok(None);
            }
            let length = u32::from_be_bytes(bytes) as usize;
            if length == 0 {
                return Err(Error::FrameEmpty);
            }
            if length > self.limit {
                return Err(Error::FrameTooLong { bytes: length, limit: self.limit });
            }
            self.partial.clear();
            self.state = State::Data { length };
        }
        let State::Data { length } = self.state else { return Ok(None) };
        let (head, rest) = input.split_at(input.len().min(length - self.partial.len()));
        *input = rest;
        if head.len() == length {
            self.state = START;
            return Ok(split(head));
        }
        self.partial.extend_from_slice(head);
        if self.partial.len() < length {
            return Ok(None);
        }
        self.state = START;
        Ok(split(&self.partial))
    }

    /// Whether part of a frame has come and its end has not.
    pub fn is_amid(&self) -> bool {
        self.state != START
    }

    /// Gives memory back that a large frame took.
    pub fn shrink(&mut self) {
        if !self.is_amid() && self.partial.capacity() > KEEP_BYTES {
            self.partial = Vec::new();
        }
    }
}

fn split(whole: &[u8]) -> Option<Frame<'_>> {
    whole.split_first().map(|(command, data)| Frame { command: *command, data })
}

/// Appends a frame whose data is `parts`, one after the other.
pub fn write_frame(out: &mut Vec<u8>, command: u8, parts: &[&[u8]]) {
    let data: usize = parts.iter().map(|part| part.len()).sum();
    // Replies are composed here and far below 4 GiB: texts and header values have bounds of their own.
    let length = u32::try_from(data + 1).unwrap_or(u32::MAX);
    out.reserve(data + 5);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(command);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pieces: &[&[u8]], limit: usize) -> Result<Vec<(u8, Vec<u8>)>, Error> {
        let mut reader = FrameReader::new(limit);
        let mut frames = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(frame) = reader.next(&mut input)? {
                frames.push((frame.command, frame.data.to_vec()));
            }
            assert!(input.is_empty());
        }
        Ok(frames)
    }

    #[test]
    fn split_at_every_byte() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b'A', &[]);
        write_frame(&mut bytes, b'B', &[b"some ", b"text"]);
        write_frame(&mut bytes, b'E', &[b"x"]);
        let expected = vec![(b'A', vec![]), (b'B', b"some text".to_vec()), (b'E', b"x".to_vec())];
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(read_all(&pieces, 100).unwrap(), expected, "{first} {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read_all(&single, 100).unwrap(), expected);
    }

    #[test]
    fn length_at_the_edge() {
        assert_eq!(read_all(&[&[0, 0, 0, 0]], 100), Err(Error::FrameEmpty));
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b'B', &[&[7; 99]]);
        assert_eq!(read_all(&[&bytes], 100).unwrap().len(), 1);
        assert_eq!(read_all(&[&bytes], 99), Err(Error::FrameTooLong { bytes: 100, limit: 99 }));
        assert!(matches!(read_all(&[b"EHLO x"], 1 << 20), Err(Error::FrameTooLong { .. })));
    }

    #[test]
    fn memory_follows_the_bytes_not_the_length_field() {
        let mut reader = FrameReader::new(1 << 20);
        let mut input: &[u8] = &[0, 0x0f, 0xff, 0xff, b'B', 1, 2, 3];
        assert_eq!(reader.next(&mut input), Ok(None));
        assert!(reader.is_amid());
        assert!(reader.partial.capacity() < 64, "{}", reader.partial.capacity());
        let mut rest: &[u8] = &vec![0; (1 << 20) - 5];
        assert_eq!(reader.next(&mut rest).unwrap().unwrap().data.len(), 0x0f_fffe);
        reader.shrink();
        assert_eq!(reader.partial.capacity(), 0);
    }
}
