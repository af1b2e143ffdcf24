//! Patience: a network that most machines never use is not started before one does.
//!
//! Linux has something to say on each new link, which nobody answers here: that it joins multicast
//! groups, and whether there are routers. All else is for somebody to hear.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Bytes that are looked at in one go: more than all of what is said on a new link.
const LOOK_BYTES: usize = 16 << 10;

/// Bytes of a frame's length in the stream, in network order.
const LENGTH_BYTES: usize = 4;
/// Of an Ethernet header (IEEE 802.3): where the type of what it carries is, and where that begins.
const TYPE: usize = 12;
const ETHERNET_BYTES: usize = 14;
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Where an IPv6 header has its addresses (RFC 8200, section 3).
const SOURCE: usize = ETHERNET_BYTES + 8;
const DESTINATION: usize = SOURCE + 16;
const IPV6_END: usize = DESTINATION + 16;

/// All routers (RFC 4291, section 2.7.1), and all that listen to who joins a group (RFC 3810, section
/// 5.2.14), of this link.
const ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const GROUPS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];
/// Who asks whether an address is taken has none yet (RFC 4862, section 5.4.2).
const NOBODY: [u8; 16] = [0; 16];

/// Waits until a guest says something on `socket`, a stream of frames, that is for somebody to hear,
/// and leaves that there. What comes before is taken. False when the stream ends.
///
/// # Errors
/// The socket fails.
pub fn until_it_speaks(mut socket: &UnixStream) -> io::Result<bool> {
    let mut bytes = vec![0; LOOK_BYTES];
    loop {
        let count = match recv(socket, &mut bytes[..], RecvFlags::PEEK) {
            Ok((_, count)) => count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let seen = bytes.get_mut(..count).unwrap_or_default();
        let idle = idle_bytes(seen);
        socket.read_exact(seen.get_mut(..idle).unwrap_or_default())?;
        if count == 0 || idle < count {
            return Ok(count > 0);
        }
    }
}

/// How many bytes at the beginning are whole frames that nobody answers.
fn idle_bytes(stream: &[u8]) -> usize {
    let mut rest = stream;
    // Each round uses up a length at least.
    while let Some((length, behind)) = rest.split_first_chunk::<LENGTH_BYTES>()
        && let Some((frame, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)
        && is_idle(frame)
    {
        rest = behind;
    }
    stream.len().saturating_sub(rest.len())
}

fn is_idle(frame: &[u8]) -> bool {
    let is_ipv6 = frame.get(TYPE..ETHERNET_BYTES) == Some(&IPV6);
    let source = frame.get(SOURCE..DESTINATION);
    let destination = frame.get(DESTINATION..IPV6_END);
    let to_nobody = [ROUTERS, GROUPS]
        .iter()
        .any(|group| destination == Some(group));
    is_ipv6 && (to_nobody || source == Some(&NOBODY))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A frame behind its length.
    fn frame(kind: [u8; 2], source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_BYTES + 40];
        frame[TYPE..ETHERNET_BYTES].copy_from_slice(&kind);
        frame[SOURCE..DESTINATION].copy_from_slice(&source);
        frame[DESTINATION..IPV6_END].copy_from_slice(&destination);
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        [&length[..], &frame].concat()
    }

    /// What a new link of Linux says.
    fn idle() -> Vec<u8> {
        let mut link_local = [0; 16];
        link_local[..2].copy_from_slice(&[0xfe, 0x80]);
        [
            frame(IPV6, NOBODY, GROUPS),
            frame(IPV6, NOBODY, [0xff; 16]),
            frame(IPV6, link_local, ROUTERS),
            frame(IPV6, link_local, GROUPS),
        ]
        .concat()
    }

    fn question() -> Vec<u8> {
        frame([8, 6], [1; 16], [2; 16])
    }

    #[test]
    fn what_a_new_link_says_is_taken_and_what_follows_is_left() {
        let (mut guest, socket) = UnixStream::pair().unwrap();
        guest
            .write_all(&[idle(), question(), idle()].concat())
            .unwrap();
        assert!(until_it_speaks(&socket).unwrap());
        drop(guest);
        let mut left = Vec::new();
        (&socket).read_to_end(&mut left).unwrap();
        assert_eq!(left, [question(), idle()].concat());
    }

    #[test]
    fn it_ends_with_a_machine_that_says_nothing_else() {
        let (mut guest, socket) = UnixStream::pair().unwrap();
        guest.write_all(&idle()).unwrap();
        drop(guest);
        assert!(!until_it_speaks(&socket).unwrap());
    }

    #[test]
    fn what_is_no_whole_frame_is_somebody_elses_to_judge() {
        let cut = &idle()[..20];
        let empty = [0; LENGTH_BYTES];
        let endless = [&[0xff; LENGTH_BYTES], &idle()[..]].concat();
        for odd in [cut, &cut[..2], &empty, &endless] {
            let (mut guest, socket) = UnixStream::pair().unwrap();
            guest.write_all(&[&idle(), odd].concat()).unwrap();
            assert!(until_it_speaks(&socket).unwrap());
            drop(guest);
            let mut left = Vec::new();
            (&socket).read_to_end(&mut left).unwrap();
            assert_eq!(left, odd);
        }
    }
}
