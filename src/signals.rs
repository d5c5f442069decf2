//! The signals that the daemon handles.

use std::{fmt, io};

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
}

impl Signals {
    /// Starts to listen; inside a tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal. Cancel-safe, as tokio's `recv` is: a signal that is not received stays
    /// pending, and counts once however often it arrives.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user.recv() => Signal::Upgrade,
        }
    }

    /// The next signal that requests a stop; the others stay pending. Cancel-safe.
    pub(crate) async fn next_stop(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }

    /// Runs `work` until it ends, or until a signal requests a stop. The others stay pending.
    ///
    /// # Errors
    /// The signal; `work` is dropped.
    pub(crate) async fn run_until_stop<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Signal> {
        tokio::select! {
            result = work => Ok(result),
            stop = self.next_stop() => Err(stop),
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
    async fn a_signal_during_a_wait_for_a_stop_is_handled_once_afterwards() {
        let (mut signals, mut witness) = (Signals::listen().unwrap(), Signals::listen().unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        for (sent, expected) in
            [(process::Signal::HUP, Signal::Reload), (process::Signal::USR2, Signal::Upgrade)]
        {
            kill_process(getpid(), sent).unwrap();
            assert_eq!(witness.next().await, expected);
            for _ in 0..2 {
                let stop = pin!(signals.next_stop());
                assert_eq!(stop.poll(&mut cx), Poll::Pending);
            }
            assert_eq!(signals.run_until_stop(async { 1 }).await, Ok(1));
            assert_eq!(signals.next().await, expected);
            let again = pin!(signals.next());
            assert_eq!(again.poll(&mut cx), Poll::Pending);
        }
    }
}
