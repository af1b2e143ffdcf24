//! The machine's side of its control socket.
//!
//! The one thing to know: the socket listens before the machine starts, so that nobody finds a
//! machine that cannot be asked; it is served once the guest is up.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use vmm::app::App;
use vmm::closure::StorePath;

use super::message::{Call, HealthStatus, Info, Reply, Request, VERSION, receive, send};
use super::statistics::Statistics;
use crate::audience::Audience;
use crate::machines::record::End;

/// Clients that are being heard at a time; those that have been handed to the agent, or wait for
/// the end, do not count.
const CLIENTS_MAX: usize = 64;

/// Clients that may wait for the end.
const WAITING_MAX: usize = 256;

/// For a client to say what it wants, or to take the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a machine can be asked for.
pub trait Machine: Send + Sync {
    /// What it is.
    fn info(&self) -> Info;
    /// Returns once it is not so any more, or after a moment.
    fn await_news(&self, ready: bool, health: Option<HealthStatus>);
    /// What it has used and done so far.
    fn statistics(&self) -> anyhow::Result<Statistics>;
    /// Connects a client with the guest's agent.
    fn connect_agent(&self, stream: UnixStream) -> anyhow::Result<()>;
    /// Those who are attached to the program.
    fn audience(&self) -> anyhow::Result<Audience>;
    /// Signals the program.
    fn signal(&self, signal: u8) -> anyhow::Result<()>;
    /// Has the guest switch itself off.
    fn power_off(&self) -> anyhow::Result<()>;
    /// Stops or starts the processors.
    fn set_paused(&self, paused: bool) -> anyhow::Result<()>;
    /// Shows it these paths of the host's store as well; Nix is to keep `roots`.
    fn show(&self, paths: &[StorePath], roots: &[StorePath]) -> anyhow::Result<()>;
    /// It is now what `app` says.
    fn take_on(&self, app: App);
}

/// Listens at `path`, where only this user can connect.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let cannot = || format!("cannot listen at {}", path.display());
    let listener = UnixListener::bind(path).with_context(cannot)?;
    // Nobody else comes so far: the folder is this user's alone.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).with_context(cannot)?;
    Ok(listener)
}

/// What serves the socket.
pub struct Server(Arc<Shared>);

struct Shared {
    machine: Box<dyn Machine>,
    clients: AtomicUsize,
    waiting: Mutex<Vec<UnixStream>>,
}

