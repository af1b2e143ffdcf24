//! The process that owns the emulated host: it starts QEMU, passes frames between commands and the
//! guest's agent, and ends both.
//!
//! The one thing to know: its end is told before it happens. The socket goes first, so that nobody
//! new comes; then those who wait hear the reason; then the machine ends.

mod agent;
mod client;
mod idle;
mod last_look;
mod service;
mod sessions;

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use guest::protocol::{MACHINE, Message};

use super::folder::Folder;
use crate::lasting;
use client::Client;
use service::Service;

/// For commands to take the reason of the end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest time that can be waited for a socket; zero would be for ever.
const MOMENT: Duration = Duration::from_millis(1);

/// Why the emulated host ends.
#[derive(Debug)]
enum End {
    /// Somebody asked for it.
    Stopped,
    /// There was nothing to do for long. Nobody starts another one as long as the turn is kept.
    Idle(File),
}

/// Carries `mvm emulator serve` out: standard input is the socket that listens.
pub fn serve() -> Result<()> {
    let listener = lasting::take_over()?;
    listener.set_nonblocking(true)?;
    let folder = Folder::open()?;
    let _alive = folder.claim()?;
    let mut service = match Service::start(&folder, listener.try_clone()?) {
        Ok(service) => service,
        Err(error) => {
            say_farewell(&folder, &listener, Vec::new(), &format!("{error:#}"))?;
            return Err(error);
        }
    };
    let outcome = service.run();
    let clients: Vec<_> = std::mem::take(&mut service.clients).into_values().collect();
    let farewell = match &outcome {
        // Who connects this very moment is not told why; it starts another one.
        Ok(End::Idle(_turn)) => remove_socket(&folder),
        Ok(End::Stopped) => say_farewell(&folder, &listener, clients, "it was stopped"),
        Err(error) => say_farewell(&folder, &listener, clients, &format!("{error:#}")),
    };
    service.agent.end();
    for file in [folder.state(), folder.initramfs()] {
        // What is left there says nothing without the lock.
        let _ = fs::remove_file(file);
    }
    outcome.map(drop).and(farewell)
}

/// The end of the service: nobody new comes, and all who wait are told.
fn say_farewell(
    folder: &Folder,
    listener: &UnixListener,
    mut clients: Vec<Client>,
    reason: &str,
) -> Result<()> {
    let turn = folder.turn()?;
    remove_socket(folder)?;
    while let Ok((stream, _)) = listener.accept() {
        clients.extend(Client::new(stream));
    }
    drop(turn);
    let deadline = Instant::now() + FAREWELL_TIMEOUT;
    for client in &mut clients {
        client.say(MACHINE, &Message::Failed(reason.into()));
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(MOMENT);
        // One that does not listen learns it from the end of the connection.
        let _ = client
            .stream
            .set_nonblocking(false)
            .and_then(|()| client.stream.set_write_timeout(Some(left)))
            .map(|()| client.flush());
    }
    Ok(())
}

fn remove_socket(folder: &Folder) -> Result<()> {
    fs::remove_file(folder.socket()).context("cannot remove the socket")
}
