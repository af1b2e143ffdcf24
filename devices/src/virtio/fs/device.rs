//! The virtio device: chains in, requests to the server, replies out.
//!
//! One worker for each request queue; the first also serves the queue for urgent requests
//! (`hiprio`, virtio 1.2 §5.11.2), which holds FORGETs that nobody waits for.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::super::{Buffers, Chain, Device, Facts, Fault, Handler, Part, Position, Queue};
use super::exchange::Serve;
use super::reply::{Sink, Source};
use super::wall::Wall;
use super::wire::{InHeader, OutHeader};
use crate::Memory;

/// Device type, §5.11.1.
const ID: u32 = 26;

/// Linux takes four descriptors of a queue for itself and as many pages for a request as are
/// left (`FUSE_HEADER_OVERHEAD`): this lets it have its 256.
const QUEUE_SIZE: u16 = 1024;

/// Bytes of a request that are copied. The longest that means anything is a `BATCH_FORGET`; a
/// WRITE's data go straight to the file.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Chains served before the worker sees to its other events.
const CHAINS_PER_KICK: usize = 16;

/// The device that serves `server` under `tag`, which has been checked.
pub fn assemble(
    tag: &str,
    request_queues: u16,
    server: &Arc<dyn Serve>,
    wall: &Arc<Wall>,
    memory: &Memory,
) -> Device {
    let mut config = tag.as_bytes().to_vec();
    config.resize(super::TAG_BYTES_MAX, 0);
    config.extend(u32::from(request_queues).to_le_bytes());
    let queues = usize::from(request_queues).saturating_add(1);
    let facts = Facts {
        id: ID,
        name: format!("fs-{tag}"),
        features: 0,
        queue_sizes: vec![QUEUE_SIZE; queues],
        config,
    };
    let parts = (1..queues).map(|queue| Part {
        // The first worker's queues are `hiprio` and the first for requests.
        queues: (if queue == 1 { 0 } else { queue })..queue.saturating_add(1),
        handler: Box::new(Worker {
            server: server.clone(),
            wall: wall.clone(),
            chain: Chain::new(memory),
            request: vec![0; REQUEST_BYTES_MAX],
            first: queue == 1,
        }),
    });
    Device {
        facts,
        parts: parts.collect(),
    }
}

/// Serves one request queue, or the first and `hiprio`.
struct Worker {
    server: Arc<dyn Serve>,
    wall: Arc<Wall>,
    chain: Chain,
    request: Vec<u8>,
    /// Ends the session for all of them when the device is reset.
    first: bool,
}

impl Handler for Worker {
    fn start(&mut self, _: u64) -> anyhow::Result<()> {
        self.wall.confine_thread().map(drop)
    }

    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(index) else {
            return Ok(());
        };
        for _ in 0..CHAINS_PER_KICK {
            if !queue.pop_any(&mut self.chain)? {
                break;
            }
            let written = if self.chain.is_reachable() {
                self.serve()?
            } else {
                refuse(&mut self.chain)?
            };
            queue.push(&self.chain, written)?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        if self.first {
            self.server.reset();
        }
    }
}

impl Worker {
    /// Has the server answer the request in the chain; the bytes of the reply.
    fn serve(&mut self) -> Result<usize, Fault> {
        let total_bytes = self.chain.readable.remaining_bytes();
        let read = self.chain.readable.read(&mut self.request)?;
        let request = self.request.get(..read).unwrap_or_default();
        let mut reply = Reply::new(&mut self.chain.writable)?;
        let mut source = Given {
            buffers: &mut self.chain.readable,
            total_bytes,
        };
        self.server.handle(request, &mut source, &mut reply)
    }
}

/// Answers a request that brings data, or wants a reply, where the device does not reach.
///
/// # Errors
/// The headers are there as well: nothing can be answered.
fn refuse(chain: &mut Chain) -> Result<usize, Fault> {
    let InHeader { unique, .. } = chain.readable.read_object()?;
    let mut reply = Reply::new(&mut chain.writable)?;
    reply.finish(&OutHeader {
        len: HEADER_BYTES as u32,
        error: Errno::FAULT.raw_os_error().saturating_neg(),
        unique,
    })
}

/// A request in the guest's buffers.
struct Given<'a> {
    buffers: &'a mut Buffers,
    total_bytes: usize,
}

impl Given<'_> {
    fn go_to(&mut self, byte: usize) {
        self.buffers.rewind();
        self.buffers.skip(byte);
    }
}

impl Source for Given<'_> {
    fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    fn read(&mut self, skip: usize, to: &mut [u8]) -> Result<usize, Fault> {
        self.go_to(skip);
        self.buffers.read(to)
    }

    fn write_to(
        &mut self,
        skip: usize,
        limit_bytes: usize,
        file: BorrowedFd<'_>,
        to: Position,
    ) -> io::Result<usize> {
        self.go_to(skip);
        self.buffers.pwrite_to(file, to, limit_bytes)
    }
}

const HEADER_BYTES: usize = size_of::<OutHeader>();

/// A reply in the guest's buffers, of which the first bytes are kept for the header.
struct Reply<'a> {
    buffers: &'a mut Buffers,
}

impl<'a> Reply<'a> {
    fn new(buffers: &'a mut Buffers) -> Result<Self, Fault> {
        buffers.write(&[0; HEADER_BYTES])?;
        Ok(Self { buffers })
    }
}

impl Sink for Reply<'_> {
    fn room(&self) -> usize {
        self.buffers.remaining_bytes()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.buffers.write(bytes)? < bytes.len() {
            return Err(Fault::Guest("a reply's buffers became shorter"));
        }
        Ok(())
    }

    fn put_over(&mut self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        let end = self.buffers.consumed_bytes();
        self.buffers.rewind();
        self.buffers.skip(HEADER_BYTES.saturating_add(at));
        self.put(bytes)?;
        self.buffers.rewind();
        self.buffers.skip(end);
        Ok(())
    }

    fn put_file(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        limit_bytes: usize,
    ) -> io::Result<usize> {
        self.buffers.pread_from(file, offset, limit_bytes)
    }

    fn body_bytes(&self) -> usize {
        self.buffers.consumed_bytes().saturating_sub(HEADER_BYTES)
    }

    fn finish(&mut self, header: &OutHeader) -> Result<usize, Fault> {
        self.buffers.rewind();
        if self.buffers.remaining_bytes() < HEADER_BYTES {
            return Ok(0);
        }
        self.buffers.write(header.as_bytes())?;
        Ok(header.len as usize)
    }
}

#[cfg(test)]
mod tests;
