//! A stream of frames: each behind its length, four bytes in network order, as passt and QEMU's
//! `-netdev stream` have it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::frame::FRAME_BYTES_MAX;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// The longest frame that a card may announce; longer ones than the network carries are dropped.
/// What no card sends (virtio 1.2 §5.1.6.3.1) is the end of the stream.
const ANNOUNCED_MAX: usize = 65_550;

/// Bytes that wait for a machine that does not read: some sixteen of the largest frames. It loses
/// what comes then.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Bytes of an empty queue's allocation that are kept for the next frame.
const SPARE_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// What a stream says that nothing can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What has come of frames that are not complete.
#[derive(Debug, Default)]
pub struct Incoming(Vec<u8>);

impl Incoming {
    /// Copies what is left to the beginning of `room`, for more to be read behind it. Returns how
    /// many bytes that are: always fewer than [`Incoming::ROOM_BYTES`].
    pub fn restore(&mut self, room: &mut [u8]) -> usize {
        let left = self.0.len();
        if let Some(start) = room.get_mut(..left) {
            start.copy_from_slice(&self.0);
        }
        self.0.clear();
        left
    }

    /// Bytes that [`Incoming::restore`] needs at most.
    pub const ROOM_BYTES: usize = LENGTH_BYTES + ANNOUNCED_MAX;

    /// Calls `each` with every frame in `bytes`, and keeps what is left.
    ///
    /// # Errors
    /// No card sends such a stream.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Broken> {
        let mut rest = bytes;
        // Each round uses up a length at least.
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > ANNOUNCED_MAX {
                return Err(Broken);
            }
            let Some((frame, behind)) = behind.split_at_checked(length) else {
                break;
            };
            each(frame);
            rest = behind;
        }
        self.0.clear();
        self.0.extend_from_slice(rest);
        self.0.shrink_to(SPARE_BYTES_MAX);
        Ok(())
    }
}

/// What waits for a machine to read it.
#[derive(Debug, Default)]
pub struct Outgoing(VecDeque<u8>);

impl Outgoing {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends a frame, or as much of it as `stream` takes, and has the rest wait; `false` where it is
    /// dropped, as there is no room.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send(&mut self, stream: impl Write, frame: &[u8]) -> io::Result<bool> {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        if !self.is_empty() {
            let whole = frame.len().saturating_add(LENGTH_BYTES);
            let is_room = self.0.len().saturating_add(whole) <= QUEUE_BYTES_MAX;
            if is_room {
                self.0.extend(length);
                self.0.extend(frame);
            }
            return Ok(is_room);
        }
        let parts = [IoSlice::new(&length), IoSlice::new(frame)];
        let sent = write_some(stream, &parts)?;
        self.0.extend(length.iter().skip(sent));
        let of_frame = sent.saturating_sub(LENGTH_BYTES);
        self.0.extend(frame.get(of_frame..).unwrap_or_default());
        Ok(true)
    }

    /// Has bytes wait, whatever else does.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// Sends what waits, as far as `stream` takes it.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn flush(&mut self, stream: impl Write) -> io::Result<()> {
        let (front, back) = self.0.as_slices();
        let sent = write_some(stream, &[IoSlice::new(front), IoSlice::new(back)])?;
        self.0.drain(..sent.min(self.0.len()));
        if self.0.is_empty() {
            self.0.shrink_to(SPARE_BYTES_MAX);
        }
        Ok(())
    }
}

/// Bytes that `stream` takes now.
fn write_some(mut stream: impl Write, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    match stream.write_vectored(parts) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes, and no more.
    struct Takes(usize, Vec<u8>);

    impl Write for &mut Takes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = bytes.len().min(self.0);
            self.0 -= step;
            self.1.extend(&bytes[..step]);
            match step {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                step => Ok(step),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let one = |frame: &Vec<u8>| [&(frame.len() as u32).to_be_bytes()[..], frame].concat();
        frames.iter().flat_map(one).collect()
    }

    /// What comes out of a stream that is read in pieces of these sizes.
    fn read(stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, Broken> {
        let (mut incoming, mut frames) = (Incoming::default(), Vec::new());
        let mut room = vec![0; Incoming::ROOM_BYTES + stream.len()];
        let mut rest = stream;
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*piece));
            let left = incoming.restore(&mut room);
            room[left..left + now.len()].copy_from_slice(now);
            incoming.take(&room[..left + now.len()], |frame| {
                frames.push(frame.to_vec());
            })?;
            rest = later;
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_come_whole_however_they_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            pieces in prop::collection::vec(1..300usize, 1..20),
        ) {
            prop_assert_eq!(read(&framed(&frames), &pieces).unwrap(), frames);
        }

        #[test]
        fn frames_go_whole_however_the_machine_reads(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            takes in prop::collection::vec(0..300usize, 1..20),
        ) {
            let (mut outgoing, mut taken) = (Outgoing::default(), Vec::new());
            for (frame, takes) in frames.iter().zip(takes.iter().cycle()) {
                let mut stream = Takes(*takes, Vec::new());
                prop_assert!(outgoing.send(&mut stream, frame).unwrap());
                taken.extend(stream.1);
            }
            let mut stream = Takes(usize::MAX, Vec::new());
            while !outgoing.is_empty() {
                outgoing.flush(&mut stream).unwrap();
            }
            taken.extend(stream.1);
            prop_assert_eq!(taken, framed(&frames));
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let _ = read(&bytes, &[7, 4000]);
        }
    }

    #[test]
    fn a_length_that_no_card_sends_is_the_end() {
        let announce = |length: u32| read(&length.to_be_bytes(), &[4]);
        assert_eq!(announce(65_550), Ok(Vec::new()));
        for length in [65_551, 1 << 20, u32::MAX] {
            assert_eq!(announce(length), Err(Broken));
        }
    }

    #[test]
    fn a_machine_that_does_not_read_loses_frames_and_costs_no_more() {
        let mut outgoing = Outgoing::default();
        let frame = vec![7; FRAME_BYTES_MAX];
        let mut lost = 0;
        for _ in 0..100 {
            let mut stream = Takes(0, Vec::new());
            lost += u32::from(!outgoing.send(&mut stream, &frame).unwrap());
            assert!(outgoing.0.len() <= QUEUE_BYTES_MAX);
        }
        assert_eq!(lost, 100 - (QUEUE_BYTES_MAX / (FRAME_BYTES_MAX + 4)) as u32);
        // When it reads again, what it gets are whole frames.
        let mut stream = Takes(usize::MAX, Vec::new());
        while !outgoing.is_empty() {
            outgoing.flush(&mut stream).unwrap();
        }
        assert_eq!(stream.1.len() % (FRAME_BYTES_MAX + 4), 0);
        assert!(outgoing.0.capacity() <= 2 * SPARE_BYTES_MAX);
    }
}
