//! Tells WebSocket frames apart while their bytes pass (RFC 6455 §5), however they are cut into chunks.
//!
//! Payloads are neither unmasked nor kept: the parser holds the head of one frame and what is left of its payload.

/// Who sends the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The client: its frames are masked.
    Client,
    /// The workspace: its frames are not.
    Workspace,
}

/// A rule of the protocol that a frame broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// The parser of one direction.
#[derive(Debug)]
pub struct Frames {
    sender: Sender,
    /// Which reserved bits the negotiated extensions use.
    reserved: u8,
    /// The head of the frame so far, without its mask.
    head: [u8; 10],
    /// How many bytes of the head came, mask included; 0 = none.
    have: u8,
    /// How many bytes of the payload are still to come.
    left: u64,
    /// Whether the frame carries data, or is part of a message that does.
    data: bool,
    /// Whether a message was begun and not ended.
    in_message: bool,
    closed: bool,
}

/// What a chunk contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chunk {
    /// How many of its bytes may go on: all, unless a rule was broken or a boundary was wanted.
    pub used: usize,
    /// How many data frames began in it.
    pub data_frames: u32,
    /// Whether any byte of it belongs to a data frame.
    pub data: bool,
    /// The rule that was broken, after `used`.
    pub violation: Option<Violation>,
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The bit that permessage-deflate uses, on data frames only (RFC 7692 §6).
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_MAX: u8 = 125;

/// Which reserved bits a list of negotiated extensions may use.
pub fn reserved_bits<'a>(mut extensions: impl Iterator<Item = &'a str>) -> u8 {
    let deflate = |name: &str| name.eq_ignore_ascii_case("permessage-deflate");
    match extensions.next() {
        None => 0,
        Some(first) if deflate(first) && extensions.next().is_none() => RSV1,
        // What an extension that we do not know does with them is not for us to judge.
        Some(_) => RESERVED,
    }
}

impl Frames {
    /// Before the first frame. `reserved` is what [`reserved_bits`] gave.
    pub fn new(sender: Sender, reserved: u8) -> Self {
        Self {
            sender,
            reserved,
            head: [0; 10],
            have: 0,
            left: 0,
            data: false,
            in_message: false,
            closed: false,
        }
    }

    /// Whether the last frame has ended, so that another may be put behind it.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a Close frame came.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Reads the next bytes; with `to_boundary`, none behind the end of a frame.
    ///
    /// After a violation the parser is at a boundary if the broken frame began in this chunk; its bytes and what
    /// follows are not `used` then.
    pub fn feed(&mut self, bytes: &[u8], to_boundary: bool) -> Chunk {
        let mut chunk = Chunk::default();
        let mut boundary = self.at_boundary().then_some(0);
        while chunk.used < bytes.len() && !(to_boundary && self.at_boundary()) {
            match self.step(&bytes[chunk.used..], &mut chunk) {
                Ok(used) => chunk.used += used,
                Err(violation) => {
                    chunk.violation = Some(violation);
                    chunk.used = boundary.unwrap_or(0);
                    (self.have, self.left) = (u8::from(boundary.is_none()), 0);
                    return chunk;
                }
            }
            if self.at_boundary() {
                boundary = Some(chunk.used);
            }
        }
        chunk
    }

    /// Takes bytes of one payload or one byte of a head; tells how many.
    fn step(&mut self, bytes: &[u8], chunk: &mut Chunk) -> Result<usize, Violation> {
        if self.left > 0 {
            let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= here as u64;
            chunk.data |= self.data;
            return Ok(here);
        }
        if let Some(place) = self.head.get_mut(usize::from(self.have)) {
            *place = bytes[0];
        }
        self.have += 1;
        match self.have {
            1 => self.check_opcode()?,
            2 => self.check_length()?,
            _ => {}
        }
        if self.have > 1 && self.have == self.head_length() {
            self.begin_payload(chunk)?;
        }
        Ok(1)
    }

    fn opcode(&self) -> u8 {
        self.head[0] & 0x0f
    }

    fn is_control(&self) -> bool {
        self.opcode() & 0x08 != 0
    }

    fn check_opcode(&mut self) -> Result<(), Violation> {
        let is_final = self.head[0] & FIN != 0;
        if !matches!(self.opcode(), 0x0..=0x2 | 0x8..=0xa) {
            return Err(Violation("a reserved opcode"));
        }
        // RFC 7692 leaves the bit of control frames alone; other extensions may do as they like.
        let allowed = if self.is_control() && self.reserved == RSV1 { 0 } else { self.reserved };
        if self.head[0] & RESERVED & !allowed != 0 {
            return Err(Violation("a reserved bit that no extension uses"));
        }
        if self.is_control() {
            return if is_final { Ok(()) } else { Err(Violation("a control frame in pieces")) };
        }
        match (self.opcode() == CONTINUATION, self.in_message) {
            (true, false) => return Err(Violation("a continuation of nothing")),
            (false, true) => return Err(Violation("a new message inside another")),
            _ => self.in_message = !is_final,
        }
        Ok(())
    }

    fn check_length(&self) -> Result<(), Violation> {
        let is_masked = self.head[1] & MASKED != 0;
        if is_masked != (self.sender == Sender::Client) {
            return Err(Violation("a wrong masking"));
        }
        if self.is_control() && self.head[1] & !MASKED > CONTROL_MAX {
            return Err(Violation("a control frame that is too long"));
        }
        Ok(())
    }

    /// How long the head is, mask included; known from its second byte on.
    fn head_length(&self) -> u8 {
        let mask = if self.head[1] & MASKED != 0 { 4 } else { 0 };
        match self.head[1] & !MASKED {
            126 => 4 + mask,
            127 => 10 + mask,
            _ => 2 + mask,
        }
    }

    fn begin_payload(&mut self, chunk: &mut Chunk) -> Result<(), Violation> {
        let [_, length, a, b, c, d, e, f, g, h] = self.head;
        self.left = match length & !MASKED {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        if self.left >> 63 != 0 {
            return Err(Violation("a length of more than 63 bits"));
        }
        self.have = 0;
        self.data = !self.is_control();
        self.closed |= self.opcode() == CLOSE;
        chunk.data_frames += u32::from(self.data);
        chunk.data |= self.data;
        Ok(())
    }
}

/// A Close frame as a server sends it (RFC 6455 §5.5.1). The reason is short enough for a control frame.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(usize::from(CONTROL_MAX) - 2)];
    let length = u8::try_from(reason.len() + 2).expect("a reason is cut to fit");
    let mut frame = vec![FIN | CLOSE, length];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame
}

#[cfg(test)]
mod tests;
