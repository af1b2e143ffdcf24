//! The side of a command: asks a running machine for something.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::message::{Call, Info, Reply, Request, VERSION, receive, send};
use super::statistics::Statistics;
use crate::machines::record::End;
use crate::machines::running;

/// For an answer that takes no work. A machine that starts answers when its guest is up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// For one that only says how the machine does: a list must not hang on one of many.
const GLANCE_TIMEOUT: Duration = Duration::from_secs(1);

/// For one that waits a moment itself.
const NEWS_TIMEOUT: Duration = Duration::from_secs(5);

/// What the machine `name` says of itself; `None` while it starts.
///
/// # Errors
/// It does not run, or does not answer as it should.
pub fn glance(name: &str) -> anyhow::Result<Option<Info>> {
    match ask(name, &Request::Info, Some(GLANCE_TIMEOUT)) {
        Ok((Reply::Info(info), _)) => Ok(Some(*info)),
        Ok((reply, _)) => Err(unexpected(&reply)),
        Err(error) if is_late(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the machine `name` says of itself, once it has started.
///
/// # Errors
/// As [`glance`].
pub fn info(name: &str) -> anyhow::Result<Info> {
    match ask(name, &Request::Info, Some(ANSWER_TIMEOUT))? {
        (Reply::Info(info), _) => Ok(*info),
        (reply, _) => Err(unexpected(&reply)),
    }
}

/// Returns once the machine `name` is not what it has said of itself any more, or after a moment.
///
/// # Errors
/// As [`glance`]; it has ended, for instance.
pub fn await_news(name: &str, said: &Info) -> anyhow::Result<()> {
    let request = Request::News {
        ready: said.ready,
        health: said.health.as_ref().map(|health| health.status),
    };
    match ask(name, &request, Some(NEWS_TIMEOUT))? {
        (Reply::Info(_), _) => Ok(()),
        (reply, _) => Err(unexpected(&reply)),
    }
}

/// What the machine `name` has used and done so far.
///
/// # Errors
/// As [`glance`].
pub fn statistics(name: &str) -> anyhow::Result<Statistics> {
    match ask(name, &Request::Statistics, Some(ANSWER_TIMEOUT))? {
        (Reply::Statistics(statistics), _) => Ok(*statistics),
        (reply, _) => Err(unexpected(&reply)),
    }
}

/// Has the machine `name` do what needs no answer but that it is done.
///
/// # Errors
/// It says why it cannot.
pub fn order(name: &str, request: &Request) -> anyhow::Result<()> {
    order_within(ANSWER_TIMEOUT, name, request)
}

/// As [`order`], where the answer is to come within `time`.
///
/// # Errors
/// It says why it cannot, or nothing.
pub fn order_within(time: Duration, name: &str, request: &Request) -> anyhow::Result<()> {
    match ask(name, request, Some(time))? {
        (Reply::Done, _) => Ok(()),
        (reply, _) => Err(unexpected(&reply)),
    }
}

/// A connection to the agent in the guest of `name`.
///
/// # Errors
/// The guest has none, or the machine says why it cannot.
pub fn agent(name: &str) -> anyhow::Result<UnixStream> {
    match ask(name, &Request::Agent, Some(ANSWER_TIMEOUT))? {
        (Reply::Done, stream) => Ok(stream),
        (reply, _) => Err(unexpected(&reply)),
    }
}

/// A connection to the agent in the guest of the machine that listens at the other end of `stream`.
///
/// # Errors
/// As [`agent`].
pub fn agent_of(stream: UnixStream) -> anyhow::Result<UnixStream> {
    match talk(stream, &Request::Agent, Some(ANSWER_TIMEOUT))? {
        (Reply::Done, stream) => Ok(stream),
        (Reply::Error(why), _) => bail!(why),
        (reply, _) => Err(unexpected(&reply)),
    }
}

/// A connection to the audience of the program of `name`.
///
/// # Errors
/// The machine says why it cannot.
pub fn attach(name: &str) -> anyhow::Result<UnixStream> {
    match ask(name, &Request::Attach, Some(ANSWER_TIMEOUT))? {
        (Reply::Done, stream) => Ok(stream),
        (reply, _) => Err(unexpected(&reply)),
    }
}

/// Waits for the end of the machine `name`; none if its monitor was killed.
///
/// # Errors
/// It does not answer as it should.
pub fn wait(name: &str) -> anyhow::Result<Option<End>> {
    match ask(name, &Request::Wait, None) {
        Ok((Reply::Ended(end), _)) => Ok(Some(end)),
        Ok((reply, _)) => Err(unexpected(&reply)),
        Err(_) if !running::is_running(name) => Ok(None),
        Err(error) => Err(error),
    }
}

fn ask(
    name: &str,
    request: &Request,
    timeout: Option<Duration>,
) -> anyhow::Result<(Reply, UnixStream)> {
    let talk = || {
        talk(
            UnixStream::connect(running::socket_of(name))?,
            request,
            timeout,
        )
    };
    match talk().with_context(|| format!("cannot ask the machine {name}"))? {
        (Reply::Error(why), _) => bail!("{name}: {why}"),
        answer => Ok(answer),
    }
}

/// Asks the machine at the other end of `stream`.
fn talk(
    stream: UnixStream,
    request: &Request,
    timeout: Option<Duration>,
) -> anyhow::Result<(Reply, UnixStream)> {
    stream.set_read_timeout(timeout)?;
    let call = Call {
        version: VERSION,
        request: request.clone(),
    };
    send(&stream, &call)?;
    let reply = receive(&stream)?;
    stream.set_read_timeout(None)?;
    Ok((reply, stream))
}

fn is_late(error: &anyhow::Error) -> bool {
    let is_late = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(is_late)
}

fn unexpected(reply: &Reply) -> anyhow::Error {
    let what = match reply {
        Reply::Done => "nothing",
        Reply::Info(_) => "what it is",
        Reply::Statistics(_) => "what it has done",
        Reply::Ended(_) => "its end",
        Reply::Error(_) => "an error",
    };
    anyhow!("the machine answered {what}, which was not asked for")
}
