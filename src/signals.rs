//! The signals that the daemon handles.

use std::{fmt, io, mem};

use tokio::signal::unix::{self, SignalKind, signal};

/// The request of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM: stop.
    Terminate,
    /// SIGINT: stop.
    Interrupt,
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR2: hand over to a new process.
    Upgrade,
}

impl Signal {
    /// Whether it requests a stop.
    pub(crate) fn is_stop(self) -> bool {
        matches!(self, Self::Terminate | Self::Interrupt)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Reload => "SIGHUP",
            Self::Upgrade => "SIGUSR2",
        })
    }
}

/// The received signals.
#[derive(Debug)]
pub(crate) struct Signals {
    /// SIGTERM, from the service manager.
    terminate: unix::Signal,
    /// SIGINT, from a terminal.
    interrupt: unix::Signal,
    /// SIGHUP, as for most daemons.
    hangup: unix::Signal,
    /// SIGUSR2, as for nginx.
    user: unix::Signal,
    /// A [`Signal::Reload`] that arrived while only a stop was awaited.
    reload_is_due: bool,
}

impl Signals {
    /// Starts to listen; inside a tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
            reload_is_due: false,
        })
    }

    /// The next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        if mem::take(&mut self.reload_is_due) {
            return Signal::Reload;
        }
        self.come().await
    }

    /// The next signal that arrives. Cancel-safe, as tokio's `recv` is.
    async fn come(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user.recv() => Signal::Upgrade,
        }
    }

    /// The next signal that requests a stop. Cancel-safe. [`Signal::Reload`] is kept for
    /// [`Signals::next`]; [`Signal::Upgrade`] is ignored.
    pub(crate) async fn next_stop(&mut self) -> Signal {
        loop {
            match self.come().await {
                Signal::Reload => self.reload_is_due = true,
                signal if signal.is_stop() => return signal,
                // An upgrade is ignored, because a stop or another upgrade is under way.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use rustix::process::{self, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_reload_that_comes_while_a_stop_is_waited_for_is_acted_on_once_afterwards() {
        let (mut signals, mut witness) = (Signals::listen().unwrap(), Signals::listen().unwrap());
        kill_process(getpid(), process::Signal::HUP).unwrap();
        assert_eq!(witness.next().await, Signal::Reload);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let stop = pin!(signals.next_stop());
            assert_eq!(stop.poll(&mut cx), Poll::Pending);
        }
        assert_eq!(signals.next().await, Signal::Reload);
        let again = pin!(signals.next());
        assert_eq!(again.poll(&mut cx), Poll::Pending);
    }
}
