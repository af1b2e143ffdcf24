//! The protocol between `mvm` and the program that runs as PID 1 in its guest.
//!
//! Frames over one reliable byte stream: a virtio-console port named [`PORT_NAME`] in the guest, a
//! UNIX socket on the host's side. Each frame belongs to a session: [`MACHINE`] is the machine
//! itself, every other number one execution, chosen by the host.
//!
//! A connection, in order: the guest says [`Message::Hello`], the host answers with its own, sends
//! [`Message::Setup`] once and waits for [`Message::SetupDone`]. Then each [`Message::Exec`] opens a
//! session, which the guest closes with [`Message::ExecFailed`] or [`Message::Exit`] as its last
//! frame; a session's number can be used again after that. [`Message::Detached`] closes it, too, and
//! leaves the program running. [`Message::Clock`] is answered by [`Message::Time`] at any time. [`Message::Connect`] opens one that is a
//! connection to a port in the guest rather than a program: `Stdin` is what the host sends there,
//! `Stdout` what comes back, each with [`CONNECTION_WINDOW`].
//!
//! The one thing to know: nothing is buffered without bound. Each stream of each session starts with
//! [`WINDOW`] bytes that its sender may send, and the receiver gives back with [`Message::Credit`]
//! what it has passed on. So a reader that stands still stops its own stream and no other.
//!
//! The host takes the guest for hostile: what does not fit is an error, never a panic, and no length
//! that the guest names is allocated. The guest trusts its host.
//!
//! Left out: encryption, authentication (the port has one owner), reconnecting to a session.

mod body;
mod bytes;
mod decode;
mod frame;
mod hello;
mod message;
mod secret;
#[cfg(test)]
mod tests;

pub use body::{
    Bounds, Connect, Exec, FileSystem, Init, Limit, Link, Mount, Resolver, Root, Setup, Tty, Upper,
    User,
};
pub use bytes::ByteString;
pub use decode::Decoder;
pub use frame::{Frame, FrameBuffer, HEADER_SIZE, Header};
pub use hello::Hello;
pub use message::{Exit, Message, Side, Stream, data_header};
pub use secret::{SecretFile, SecretValue};

/// Version of this protocol; the two sides must have the same, since they are built together.
pub const VERSION: u32 = 1;

/// Name of the virtio-console port that carries the protocol (virtio 1.2 §5.3.6.2, `PORT_NAME`).
pub const PORT_NAME: &str = "mvm.agent";

/// The port in the guest that takes more connections with this protocol (`AF_VSOCK`), each as if a
/// setup had been done. Below 1024, so that no program but root's can have it.
pub const AGENT_PORT: u32 = 1023;

/// The session that stands for the machine itself.
pub const MACHINE: u32 = 0;

/// The first execution of a connection. The monitor ends its machine when this one exits.
pub const FIRST_SESSION: u32 = 1;

/// Most bytes behind one header: a full pipe of the guest (64 KiB) fits one frame.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Most bytes of a body that is spread over several frames. The kernel takes arguments and
/// environment up to 6 MiB (`_STK_LIM / 4 * 3`); the default stack limit allows 2 MiB of them, and
/// JSON writes some bytes as several.
pub const MAX_BODY: usize = 8 * 1024 * 1024;

/// Bytes that a stream may have under way, sent but not yet passed on by the receiver. Under an
/// emulated processor, where each wake-up of the other side is dear, this carries twice as much per
/// second as a quarter of it does.
pub const WINDOW: u32 = 1024 * 1024;

/// Executions that one guest runs at a time; bounds its descriptors (4 each) and memory.
pub const MAX_SESSIONS: usize = 256;

/// What [`WINDOW`] is for a connection: bounds what those take whose readers stand still, 256 MiB
/// if all do so in one direction.
pub const CONNECTION_WINDOW: u32 = 128 * 1024;

/// Connections that one connection with this protocol carries at a time: as many as a server of
/// one process usually takes, twice over; bounds descriptors and memory.
pub const MAX_CONNECTIONS: usize = 2048;

/// Most bytes of an error message from the guest; longer ones are cut by the sender.
pub const MAX_REASON: usize = 4096;
