//! Seconds of the node on their way to the recorder. They wait until there are a few of them, for
//! each time that somebody is woken costs more than a second does; one that crosses a threshold
//! waits for nobody, and who asks has them all taken in first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::lookout::{Crossed, Lookout, Watch};
use crate::lanes::Fill;
use crate::node::Frame;
use crate::node::culprits::Resource;
use crate::time::Mono;

/// A recorder that can't keep up loses seconds, which coverage then shows: it is never waited for,
/// so that the next second is taken in time.
const LIMIT: usize = 48;
/// Seconds that are kept to be used again.
const SPARE: usize = 16;

/// A second of the node, and what crosses a threshold in it.
#[derive(Default)]
pub(super) struct Second {
    pub(super) frame: Frame,
    pub(super) crossed: Vec<Crossed>,
}

/// When the recorder is to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// So many seconds may wait for it.
    pub(super) seconds: usize,
    /// From when on it wants to know of what crosses: of what is new, and of what goes on.
    pub(super) crossing: [[Mono; 2]; Resource::ALL.len()],
}

impl Patience {
    const NONE: Self = Self { seconds: 1, crossing: [[Mono(0); 2]; Resource::ALL.len()] };

    fn wants(&self, crossed: &Crossed, at: Mono) -> bool {
        let [fresh, further] =
            self.crossing.get(crossed.resource.place()).copied().unwrap_or_default();
        at >= if crossed.fresh { fresh } else { further }
    }
}

pub(super) struct Seconds {
    inside: Mutex<Inside>,
    call: Notify,
}

struct Inside {
    waiting: VecDeque<Second>,
    spare: Vec<Second>,
    patience: Patience,
    lookout: Lookout,
    lost: u64,
}

impl Seconds {
    pub(super) fn new() -> Self {
        Self {
            inside: Mutex::new(Inside {
                waiting: VecDeque::with_capacity(LIMIT),
                spare: Vec::with_capacity(SPARE),
                patience: Patience::NONE,
                lookout: Lookout::default(),
                lost: 0,
            }),
            call: Notify::new(),
        }
    }

    /// A panic while it was held left whole seconds behind.
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One to be filled: an old one, so that this allocates nothing once warm.
    pub(super) fn blank(&self) -> Second {
        self.inside().spare.pop().unwrap_or_default()
    }

    pub(super) fn put(&self, mut second: Second) {
        let mut inside = self.inside();
        if inside.waiting.len() >= LIMIT {
            inside.lost += 1;
            return;
        }
        let known = inside.lookout.look(&second.frame, &mut second.crossed);
        let at = second.frame.at.mono;
        let hurry = !known || second.crossed.iter().any(|one| inside.patience.wants(one, at));
        inside.waiting.push_back(second);
        let call = hurry || inside.waiting.len() >= inside.patience.seconds;
        drop(inside);
        if call {
            self.call.notify_one();
        }
    }

    /// Until the recorder is wanted.
    pub(super) async fn called(&self) {
        self.call.notified().await;
    }

    /// The oldest that waits, and whether it is the newest too.
    pub(super) fn take(&self) -> Option<(Second, bool)> {
        let mut inside = self.inside();
        let second = inside.waiting.pop_front()?;
        Some((second, inside.waiting.is_empty()))
    }

    pub(super) fn give_back(&self, second: Second) {
        let mut inside = self.inside();
        if inside.spare.len() < SPARE {
            inside.spare.push(second);
        }
    }

    /// Other slots are watched from this second on, which came before anybody knew of them.
    pub(super) fn watch(&self, watches: Vec<Watch>, second: &mut Second) {
        let mut inside = self.inside();
        inside.lookout.watch(second.frame.layout.generation, watches);
        inside.lookout.look(&second.frame, &mut second.crossed);
    }

    pub(super) fn expect(&self, patience: Patience) {
        self.inside().patience = patience;
    }

    pub(super) fn fill(&self) -> Fill {
        let inside = self.inside();
        let (length, dropped) = (inside.waiting.len(), inside.lost);
        Fill { queue: "sampler", length, limit: LIMIT, dropped }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::node::Layout;
    use crate::time::{Now, Wall};

    fn second(at: i64) -> Second {
        let mut second = Second::default();
        second.frame.at = Now { mono: Mono::from_secs(at), wall: Wall::from_secs(at) };
        second
    }

    #[test]
    fn seconds_wait_for_each_other_and_none_for_one_that_crosses() {
        let seconds = Seconds::new();
        let called = || seconds.called().now_or_never().is_some();
        let crossing = [[Mono::from_secs(10), Mono::from_secs(20)]; Resource::ALL.len()];
        let patience = Patience { seconds: 3, crossing };
        seconds.expect(patience);
        for at in 1..=2 {
            seconds.put(second(at));
            assert!(!called(), "second {at}");
        }
        seconds.put(second(3));
        assert!(called());
        for at in 1..=3 {
            let (taken, newest) = seconds.take().expect("it waits");
            assert_eq!((taken.frame.at.mono, newest), (Mono::from_secs(at), at == 3));
            seconds.give_back(taken);
        }
        assert!(seconds.take().is_none());
        let crossed = |fresh| Crossed {
            slot: 0,
            resource: Resource::Cpu,
            value: 1.0,
            threshold: None,
            fresh,
        };
        for (fresh, at, wanted) in
            [(true, 9, false), (true, 10, true), (false, 19, false), (false, 20, true)]
        {
            assert_eq!(patience.wants(&crossed(fresh), Mono::from_secs(at)), wanted, "{at}");
        }
        // A layout that nobody has seen can't be watched.
        let mut unknown = second(4);
        unknown.frame.layout = Layout { generation: 1, ..Layout::default() }.into();
        seconds.put(unknown);
        assert!(called());
    }

    #[test]
    fn what_the_recorder_can_not_take_is_lost_and_counted() {
        let seconds = Seconds::new();
        for at in 0..LIMIT as i64 + 2 {
            seconds.put(second(at));
        }
        let Fill { length, limit, dropped, .. } = seconds.fill();
        assert_eq!((length, limit, dropped), (LIMIT, LIMIT, 2));
    }
}
