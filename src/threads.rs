//! Work that blocks, on threads of which there are only so many.
//!
//! The runtime has up to 512 of them, for whoever asks first. Who would wait on one for a file that
//! another has, or for a name server that is silent, waits here without one, and leaves the rest of
//! them to the others.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// A share of the threads that may block; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    free: Arc<Semaphore>,
}

impl Threads {
    /// At most `most` of them at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)) }
    }

    /// Does `work` on one of them, in the order of asking. The thread counts as taken until the
    /// work is done, whether or not somebody still waits for it. None when the process ends before,
    /// or the work panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let taken = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let done = tokio::task::spawn_blocking(move || {
            let _taken = taken;
            work()
        });
        done.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;

    use tokio::task::JoinSet;
    use tokio::task::spawn_blocking;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_thread_has_none() {
        let (threads, begun) = (Threads::new(2), Arc::new(AtomicUsize::new(0)));
        let (go_on, held) = mpsc::channel();
        let held = Arc::new(std::sync::Mutex::new(held));
        let mut calls = JoinSet::new();
        for _ in 0..50 {
            let (threads, begun, held) = (threads.clone(), Arc::clone(&begun), Arc::clone(&held));
            let work = move || {
                begun.fetch_add(1, Ordering::SeqCst);
                held.lock().unwrap().recv().unwrap();
            };
            calls.spawn(async move { threads.run(work).await });
        }
        // All have asked by now, and a thread that was asked for later has had its turn.
        yield_now().await;
        spawn_blocking(|| ()).await.unwrap();
        assert!(begun.load(Ordering::SeqCst) <= 2, "{begun:?}");
        (0..50).for_each(|_| go_on.send(()).unwrap());
        assert_eq!(calls.join_all().await, [Some(()); 50]);
        assert_eq!(begun.load(Ordering::SeqCst), 50);
    }

    #[tokio::test]
    async fn a_thread_is_taken_for_as_long_as_its_work_lasts() {
        let threads = Threads::new(1);
        let (go_on, held) = mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let work = move || {
            begin.send(()).unwrap();
            held.recv().unwrap();
        };
        let mut first = Box::pin(threads.run(work));
        tokio::select! {
            _ = &mut first => panic!("its work is not done"),
            begun = begun => begun.unwrap(),
        }
        drop(first);
        let mut second = std::pin::pin!(threads.run(|| 7));
        tokio::select! {
            biased;
            _ = &mut second => panic!("two at a time"),
            () = yield_now() => {}
        }
        go_on.send(()).unwrap();
        assert_eq!(second.await, Some(7));
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_thread_back() {
        let threads = Threads::new(1);
        assert_eq!(threads.run(|| panic!("as it should")).await, None::<()>);
        assert_eq!(threads.run(|| 7).await, Some(7));
    }
}
