//! A future that is polled only after it was woken.
//!
//! A task that waits for rare events beside a frequent one polls all of them at each wake-up. Each
//! poll of a cancellation token or a `Notify` takes a lock and touches memory of its own, only to
//! find that nothing has happened.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Polls its future at first, and then only after the future has woken its task. Until then a poll
/// costs one load.
#[derive(Debug)]
pub struct Dormant<F: ?Sized> {
    future: Pin<Box<F>>,
    alarm: Arc<Alarm>,
    /// The alarm as the future's waker.
    waker: Waker,
    /// The task's waker that the alarm has.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Alarm {
    woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl<F: ?Sized> Dormant<F> {
    /// Wraps a future that has not been polled yet.
    pub fn new(future: Pin<Box<F>>) -> Self {
        // The first poll must reach the future, which has no waker yet.
        let alarm = Arc::new(Alarm { woken: AtomicBool::new(true), task: Mutex::default() });
        Self { future, waker: Arc::clone(&alarm).into(), alarm, task: None }
    }
}

impl<F: Future + ?Sized> Future for Dormant<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // The alarm must know the task before `woken` is read, because a wake-up in between would
        // be lost.
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            this.task = Some(cx.waker().clone());
            this.alarm.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&this.task);
        }
        if !this.alarm.woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // A wake-up since the load is taken with this one: the swap makes its cause visible here.
        this.alarm.woken.swap(false, Ordering::AcqRel);
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        // `woken` is stored first: a poll between the two finds it, and needs no wake-up.
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Woken without the lock, because the task may be polled at once on another thread.
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use super::*;

    /// A task's waker that counts.
    #[derive(Debug, Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn poll<F: Future>(self: &Arc<Self>, future: &mut Dormant<F>) -> Poll<F::Output> {
            let waker = Arc::clone(self).into();
            Pin::new(future).poll(&mut Context::from_waker(&waker))
        }

        fn wakes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A future that counts its polls and shares its waker. It is ready at its fourth poll.
    fn counted(polls: &AtomicUsize, shared: &Mutex<Option<Waker>>) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            *shared.lock().unwrap() = Some(cx.waker().clone());
            match polls.fetch_add(1, Ordering::Relaxed) {
                3 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
    }

    #[test]
    fn the_future_is_polled_once_for_each_wake_up() {
        let (polls, shared) = (AtomicUsize::new(0), Mutex::default());
        let mut future = Dormant::new(Box::pin(counted(&polls, &shared)));
        let task = Arc::new(Task::default());
        for n in 1..=3 {
            for _ in 0..5 {
                assert!(task.poll(&mut future).is_pending());
            }
            assert_eq!(polls.load(Ordering::Relaxed), n);
            shared.lock().unwrap().as_ref().unwrap().wake_by_ref();
            assert_eq!(task.wakes(), n);
        }
        assert!(task.poll(&mut future).is_ready());
    }

    #[test]
    fn the_task_that_polled_last_is_woken() {
        let (polls, shared) = (AtomicUsize::new(0), Mutex::default());
        let mut future = Dormant::new(Box::pin(counted(&polls, &shared)));
        let tasks = [(); 2].map(|()| Arc::new(Task::default()));
        for task in &tasks {
            assert!(task.poll(&mut future).is_pending());
        }
        shared.lock().unwrap().as_ref().unwrap().wake_by_ref();
        assert_eq!(tasks.each_ref().map(|task| task.wakes()), [0, 1]);
    }

    #[test]
    fn a_wake_up_during_the_poll_is_not_lost() {
        let mut polls = 0;
        let mut future = Dormant::new(Box::pin(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(polls) } else { Poll::Pending }
        })));
        let task = Arc::new(Task::default());
        assert!(task.poll(&mut future).is_pending() && task.poll(&mut future).is_pending());
        assert_eq!((task.poll(&mut future), task.wakes()), (Poll::Ready(3), 3));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wake_ups_from_another_thread_arrive() {
        for _ in 0..1_000 {
            let token = tokio_util::sync::CancellationToken::new();
            let cancel = token.clone();
            let other = tokio::spawn(async move { cancel.cancel() });
            Dormant::new(Box::pin(token.cancelled())).await;
            other.await.unwrap();
        }
    }
}
