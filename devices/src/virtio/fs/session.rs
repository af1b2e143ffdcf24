//! A session: what INIT settled, until DESTROY or a reset.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::reply::{Failure, Sink};
use super::request::Request;
use super::window::UNIT_SHIFT;
use super::wire::{Flags, InitIn, InitInExt, InitOut, MAJOR, MINOR, MINOR_MIN};

/// Linux's limit (`FUSE_MAX_MAX_PAGES`), 1 MiB: with it a sequential read needs an eighth of the
/// requests of the 128 KiB that a guest uses when it is told nothing.
const PAGES_MAX: u16 = 256;

/// Bytes of content that one READ may ask for. A guest that keeps to [`PAGES_MAX`] asks for no
/// more, and to answer it with less would mean the end of the file.
pub const READ_BYTES_MAX: u32 = PAGES_MAX as u32 * 4096;

/// Bytes of content that one WRITE may bring.
pub const WRITE_BYTES_MAX: u32 = READ_BYTES_MAX;

/// Set in a session's word next to its flags.
const READY: u64 = 1 << 63;

/// The state of the connection, shared by the workers.
#[derive(Default)]
pub struct Session(AtomicU64);

impl Session {
    /// The flags in force; none before INIT.
    pub fn flags(&self) -> Option<Flags> {
        let word = self.0.load(Ordering::Acquire);
        (word & READY != 0).then_some(Flags::from_bits_truncate(word))
    }

    /// Begins: the flags of `offered` that both sides know are in force.
    fn begin(&self, agreed: Flags) {
        self.0.store(agreed.bits() | READY, Ordering::Release);
    }

    /// Carries out an INIT, which offers `wanted`. A second one is a new session, after a guest that
    /// went without DESTROY: `begin` forgets the one before.
    pub fn answer(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
        wanted: Flags,
        begin: impl FnOnce(),
    ) -> Result<(), Failure> {
        let guest: InitIn = request.arguments()?;
        let extension = request.list::<InitIn, InitInExt>(1);
        let extension = extension.ok().and_then(|mut list| list.next());
        match negotiate(&guest, extension, wanted)? {
            Agreement::AskAgain(answer) => reply.put_object(&answer),
            Agreement::Agreed(flags, answer) => {
                reply.put_object(&answer)?;
                begin();
                self.begin(flags);
                Ok(())
            }
        }
    }

    /// Ends: only INIT is answered from here on.
    pub fn end(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// What comes of an INIT.
enum Agreement {
    /// Version and flags agreed.
    Agreed(Flags, InitOut),
    /// The guest speaks a newer version, and is to ask again in ours.
    AskAgain(InitOut),
}

/// Answers INIT. `wanted` are the flags that this share has a use for.
///
/// # Errors
/// `EPROTO`: the guest's version is older than any with virtio-fs.
fn negotiate(
    guest: &InitIn,
    extension: Option<InitInExt>,
    wanted: Flags,
) -> Result<Agreement, Errno> {
    let mut answer = InitOut {
        major: MAJOR,
        minor: MINOR,
        max_readahead: guest.max_readahead,
        flags: 0,
        max_background: 0,
        congestion_threshold: 0,
        max_write: if wanted.contains(Flags::BIG_WRITES) {
            WRITE_BYTES_MAX
        } else {
            // The least that Linux takes; every WRITE is refused.
            4096
        },
        time_gran: 1,
        max_pages: PAGES_MAX,
        map_alignment: 0,
        flags2: 0,
        max_stack_depth: 0,
        unused: [0; 6],
    };
    if guest.major > MAJOR {
        return Ok(Agreement::AskAgain(answer));
    }
    if guest.major < MAJOR || guest.minor < MINOR_MIN {
        return Err(Errno::PROTO);
    }
    let mut offered = Flags::from_bits_truncate(guest.flags.into());
    if let Some(extension) = extension.filter(|_| offered.contains(Flags::INIT_EXT)) {
        offered |= Flags::from_bits_truncate(u64::from(extension.flags2) << 32);
    }
    let agreed = offered & wanted;
    answer.minor = guest.minor.min(MINOR);
    if agreed.contains(Flags::MAP_ALIGNMENT) {
        answer.map_alignment = UNIT_SHIFT;
    }
    answer.flags = agreed.bits() as u32;
    answer.flags2 = (agreed.bits() >> 32) as u32;
    Ok(Agreement::Agreed(agreed, answer))
}