impl Server {
    /// Serves `listener` until the process ends.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn start(listener: UnixListener, machine: Box<dyn Machine>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            machine,
            clients: AtomicUsize::new(0),
            waiting: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        thread::Builder::new()
            .name("control".into())
            .spawn(move || served.accept(&listener))
            .context("cannot start a thread")?;
        Ok(Self(shared))
    }

    /// Tells those who wait for it how the machine ended.
    pub fn end(&self, end: &End) {
        for stream in self.0.waiting().drain(..) {
            // One that has gone needs no answer.
            let _ = send(&stream, &Reply::Ended(end.clone()));
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                // Out of descriptors, mostly: others will be closed.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if self.clients.fetch_add(1, Ordering::SeqCst) >= CLIENTS_MAX {
                self.clients.fetch_sub(1, Ordering::SeqCst);
                let busy = format!("{CLIENTS_MAX} other commands are being answered");
                let _ = stream.set_write_timeout(Some(Duration::from_millis(1)));
                let _ = send(&stream, &Reply::Error(busy));
                continue;
            }
            let shared = Arc::clone(self);
            let served = thread::Builder::new()
                .name("control".into())
                .spawn(move || {
                    // A client that does not speak, or goes, is its own fault.
                    let _ = shared.serve(stream);
                    shared.clients.fetch_sub(1, Ordering::SeqCst);
                });
            if served.is_err() {
                self.clients.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn serve(&self, stream: UnixStream) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        let call: Call = receive(&stream)?;
        if call.version != VERSION {
            let why = format!(
                "it was started by another version of mvm (its control protocol is {VERSION}, \
                 this command's {})",
                call.version
            );
            return Ok(send(&stream, &Reply::Error(why))?);
        }
        let machine = &self.machine;
        let done = match call.request {
            Request::Info => return Ok(send(&stream, &Reply::Info(Box::new(machine.info())))?),
            Request::News { ready, health } => {
                machine.await_news(ready, health);
                return Ok(send(&stream, &Reply::Info(Box::new(machine.info())))?);
            }
            Request::Statistics => return Ok(send(&stream, &self.statistics())?),
            Request::Agent => return self.hand_over(stream),
            Request::Attach => return self.seat(stream),
            Request::Wait => return self.keep(stream),
            Request::Signal { signal } => machine.signal(signal),
            Request::PowerOff => machine.power_off(),
            Request::Pause => machine.set_paused(true),
            Request::Resume => machine.set_paused(false),
            Request::Show { paths, roots } => {
                store_paths(&paths).and_then(|paths| machine.show(&paths, &store_paths(&roots)?))
            }
            Request::Become { app } => {
                machine.take_on(*app);
                Ok(())
            }
        };
        let reply = match done {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Error(format!("{error:#}")),
        };
        Ok(send(&stream, &reply)?)
    }

    fn statistics(&self) -> Reply {
        match self.machine.statistics() {
            Ok(statistics) => Reply::Statistics(Box::new(statistics)),
            Err(error) => Reply::Error(format!("{error:#}")),
        }
    }

    /// The agent's bytes follow the answer, so that is sent first.
    fn hand_over(&self, stream: UnixStream) -> anyhow::Result<()> {
        send(&stream, &Reply::Done)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        self.machine.connect_agent(stream)
    }

    /// As [`Self::hand_over`], where there is room.
    fn seat(&self, stream: UnixStream) -> anyhow::Result<()> {
        let audience = self.machine.audience();
        let audience = audience.and_then(|audience| audience.ensure_room().map(|()| audience));
        match audience {
            Ok(audience) => {
                send(&stream, &Reply::Done)?;
                stream.set_read_timeout(None)?;
                stream.set_write_timeout(None)?;
                audience.join(stream)
            }
            Err(error) => Ok(send(&stream, &Reply::Error(format!("{error:#}")))?),
        }
    }

    fn keep(&self, stream: UnixStream) -> anyhow::Result<()> {
        let mut waiting = self.waiting();
        // Those that have gone make room.
        if waiting.len() >= WAITING_MAX {
            waiting.retain(is_connected);
        }
        if waiting.len() >= WAITING_MAX {
            let full = format!("{WAITING_MAX} commands wait for its end already");
            return Ok(send(&stream, &Reply::Error(full))?);
        }
        waiting.push(stream);
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<UnixStream>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn store_paths(words: &[String]) -> anyhow::Result<Vec<StorePath>> {
    let path = |word: &String| word.parse();
    let paths = words.iter().map(path).collect::<Result<_, ()>>();
    paths.map_err(|()| anyhow!("what is to be shown is no store path"))
}

fn is_connected(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    // A client that waits says nothing more: what can be read is its end.
    poll(&mut fds, Some(&Timespec::default())) == Ok(0)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use std::io::Write;

    #[derive(Default)]
    struct Fake {
        signals: Arc<Mutex<Vec<u8>>>,
    }

    impl Machine for Fake {
        fn info(&self) -> Info {
            Info {
                pid: 7,
                started: Timestamp::UNIX_EPOCH,
                paused: false,
                ports: Vec::new(),
                addresses: Vec::new(),
                ready: true,
                health: None,
                status_text: None,
                store_data: None,
                store_data_reason: None,
                app: App::new("web", vec!["sh".into()]),
            }
        }

        fn await_news(&self, ready: bool, health: Option<HealthStatus>) {
            assert_eq!((ready, health), (false, Some(HealthStatus::Starting)));
        }

        fn connect_agent(&self, mut stream: UnixStream) -> anyhow::Result<()> {
            Ok(stream.write_all(b"agent")?)
        }

        fn audience(&self) -> anyhow::Result<Audience> {
            anyhow::bail!("no audience")
        }

        fn signal(&self, signal: u8) -> anyhow::Result<()> {
            self.signals.lock().unwrap().push(signal);
            Ok(())
        }

        fn statistics(&self) -> anyhow::Result<Statistics> {
            Ok(Statistics {
                threads: 11,
                ..Statistics::default()
            })
        }

        fn power_off(&self) -> anyhow::Result<()> {
            anyhow::bail!("no switch")
        }

        fn set_paused(&self, _paused: bool) -> anyhow::Result<()> {
            Ok(())
        }

        fn show(&self, _paths: &[StorePath], _roots: &[StorePath]) -> anyhow::Result<()> {
            Ok(())
        }

        fn take_on(&self, _app: App) {}
    }

    struct Socket {
        folder: tempfile::TempDir,
        server: Server,
        signals: Arc<Mutex<Vec<u8>>>,
    }

    fn socket() -> Socket {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::default();
        let signals = Arc::clone(&fake.signals);
        let listener = listen(&folder.path().join("control")).unwrap();
        let server = Server::start(listener, Box::new(fake)).unwrap();
        Socket {
            folder,
            server,
            signals,
        }
    }

    impl Socket {
        fn call(&self, version: u32, request: Request) -> UnixStream {
            let stream = UnixStream::connect(self.folder.path().join("control")).unwrap();
            send(&stream, &Call { version, request }).unwrap();
            stream
        }

        fn ask(&self, request: Request) -> Reply {
            receive(&self.call(VERSION, request)).unwrap()
        }
    }

    #[test]
    fn it_answers_each_client_once() {
        let socket = socket();
        let news = Request::News {
            ready: false,
            health: Some(HealthStatus::Starting),
        };
        assert!(matches!(socket.ask(news), Reply::Info(_)));
        let Reply::Info(info) = socket.ask(Request::Info) else {
            panic!("an info is asked for");
        };
        assert_eq!((info.pid, info.app.name.as_str()), (7, "web"));
        let statistics = socket.ask(Request::Statistics);
        assert!(matches!(statistics, Reply::Statistics(told) if told.threads == 11));
        assert!(matches!(
            socket.ask(Request::Signal { signal: 15 }),
            Reply::Done
        ));
        assert_eq!(*socket.signals.lock().unwrap(), [15]);
        assert!(matches!(socket.ask(Request::PowerOff), Reply::Error(why) if why == "no switch"));
        assert!(matches!(socket.ask(Request::Attach), Reply::Error(why) if why == "no audience"));
    }

    #[test]
    fn only_its_user_may_connect() {
        let socket = socket();
        let metadata = std::fs::metadata(socket.folder.path().join("control")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_agent_speaks_after_the_answer() {
        let socket = socket();
        let stream = socket.call(VERSION, Request::Agent);
        assert!(matches!(receive(&stream).unwrap(), Reply::Done));
        let mut words = String::new();
        std::io::Read::read_to_string(&mut &stream, &mut words).unwrap();
        assert_eq!(words, "agent");
    }

    #[test]
    fn all_who_wait_hear_of_the_end() {
        let socket = socket();
        let streams = [0, 1].map(|_| socket.call(VERSION, Request::Wait));
        while socket.server.0.waiting().len() < 2 {
            thread::yield_now();
        }
        let end = End {
            at: Timestamp::UNIX_EPOCH,
            status: 42,
            reason: None,
            reboots: false,
        };
        socket.server.end(&end);
        for stream in streams {
            assert!(matches!(receive(&stream).unwrap(), Reply::Ended(told) if told == end));
        }
    }

    #[test]
    fn another_version_is_told_so() {
        let socket = socket();
        let stream = socket.call(VERSION + 1, Request::Info);
        let Reply::Error(why) = receive(&stream).unwrap() else {
            panic!("another version is refused");
        };
        assert!(
            why.starts_with("it was started by another version of mvm"),
            "{why}"
        );
    }
}
